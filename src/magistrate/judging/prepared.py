"""Caches of the Claude judge: texts checked for disguises, and lines of its prompts.

A stream is judged window by window and a conversation turn by turn, and each subject contains those
before it. With these caches, the cost of a subject grows with what is new in it. Thread-safe and
bounded. Only digests of texts outlive an exchange; lines, which are content, are dropped with it.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace

from cachetools import LRUCache

from magistrate.core.subject_size import size_of
from magistrate.judging.prompt import Shown, same_lines, show
from magistrate.text.reading import Reading, reading
from magistrate.wire.digests import Digests
from magistrate.wire.parts import Part, Subject, as_context

# Most digests of texts without disguises; about 250 bytes of memory each.
READINGS = 50_000
# Most exchanges in progress with cached lines. With more, the oldest are prepared again.
EXCHANGES = 4_096
_HONEST = Reading()


class Preparations:
    """The caches of one judge. `key` is secret: it keys the digests and the nonces of fences."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._honest: LRUCache[bytes, bool] = LRUCache(READINGS)
        # Keyed by the identity of a subject's first part. No lock: an entry is removed when its
        # part is freed, which can be during any step of any thread. Each step is atomic.
        self._exchanges: dict[int, tuple[weakref.ref[Part], Prepared]] = {}

    def read(self, text: str) -> Reading:
        """Read a text for disguises; only once if it has none.

        A text with a disguise is read again in every turn of its conversation, because a cached
        reading would store its content. In a stream it is not read again: its line is cached.
        """
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, key=self._key, digest_size=16).digest()
        with self._lock:
            if self._honest.get(digest):
                return _HONEST
        found = reading(text)
        if found == _HONEST:
            with self._lock:
                self._honest[digest] = True
        return found

    def of(self, subject: Subject) -> Prepared:
        """Return what is prepared for the exchange of a subject; create it if there is none.

        All windows of an answer begin with the same part: the first of the request.
        """
        first = subject.parts[0] if subject.parts else None
        if first is None:
            return Prepared(self, ())
        exchanges, at = self._exchanges, id(first)
        found = exchanges.get(at)
        if found is not None and found[0]() is first:
            return found[1]
        while len(exchanges) >= EXCHANGES:
            for oldest in list(exchanges)[:1]:  # a copy: entries can be removed during iteration
                exchanges.pop(oldest, None)
        prepared = Prepared(self, subject.parts)
        exchanges[at] = weakref.ref(first, lambda _: exchanges.pop(at, None)), prepared
        return prepared

    def nonce(self, parts: Sequence[Part]) -> str:
        """Return the nonce that fences subjects which begin with these parts.

        It is the same for a whole conversation, so that the next turn's prompt begins with the same
        text. The first part counts as context, because what is judged now is context then.
        """
        first = [as_context(part).as_json() for part in parts[:1]]
        return Digests(self._key, "nonce").of("nonce", first)[:32]


class Prepared:
    """What is prepared for the subjects of one exchange.

    The parts of the latest subject are kept, because the next one usually begins with them. Cached
    values are replaced as a whole, so at worst two threads do the same work twice.
    """

    def __init__(self, owner: Preparations, parts: Sequence[Part]) -> None:
        self.nonce = owner.nonce(parts)
        self._read = owner.read
        self._measured: tuple[tuple[Part, ...], tuple[int, ...]] = ((), ())
        self._shown: Shown | None = None

    def sizes(self, subject: Subject) -> tuple[int, ...]:
        """Return the sizes of the parts of a subject, in tokens."""
        earlier, sizes = self._measured
        same = same_lines(earlier, subject.parts)
        sizes = (*sizes[:same], *map(size_of, subject.parts[same:]))
        self._measured = _apart(subject.parts), sizes
        return sizes

    def show(self, subject: Subject) -> Shown:
        """Return the lines of a subject, or of one piece of it."""
        shown = show(subject, self._shown, self._read)
        self._shown = replace(shown, parts=_apart(shown.parts))
        return shown


def _apart(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return the parts with a copy of the first.

    The cache lives as long as the first part does, so it must not keep that part alive.
    """
    return (*map(replace, parts[:1]), *parts[1:])
