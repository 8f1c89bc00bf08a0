"""Response bodies that are produced as they are read."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
)
from datetime import timedelta

import httpx2


class SyncBody(httpx2.SyncByteStream):
    """A body produced by a generator. Closing it closes the generator, then calls `close`.

    Both are needed: before the first read, the generator has not started and its `finally` does not
    run. While another thread reads the body, it cannot be closed: `interrupt` then makes that
    thread close it.
    """

    stands_for: httpx2.Response | None = None

    def __init__(
        self,
        chunks: Generator[bytes, None, None],
        close: Callable[[], None],
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self._chunks = chunks
        self._close = close
        self._interrupt = interrupt
        self._closed = False

    @property
    def elapsed(self) -> timedelta | None:
        return elapsed(self.stands_for)

    def __iter__(self) -> Generator[bytes, None, None]:
        for chunk in self._chunks:
            if self._closed:
                self.close()
                return
            yield chunk

    def close(self) -> None:
        self._closed = True
        try:
            self._chunks.close()
            self._close()
        except ValueError:
            if self._interrupt is None or not getattr(self._chunks, "gi_running", False):
                raise
            self._interrupt()


class AsyncBody(httpx2.AsyncByteStream):
    """The asynchronous version of `SyncBody`: another task may be reading it."""

    stands_for: httpx2.Response | None = None

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        close: Callable[[], Awaitable[None]],
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self._chunks = chunks
        self._close = close
        self._interrupt = interrupt
        self._closed = False

    @property
    def elapsed(self) -> timedelta | None:
        return elapsed(self.stands_for)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks:
            if self._closed:
                await self.aclose()
                return
            yield chunk

    async def aclose(self) -> None:
        self._closed = True
        try:
            await self._chunks.aclose()
            await self._close()
        except RuntimeError:
            if self._interrupt is None or not getattr(self._chunks, "ag_running", False):
                raise
            self._interrupt()


def elapsed(response: httpx2.Response | None) -> timedelta | None:
    try:
        return None if response is None else response.elapsed
    except RuntimeError:  # not known before the response has ended
        return None
