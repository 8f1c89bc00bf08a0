"""Message batches name the address of their results: behind the gateway, that is the gateway's."""

from __future__ import annotations

from urllib.parse import urlsplit

from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.routes import segments


def answers_about_batches(path: str) -> bool:
    """Return whether responses from this path describe batches, rather than hold their results."""
    found = segments(path)
    return "batches" in found and "results" not in found


def with_own_results_url(body: JSON, base: str) -> JSON:
    """Return a batch, or a list of them, whose results are read through the gateway.

    Clients read `results_url` as it is written: from upstream, results would come unjudged.
    """
    found = body
    if isinstance(url := body.get("results_url"), str):
        at = urlsplit(url)
        found = {**found, "results_url": base + at.path + (f"?{at.query}" if at.query else "")}
    if is_array(listed := body.get("data")):
        items = [with_own_results_url(item, base) if is_object(item) else item for item in listed]
        found = {**found, "data": items}
    return found
