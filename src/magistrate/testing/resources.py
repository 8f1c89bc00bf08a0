"""What the simulated API answers without asking a model: models and message batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from magistrate.testing import models
from magistrate.testing.batches import Batches
from magistrate.testing.events import Asked, dump
from magistrate.testing.listing import page
from magistrate.testing.replies import JSON, ErrorReply, RawReply, Reply, error
from magistrate.testing.routing import Route, base_url


def reply(route: Route, asked: Asked, headers: Mapping[str, str], batches: Batches) -> Reply:
    """Return the answer to any request that is not for a message or a count of tokens."""
    found = _found(route, asked, headers, batches)
    if isinstance(found, ErrorReply):
        return found
    if isinstance(found, list):
        return RawReply(200, "application/x-jsonl", b"".join(dump(line) + b"\n" for line in found))
    return RawReply(200, "application/json", dump(found))


def _found(
    route: Route, asked: Asked, headers: Mapping[str, str], batches: Batches
) -> JSON | list[JSON] | ErrorReply:
    match route.kind:
        case "models":
            return _models(route)
        case "model":
            return models.find(route.id) or error(404, message=f"model: {route.id}")
        case "batch_create":
            return batches.create(route.body, asked.serial, base_url(headers))
        case "batch_list":
            return batches.listed(route.query)
        case "batch":
            return batches.retrieve(route.id)
        case "batch_cancel":
            return batches.cancel(route.id)
        case "batch_delete":
            return batches.delete(route.id)
        case "batch_results":
            return batches.results(route.id)
        case "message" | "count":
            raise AssertionError("a model is asked for this")
        case _:
            assert_never(route.kind)


def _models(route: Route) -> JSON | ErrorReply:
    asked_for = [*route.query.get("lifecycle[]", ()), *route.query.get("lifecycle", ())]
    unknown = next((each for each in asked_for if each not in models.LIFECYCLES), None)
    if unknown is not None:
        return error(400, message=f"lifecycle: Input should be one of {models.LIFECYCLES}")
    listed = models.catalogue(frozenset(asked_for)) if asked_for else models.catalogue()
    return page(listed, route.query)
