"""Which requests are judged, which carry no content, and which this version cannot judge.

Pure. Requests are told apart by the path the server will see, not by the string that was given:
relative forms, `..`, doubled slashes, percent-encoding and absolute URLs all resolve first.
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
# Surfaces whose content is not judged yet, as people call them. Any request below them that could
# carry content in either direction is refused unless they are let through; a look at their
# metadata is not.
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
# Resources, and last steps, whose POSTs bring no model output and put nothing before a model.
_CONTENT_FREE = frozenset({"organizations", "user_profiles", "vaults", "tunnels", "webhooks"})
_CONTENT_FREE_STEPS = frozenset({"count_tokens", "cancel"})
_READS = frozenset({"get", "head", "options", "delete"})
# Segments of unhandled surfaces at or below which a GET brings content.
_PRODUCTS = frozenset({"stream", "events", "content", "memories", "memory_versions", "versions"})


def segments(url: str) -> list[str]:
    """The path's segments as a server resolves them."""
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
    """What to do with a request.

    `message`: a Messages API call. `batch`: one that makes a message batch. `results`: one that
    reads the results of one. `free`: it carries no content. `surface`: one of `SURFACES`, which
    this version cannot judge. `uninspected`: anything else that may carry content.
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
        # What a session has produced arrives by GET; only bare metadata passes.
        carries = method == "get" and not _PRODUCTS.isdisjoint(path)
        return "free" if last == "cancel" or (reads and not carries) else "surface"
    # A resource stands behind the version, or begins a path that has none: elsewhere the same word
    # may be anything, such as `models` in the addresses at which platforms serve them.
    resource = path[path.index("v1") + 1 :] if "v1" in path else path
    if last in _CONTENT_FREE_STEPS or not _CONTENT_FREE.isdisjoint(resource[:1]):
        return "free"
    if reads:
        # The content of an uploaded or generated file is bytes the caller asked for by id.
        return "free"
    return "uninspected"


def batch_id(url: str) -> str:
    """The batch whose results a URL names, as it is written there."""
    path = [part for part in unquote(urlsplit(url).path).split("/") if part]
    lowered = [part.lower() for part in path]
    return path[lowered.index("results") - 1] if "results" in lowered[1:] else ""


def unjudged_surface(url: str) -> SurfaceName | None:
    """The surface a path belongs to, if it is one that this version cannot judge."""
    return next((name for part in segments(url) for name in SURFACES if part == name), None)
