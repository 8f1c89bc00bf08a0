"""The hold-back of a stream: what is released, when, and behind which verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.core.windows import FIRST_WINDOW, FULL, WINDOW, StreamBuffer
from magistrate.text.tokens import BYTES_PER_TOKEN, tokens
from magistrate.wire.content import read_answer
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.sse import Decoder, Event, event
from strategies import MESSAGE_START, chaos, streams, text_delta

JSON = dict[str, Any]
CONTENT_FREE = {"content_block_stop", "message_delta", "message_stop", "error"}


class Noted(MessageBuilder):
    """A message builder that remembers what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[Event] = []

    def feed(self, item: Event) -> None:
        self.fed.append(item)
        super().feed(item)


def start(index: object, kind: str = "text", **fields: Any) -> Event:
    block = {"type": kind, **({"text": ""} if kind == "text" else {}), **fields}
    return event({"type": "content_block_start", "index": index, "content_block": block})


def said(index: object, words: str) -> Event:
    return event(text_delta(index, words))


def part_of_input(index: object, words: str) -> Event:
    change = {"type": "input_json_delta", "partial_json": words}
    return event({"type": "content_block_delta", "index": index, "delta": change})


def stop(index: object) -> Event:
    return event({"type": "content_block_stop", "index": index})


BEGIN = event(MESSAGE_START)
END = [
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}),
    event({"type": "message_stop"}),
]
PING = event({"type": "ping"})
COMMENT = Decoder().feed(b": keep-alive\n\n")[0]


def index_of(item: Event) -> str:
    return str(item.data.get("index"))


def block_of(item: Event) -> Any:
    return item.data.get("content_block")


def kind_of(item: Event) -> Any:
    block = block_of(item)
    return block.get("type") if isinstance(block, dict) else None


def is_passing(item: Event) -> bool:
    return item.type == "ping"


def carries_content(item: Event) -> bool:
    """Whether a reader could learn anything of the answer from this event."""
    match item.type:
        case name if name in CONTENT_FREE:
            return False
        case "message_start" if isinstance(item.data.get("message"), dict):
            return bool(item.data["message"].get("content"))
        case "content_block_start" if kind_of(item) in ("text", "thinking"):
            return bool(block_of(item).get(kind_of(item)))
        case "content_block_delta" if isinstance(item.data.get("delta"), dict):
            change = item.data["delta"]
            if change.get("type") == "signature_delta":
                return False
            return any(value not in ("",) for key, value in change.items() if key != "type")
        case _:
            return True


@dataclass
class Run:
    """What became of a stream: the windows that were judged, and what was released together."""

    held: StreamBuffer
    fed: list[Event] = field(default_factory=list[Event])
    windows: list[list[Event]] = field(default_factory=list[list[Event]])
    released: list[list[Event]] = field(default_factory=list[list[Event]])
    passed: list[Event] = field(default_factory=list[Event])

    @property
    def out(self) -> list[Event]:
        return [item for batch in self.released for item in batch]

    def feed(self, item: Event) -> None:
        if not is_passing(item):
            self.fed.append(item)
        if at_once := self.held.feed(item):
            (self.passed if is_passing(item) else self.now).extend(at_once)

    @property
    def now(self) -> list[Event]:
        self.released.append([])
        return self.released[-1]

    def take(self) -> bool:
        if not self.held.due:
            return False
        noted = self.held.answer
        assert isinstance(noted, Noted)
        before = len(noted.fed)
        self.held.take()
        self.windows.append(noted.fed[before:])
        return True

    def release(self) -> bool:
        if not self.held.out:
            return False
        self.released.append(self.held.release())
        return True


def run(events: list[Event], steps: list[bool], *, whole: bool) -> Run:
    """Feed a stream; after each event `steps` says whether a verdict has come in by then.

    Windows are cut as soon as they are due, as the flow does.
    """
    now = Run(StreamBuffer(whole=whole, answer=Noted()))
    for position, item in enumerate(events):
        now.feed(item)
        if position < len(steps) and steps[position]:
            now.release()
        now.take()
    now.held.end()
    while now.take() or now.release():
        pass
    return now


schedules = st.lists(st.booleans(), max_size=80)
any_stream = streams() | chaos


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_a_piece_is_held_as_it_would_be_if_nobody_knew_that_it_is_one(
    events: list[Event], steps: list[bool], whole: bool
):
    def taken_whole(item: Event) -> Event:
        twin = Event(item.raw, item.name, item.data)
        twin.grows = twin.piece = ""  # type: ignore[misc]
        return twin

    one, other = StreamBuffer(whole=whole), StreamBuffer(whole=whole)
    for position, item in enumerate(events):
        assert one.feed(item) == other.feed(taken_whole(item))
        if position < len(steps) and steps[position] and one.out:
            assert one.release() == other.release()
        assert (one.due, one.wants_more, one.empty) == (other.due, other.wants_more, other.empty)
        if one.due:
            one.take()
            other.take()
            assert one.answer.message == other.answer.message
    assert one.unknown == other.unknown
    for held in (one, other):
        held.end()
        if held.due:
            held.take()
    assert one.answer.message == other.answer.message
    assert one.release() == other.release()


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_events_leave_in_their_order_and_all_of_them_in_the_end(
    events: list[Event], steps: list[bool], whole: bool
):
    now = Run(StreamBuffer(whole=whole, answer=Noted()))
    for position, item in enumerate(events):
        now.feed(item)
        if position < len(steps) and steps[position]:
            now.release()
        now.take()
        assert now.out == now.fed[: len(now.out)]
    now.held.end()
    while now.take() or now.release():
        assert now.out == now.fed[: len(now.out)]
    assert now.out == now.fed
    assert now.held.empty
    assert not now.held.wants_more
    assert now.passed == [item for item in events if is_passing(item)]


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_no_content_leaves_that_was_not_inside_a_window(
    events: list[Event], steps: list[bool], whole: bool
):
    now = Run(StreamBuffer(whole=whole, answer=Noted()))

    def check() -> None:
        judged = {id(item) for window in now.windows for item in window}
        assert all(id(item) in judged for item in now.out if carries_content(item))

    for position, item in enumerate(events):
        now.feed(item)
        check()
        if position < len(steps) and steps[position]:
            now.release()
            check()
        now.take()
    now.held.end()
    while now.take() or now.release():
        check()


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_nothing_leaves_while_its_window_is_being_judged(
    events: list[Event], steps: list[bool], whole: bool
):
    now = Run(StreamBuffer(whole=whole, answer=Noted()))
    for item in events:
        out = now.held.out
        before = len(now.out)
        now.feed(item)
        assert not out or len(now.out) == before
        now.take()


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_the_answer_judged_is_what_the_released_events_add_up_to(
    events: list[Event], steps: list[bool], whole: bool
):
    now = run(events, steps, whole=whole)
    noted = now.held.answer
    assert isinstance(noted, Noted)
    assert noted.fed == now.fed


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_a_block_other_than_text_and_thinking_is_never_cut(
    events: list[Event], steps: list[bool], whole: bool
):
    now = run(events, steps, whole=whole)
    window_of = {id(item): at for at, window in enumerate(now.windows) for item in window}
    fed = [item for item in events if not is_passing(item)]
    for position, first in enumerate(fed):
        if first.type != "content_block_start" or kind_of(first) in ("text", "thinking"):
            continue
        for item in fed[position:]:
            assert window_of[id(item)] == window_of[id(first)]
            if item.type == "content_block_stop" and index_of(item) == index_of(first):
                break


@settings(deadline=None, max_examples=300)
@given(any_stream, schedules, st.booleans())
def test_a_text_block_begins_only_together_with_some_of_its_content(
    events: list[Event], steps: list[bool], whole: bool
):
    now = run(events, steps, whole=whole)
    starts = [index_of(item) for item in events if item.type == "content_block_start"]
    for batch in now.released:
        for position, first in enumerate(batch):
            if first.type != "content_block_start" or kind_of(first) != "text":
                continue
            if starts.count(index_of(first)) > 1:
                continue  # whose content would it be?
            same = [item for item in batch[position:] if index_of(item) == index_of(first)]
            filled = any(carries_content(item) for item in same)
            closed = any(item.type == "content_block_stop" for item in same)
            assert filled or closed or batch[-1] is now.fed[-1]


def words_of(item: Event) -> str:
    change = item.data.get("delta")
    found = change if isinstance(change, dict) else {}
    return str(found.get("text") or found.get("thinking") or "")


@settings(deadline=None, max_examples=300)
@given(streams())
def test_less_than_a_window_of_text_is_held_when_verdicts_come_at_once(events: list[Event]):
    now = Run(StreamBuffer(whole=False, answer=Noted()))
    for item in events:
        now.feed(item)
        while now.take():
            now.release()
        said = "".join(words_of(held) for held in now.fed[len(now.out) :])
        waiting = len(said.encode("utf-8", "surrogatepass"))
        assert waiting < BYTES_PER_TOKEN * (WINDOW if now.windows else FIRST_WINDOW)


@pytest.mark.parametrize("size", [1, 4, 20])
def test_text_is_judged_in_windows_of_stated_size_the_first_one_small(size: int):
    words = "x" * 4 * size  # this many tokens at a time
    events = [BEGIN, start(0), *(said(0, words) for _ in range(900 // size)), stop(0), *END]
    now = run(events, [True] * len(events), whole=False)
    weights = [sum(tokens(words_of(item)) for item in window) for window in now.windows]
    assert FIRST_WINDOW <= weights[0] < FIRST_WINDOW + size
    assert all(WINDOW <= weight < WINDOW + size for weight in weights[1:-1])
    assert weights[-1] < WINDOW + size
    assert WINDOW <= 150


def test_the_next_window_fills_while_the_last_is_judged():
    held = StreamBuffer(whole=False)
    for item in (BEGIN, start(0), said(0, "a" * 4 * FIRST_WINDOW)):
        held.feed(item)
    held.take()
    late = [said(0, "b" * 4 * WINDOW), said(0, "c" * 4 * WINDOW)]
    assert [held.feed(item) for item in late] == [[], []]
    assert not held.due  # one verdict at a time
    assert [item.type for item in held.release()] == ["content_block_start", "content_block_delta"]
    assert held.due
    held.take()
    assert held.release() == late


def test_a_judge_that_does_not_answer_stops_the_reading():
    held = StreamBuffer(whole=False)
    for item in (BEGIN, start(0), said(0, "a" * 4 * FIRST_WINDOW)):
        held.feed(item)
    held.take()
    assert held.wants_more
    held.feed(said(0, "b" * 4 * FULL))
    assert not held.wants_more
    held.release()
    held.take()
    assert held.wants_more


def test_a_message_held_whole_is_read_to_its_end_and_judged_once():
    words = [said(0, "a" * 4 * FULL)] * 3
    held = StreamBuffer(whole=True)
    events = [BEGIN, start(0), *words, stop(0), *END]
    for item in events:
        assert held.feed(item) == []
        assert not held.due
        assert held.wants_more
    held.end()
    assert held.due
    held.take()
    assert held.release() == events


def test_pings_and_comments_pass_at_once_whatever_is_held():
    for whole in (True, False):
        held = StreamBuffer(whole=whole)
        for item in (PING, COMMENT, BEGIN, PING, start(0), COMMENT, said(0, "hi"), PING, COMMENT):
            if item in (PING, COMMENT):
                assert held.feed(item) == [item]
            else:
                held.feed(item)
        held.end()
        held.take()
        assert PING not in held.release()


ODD = {
    "a ping with a delta": {"type": "ping", "delta": {"type": "text_delta", "text": "x y"}},
    "a ping with text": {"type": "ping", "text": "x"},
    "an end with a delta": {"type": "message_stop", "delta": {"text": "x"}},
    "an end with a message": {"type": "message_stop", "message": {"content": "x"}},
    "a block's end with a block": {"type": "content_block_stop", "content_block": {"text": "x"}},
    "a last delta with content": {"type": "message_delta", "delta": {"content": ["x"]}},
    "a last delta that is text": {"type": "message_delta", "delta": "x"},
    "a last delta that explains": {
        "type": "message_delta",
        "delta": {"stop_details": {"type": "refusal", "explanation": "because"}},
    },
}
FRAMES = {
    "a ping of no JSON": b"event: ping\ndata: x\n\n",
    "what looks like a comment": b"event: ping\ndata: :x\n\n",
    "what looks like a line": b"event: ping\ndata: {}event: x\n\n",
    "what looks like an id": b"event: ping\r\ndata:id: x\r\n\r\n",
    "no end of trying": b"event: ping\n" + b":\r\n" * 5000 + b"x\n\n",
    "nor within a line": b"event: ping\n" + b":" * 5000 + b"\nx\n\n",
    "words without a name": b"data: just words\n\n",
    "a name that is a sentence": b"event: two words\n\n",
    "an id that is a sentence": b"id: two words\n\n",
    "a list": b"data: [1, 2]\n\n",
}
ODD_EVENTS = {name: event(data) for name, data in ODD.items()} | {
    name: Decoder().feed(raw)[0] for name, raw in FRAMES.items()
}


@pytest.mark.parametrize("name", ODD_EVENTS)
def test_what_has_no_content_by_its_type_may_have_none(name: str):
    """What it says all the same is held, and is given to the judge as text."""
    held = StreamBuffer(whole=False)
    held.feed(BEGIN)
    assert held.feed(ODD_EVENTS[name]) == []
    held.end()
    assert held.due
    held.take()
    assert read_answer(held.answer.message, unread=held.answer.unread).parts


@pytest.mark.parametrize(
    "item",
    [
        Event(b"event: ping\n\n", "ping", {}),
        Event(b"event: ping\r\ndata: {}\r\n\r\n", "ping", {}),
        Event(b'data: {"type": "ping"}\n\n', "", {"type": "ping"}),
        event({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"latency": 5}}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": {}}}),
        *Decoder().feed(
            b"retry: 3000\n\nid: 7\n\nevent: message_delta\n\ndata:\n\ndata: null\n\n"
            b"data: [DONE]\n\ndata: {}\n\nevent: ping\ndata: true\n\n"
        ),
    ],
    ids=[
        *("no data", "empty data", "no name", "metrics", "a container"),
        *("retry", "id", "a name alone", "no value", "null", "done", "an object", "true"),
    ],
)
def test_what_providers_and_proxies_send_passes(item: Event):
    held = StreamBuffer(whole=False)
    held.feed(BEGIN)
    assert held.feed(item) == [item]
    assert held.unknown == []


def test_the_head_of_a_stream_and_the_end_of_judged_text_pass_at_once():
    held = StreamBuffer(whole=False)
    assert held.feed(BEGIN) == [BEGIN]
    for item in (start(0), said(0, "a" * 4 * FIRST_WINDOW)):
        assert held.feed(item) == []
    held.take()
    held.release()
    for item in (stop(0), *END):
        assert held.feed(item) == [item]
    held.end()
    assert not held.due


def test_a_head_that_already_has_content_waits_for_its_verdict():
    message = {**MESSAGE_START["message"], "content": [{"type": "text", "text": "hi"}]}
    head = event({"type": "message_start", "message": message})
    held = StreamBuffer(whole=False)
    assert held.feed(head) == []


def test_what_ends_a_block_leaves_with_the_window_before_it_but_the_next_block_does_not():
    held = StreamBuffer(whole=False)
    for item in (BEGIN, start(0), said(0, "a" * 4 * FIRST_WINDOW)):
        held.feed(item)
    held.take()
    for item in (stop(0), start(1), said(1, "b")):
        held.feed(item)
    assert [item.type for item in held.release()][-1] == "content_block_stop"
    assert not held.empty


def test_a_block_that_has_shown_only_empty_words_does_not_begin_yet():
    held = StreamBuffer(whole=False)
    for item in (BEGIN, start(0), said(0, "a" * 4 * FIRST_WINDOW), stop(0), start(1), said(1, "")):
        held.feed(item)
    held.take()
    assert index_of(held.release()[-1]) == "0"
    held.end()
    held.take()
    assert [item.type for item in held.release()] == ["content_block_start", "content_block_delta"]


def test_text_before_a_tool_call_is_judged_without_waiting_for_the_call():
    held = StreamBuffer(whole=False)
    for item in (BEGIN, start(0), said(0, "a" * 4 * FIRST_WINDOW), stop(0)):
        held.feed(item)
    call = [start(1, "tool_use", id="t", name="look", input={})]
    call += [part_of_input(1, "x" * 4 * WINDOW) for _ in range(3)]
    for item in call:
        held.feed(item)
    assert held.due
    held.take()
    assert [block["type"] for block in held.answer.content] == ["text"]
    held.release()
    assert not held.due  # the call is not complete
    held.feed(stop(1))
    assert held.due
    held.take()
    assert held.release() == [*call, stop(1)]


def test_a_call_is_not_complete_because_another_block_ends():
    held = StreamBuffer(whole=False)
    call = [start(1, "tool_use", id="t", name="look", input={})]
    for item in (BEGIN, *call, part_of_input(1, "x" * 4 * WINDOW), stop(0)):
        held.feed(item)
    assert not held.due
    held.feed(start(2, "tool_use", id="u", name="look", input={}))
    held.feed(stop(2))
    assert not held.due
    held.feed(stop(1))
    assert held.due


def test_a_call_that_breaks_off_is_judged_as_far_as_it_came():
    held = StreamBuffer(whole=False)
    for item in (BEGIN, start(0, "tool_use", id="t", name="n", input={}), part_of_input(0, '{"a')):
        held.feed(item)
    assert not held.due
    held.end()
    assert held.due
    held.take()
    assert held.answer.content[0]["input"] == {"unparseable": '{"a'}


@pytest.mark.parametrize(
    "wire",
    [
        b'event: novel\ndata: {"type": "novel", "text": "who knows"}\n\n',
        b'event: novel\ndata: {"type": "novel"}\n\n',
        b'data: {"type": "content_block_delta", "index": 0, "delta": "words"}\n\n',
        b'data: {"type": "message_start", "message": "words"}\n\n',
    ],
)
def test_an_event_nobody_can_read_is_held_and_named(wire: bytes):
    [item] = Decoder().feed(wire)
    held = StreamBuffer(whole=False)
    held.feed(BEGIN)
    assert held.feed(item) == []
    assert [(each.path, each.reason) for each in held.unknown] == [("event[1]", "unknown_event")]
    held.end()
    assert held.due


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2), ("\ud800", 1)]
)
def test_tokens_are_estimated_at_four_bytes_each(text: str, count: int):
    assert tokens(text) == count


def test_an_empty_stream_has_nothing_to_judge():
    held = StreamBuffer(whole=False)
    held.end()
    assert not held.due
    assert not held.out
    assert held.empty
