"""Upstream streams for the leak proof: any events, any bytes, and a name on every piece of content.

Every piece of content carries a token of its own, `#17#`, numbered in the order of the stream. What
a caller has received can so be told piece by piece, whatever surface it came through, and held
against what the judge had been shown and had allowed by then. One piece may carry `MARK`, whole or
cut in two: the words the judge objects to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from magistrate.settings import Settings
from magistrate.testing.judge_script import judged_parts_with
from magistrate.verdicts import (
    Finding,
    HighRiskAnswer,
    JudgeInfo,
    Outcome,
    Stage,
    Unavailable,
    Verdict,
)
from magistrate.wire.messages import is_object
from magistrate.wire.parts import Subject

JSON = dict[str, Any]
MARK = "XMARKEDX"
TOKEN = re.compile(r"#(\d+)#")
JUDGE = JudgeInfo("leak")

# What the judge says of the mark, and so of the window it ends in.
Objection: TypeAlias = Literal["block", "floor", "warn", "timeout", "refused", "hold"]
OBJECTIONS: tuple[Objection, ...] = ("block", "floor", "warn", "timeout", "refused", "hold")
# How an upstream stream ends: as streams do, between two events, within one, or with an exception.
Ending: TypeAlias = Literal["whole", "truncated", "half", "failed"]


# --- what a stream is made of ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """One event as it is on the wire. `passing`: a ping or a comment, which may overtake others."""

    raw: bytes
    data: JSON = field(default_factory=dict[str, Any])
    passing: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Upstream:
    """What the model's side will send.

    `opaque` maps the tokens that no judge can read to the reason; every other one must have been
    shown to the judge. `mark` is the token of the piece in which the mark is complete.
    """

    pieces: list[Piece]
    sizes: list[int]
    ending: Ending = "whole"
    opaque: dict[int, str] = field(default_factory=dict[int, str])
    mark: int | None = None
    structured: bool = False

    def __repr__(self) -> str:
        lines = "".join(f"\n    {piece.data or piece.raw}" for piece in self.pieces)
        rest = f"{self.ending}, cut at {self.sizes}, opaque {self.opaque}, mark {self.mark}"
        return f"<upstream: {rest}{lines}>"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))

    @property
    def data(self) -> bytes:
        """Every byte, without the second half of an event that is broken off."""
        joined = b"".join(piece.raw for piece in self.pieces)
        return joined[: -max(3, len(self.pieces[-1].raw) // 2)] if self._half else joined

    @property
    def whole_pieces(self) -> list[Piece]:
        """The events that arrive whole."""
        return self.pieces[:-1] if self._half else self.pieces

    @property
    def _half(self) -> bool:
        return self.ending == "half" and bool(self.pieces)

    @property
    def chunks(self) -> Iterator[bytes]:
        """The bytes as they arrive, cut anywhere; in larger pieces after the first hundred."""
        data, at = self.data, 0
        for number, size in enumerate(cycle(self.sizes)):
            if at >= len(data):
                return
            size *= 1 if number < 100 else 20
            yield data[at : at + size]
            at += size

    @property
    def reasons(self) -> set[str]:
        """Why some of it cannot be read."""
        return set(self.opaque.values())


def tokens_in(data: bytes | str) -> list[int]:
    """The tokens that stand in some bytes or text."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return [int(found) for found in TOKEN.findall(text)]


# --- how they are drawn ---------------------------------------------------------------------------

# Deltas are drawn as small numbers: the first eight are these texts, short to beyond a window.
_WORDS = ("", "a", "é", "🎉" * 3, "word " * 5, "x" * 90, "日本語 " * 30, "y" * 500)
_PING, _COMMENT, _NOVEL_EVENT, _NOVEL_DELTA, _CITATION, _EMPTY = range(8, 14)
_LAST = _EMPTY

_KINDS = (
    "text",
    "text",
    "text",
    "thinking",
    "tool_use",
    "server_tool_use",
    "web_search_tool_result",
    "code_result",
    "redacted_thinking",
    "novelty",
    "compaction",
)
_CALLS = ("tool_use", "server_tool_use")
_FRAMES = ("lf", "crlf", "cr", "folded", "ascii")
_SIZES = (1, 2, 3, 7, 13, 40, 41, 150, 1_000, 100_000)
_deltas = st.lists(st.integers(0, _LAST), max_size=10)
_blocks = st.lists(st.tuples(st.sampled_from(_KINDS), _deltas), max_size=5)
_sizes = st.lists(st.sampled_from(_SIZES), min_size=1, max_size=5)
_endings = st.sampled_from(("whole", "whole", "whole", "truncated", "half", "failed"))


def message_start() -> JSON:
    return {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-5-5",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    }


class _Writer:
    """Writes a stream event by event, and a token and perhaps the mark into its content."""

    def __init__(self, framing: str, mark_at: int | None, *, split: bool) -> None:
        self.pieces: list[Piece] = []
        self.opaque: dict[int, str] = {}
        self.mark: int | None = None
        self.count = 0
        self._framing = framing
        self._mark_at = mark_at
        self._split = split
        self._rest = ""  # of a mark that is cut in two

    def words(self, text: str, *, joins: bool = False, opaque: str | None = None) -> str:
        """Content under a new token. `joins`: a reader sees it joined to what came before it."""
        number, self.count = self.count, self.count + 1
        if opaque is not None:
            self.opaque[number] = opaque
            return f"#{number}#{text}"
        said = f"#{number}#{text}"
        if self._rest and joins:
            said, self._rest, self.mark = self._rest + said, "", number
        self._rest = ""
        if number == self._mark_at:
            if joins and self._split:
                said, self._rest = said + MARK[:4], MARK[4:]
            else:
                said, self.mark = said + MARK, number
        return said

    def send(self, data: JSON) -> None:
        if data["type"] == "content_block_start":
            self._rest = ""
        self.pieces.append(Piece(framed(data, self._framing), data))

    def ping(self) -> None:
        data = {"type": "ping"}
        self.pieces.append(Piece(framed(data, self._framing), data, passing=True))

    def comment(self) -> None:
        end = {"crlf": b"\r\n", "cr": b"\r"}.get(self._framing, b"\n")
        self.pieces.append(Piece(b": keep-alive" + end + end, {}, passing=True))

    def aside(self, code: int) -> bool:
        """Write what may stand between any two events; whether the code asks for that."""
        if code == _PING:
            self.ping()
        elif code == _COMMENT:
            self.comment()
        elif code == _NOVEL_EVENT:
            text = self.words("who knows", opaque="unknown_event")
            self.send({"type": "novel_event", "text": text})
        else:
            return False
        return True


def framed(data: JSON, framing: str = "lf") -> bytes:
    """One event on the wire. `folded`: its data over many lines; `ascii`: with JSON escapes."""
    text = json.dumps(
        data, ensure_ascii=framing == "ascii", indent=1 if framing == "folded" else None
    )
    lines = [f"event: {data['type']}", *(f"data: {line}" for line in text.split("\n"))]
    end = {"crlf": "\r\n", "cr": "\r"}.get(framing, "\n")
    return (end.join(lines) + end + end).encode()


def _delta(index: int, kind: str, **fields: Any) -> JSON:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def _block(to: _Writer, index: int, kind: str, codes: list[int]) -> None:
    match kind:
        case "text":
            _written(to, index, {"type": "text", "text": ""}, "text", codes)
        case "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            _written(to, index, start, "thinking", codes)
        case "compaction":
            _written(to, index, {"type": "compaction", "content": ""}, "content", codes)
        case "tool_use" | "server_tool_use":
            _call(to, index, kind, codes)
        case _:
            _complete(to, index, kind, codes)
    to.send({"type": "content_block_stop", "index": index})


def _written(to: _Writer, index: int, start: JSON, name: str, codes: list[int]) -> None:
    """A block whose words come in deltas."""
    kind = {"content": "compaction_delta"}.get(name, f"{name}_delta")
    to.send({"type": "content_block_start", "index": index, "content_block": start})
    for code in codes:
        if to.aside(code):
            continue
        if code < len(_WORDS):
            to.send(_delta(index, kind, **{name: to.words(_WORDS[code], joins=True)}))
        elif code == _EMPTY:
            to.send(_delta(index, kind, **{name: ""}))
        elif code == _CITATION and name == "text":
            cited = {
                "type": "char_location",
                "cited_text": to.words("said"),
                "document_index": 0,
                "document_title": None,
                "start_char_index": 0,
                "end_char_index": 4,
            }
            to.send(_delta(index, "citations_delta", citation=cited))
        elif code == _NOVEL_DELTA:
            to.send(_delta(index, "novel_delta", novel=to.words("new", opaque="unknown_block")))
    if name == "thinking" and codes:
        to.send(_delta(index, "signature_delta", signature="c2ln"))


def _call(to: _Writer, index: int, kind: str, codes: list[int]) -> None:
    """A call: its arguments are JSON only when all the fragments are joined."""
    block = {"type": kind, "id": f"tool_{index}", "name": to.words("look"), "input": {}}
    to.send({"type": "content_block_start", "index": index, "content_block": block})
    to.send(_delta(index, "input_json_delta", partial_json=""))
    if not codes:
        return
    to.send(_delta(index, "input_json_delta", partial_json='{"said": ['))
    for code in codes:
        if not to.aside(code):
            said = json.dumps(to.words(_WORDS[code % len(_WORDS)]), ensure_ascii=False)
            to.send(_delta(index, "input_json_delta", partial_json=f"{said}, "))
    to.send(_delta(index, "input_json_delta", partial_json="0]}"))


def _complete(to: _Writer, index: int, kind: str, codes: list[int]) -> None:
    """A block that is complete when it starts."""
    said = _WORDS[sum(codes) % len(_WORDS)]
    match kind:
        case "web_search_tool_result":
            found = {
                "type": "web_search_result",
                "title": to.words(said),
                "url": "https://example.com",
                "encrypted_content": to.words("x", opaque="encrypted"),
                "page_age": None,
            }
            block = {"type": kind, "tool_use_id": "srvtoolu_1", "content": [found]}
        case "code_result":
            result = {
                "type": "bash_code_execution_result",
                "stdout": to.words(said),
                "stderr": "",
                "return_code": 0,
                "content": [],
            }
            block = {
                "type": "bash_code_execution_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": result,
            }
        case "redacted_thinking":
            block = {"type": kind, "data": to.words("x", opaque="encrypted")}
        case _:
            block = {"type": kind, "text": to.words(said, opaque="unknown_block")}
    to.send({"type": "content_block_start", "index": index, "content_block": block})
    for code in codes:
        if not to.aside(code) and code == _NOVEL_DELTA:
            to.send(_delta(index, "novel_delta", novel=to.words("new", opaque="unknown_block")))


@st.composite
def upstreams(draw: st.DrawFn, *, structured: bool | None = False) -> Upstream:
    """An answer as the API streams it: blocks one after the other, and anything in between."""
    mark_at = draw(st.none() | st.integers(0, 20))
    to = _Writer(draw(st.sampled_from(_FRAMES)), mark_at, split=draw(st.booleans()))
    before = draw(st.integers(0, _LAST))
    if before in (_PING, _COMMENT):
        to.aside(before)
    to.send(message_start())
    if structured is None:
        structured = draw(st.booleans())
    if structured:
        _structured(to, draw(_deltas))
        reason = "end_turn"
    else:
        blocks = draw(_blocks)
        for index, (kind, codes) in enumerate(blocks):
            _block(to, index, kind, codes)
        reason = "tool_use" if any(kind == "tool_use" for kind, _ in blocks) else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    to.send({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}})
    to.send({"type": "message_stop"})
    ending: Ending = draw(_endings)
    pieces = to.pieces
    if ending != "whole":
        pieces = pieces[: draw(st.integers(1, len(pieces)))]
    return _arriving(to, pieces, draw(_sizes), ending, structured)


def _structured(to: _Writer, codes: list[int]) -> None:
    """One text block that is JSON."""
    block = {"type": "text", "text": ""}
    to.send({"type": "content_block_start", "index": 0, "content_block": block})
    to.send(_delta(0, "text_delta", text='{"said": "'))
    for code in codes:
        if not to.aside(code):
            said = to.words(_WORDS[code % len(_WORDS)], joins=True)
            to.send(_delta(0, "text_delta", text=said))
    to.send(_delta(0, "text_delta", text='"}'))
    to.send({"type": "content_block_stop", "index": 0})


def _arriving(
    to: _Writer, pieces: list[Piece], sizes: list[int], ending: Ending, structured: bool = False
) -> Upstream:
    whole = pieces[:-1] if ending == "half" else pieces
    sent = {n for piece in whole for n in tokens_in(piece.raw)}
    opaque = {number: reason for number, reason in to.opaque.items() if number in sent}
    mark = to.mark if to.mark in sent else None
    return Upstream(pieces, sizes, ending, opaque, mark, structured)


_INDICES = (0, 1, 2, -1, None, "x")
_DELTA_KINDS = ("text_delta", "thinking_delta", "input_json_delta", "signature_delta", "", None)
_changes = st.lists(
    st.tuples(
        st.sampled_from(("drop", "swap", "index", "again", "kind", "field")),
        st.integers(0, 99),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=6,
)


@st.composite
def broken_upstreams(draw: st.DrawFn) -> Upstream:
    """A stream that keeps no rule: events lost, swapped, repeated, under the index of another
    block, deltas of other kinds or with a field too many."""
    upstream = draw(upstreams())
    framing = draw(st.sampled_from(_FRAMES))
    events = [dict(piece.data) for piece in upstream.pieces if piece.data] or [message_start()]
    for change, at, other in draw(_changes):
        place = at % len(events)
        here = events[place]
        delta = here.get("delta") if here["type"] == "content_block_delta" else None
        match change:
            case "drop" if len(events) > 1:
                del events[place]
            case "swap":
                events[place], events[other % len(events)] = events[other % len(events)], here
            case "index":
                here["index"] = _INDICES[other % len(_INDICES)]
            case "again":
                events.insert(other % len(events), dict(here))
            case "kind" if is_object(delta):
                here["delta"] = {**delta, "type": _DELTA_KINDS[other % len(_DELTA_KINDS)]}
            case "field" if is_object(delta):
                here["delta"] = {
                    **delta,
                    ("text", "thinking", "partial_json")[other % 3]: f"#{900 + at}#",
                }
            case _:
                pass
    return Upstream([Piece(framed(data, framing), data) for data in events], upstream.sizes)


# --- the judge ------------------------------------------------------------------------------------

CLAUSE = "fraud_abuse.fake_reviews"
WARNED = "misinformation"
FLOOR = "child_safety.grooming"


def outcome_of(subject: Subject, objection: Objection) -> Outcome:
    """What the judge answers: it objects wherever the mark ends in what it is to judge."""
    places = judged_parts_with(MARK, subject.parts)
    if not places:
        return Verdict(JUDGE)
    clause = {"floor": FLOOR, "warn": warned_clause()}.get(objection, CLAUSE)
    match objection:
        case "timeout" | "refused":
            return Unavailable(objection, JUDGE)
        case "hold":
            answer = HighRiskAnswer("healthcare", "advice", individual=True)
            return Verdict(JUDGE, high_risk=(answer,))
        case _:
            found = Finding(clause, "likely", "high", subject.stage, places[0].path)
            return Verdict(JUDGE, (found,))


def shown(subject: Subject) -> set[int]:
    """The tokens of everything a subject shows to the judge."""
    said: list[str] = []
    for part in subject.parts:
        said += [part.text, *part.labels.values(), json.dumps(part.attachment)]
    return set(tokens_in(" ".join(said)))


# --- the settings ---------------------------------------------------------------------------------

CHATBOT = {"name": "shop", "audience": "consumer", "interface": "chatbot"}
_WARN_ALL = {"encrypted": "warn", "unknown_block": "warn", "unknown_event": "warn"}
_BLOCK_ALL = {"encrypted": "block", "unknown_block": "block", "unknown_event": "block"}
_CONFIGS: dict[str, JSON] = {
    "window": {},
    "window, all uninspected passes": {"on_uninspected": _WARN_ALL},
    "window, nothing uninspected passes": {"on_uninspected": _BLOCK_ALL},
    "window, disclosing": {"app": CHATBOT, "on_uninspected": _WARN_ALL},
    "window, raising": {"on_block": "raise"},
    "window, input first": {"input_check": "before", "on_uninspected": _WARN_ALL},
    "message": {"streaming": {"release": "message"}},
    "message, disclosing": {"app": CHATBOT, "streaming": {"release": "message"}},
    "shadow": {"streaming": {"release": "shadow"}, "on_uninspected": _WARN_ALL},
}
CLINIC: JSON = {
    "app": {**CHATBOT, "high_risk": ["healthcare"]},
    "review": {
        "store": "sqlite:///unused.db",
        "reviewers": [{"name": "dr.lee", "qualified_in": ["healthcare"]}],
    },
}
CONFIGS = tuple(_CONFIGS)


@cache
def configured(name: str) -> Settings:
    """The settings of one name; `clinic` holds answers for review."""
    config = CLINIC if name == "clinic" else _CONFIGS[name]
    return Settings.load(
        {"version": 1, **config, "actions": {WARNED: {"input": "warn", "output": "warn"}}}
    )


@cache
def warned_clause() -> str:
    """A clause that these settings only warn of."""
    (section,) = (each for each in configured("window").policy.sections if each.id == WARNED)
    return next(each.id for each in section.clauses if each.evidence == "conversation")


def objects(settings: Settings, stage: Stage, outcome: Outcome, objection: Objection) -> bool:
    """Whether what the judge said means that nothing it was shown may be handed over."""
    if isinstance(outcome, Verdict) and not outcome.findings and not outcome.high_risk:
        return False
    match objection:
        case "floor" | "timeout" | "refused":
            return True
        case "block":
            return settings.release != "shadow"
        case "hold":
            return settings.may_hold and stage == "output"
        case "warn":
            return False


def unreadable_stops(settings: Settings, reasons: Iterable[str]) -> bool:
    """Whether content that nobody can read ends the answer."""
    if settings.release == "shadow":
        return False
    return any(getattr(settings.on_uninspected, reason) == "block" for reason in reasons)


# --- what a caller received -----------------------------------------------------------------------


def rest_after(upstream: Upstream, received: bytes) -> tuple[int, bytes]:
    """How far `received` is the upstream stream, event for event, and what it goes on with.

    Pings and comments may come early, but each only once and only after it was sent: they are
    taken out wherever they stand.
    """
    expected = [piece.raw for piece in upstream.whole_pieces if not piece.passing]
    early = {piece.raw for piece in upstream.pieces if piece.passing}
    at = count = passed = 0
    while at < len(received):
        if count < len(expected) and received.startswith(expected[count], at):
            at += len(expected[count])
            count += 1
            continue
        ping = next((raw for raw in early if received.startswith(raw, at)), None)
        if ping is None:
            break
        at += len(ping)
        passed += 1
    assert passed <= sum(piece.passing for piece in upstream.pieces)
    return count, received[at:]
