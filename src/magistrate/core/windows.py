"""Decide which events of a stream are held back and which may pass, so that nothing leaks unjudged.

Pure. Events are queued in order. A window is the part at the front of the queue that one verdict
will cover; nothing in it leaves before that verdict, and nothing behind it overtakes it. Events
without content pass as soon as nothing is held in front of them; pings pass at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from magistrate.text.tokens import BYTES_PER_TOKEN, byte_size
from magistrate.wire.event_fields import DELTA_FIELDS, unread
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.messages import JSON, is_object
from magistrate.wire.parts import Uninspected
from magistrate.wire.shapes import ANSWER, OPAQUE, WORD, left_over
from magistrate.wire.sse import Event
from magistrate.wire.unknown_fields import dump

# Sizes in tokens, estimated at four bytes each. The first window is small, so that a reader sees
# text early; later ones are larger, since every verdict reads the answer so far again. Including
# the delta that fills one, at most about 150 tokens are held in addition to those being judged.
FIRST_WINDOW = 40
WINDOW = 145
# Beyond this much unjudged text, the upstream body is not read until a verdict arrives.
FULL = 2_000

# Events without content, if they carry nothing `unread`. "" is a frame without data.
_CONTENT_FREE = frozenset(
    {"", "content_block_stop", "message_delta", "message_stop", "error", "ping"}
)
_WHOLE_BLOCKS = frozenset({"text", "thinking"})  # every other block is judged in one piece


@dataclass(slots=True)
class StreamBuffer:
    """The queue between upstream and caller. `whole`: one window for the entire message.

    Events are counted from the start of the stream. Those before `_judged_to` are released or being
    judged. `_block_at` is where a block begins that is judged in one piece and is still open;
    `_bare` is where other blocks begin that have no content yet.
    """

    whole: bool
    answer: MessageBuilder = field(default_factory=MessageBuilder)  # up to the last window taken
    unknown: list[Uninspected] = field(default_factory=list[Uninspected])
    ended: bool = False
    _queue: deque[Event] = field(default_factory=deque[Event])
    # Their bytes of content: a queue of pairs would need one more object for each event held.
    _weights: deque[int] = field(default_factory=deque[int])
    _first: int = 0  # number of the event at the front of the queue
    _judged_to: int = 0
    _block_at: int | None = None
    _open: set[str] = field(default_factory=set[str])  # indices of the open blocks from there on
    _bare: dict[str, int] = field(default_factory=dict[str, int])
    _block_size: int = 0
    _ready_size: int = 0
    _windows: int = 0

    @property
    def _next(self) -> int:
        return self._first + len(self._queue)

    @property
    def _boundary(self) -> int:
        """Return the event before which all events can be judged now.

        A block that is judged whole must be complete. No block's start is released before some of
        its content can be, since an empty block would make the message invalid as history.
        """
        block = self._next if self._block_at is None else self._block_at
        return min(block, *self._bare.values()) if self._bare else block

    def feed(self, event: Event) -> list[Event]:
        """Take one event from upstream and return it if it may pass at once."""
        if event.piece:  # nearly all are held, and none begins or ends a block
            self._hold(event, byte_size(event.piece))
            if self._bare:
                self._bare.pop(str(event.data["index"]), None)
            return []
        if (event.type == "ping" or _is_comment(event)) and not unread(event):
            return [event]
        weight = self._weigh(event)
        starts = event.type == "content_block_start"
        if not self._queue and not weight and not self.whole and not starts:
            self.answer.feed(event)
            self._first += 1
            self._judged_to = self._first
            return [event]
        self._hold(event, weight)
        index = str(event.data.get("index"))
        ends = event.type == "content_block_stop"
        if starts:
            if not weight:
                self._bare.setdefault(index, self._next - 1)
        elif weight or ends:
            self._bare.pop(index, None)
        if ends:
            self._open.discard(index)
            if not self._open:
                self._close_block()
        return []

    def _hold(self, event: Event, weight: int) -> None:
        self._queue.append(event)
        self._weights.append(weight)
        if self._block_at is None:
            self._ready_size += weight
        else:
            self._block_size += weight

    def _weigh(self, event: Event) -> int:
        """Return the bytes of content in an event; 0 only for an event that carries none."""
        rest = unread(event)
        return self._weigh_known(event) + (byte_size(dump(rest)) if rest else 0)

    def _weigh_known(self, event: Event) -> int:
        data = event.data
        match event.type:
            case "content_block_delta" if is_object(delta := data.get("delta")):  # most events are
                return _weigh_delta(delta)
            case "message_start" if is_object(start := data.get("message")):
                content = start.get("content")
                return (byte_size(str(content)) if content else 0) + _weigh_fields(start)
            case "message_delta" if is_object(delta := data.get("delta")):
                return _weigh_fields(delta)
            case "content_block_start":
                block = data.get("content_block")
                kind = block.get("type") if is_object(block) else None
                if is_object(block) and str(kind) in _WHOLE_BLOCKS:
                    found = left_over(block, {"type": WORD, "signature": OPAQUE})
                    return byte_size(dump(found)) if found else 0
                if self._block_at is None:
                    self._block_at = self._next
                self._open.add(str(data.get("index")))
                return byte_size(str(block))
            case name if name in _CONTENT_FREE or not data:
                return 0
            case _:
                self.unknown.append(Uninspected(f"event[{self._next}]", "unknown_event"))
                return max(1, len(event.raw))

    def _close_block(self) -> None:
        self._ready_size += self._block_size
        self._block_at, self._block_size = None, 0
        self._open.clear()

    def end(self) -> None:
        """Note that no more events will come: the rest is the last window, complete or not."""
        self.ended = True
        self._bare.clear()
        self._close_block()

    @property
    def out(self) -> bool:
        """Return whether a window is being judged."""
        return self._judged_to > self._first

    @property
    def due(self) -> bool:
        """Return whether there is enough for a verdict and no window is being judged."""
        size = WINDOW if self._windows else FIRST_WINDOW
        ready = not self.whole and self._ready_size >= size * BYTES_PER_TOKEN
        return (self.ended or ready) and not self.out and self._boundary > self._judged_to

    def take(self) -> None:
        """Take the next window; `answer` then holds the message up to its end."""
        for event in islice(self._queue, self._boundary - self._first):
            self.answer.feed(event)
        self._judged_to = self._boundary
        self._ready_size = 0
        self._windows += 1

    def release(self) -> list[Event]:
        """Return the events of a window that was allowed, and those that may follow it at once."""
        out = [self._pop() for _ in range(self._judged_to - self._first)]
        while self._queue and not self._weights[0] and self._first < self._boundary:
            if self._queue[0].type == "content_block_start":
                break
            event = self._pop()
            self.answer.feed(event)
            self._judged_to = self._first
            out.append(event)
        return out

    def _pop(self) -> Event:
        self._first += 1
        self._weights.popleft()
        return self._queue.popleft()

    @property
    def wants_more(self) -> bool:
        """Return whether to continue reading upstream."""
        return not self.ended and (self.whole or self._ready_size < FULL * BYTES_PER_TOKEN)

    @property
    def empty(self) -> bool:
        """Return whether nothing is held."""
        return not self._queue


def _weigh_delta(delta: JSON) -> int:
    """Return the bytes in a delta; at least 1 for an unknown kind, whatever it contains."""
    kind = str(delta.get("type"))
    if kind == "signature_delta" and delta.keys() <= {"type", "signature"}:
        return 0
    size = byte_size("".join([str(value) for name, value in delta.items() if name != "type"]))
    return size if kind in DELTA_FIELDS else max(1, size)


def _weigh_fields(fields: JSON) -> int:
    """Return the bytes of content in fields of the message besides its blocks."""
    found = left_over({k: v for k, v in fields.items() if k != "content"}, ANSWER)
    return byte_size(dump(found)) if found else 0


def _is_comment(event: Event) -> bool:
    if event.name or event.data or event.other is not None:
        return False
    lines = event.raw.replace(b"\r", b"\n").split(b"\n")
    return all(line.startswith(b":") for line in lines if line)
