"""The upstream call of an asynchronous exchange, read step by step or ahead in a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
from anthropic import APIRequest, AsyncAPIResponse, AsyncCallNext

from magistrate.core.events import Chunk, End, Failed, FlowEvent, Head
from magistrate.sdk.model_client import head_of
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import (
    async_events_of,
    received,
)

# How many chunks upstream may be ahead of the flow: enough to keep the connection busy.
_AHEAD = 8


class AsyncUpstream:
    """The upstream call, read step by step or ahead in a task. Has no reference to the driver."""

    def __init__(
        self,
        moderated: ModeratedRequest,
        call_next: AsyncCallNext,
        mailbox: asyncio.Queue[FlowEvent],
    ) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._call_next = call_next
        self._mailbox = mailbox
        self._room = asyncio.Event()  # set when the task may read on
        self._kept = True
        self._sse = False
        self.request: APIRequest | None = None
        self.response: AsyncAPIResponse[Any] | None = None
        self.pieces = False  # the body is used in chunks, and the caller may leave meanwhile
        self.sent = False  # a task that is cancelled before its first step has sent nothing
        self.complete = False
        self.over = False  # nothing more can be read
        self.ahead = 0  # chunks that the flow has not taken yet

    @property
    def pending(self) -> bool:
        """Return whether there is a call with more to read."""
        return self.request is not None and not self.over

    def go_on(self) -> None:
        """Let the task read ahead again, since the flow reads on.

        Only when at most half of the chunks are left, not for each chunk, so that the tasks switch
        less often.
        """
        if self.response is not None and self.ahead <= _AHEAD // 2:
            self._room.set()

    def hand_over(self) -> AsyncAPIResponse[Any]:
        """Give up the response, unread and open, to the caller."""
        assert self.response is not None
        self._kept = False
        return self.response

    async def close(self) -> None:
        """Close the response if it was not read to its end."""
        if self.response is None or not self._kept or self.response.http_response.is_closed:
            return  # avoid the cost of a cancel scope
        with anyio.CancelScope(shield=True):
            await self.response.http_response.aclose()

    async def next(self) -> FlowEvent:
        """Send the request and return the head; on later calls, return the body in one piece."""
        try:
            if self.response is None:
                return await self._send()
            data = await self.response.http_response.aread()
        except Exception as error:
            self.over = True
            return Failed(error)
        self.over = self.complete = True
        self._mailbox.put_nowait(End())
        return Chunk(data)

    async def run(self) -> None:
        """Put all further events into the mailbox: head, chunks and end."""
        try:
            try:
                if self.response is None:
                    self._mailbox.put_nowait(await self._send())
                await self._room.wait()
                async for data in self._body():
                    self._mailbox.put_nowait(Chunk(data))
                    self.ahead += 1
                    if self.ahead >= _AHEAD:
                        self._room.clear()
                        await self._room.wait()
                self.over = self.complete = True
                self._mailbox.put_nowait(End())
            finally:
                await self.close()
        except Exception as error:
            self._mailbox.put_nowait(Failed(error))
        except BaseException as error:  # a foreign cancellation must not hang the caller
            self._mailbox.put_nowait(Failed(error))
            raise

    async def _send(self) -> Head:
        assert self.request is not None
        self.sent = True
        found = await self._call_next(self.request)
        self.response = received(found, self._moderated.request, AsyncAPIResponse)
        head = head_of(self.response.http_response, stream=self._session.stream)
        self._sse, self.pieces = head.sse, head.sse or self._session.lines
        return head

    def _body(self) -> AsyncIterator[bytes]:
        assert self.response is not None
        if self._sse:
            return async_events_of(self.response)
        raw = self.response.http_response
        return raw.aiter_bytes() if self.pieces else _whole(raw)


async def _whole(raw: httpx2.Response) -> AsyncIterator[bytes]:
    """Yield a body that is usable only as a whole."""
    yield await raw.aread()
