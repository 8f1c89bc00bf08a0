"""The upstream call of an edge that has none: its flow only judges."""

from __future__ import annotations

from collections.abc import AsyncIterator

from magistrate.core.events import Head
from magistrate.wire.messages import JSON


class NoUpstream:
    """An `AsyncCall` that is never made. Each way to make it raises AssertionError."""

    async def send(self, body: JSON | None) -> Head:
        """Fail: nothing is sent."""
        raise AssertionError("this edge has no upstream")

    def events(self) -> AsyncIterator[bytes]:
        """Fail: nothing is received."""
        raise AssertionError("this edge has no upstream")

    def pieces(self) -> AsyncIterator[bytes]:
        """Fail: nothing is received."""
        raise AssertionError("this edge has no upstream")

    async def whole(self) -> bytes:
        """Fail: nothing is received."""
        raise AssertionError("this edge has no upstream")

    @property
    def is_open(self) -> bool:
        """Return False: there is never a response."""
        return False

    async def close(self) -> None:
        """Do nothing."""
