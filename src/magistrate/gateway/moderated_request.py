"""One moderated request of the gateway: its upstream call, and the response to its caller.

The third edge of the same flow. It decides nothing: what a decision looks like over HTTP is all
that is here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

import aiohttp

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
from magistrate.core.refusals import HEADER, header_value
from magistrate.engine.async_driver import AsyncDriver, Outward
from magistrate.engine.session import Session
from magistrate.gateway.http import (
    JSON_TYPE,
    NO_RETRY,
    SSE,
    Headers,
    Request,
    Response,
    error_event,
    returned_headers,
)
from magistrate.gateway.upstream import FAILURES, Upstream, is_timeout, pieces, whole
from magistrate.judging.base import ModelReply, named
from magistrate.judging.connection import MAX_REPLY, reply_of
from magistrate.wire.messages import JSON, as_bytes


class Ended(Exception):
    """The flow ended with an error for the caller."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


class GatewayEdge:
    """One moderated request. `headers`: what goes upstream, with its credentials.

    `rewrite` changes a JSON response before it is sent, as one of a message batch.
    """

    def __init__(
        self,
        session: Session,
        upstream: Upstream,
        request: Request,
        headers: Headers,
        rewrite: Callable[[JSON], JSON] = lambda body: body,
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._request = request
        self._headers = headers
        self._rewrite = rewrite
        self._response: aiohttp.ClientResponse | None = None
        self._driver = AsyncDriver(session, self)

    async def respond(self, response: Response) -> None:
        """Run the flow and send what the caller gets. To end early, cancel the task."""
        outward = self._driver.run()
        try:
            await self._deliver(outward, response)
        except Ended as ended:
            await self._fail(response, ended)
        except FAILURES as error:
            await self._fail(response, upstream_failed(error))
        finally:
            await outward.aclose()

    async def _deliver(self, outward: AsyncGenerator[Outward, None], response: Response) -> None:
        opening: Open | None = None
        async for effect in outward:
            match effect:
                case Open():
                    # The status leaves with the first bytes: until then an outage can be told.
                    opening = effect
                case Write(data):
                    if opening is not None and not response.started:
                        await response.start(*self._stream_head(opening))
                    await response.write(data)
                case Answer(message, public, ours):
                    status, headers = self._head(ours)
                    headers = [(k, v) for k, v in headers if k != "content-type"]
                    mark = (HEADER, header_value(public))
                    body = as_bytes(self._rewrite(message))
                    await response.bytes(status, body, [*headers, JSON_TYPE, mark])
                case RespondError(status, body):
                    await response.json(status, body)
                case Relay():
                    await relay(self._received, response)
        if opening is not None:
            if not response.started:  # a stream without a single event
                await response.start(*self._stream_head(opening))
            await response.finish()

    def _head(self, ours: bool) -> tuple[int, Headers]:
        if ours or self._response is None:
            return 200, []
        return self._response.status, returned_headers(self._response.headers.items())

    def _stream_head(self, opening: Open) -> tuple[int, Headers]:
        status, headers = self._head(opening.ours)
        headers = [(k, v) for k, v in headers if k != "content-type"]
        return status, [
            *headers,
            ("content-type", f"{SSE}; charset=utf-8"),
            (HEADER, header_value(opening.public)),
        ]

    async def _fail(self, response: Response, ended: Ended) -> None:
        """Tell the caller: as an error response, or as the last event of a stream."""
        if response.started:
            # `x-should-retry` cannot be said any more, and "overloaded" asks to be tried again.
            kind = "api_error" if ended.kind == "overloaded_error" else ended.kind
            await response.finish(error_event(kind, ended.message))
            return
        headers: Headers = [NO_RETRY] if ended.status not in (502, 504) else []
        await response.error(ended.status, ended.kind, ended.message, headers)

    # --- the upstream call ------------------------------------------------------------------------

    async def send(self, body: JSON | None) -> Head:
        """Send the request; unchanged, it is forwarded byte for byte."""
        self._response = found = await self._upstream.send(
            self._request.method,
            self._request.target,
            self._headers,
            self._request.body if body is None else as_bytes(body),
            offered=self._request.header("accept-encoding"),
        )
        kind = found.headers.get("content-type", "").split(";")[0].strip().lower()
        # As in the SDK: where a stream was asked for, the body is read as one.
        return Head(ok=200 <= found.status < 300, sse=self._session.stream or kind == SSE)

    @property
    def _received(self) -> aiohttp.ClientResponse:
        assert self._response is not None, "nothing was sent"
        return self._response

    def events(self) -> AsyncIterator[bytes]:
        """Yield server-sent events as they arrive."""
        return pieces(self._received)

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        return pieces(self._received)

    async def whole(self) -> bytes:
        """Return the body."""
        return await whole(self._received)

    @property
    def is_open(self) -> bool:
        """Return whether there is a response that is not closed."""
        return self._response is not None and not self._response.closed

    async def close(self) -> None:
        """Close the connection: what was not read is not wanted."""
        self._received.close()

    # --- judges, and what ends a request ----------------------------------------------------------

    async def ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        """Send a judge's request to the same upstream, with the same credentials."""
        return await ask_model(self._upstream, self._headers, body, timeout_s)

    def error(self, effect: RaiseDecision | RejectAnswer) -> Exception:
        """Return what ends the request."""
        if isinstance(effect, RejectAnswer):
            return Ended(502, "api_error", f"upstream did not answer: {effect.detail}")
        decision = effect.decision
        if effect.kind == "unavailable":
            why = effect.detail or decision.missing_judges
            message = f"magistrate: moderation is unavailable ({decision.id}): {why}"
            return Ended(529, "overloaded_error", message)
        what = ", ".join(effect.entries) or "the answer"
        message = f"magistrate: {what} was blocked by moderation ({decision.id})"
        return Ended(400, "invalid_request_error", message)


# All that a judge's request has of the caller's: other headers could steer what is between.
_OF_THE_CALLER = frozenset({"x-api-key", "authorization", "anthropic-version", "user-agent"})


async def ask_model(
    upstream: Upstream, headers: Headers, body: JSON, timeout_s: float
) -> ModelReply:
    """Send one judge's request. Never raises because of what the server does."""
    kept = [(key, value) for key, value in headers if key in _OF_THE_CALLER]
    if not any(key == "anthropic-version" for key, _ in kept):
        kept.append(("anthropic-version", "2023-06-01"))
    try:
        found = await upstream.send(
            "POST", "/v1/messages", [*kept, JSON_TYPE], as_bytes(body), timeout_s=timeout_s
        )
        data = await whole(found, MAX_REPLY)
    except FAILURES as error:
        if is_timeout(error):
            return ModelReply(0, failure="timeout")
        return ModelReply(0, failure="error", detail=named(error))
    return reply_of(found.status, data, {k.lower(): v for k, v in found.headers.items()})


async def relay(found: aiohttp.ClientResponse, response: Response) -> None:
    """Give the caller a response as it is, as it arrives."""
    try:
        await response.start(found.status, returned_headers(found.headers.items()))
        async for data in pieces(found):
            await response.write(data)
        await response.finish()
    finally:
        found.close()


def upstream_failed(error: BaseException) -> Ended:
    """Return what the caller is told where upstream could not be reached, or broke."""
    if is_timeout(error):
        return Ended(504, "timeout_error", "magistrate: upstream did not answer in time")
    return Ended(502, "api_error", f"magistrate: upstream failed: {type(error).__name__}")
