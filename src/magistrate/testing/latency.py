"""How fast an answer comes, and in what pieces. Only the declaration lives here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

_KINDS = "'whole', 'event', 'line', 'bytes:N' or 'random:SEED'"


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """When the bytes of an answer are sent, and how they are cut into chunks.

    `first_byte_s` passes before the head, `per_event_s` before each event after the first.
    `chunking` is one of

    - `event`: one chunk an event (a JSON body is one chunk);
    - `whole`: all that is ready in one chunk;
    - `line`: one chunk a line;
    - `bytes:N`: chunks of N bytes, in the middle of events and of characters;
    - `random:SEED`: chunks of 1 to 64 bytes.

    Raises `ValueError` for any other chunking and for negative times.
    """

    first_byte_s: float = 0.0
    per_event_s: float = 0.0
    chunking: str = "event"

    def __post_init__(self) -> None:
        if self.first_byte_s < 0 or self.per_event_s < 0:
            raise ValueError("a latency profile cannot have negative times")
        kind, _, number = self.chunking.partition(":")
        numbered = kind in ("bytes", "random") and number.isdecimal()
        if not (self.chunking in ("whole", "event", "line") or numbered) or (
            kind == "bytes" and int(number) < 1
        ):
            raise ValueError(f"unknown chunking {self.chunking!r}: use {_KINDS}")

    def chunks(self, pieces: list[bytes]) -> Iterator[bytes]:
        """Yield the bytes of `pieces`, which are ready at the same time, in chunks."""
        kind, _, number = self.chunking.partition(":")
        joined = b"".join(pieces)
        match kind:
            case "event":
                yield from pieces
            case "line":
                yield from joined.splitlines(keepends=True)
            case "bytes":
                size = int(number)
                for start in range(0, len(joined), size):
                    yield joined[start : start + size]
            case "random":
                dice = random.Random(int(number))
                while joined:
                    size = dice.randint(1, 64)
                    yield joined[:size]
                    joined = joined[size:]
            case _:
                yield joined
