"""A bounded map whose entries expire."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class ExpiringMap(Generic[T]):
    """Values by key, each for `lifetime_s` after it was last put, the latest `maxsize` of them.

    All entries last equally long, so the order in which they were put is the order in which they
    expire, and the first ones are dropped. `cachetools.TTLCache`, which also orders them by use,
    takes five times as long where it is full. Not safe for threads by itself.
    """

    def __init__(self, maxsize: int, lifetime_s: float) -> None:
        self.maxsize = maxsize
        self._lifetime_s = lifetime_s
        # Ordered, since a plain dict is slow to find its first entry where others were before it.
        self._entries: OrderedDict[str, tuple[float, T]] = (
            OrderedDict()
        )  # key -> when it expires, value

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> T | None:
        """The value, if it is there and has not expired."""
        found = self._entries.get(key)
        return None if found is None or found[0] <= time.monotonic() else found[1]

    def put(self, keys: Iterable[str], value: T) -> None:
        """Put one value under each of the keys, in their order; a key that is there is renewed."""
        entries, now = self._entries, time.monotonic()
        expires = now + self._lifetime_s
        for key in keys:
            entries.pop(key, None)  # to the end of the order
            entries[key] = (expires, value)
        while entries:
            first = next(iter(entries))
            if len(entries) <= self.maxsize and entries[first][0] > now:
                return
            del entries[first]
