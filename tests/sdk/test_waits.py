"""Where a judge works, by what it says of how long it waits; and what may run meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import httpx2
import pytest

from edges import CLAUSE, asking, both, edge
from magistrate import Moderation, ModerationUnavailable
from magistrate.judging.claude import ClaudeJudge
from magistrate.judging.single_flight import SingleFlight
from magistrate.settings import Settings
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    Reply,
    ScriptedJudge,
    Simulator,
    fails_with,
    hang,
    stall,
    text,
    when_judging,
)
from magistrate.testing.prompt_parser import parse_prompt
from magistrate.verdicts import JudgeInfo, Outcome, Waits
from magistrate.wire.parts import Subject
from pairs import pairs
from server_side import Batches, connected

BEFORE = {"input_check": "before"}
LONG = "Word after word after word. " * 150
HERE, ELSEWHERE = "the caller's thread", "a thread of its own"


class Placed(ScriptedJudge):
    """Notes where it is asked about each stage."""

    def __init__(self, waits: Waits, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.waits: Waits = waits
        self.caller = threading.get_ident()
        self.places: list[tuple[str, str]] = []
        self.tasks: list[tuple[str, bool]] = []

    def info(self, settings: Settings) -> JudgeInfo:
        return JudgeInfo("scripted", waits=self.waits)

    def judge(self, subject: Subject, *given: Any) -> Outcome:
        here = threading.get_ident() == self.caller
        self.places.append((subject.stage, HERE if here else ELSEWHERE))
        return super().judge(subject, *given)

    async def judge_async(self, subject: Subject, *given: Any) -> Outcome:
        self.tasks.append((subject.stage, True))
        return await super().judge_async(subject, *given)


def moderated(judge: ScriptedJudge, settings: dict[str, Any] | None = None) -> Moderation:
    return Moderation({"version": 1, **(settings or {})}, judge=judge)


def test_how_long_a_judge_waits_is_no_part_of_who_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered stays good for a judge that comes to say it."""
    monkeypatch.setenv("MAGISTRATE_KEY", "k" * 32)
    one, other = moderated(Placed("unknown")), moderated(Placed("never"))
    assert one.engine.judge_info == other.engine.judge_info
    digests = [each.engine.digests.of("verdict", "x") for each in (one, other)]
    assert digests[0] == digests[1]


def test_the_claude_judge_does_not_promise_to_keep_its_deadline() -> None:
    """A server that trickles bytes outlasts the timeout of a call: the driver ends the wait."""
    assert ClaudeJudge().info(Settings()).waits == "unknown"


# --- synchronous clients --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "settings", "question", "answer"),
    [
        ("unknown", {}, ELSEWHERE, ELSEWHERE),
        ("unknown", BEFORE, ELSEWHERE, ELSEWHERE),
        ("within_deadline", {}, ELSEWHERE, HERE),
        ("within_deadline", BEFORE, HERE, HERE),
        ("never", {}, HERE, HERE),
    ],
)
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_judge_works_on_the_callers_thread_where_that_only_waits(
    surface: str, waits: Waits, settings: dict[str, Any], question: str, answer: str
) -> None:
    judge = Placed(waits)
    with edge("sync", Simulator(text("hello")), moderation=moderated(judge, settings)) as at:
        assert at.ask(surface, asking("hi")).text == "hello"
    assert judge.places == [("input", question), ("output", answer)]


def test_a_long_question_is_judged_beside_upstream_whatever_the_judge_says() -> None:
    judge = Placed("never")
    with edge("sync", Simulator(text("hello")), moderation=moderated(judge)) as at:
        assert at.ask("create", asking(LONG)).text == "hello"
    assert judge.places[0] == ("input", ELSEWHERE)


def test_while_there_is_more_to_read_a_window_is_judged_beside_it() -> None:
    judge = Placed("within_deadline")
    sim = Simulator(text(LONG), profile=LatencyProfile(per_event_s=0.001))
    with edge("sync", sim, moderation=moderated(judge)) as at:
        assert at.ask("stream", asking("hi")).text == LONG
    windows = [place for stage, place in judge.places if stage == "output"]
    assert len(windows) > 3
    assert windows[0] == ELSEWHERE


def test_entries_of_a_batch_are_judged_side_by_side() -> None:
    """A judge that may wait is not asked about one after the other on the caller's thread."""
    judge, server = Placed("within_deadline"), Batches()
    with connected("sync", server, moderated(judge)) as at:
        requests = [{"custom_id": f"e{n}", "params": asking(f"hi {n}")} for n in range(5)]
        at.client.messages.batches.create(requests=requests)
    assert judge.places == [("input", ELSEWHERE)] * 5


MINE: ContextVar[str] = ContextVar("mine", default="the caller's")


@pytest.mark.parametrize("waits", ["unknown", "within_deadline", "never"])
def test_a_judge_sees_the_callers_context_and_leaves_it_alone(waits: Waits) -> None:
    seen: list[str] = []

    def script(subject: Subject) -> Outcome:
        seen.append(MINE.get())
        MINE.set("the judge's")
        return ScriptedJudge.verdict()

    sim = Simulator(text("hello"))
    with edge("sync", sim, moderation=moderated(Placed(waits, script), BEFORE)) as at:
        at.ask("create", asking("hi"))
    assert MINE.get() == "the caller's"
    assert seen == ["the caller's"] * 2


@pytest.mark.parametrize("stage", ["input", "output"])
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_an_interrupt_of_a_judge_on_the_callers_thread_leaves_a_record(
    surface: str, stage: str
) -> None:
    """And whoever asked the same meanwhile asks for themselves."""
    interrupts, asked, followed = [stage], threading.Event(), threading.Event()

    def script(subject: Subject) -> Outcome:
        if interrupts == [subject.stage]:
            interrupts.clear()
            asked.set()
            assert followed.wait(20)
            raise KeyboardInterrupt
        return ScriptedJudge.verdict()

    class Noting(SingleFlight):
        def join(self, *given: Any) -> bool:
            leads = super().join(*given)
            if not leads:
                followed.set()
            return leads

    moderation = moderated(Placed("within_deadline", script), BEFORE)
    moderation.engine.single_flight = Noting()
    with edge("sync", Simulator(default=text("hello")), moderation=moderation) as at:

        def follow() -> str:
            assert asked.wait(20)
            return at.ask("create", asking("hi")).text

        with ThreadPoolExecutor(1) as pool:
            follower = pool.submit(follow)
            with pytest.raises(KeyboardInterrupt):
                at.ask(surface, asking("hi"))
            assert follower.result(20) == "hello"
        interrupted, other = sorted(at.decisions(), key=lambda each: not each.judge_failures)
        assert [(f.stage, f.reason) for f in interrupted.judge_failures] == [(stage, "error")]
        far = {"create": "completed", "stream": "cancelled"}[surface]
        assert interrupted.upstream == ("not_sent" if stage == "input" else far)
        assert (other.action, other.judge_failures) == ("allow", ())


@pairs(
    settings=[pytest.param({}, id="beside"), pytest.param(BEFORE, id="before")],
    stage=["input", "output"],
    reply=[
        pytest.param(hang(60), id="silent"),
        pytest.param(stall(text("{}"), seconds=60), id="stuck half way"),
    ],
)
def test_a_model_that_hangs_is_given_up_by_the_judge_itself(
    reply: Reply, stage: Any, settings: dict[str, Any]
) -> None:
    """On a real connection: where the judge works on the caller's thread, nobody else ends it."""
    sim = Simulator(
        text("hello"), judge=JudgeScript(when_judging("", fails_with(reply), stage=stage))
    )
    with (
        sim.serve() as url,
        edge("sync", sim, url=url, settings={"judge": {"deadline_s": 0.3}, **settings}) as at,
    ):
        got = at.ask("create", asking("hi"))
        assert type(got.error) is ModerationUnavailable
        failures = [(f.stage, f.reason) for f in at.decision().judge_failures]
        assert failures == [(stage, "timeout")]


# --- asynchronous clients -------------------------------------------------------------------------


@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_judge_that_never_waits_needs_no_task(surface: str) -> None:
    judge = Placed("never")
    with edge("async", Simulator(text("hello")), moderation=moderated(judge)) as at:
        assert at.ask(surface, asking("hi")).text == "hello"
    assert judge.places == [("input", HERE), ("output", HERE)]
    assert judge.tasks == []


def test_a_long_text_does_not_stop_the_event_loop() -> None:
    judge = Placed("never")
    with edge("async", Simulator(text(LONG)), moderation=moderated(judge)) as at:
        assert at.ask("create", asking("hi")).text == LONG
    assert judge.places[0] == ("input", HERE)
    assert judge.tasks == [("output", True)]


def test_many_short_texts_do_not_stop_the_event_loop_either() -> None:
    judge, server = Placed("never"), Batches()
    with connected("async", server, moderated(judge)) as at:
        requests = [{"custom_id": f"e{n}", "params": asking(f"hi {n}")} for n in range(5)]
        at.run(at.client.messages.batches.create(requests=requests))
    assert judge.tasks == [("input", True)] * 4


@both
def test_what_is_blocked_without_a_wait_is_not_sent(flavour: str) -> None:
    judge, sim = Placed("never", ScriptedJudge.finding("bad", CLAUSE)), Simulator(text("hello"))
    with edge(flavour, sim, moderation=moderated(judge)) as at:
        for surface in ("create", "stream"):
            got = at.ask(surface, asking("bad"))
            assert got.body["stop_reason"] == "refusal"
        assert [decision.upstream for decision in at.decisions()] == ["not_sent"] * 2
    assert sim.api_requests == []


@both
@pytest.mark.parametrize("waits", ["unknown", "within_deadline", "never"])
def test_a_judge_that_raises_is_a_missing_verdict_wherever_it_works(
    waits: Waits, flavour: str
) -> None:
    def script(subject: Subject) -> Outcome:
        raise KeyError("secret")

    sim = Simulator(text("hello"))
    with edge(flavour, sim, moderation=moderated(Placed(waits, script), BEFORE)) as at:
        got = at.ask("create", asking("hi"))
        assert type(got.error) is ModerationUnavailable
        assert [(f.reason, f.detail) for f in at.decision().judge_failures] == [
            ("error", "KeyError")
        ]


@pytest.mark.parametrize(("settings", "alone"), [({}, False), (BEFORE, True)])
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_upstream_has_a_task_only_where_a_judge_works_beside_it(
    surface: str, settings: dict[str, Any], alone: bool
) -> None:
    seen: list[bool] = []

    async def inner(request: Any, call_next: Any) -> Any:
        if parse_prompt(request.json) is None:
            seen.append(asyncio.current_task() is caller)
        return await call_next(request)

    sim = Simulator(text("hello"))
    with edge("async", sim, settings=settings, middleware=[inner]) as at:
        caller: Any = None

        async def ask() -> None:
            nonlocal caller
            caller = asyncio.current_task()
            if surface == "create":
                await at.client.messages.create(**asking("hi"))
            else:
                async for _ in await at.client.messages.create(**asking("hi"), stream=True):
                    pass

        at.run(ask())
    assert seen == [alone]


@pairs(streamed=[False, True], where=["head", "body", "answer's judge"], way=["timeout", "cancel"])
def test_a_cancelled_call_that_was_judged_first_cancels_everything(
    way: str, where: str, streamed: bool
) -> None:
    """The caller's own task waits for upstream: a cancellation is its own and goes through."""
    reply = {
        "head": hang(60),
        "body": stall(text(LONG), after_events=4, seconds=60),
        "answer's judge": text(LONG),
    }[where]
    slow = JudgeScript(when_judging("", fails_with(hang(60)), stage="output"))
    sim = Simulator(reply, judge=slow if where == "answer's judge" else None)

    def asked() -> int:
        """How many requests have come so far of those that get no end."""
        return len(sim.judge_requests[1:] if where == "answer's judge" else sim.api_requests)

    with sim.serve() as url, edge("async", sim, url=url, settings=BEFORE) as at:

        async def call() -> None:
            found = await at.client.messages.create(**asking("hi"), stream=streamed)
            if streamed:
                async for _ in found:
                    pass

        async def story() -> None:
            if way == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await call()
            else:
                task = asyncio.create_task(call())
                while not asked():  # noqa: ASYNC110 - it is another thread that counts them
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            gc.collect()  # a stream that was dropped unclosed
            await asyncio.sleep(0.05)
            me = asyncio.current_task()
            assert me is not None and me.cancelling() == 0
            assert asyncio.all_tasks() == {me}

        at.run(story())
        (decision,) = at.decisions()
        whole = where == "answer's judge" and not streamed
        assert decision.upstream == ("completed" if whole else "cancelled")


@pytest.mark.parametrize("settings", [{}, BEFORE])
def test_another_task_may_close_a_stream_whose_reader_waits(settings: dict[str, Any]) -> None:
    sim = Simulator(stall(text(LONG), after_events=4, seconds=60))
    with sim.serve() as url, edge("async", sim, url=url, settings=settings) as at:

        async def story() -> None:
            async def read() -> None:
                async for _ in stream:
                    reading.set()

            reading = asyncio.Event()
            stream = await at.client.messages.create(**asking("hi"), stream=True)
            reader = asyncio.create_task(read())
            await asyncio.wait([reader], timeout=0.3)
            assert not reader.done()
            await stream.close()
            await asyncio.wait_for(asyncio.gather(reader, return_exceptions=True), 20)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        at.run(story())
        assert sim.settle()
        assert [request.closed_early for request in sim.api_requests] == [True]
        assert len(at.decisions()) == 1


# --- how far upstream is read ahead ---------------------------------------------------------------


def sse(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


class Pieces(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A stream of pings, which pass unjudged. Each piece may wait for what was received before."""

    def __init__(self, count: int, *, in_step: bool) -> None:
        self.sent = self.received = 0
        self._count, self._in_step = count, in_step
        self._turn = asyncio.Event()

    def pinged(self) -> None:
        self.received += 1
        self._turn.set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=_Stream(self))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)

    def pieces(self) -> Iterator[bytes]:
        for _ in range(self._count):
            yield sse({"type": "ping"})
            self.sent += 1
        yield sse({"type": "message_stop"})


class _Stream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, at: Pieces) -> None:
        self._at = at

    def __iter__(self) -> Iterator[bytes]:
        for data in self._at.pieces():
            assert not self._at._in_step or self._at.received == self._at.sent
            yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for data in self._at.pieces():
            while self._at._in_step and self._at.received < self._at.sent:
                self._at._turn.clear()
                await asyncio.wait_for(self._at._turn.wait(), 20)
            yield data


def pinging(flavour: str, upstream: Pieces) -> Any:
    http = httpx2.Client if flavour == "sync" else httpx2.AsyncClient
    return edge(
        flavour,
        Simulator(),
        moderation=moderated(ScriptedJudge()),
        http_client=http(transport=upstream),
    )


@both
def test_a_piece_that_is_there_is_never_kept_waiting_for_the_next(flavour: str) -> None:
    """Upstream sends each one only when the one before has reached the application."""
    upstream = Pieces(50, in_step=True)
    with pinging(flavour, upstream) as at:
        manager = at.client.messages.with_streaming_response.create(**asking("hi"), stream=True)
        with at.opened(manager) as response:
            for data in at.items(response.iter_bytes()):
                for _ in range(data.count(b"event: ping")):
                    upstream.pinged()
    assert upstream.received == 50


@both
def test_a_reader_who_takes_its_time_does_not_have_all_of_it_in_memory(flavour: str) -> None:
    upstream = Pieces(500, in_step=False)
    with pinging(flavour, upstream) as at:
        manager = at.client.messages.with_streaming_response.create(**asking("hi"), stream=True)
        with at.opened(manager) as response:
            for data in at.items(response.iter_bytes()):
                upstream.received += data.count(b"event: ping")
                if flavour == "async":
                    at.run(asyncio.sleep(0))
                assert upstream.sent - upstream.received <= 16
    assert upstream.received == 500


@both
def test_results_of_a_batch_are_used_as_they_come(flavour: str) -> None:
    """They may be many, so they are not read in one piece as other JSON is."""
    server = Batches({f"e{n}": "fine" for n in range(2_000)}, chunk=1_000)
    taken = 0

    def counted(data: bytes) -> Any:
        inner = type(server)._chunks(server, data)

        class Counting(httpx2.SyncByteStream, httpx2.AsyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                nonlocal taken
                for piece in inner:
                    taken += 1
                    yield piece

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for piece in self:
                    yield piece

        return Counting()

    server._chunks = counted  # type: ignore[method-assign]
    with connected(flavour, server, moderated(ScriptedJudge())) as at:
        found = at.run(at.client.messages.batches.results("msgbatch_1"))
        lines = at.items(found)
        next(lines)
        assert 0 < taken < 100
        assert sum(1 for _ in lines) == 1_999
