"""The calls about message batches that a run in batches makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio

from magistrate.judging.base import ModelReply
from magistrate.judging.retry_after import asked_wait
from magistrate.wire.messages import JSON, is_object

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types.messages import MessageBatch

RATE_LIMITED, OVERLOADED = 429, 529
# How long, in seconds and in all, to wait until the API takes a batch.
PATIENCE_S = 900.0
_RETRIES = 8  # of a question about a batch, which costs nothing and is asked for a day


async def accepted(client: AsyncAnthropic, requests: list[Any]) -> MessageBatch:
    """Make a batch and return it. Wait for as long as a busy API asks to: it has no batch yet.

    Raises what the client raises; after a 5xx other than 529, a batch may have been made.
    """
    from anthropic import APIStatusError

    once = client.with_options(max_retries=0)
    waited_s = 0.0
    while True:
        try:
            return await once.messages.batches.create(requests=requests)
        except APIStatusError as error:
            wait_s = asked_wait(error.response.headers)
            busy = error.status_code in (RATE_LIMITED, OVERLOADED)
            if not busy or wait_s is None or (waited_s := waited_s + wait_s) > PATIENCE_S:
                raise
            await anyio.sleep(wait_s)


async def ended(client: AsyncAnthropic, batch_id: str) -> bool:
    """Return whether a batch has ended."""
    patient = client.with_options(max_retries=_RETRIES)
    found = await patient.messages.batches.retrieve(batch_id)
    return found.processing_status == "ended"


async def results(client: AsyncAnthropic, batch_id: str) -> AsyncIterator[tuple[str, ModelReply]]:
    """Yield the replies of a batch that has ended, each with its `custom_id`."""
    patient = client.with_options(max_retries=_RETRIES)
    async for line in await patient.messages.batches.results(batch_id):
        yield line.custom_id, _reply(line.result.model_dump(mode="json"))


def _reply(result: JSON) -> ModelReply:
    """Return one line of a batch's results, as if it had been the answer of a single call."""
    match result.get("type"):
        case "succeeded":
            return ModelReply(200, result["message"])
        case "errored":
            outer = result.get("error")
            inner = outer.get("error") if is_object(outer) else None
            kind = str(inner.get("type")) if is_object(inner) else ""
            status = {"invalid_request_error": 400, "overloaded_error": 529}.get(kind, 500)
            return ModelReply(status, {"type": "error", "error": inner})
        case _:  # expired or cancelled: the provider had no time for it
            return ModelReply(0, failure="timeout")
