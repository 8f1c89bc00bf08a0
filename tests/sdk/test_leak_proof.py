"""Streams never leak: whatever is sent, however it is cut, whenever the judge answers.

What a caller has received is held against what the judge had been shown and had allowed by then.
The bulk drives the flow itself, with every order of chunks and verdicts; the rest drives the real
drivers, inside the SDK's clients, over a transport that serves any bytes.

`MAGISTRATE_LEAK_EXAMPLES` says how many examples each slow test tries.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leak_checks import OURS, check_valid, read
from leak_edges import DELAYS, SURFACES, WAYS, Edge, Example, Said
from leak_strategies import (
    CONFIGS,
    JUDGE,
    MARK,
    OBJECTIONS,
    Objection,
    Piece,
    Upstream,
    broken_upstreams,
    configured,
    framed,
    message_start,
    objects,
    outcome_of,
    rest_after,
    shown,
    tokens_in,
    unreadable_stops,
    upstreams,
)
from magistrate.core.effects import (
    Answer,
    Cancel,
    Forward,
    HoldAnswer,
    Next,
    Open,
    PropagateError,
    RaiseDecision,
    Recall,
    RejectAnswer,
    Relay,
    Remember,
    Settle,
    StartJudging,
    Write,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.flow import moderate
from magistrate.sdk.errors import ModerationError, ModerationUnavailable
from magistrate.settings import (
    Settings,
)
from magistrate.verdicts import Stage
from magistrate.wire.digests import Digests
from magistrate.wire.parts import Subject

EXAMPLES = 300
MANY = int(os.environ.get("MAGISTRATE_LEAK_EXAMPLES", "2000"))


def examples(count: int) -> Callable[[Any], Any]:
    """Try this many examples, however long one takes."""
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
    return settings(max_examples=count, deadline=None, suppress_health_check=slow, database=None)


# --- the flow, with every order of chunks and verdicts --------------------------------------------


@dataclass
class Watched:
    """One exchange as it went: what was allowed when, and what had been written by then."""

    exchange: Exchange
    allowed: set[int] = field(default_factory=set)  # tokens of everything a verdict has allowed
    written: bytearray = field(default_factory=bytearray)
    writes: list[tuple[bytes, frozenset[int], bool]] = field(default_factory=list)
    objected: set[Stage] = field(default_factory=set)
    ended: str = "whole"  # or the kind of `RaiseDecision`, or "raised"
    stored: bool = False
    decision: Any = None


def watch(
    upstream: Upstream,
    chosen: Settings,
    objection: Objection,
    coins: int,
    *,
    asked_badly: bool = False,
) -> Watched:
    """Drive one exchange; bit by bit, `coins` says whether a verdict or upstream comes first."""
    question = {"role": "user", "content": f"hello {MARK * asked_badly}"}
    body: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [question]}
    if upstream.structured:
        body["output_config"] = {"format": {"type": "json_schema", "schema": {}}}
    exchange = Exchange("dec_1", body, chosen, Digests(b"key", "scope"), JUDGE, stream=True)
    now = Watched(exchange)
    flow = moderate(exchange)
    chunks = upstream.chunks
    ending = Failed(OSError("reset")) if upstream.ending == "failed" else End()
    waiting: list[tuple[JudgeResult, Subject]] = []
    forwarded = over = headed = False
    tosses = 0
    reply: Any = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration:
            return now
        reply = None
        match effect:
            case StartJudging(ticket, subject):
                outcome = outcome_of(subject, objection)
                waiting.append((JudgeResult(ticket, outcome), subject))
            case Next(read):
                can_read = read and forwarded and not over
                assert waiting or can_read, "the flow waits for something that cannot come"
                tosses += 1
                if waiting and (not can_read or coins >> tosses % 64 & 1):
                    reply, subject = waiting.pop(0)
                    if objects(chosen, subject.stage, reply.outcome, objection):
                        now.objected.add(subject.stage)
                    else:
                        now.allowed |= shown(subject)
                elif not headed:
                    headed, reply = True, Head(ok=True, sse=True)
                elif (data := next(chunks, None)) is not None:
                    reply = Chunk(data)
                else:
                    over, reply = True, ending
            case Forward():
                forwarded = True
            case Write(data):
                now.written += data
                now.writes.append((data, frozenset(now.allowed), bool(waiting)))
            case Cancel():
                reply = "not_sent" if not forwarded else "completed" if over else "cancelled"
                over = True
            case Recall():
                reply = frozenset()
            case HoldAnswer():
                now.stored, reply = True, "rev_1"
            case Settle(decision):
                now.decision = reply = decision
            case RaiseDecision(kind):
                now.ended = kind
                flow.close()
                return now
            case PropagateError() | RejectAnswer():
                now.ended = "raised"
                flow.close()
                return now
            case Remember() | Open():
                pass
            case Answer() | Relay():
                raise AssertionError(f"a stream is not answered with {effect}")


def check_nothing_unjudged_left(now: Watched, upstream: Upstream) -> None:
    """Every piece of content that was written had been allowed by then, and so had all before it.

    What no judge can read has no verdict of its own: it leaves behind the verdict on what stands
    before it, and only where the settings let its kind pass.
    """
    unreadable = upstream.opaque
    chosen = now.exchange.settings
    stopping = {n for n, reason in unreadable.items() if unreadable_stops(chosen, [reason])}
    for data, allowed, waiting in now.writes:
        for number in tokens_in(data):
            before = set(range(number + 1)) - unreadable.keys()
            assert before <= allowed, f"#{number}# left, and {before - allowed} was not judged"
            assert number not in stopping
            assert not waiting, f"#{number}# left while a window was out for judgment"


def check_ending(now: Watched, upstream: Upstream, objection: Objection) -> None:
    """A stream that nothing stops is the upstream stream; one that is stopped ends as one does."""
    chosen = now.exchange.settings
    objected = bool(now.objected)
    unreadable = unreadable_stops(chosen, upstream.reasons)
    written, added = OURS.subn(b"", bytes(now.written))
    assert added <= 1
    count, ours = rest_after(upstream, written)
    everything = [piece for piece in upstream.whole_pieces if not piece.passing]
    if not objected and not unreadable:
        assert (count, ours) == (len(everything), b"")
        assert now.ended == ("raised" if upstream.ending == "failed" else "whole")
        assert now.decision.action in ("allow", "warn")
        return
    missing = objected and objection in ("timeout", "refused")
    words = {"hold"} if now.stored else {"unavailable"} if missing else {"block"}
    assert now.decision.action in (words | {"block"} if unreadable else words)
    assert (now.decision.action == "unavailable") == (now.ended == "unavailable")
    if "input" in now.objected:
        assert now.decision.stage == "input"
        assert (count, b"ping" in written) == (0, False)
    mark = upstream.mark
    if objected and mark is not None:
        assert MARK.encode() not in written
        assert not {mark} & {n for data, _, _ in now.writes for n in tokens_in(data)}
    if now.ended != "whole":
        # What a block's reason is nobody hides: content that nobody can read is one.
        reasons = {"unavailable"} if missing else {"blocked"}
        assert now.ended in (reasons | {"blocked"} if unreadable else reasons)
        assert ours == b""
        return
    check_valid(written, "dec_1", structured=upstream.structured, refused=not now.stored)


def check_calls_are_whole(now: Watched, upstream: Upstream) -> None:
    """A call arrives with all its arguments or not at all."""
    given = read(b"".join(piece.raw for piece in upstream.whole_pieces)).get("content", [])
    got = read(bytes(now.written)).get("content", [])
    for index, block in enumerate(got):
        if block["type"] in ("tool_use", "server_tool_use"):
            assert block == given[index]


coins = st.sampled_from((0, 2**64 - 1)) | st.integers(0, 2**64 - 1)
objections = st.sampled_from(OBJECTIONS)


def flow_case(
    upstream: Upstream, config: str, objection: Objection, tosses: int, asked_badly: bool
) -> None:
    now = watch(upstream, configured(config), objection, tosses, asked_badly=asked_badly)
    check_nothing_unjudged_left(now, upstream)
    check_ending(now, upstream, objection)
    check_calls_are_whole(now, upstream)


sometimes = st.integers(0, 7).map(lambda drawn: drawn == 7)
any_case = (
    upstreams(structured=None),
    st.sampled_from((*CONFIGS, "clinic")),
    objections,
    coins,
    sometimes,
)


@examples(EXAMPLES)
@given(*any_case)
def test_no_order_of_chunks_and_verdicts_leaks(
    upstream: Upstream, config: str, objection: Objection, tosses: int, asked_badly: bool
) -> None:
    flow_case(upstream, config, objection, tosses, asked_badly)


@pytest.mark.slow
@examples(MANY)
@given(*any_case)
def test_no_order_of_chunks_and_verdicts_leaks_in_many_more(
    upstream: Upstream, config: str, objection: Objection, tosses: int, asked_badly: bool
) -> None:
    flow_case(upstream, config, objection, tosses, asked_badly)


def broken_case(upstream: Upstream, objection: Objection, tosses: int) -> None:
    now = watch(upstream, configured("window, nothing uninspected passes"), objection, tosses)
    for data, allowed, waiting in now.writes:
        for number in tokens_in(data):
            assert number in allowed, f"#{number}# left, and no judge was shown it"
            assert not waiting


broken = (broken_upstreams(), objections, coins)


@examples(EXAMPLES)
@given(*broken)
def test_no_stream_that_keeps_no_rule_leaks(
    upstream: Upstream, objection: Objection, tosses: int
) -> None:
    broken_case(upstream, objection, tosses)


@pytest.mark.slow
@examples(MANY)
@given(*broken)
def test_no_stream_that_keeps_no_rule_leaks_in_many_more(
    upstream: Upstream, objection: Objection, tosses: int
) -> None:
    broken_case(upstream, objection, tosses)


# --- the drivers, inside the SDK's clients --------------------------------------------------------


@dataclass
class Edges:
    """Clients for every configuration, each made when it is first needed."""

    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    made: dict[str, Edge] = field(default_factory=dict)
    before: set[threading.Thread] = field(default_factory=lambda: set(threading.enumerate()))

    def __getitem__(self, config: str) -> Edge:
        if config not in self.made:
            self.made[config] = Edge(config)
        return self.made[config]

    def run(self, flavour: str, example: Example) -> None:
        edge = self[example.config]
        if flavour == "sync":
            edge.read(example)
        else:
            self.runner.run(edge.read_async(example))
        check_nothing_is_left(example, self.before)


@pytest.fixture(scope="module")
def edges() -> Iterator[Edges]:
    before = set(threading.enumerate())
    made = Edges()
    logging.disable(logging.WARNING)  # thousands of decisions, which pytest would keep
    gc.collect()
    gc.freeze()  # so that collecting garbage costs next to nothing, here and in later tests
    yield made
    logging.disable(logging.NOTSET)
    for edge in made.made.values():
        edge.close(made.runner)
    made.runner.close()
    until = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left, f"threads left behind: {left}"


def check_nothing_is_left(example: Example, before: set[threading.Thread]) -> None:
    """Upstream is closed, once; nobody judges; no thread but the judging ones; one record."""
    assert [body.closed for body in example.bodies] == [1] * len(example.bodies)
    assert len(example.bodies) <= 1
    assert example.busy == 0
    ours = ("MainThread", "magistrate-judge", "asyncio")  # the SDK itself uses the loop's executor
    new = set(threading.enumerate()) - before
    assert [thread for thread in new if not thread.name.startswith(ours)] == []
    assert len(example.decisions) == 1 or not (example.asked or example.bodies)


def check_driven(example: Example) -> None:
    """An exchange that was read to its end came to the right one."""
    upstream = example.upstream
    blocked = example.objected or example.unreadable
    raises = example.settings.on_block == "raise"
    missing = example.objected and example.objection in ("timeout", "refused")
    if example.error is not None:
        cut = isinstance(example.error, ModerationError) and blocked and (missing or raises)
        broke = upstream.ending == "failed" and not blocked
        assert cut or broke, example.error
    elif blocked:
        assert not raises
        assert not missing or example.unreadable
    words = {"unavailable"} if missing else {"block"} if blocked else {"allow", "warn"}
    assert example.decision.action in (words | {"block"} if example.unreadable else words)
    outage = isinstance(example.error, ModerationUnavailable)
    assert (example.decision.action == "unavailable") == outage
    if example.surface == "bytes":
        written, _ = OURS.subn(b"", bytes(example.received))
        number, ours = rest_after(upstream, written)
        assert not (example.refused_input and number)
        if not blocked:
            assert number == sum(not piece.passing for piece in upstream.whole_pieces)
            assert ours == b""
        elif example.error is None:
            check_valid(written, example.decision.id, structured=upstream.structured)
    if example.surface == "helper" and example.error is None and example.final is not None:
        check_final(example, blocked=blocked)


def check_final(example: Example, *, blocked: bool) -> None:
    """What the SDK accumulates: cut streams are refusals, calls and structures are whole."""
    message = example.final
    upstream = read(b"".join(piece.raw for piece in example.upstream.whole_pieces))
    if blocked:
        assert message.stop_reason == "refusal"
        assert message.stop_details.to_dict()["magistrate"] == {"decision_id": example.decision.id}
    for index, block in enumerate(message.content):
        if block.type in ("tool_use", "server_tool_use") and example.upstream.ending == "whole":
            assert block.input == upstream["content"][index]["input"]
    if example.upstream.structured and (blocked or example.upstream.ending == "whole"):
        said = upstream["content"][0]["text"] if not blocked else None
        assert message.parsed_output == (said and Said.model_validate_json(said))


flavours = pytest.mark.parametrize("flavour", ["sync", "async"])
planned: dict[str, Any] = {
    "config": st.sampled_from(CONFIGS),
    "upstream": upstreams(structured=None),
    "objection": objections.filter(lambda objection: objection != "hold"),
    "delays": st.lists(st.sampled_from(DELAYS), max_size=4),
    "asked_badly": sometimes,
    "slow": st.booleans(),
    "surface": st.sampled_from(SURFACES),
}
read_to_the_end = given(example=st.builds(Example, **planned))


def driven_case(edges: Edges, flavour: str, example: Example) -> None:
    edges.run(flavour, example)
    check_driven(example)


@flavours
@examples(EXAMPLES)
@read_to_the_end
def test_no_stream_leaks_through_a_client(edges: Edges, flavour: str, example: Example) -> None:
    driven_case(edges, flavour, example)


@pytest.mark.slow
@flavours
@examples(MANY)
@read_to_the_end
def test_no_stream_leaks_through_a_client_in_many_more(
    edges: Edges, flavour: str, example: Example
) -> None:
    driven_case(edges, flavour, example)


# --- leaving at any point -------------------------------------------------------------------------

left_early = given(
    example=st.builds(Example, **planned, at=st.integers(0, 20), way=st.sampled_from(WAYS))
)


def left_case(edges: Edges, flavour: str, example: Example) -> None:
    """Close, leave, raise, forget or cancel: nothing is left open, and the record says so."""
    edges.run(flavour, example)
    for decision in example.decisions:
        if decision.action == "block":
            assert example.unreadable or (example.objected and decision.findings)
        if decision.action == "unavailable":
            left = [f.detail for f in decision.judge_failures] == [
                "no caller waited for the verdict"
            ]
            assert left or (example.objected and example.objection in ("timeout", "refused"))


@flavours
@examples(EXAMPLES)
@left_early
def test_who_leaves_at_any_point_leaves_nothing_open(
    edges: Edges, flavour: str, example: Example
) -> None:
    left_case(edges, flavour, example)


@pytest.mark.slow
@flavours
@examples(MANY)
@left_early
def test_who_leaves_at_any_of_many_more_points_leaves_nothing_open(
    edges: Edges, flavour: str, example: Example
) -> None:
    left_case(edges, flavour, example)


def test_a_judgment_that_waits_for_a_thread_ends_with_its_exchange() -> None:
    """A synchronous caller who leaves pays for no judge that has not begun."""
    words = "word " * 50
    start = {"type": "text", "text": ""}
    events: list[dict[str, Any]] = [
        message_start(),
        {"type": "content_block_start", "index": 0, "content_block": start},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": words},
        },
        {"type": "ping"},  # what a caller is handed while the words are out for judgment
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    example = Example("window", Upstream([Piece(framed(data), data) for data in events], [1]))
    others = set(threading.enumerate())
    edge, busy = Edge("window"), threading.Event()
    call = edge.plan(example)
    with edge.sync_client.messages.with_streaming_response.create(**call, stream=True) as response:
        received = response.iter_bytes()
        assert b"message_start" in next(received)
        for _ in range(edge.settings.judge.concurrency):
            edge.moderation.pool.submit(lambda: busy.wait(5))
        assert b"ping" in next(received)
    busy.set()
    edge.moderation.pool.close()
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("magistrate-judge"):
            thread.join()
    edge.sync_client.close()
    assert example.asked == 1, "only the question was judged"
