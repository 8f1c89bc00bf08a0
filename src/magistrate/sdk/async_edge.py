"""The asynchronous client's edge: its upstream call, and the responses that its caller gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
from anthropic import AsyncAPIResponse, AsyncCallNext

from magistrate.core.effects import (
    Answer,
    Open,
    RaiseDecision,
    RejectAnswer,
    Relay,
    RespondError,
    Write,
)
from magistrate.core.events import Head
from magistrate.engine.async_driver import AsyncDriver, Outward
from magistrate.judging.base import ModelReply
from magistrate.judging.connection import replied
from magistrate.sdk.model_client import failed_call, head_of, judging
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import (
    AsyncBody,
    async_events_of,
    declined,
    no_answer,
    received,
    rewritten,
    synthetic,
)
from magistrate.wire.messages import JSON


class AsyncClientEdge:
    """One HTTP attempt of an asynchronous client."""

    def __init__(self, moderated: ModeratedRequest, call_next: AsyncCallNext) -> None:
        self._moderated = moderated
        self._call_next = call_next
        self._response: AsyncAPIResponse[Any] | None = None
        self._driver = AsyncDriver(moderated.session, self)

    async def respond(self) -> AsyncAPIResponse[Any]:
        """Run the flow until there is a response; a stream continues the flow as it is read."""
        outward = self._driver.run()
        try:
            match await anext(outward):
                case Open(public, ours):
                    body = AsyncBody(self._stream(outward), outward.aclose, self._interrupt)
                    return self._rewritten(public, body, ours)
                case Answer(message, public, ours):
                    async for _ in outward:
                        raise AssertionError("nothing follows an answer")
                    return self._rewritten(public, message, ours)
                case RespondError(status, body):
                    await outward.aclose()
                    return declined(self._moderated.request, AsyncAPIResponse, status, body)
                case Relay():
                    async for _ in outward:
                        raise AssertionError("nothing follows a relayed response")
                    return self._received
                case Write():
                    raise AssertionError("a stream must be opened first")
        except BaseException:
            await outward.aclose()
            raise

    def _rewritten(self, public: JSON, body: JSON | AsyncBody, ours: bool) -> AsyncAPIResponse[Any]:
        if ours or self._response is None:
            return synthetic(self._moderated.request, AsyncAPIResponse, public, body)
        return rewritten(self._response, public, body)

    async def _stream(self, outward: AsyncGenerator[Outward, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for effect in outward:
                if isinstance(effect, Write):
                    yield effect.data
        finally:
            await outward.aclose()

    def _interrupt(self) -> None:
        """Wake the reader, because another task closes the stream."""
        self._driver.interrupt(httpx2.ReadError("closed while it was read"))

    # --- the upstream call ------------------------------------------------------------------------

    async def send(self, body: JSON | None) -> Head:
        """Send the request through the rest of the middleware chain."""
        found = await self._call_next(self._moderated.forwarded(body))
        self._response = received(found, self._moderated.request, AsyncAPIResponse)
        return head_of(self._response.http_response, stream=self._moderated.session.stream)

    @property
    def _received(self) -> AsyncAPIResponse[Any]:
        assert self._response is not None, "nothing was sent"
        return self._response

    def events(self) -> AsyncIterator[bytes]:
        """Yield server-sent events; Bedrock's own framing is translated."""
        return async_events_of(self._received)

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        return self._received.http_response.aiter_bytes()

    async def whole(self) -> bytes:
        """Return the body."""
        return await self._received.http_response.aread()

    @property
    def is_open(self) -> bool:
        """Return whether there is a response that is not closed."""
        return self._response is not None and not self._response.http_response.is_closed

    async def close(self) -> None:
        """Close the response."""
        await self._received.http_response.aclose()

    # --- judges, and what ends a request ----------------------------------------------------------

    async def ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        """Send a judge's request through the rest of the middleware chain."""
        with judging(body):
            try:
                request = self._moderated.to_judge(body, timeout_s)
                found = await self._call_next(request)
                raw = received(found, request, AsyncAPIResponse).http_response
                await raw.aread()
            except Exception as error:
                return failed_call(self._moderated, error)
        return replied(raw)

    def error(self, effect: RaiseDecision | RejectAnswer) -> Exception:
        """Return the exception that the caller gets."""
        if isinstance(effect, RejectAnswer):
            return no_answer(self._received, effect)
        return self._moderated.error(effect)
