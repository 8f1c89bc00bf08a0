"""What the Claude judge has prepared before: texts read for disguises, and lines of its prompts.

A stream is judged window by window and a conversation turn by turn, and every subject holds those
before it. What they cost is to grow with what is new. Safe for threads, and bounded: of texts
beyond an exchange only digests are kept; lines, which are content, go with the exchange.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace

from cachetools import LRUCache

from magistrate.core.sizes import size_of
from magistrate.judging.prompt import Shown, same_lines, show
from magistrate.text.reading import Reading, reading
from magistrate.wire.digests import Digests
from magistrate.wire.parts import Part, Subject, as_context

# Digests of texts with nothing to see, some 250 bytes of memory each.
READINGS = 50_000
# Exchanges under way with lines of their own. Past this the oldest are prepared anew.
EXCHANGES = 4_096
_HONEST = Reading()


class Preparations:
    """What one judge has prepared. `key` is secret: of its digests, and of the codes of fences."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._honest: LRUCache[bytes, bool] = LRUCache(READINGS)
        # By the identity of the first part of a subject. No lock: an entry can be removed whenever
        # a part is freed, in the middle of any step of any thread. Each step is atomic.
        self._exchanges: dict[int, tuple[weakref.ref[Part], Prepared]] = {}

    def read(self, text: str) -> Reading:
        """Read a text for disguises, once where it has none.

        One with a disguise is read again in every turn of its conversation (in a stream it is not:
        its line is kept). To keep its reading would be to keep what it says.
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
        """Find what is prepared of the exchange that a subject is of, or begin anew.

        All windows of an answer begin with the same part: the first of its question.
        """
        first = subject.parts[0] if subject.parts else None
        if first is None:
            return Prepared(self, ())
        exchanges, at = self._exchanges, id(first)
        found = exchanges.get(at)
        if found is not None and found[0]() is first:
            return found[1]
        while len(exchanges) >= EXCHANGES:
            for oldest in list(exchanges)[:1]:  # a copy: entries can go while it is read
                exchanges.pop(oldest, None)
        prepared = Prepared(self, subject.parts)
        exchanges[at] = weakref.ref(first, lambda _: exchanges.pop(at, None)), prepared
        return prepared

    def nonce(self, parts: Sequence[Part]) -> str:
        """Make the code that fences subjects which begin with these parts.

        The same for a whole conversation, so that the prompt of its next turn begins alike; what is
        judged now is context then.
        """
        first = [as_context(part).as_json() for part in parts[:1]]
        return Digests(self._key, "nonce").of("nonce", first)[:32]


class Prepared:
    """What is prepared of the subjects of one exchange.

    The parts of the latest subject are kept, since the next one mostly begins with them. What is
    kept is replaced as a whole, so that two threads can at worst do the same work twice.
    """

    def __init__(self, owner: Preparations, parts: Sequence[Part]) -> None:
        self.nonce = owner.nonce(parts)
        self._read = owner.read
        self._measured: tuple[tuple[Part, ...], tuple[int, ...]] = ((), ())
        self._shown: Shown | None = None

    def sizes(self, subject: Subject) -> tuple[int, ...]:
        """Measure the parts of a subject, in tokens."""
        earlier, sizes = self._measured
        same = same_lines(earlier, subject.parts)
        sizes = (*sizes[:same], *map(size_of, subject.parts[same:]))
        self._measured = _apart(subject.parts), sizes
        return sizes

    def show(self, subject: Subject) -> Shown:
        """Show the lines of a subject, or of one piece of it."""
        shown = show(subject, self._shown, self._read)
        self._shown = replace(shown, parts=_apart(shown.parts))
        return shown


def _apart(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts with a copy of the first: what is kept for as long as that lives must not be what
    keeps it alive."""
    return (*map(replace, parts[:1]), *parts[1:])
