"""Which requests are judged, which carry no content, and which this version cannot judge.

Pure. Requests are distinguished by the path that the server will see, not by the given string:
relative forms, `..`, double slashes, percent-encoding and absolute URLs are resolved first.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote, urlsplit

Route = Literal["message", "batch", "results", "free", "surface", "uninspected"]

SurfaceName = Literal[
    "sessions",
    "agents",
    "deployments",
    "dreams",
    "memory_stores",
    "environments",
    "skills",
    "plugins",
    "complete",
]
# Surfaces whose content is not judged yet, with their names for people. Any request to them that
# could carry content in either direction is refused unless the settings let the surface through.
# Requests that read metadata are not refused.
SURFACES: dict[SurfaceName, str] = {
    "sessions": "agent sessions",
    "agents": "agents",
    "deployments": "agent deployments",
    "dreams": "dreams",
    "memory_stores": "memory stores",
    "environments": "environments",
    "skills": "skills",
    "plugins": "plugins",
    "complete": "text completions",
}
# Resources, and last path segments, whose POSTs return no model output and send no model input.
_CONTENT_FREE = frozenset({"organizations", "user_profiles", "vaults", "tunnels", "webhooks"})
_CONTENT_FREE_STEPS = frozenset({"count_tokens", "cancel"})
_READS = frozenset({"get", "head", "options", "delete"})
# Path segments of unjudged surfaces at or below which a GET returns content.
_PRODUCTS = frozenset({"stream", "events", "content", "memories", "memory_versions", "versions"})


def segments(url: str) -> list[str]:
    """Return the path's segments as a server resolves them."""
    path = urlsplit(url).path
    for _ in range(3):  # a server decodes once; proxies on the way may decode again
        path = unquote(path)
    found: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        segment = segment.split(";", 1)[0]
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment.lower())
    return found


def route(method: str, url: str) -> Route:
    """Classify a request.

    `message`: a Messages API call. `batch`: creates a message batch. `results`: reads the results
    of a batch. `free`: carries no content. `surface`: belongs to one of `SURFACES`, which this
    version cannot judge. `uninspected`: anything else that may carry content.
    """
    path = segments(url)
    last = path[-1] if path else ""
    method = method.lower()
    reads = method in _READS
    if last == "messages" and not reads:
        return "message"
    if "batches" in path:
        if last == "batches" and not reads:
            return "batch"
        if "results" in path and method == "get":
            return "results"
        return "free" if reads or last == "cancel" else "uninspected"
    if unjudged_surface(url) is not None:
        # A session's output is read by GET, so only requests for metadata pass.
        carries = method == "get" and not _PRODUCTS.isdisjoint(path)
        return "free" if last == "cancel" or (reads and not carries) else "surface"
    # A resource follows the version, or is first in a path without a version. Elsewhere the same
    # word can mean anything, such as `models` in the URLs of platforms.
    resource = path[path.index("v1") + 1 :] if "v1" in path else path
    if last in _CONTENT_FREE_STEPS or not _CONTENT_FREE.isdisjoint(resource[:1]):
        return "free"
    if reads:
        # Also the bytes of an uploaded or generated file, which the caller requested by id.
        return "free"
    return "uninspected"


def batch_id(url: str) -> str:
    """Return the id of the batch in a results URL, as written there; empty if there is none."""
    path = [part for part in unquote(urlsplit(url).path).split("/") if part]
    lowered = [part.lower() for part in path]
    return path[lowered.index("results") - 1] if "results" in lowered[1:] else ""


def unjudged_surface(url: str) -> SurfaceName | None:
    """Return the surface that a path belongs to, if this version cannot judge it; else None."""
    return next((name for part in segments(url) for name in SURFACES if part == name), None)
