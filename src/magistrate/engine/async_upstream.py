"""The upstream call of an asynchronous exchange, read step by step or ahead in a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import anyio

from magistrate.core.events import Chunk, End, Failed, FlowEvent, Head
from magistrate.wire.messages import JSON

# How many chunks upstream may be ahead of the flow: enough to keep the connection busy.
_AHEAD = 8


class AsyncCall(Protocol):
    """One upstream call of an edge: it sends at most once, and owns the response.

    Whatever its methods raise is an upstream failure, which the flow passes on.
    """

    async def send(self, body: JSON | None) -> Head:
        """Send the request; None: unchanged. Return once the status and headers are there."""
        ...

    def events(self) -> AsyncIterator[bytes]:
        """Yield the body as server-sent events, whatever the platform's framing is."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, decoded of any content encoding."""
        ...

    async def whole(self) -> bytes:
        """Return the body, decoded of any content encoding."""
        ...

    @property
    def is_open(self) -> bool:
        """Return whether there is a response that was not read to its end or closed."""
        ...

    async def close(self) -> None:
        """Close the response."""
        ...


class AsyncUpstream:
    """The upstream call, read step by step or ahead in a task. Has no reference to the driver.

    `in_lines`: the caller reads the body as it comes.
    """

    def __init__(
        self, call: AsyncCall, mailbox: asyncio.Queue[FlowEvent], *, in_lines: bool
    ) -> None:
        self._call = call
        self._mailbox = mailbox
        self._in_lines = in_lines
        self._room = asyncio.Event()  # set when the task may read on
        self._kept = True
        self._body: JSON | None = None
        self._forwarded = False
        self._head: Head | None = None
        self.pieces = False  # the body is used in chunks, and the caller may leave meanwhile
        self.sent = False  # a task that is cancelled before its first step has sent nothing
        self.complete = False
        self.over = False  # nothing more can be read
        self.ahead = 0  # chunks that the flow has not taken yet

    def forward(self, body: JSON | None) -> None:
        """Let the call begin when the flow waits next."""
        self._body, self._forwarded = body, True

    @property
    def pending(self) -> bool:
        """Return whether there is a call with more to read."""
        return self._forwarded and not self.over

    def go_on(self) -> None:
        """Let the task read ahead again, since the flow reads on.

        Only when at most half of the chunks are left, not for each chunk, so that the tasks switch
        less often.
        """
        if self._head is not None and self.ahead <= _AHEAD // 2:
            self._room.set()

    def hand_over(self) -> None:
        """Leave the response, unread and open, to the caller."""
        self._kept = False

    async def close(self) -> None:
        """Close the response if it was not read to its end."""
        if not self._kept or not self._call.is_open:
            return  # avoid the cost of a cancel scope
        with anyio.CancelScope(shield=True):
            await self._call.close()

    async def next(self) -> FlowEvent:
        """Send the request and return the head; on later calls, return the body in one piece."""
        try:
            if self._head is None:
                return await self._send()
            data = await self._call.whole()
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
                if self._head is None:
                    self._mailbox.put_nowait(await self._send())
                await self._room.wait()
                async for data in self._read():
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
        self.sent = True
        self._head = head = await self._call.send(self._body)
        self.pieces = head.sse or self._in_lines
        return head

    def _read(self) -> AsyncIterator[bytes]:
        assert self._head is not None
        if self._head.sse:
            return self._call.events()
        return self._call.pieces() if self.pieces else self._in_one_piece()

    async def _in_one_piece(self) -> AsyncIterator[bytes]:
        yield await self._call.whole()
