"""Many requests at once, and callers who leave early: right answers, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anthropic
import pytest

import magistrate
from edges import CLAUSE, FLAVOURS, Edge, asking, both, edge
from magistrate import Moderation, ModerationUnavailable
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    ScriptedJudge,
    Simulator,
    finds,
    slow,
    stall,
    text,
    when_judging,
)
from magistrate.testing.prompt_parser import parse_prompt
from pairs import pairs

BAD = "violating-words"
JUDGE = JudgeScript(when_judging(BAD, finds(CLAUSE)))
CALLERS = 200
NUMBER: ContextVar[int] = ContextVar("number", default=-1)


def echo(body: dict[str, Any]) -> Any:
    """Upstream answers with the question, so that a mix-up shows."""
    return text(f"You said {body['messages'][-1]['content']}, " + "and so on, " * 30 + "the end.")


def question(number: int) -> str:
    return f"{BAD} {number:03}" if number % 3 == 0 else f"question {number:03}"


def check_answer(number: int, answer: str, stop_reason: str | None) -> None:
    assert NUMBER.get() == number, "the caller's context is its own"
    if number % 3 == 0:
        assert stop_reason == "refusal"
        assert "You said" not in answer
    else:
        assert stop_reason == "end_turn"
        assert answer.startswith(f"You said question {number:03}, and so on, ")
        assert answer.endswith("the end.")


def judge_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("magistrate-judge")]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fails if threads are left; unclosed resources fail by their warnings."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    gc.freeze()  # what is left of earlier tests is not looked through again
    until = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left, f"threads left behind: {left}"


def test_two_hundred_threads_each_get_their_own_answer() -> None:
    """Streams and messages, allowed and blocked; what middleware sees is the caller's context."""
    seen: list[tuple[int, str, bool]] = []

    def inner(request: Any, call_next: Any) -> Any:
        judging = parse_prompt(request.json) is not None
        asked = "" if judging else request.json["messages"][-1]["content"]
        seen.append((NUMBER.get(), asked, judging))
        return call_next(request)

    sim = Simulator(echo, judge=JUDGE)
    barrier = threading.Barrier(CALLERS)
    with nothing_left(), edge("sync", sim, middleware=[inner]) as at:

        def ask(number: int) -> None:
            NUMBER.set(number)
            barrier.wait()
            if number % 2:
                message = at.client.messages.create(**asking(question(number)))
            else:
                with at.client.messages.stream(**asking(question(number))) as stream:
                    for _ in stream:
                        assert NUMBER.get() == number
                    message = stream.get_final_message()
            said = "".join(block.text for block in message.content)
            check_answer(number, said, message.stop_reason)

        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(ask, range(CALLERS)))
        assert len({decision.id for decision in at.decisions()}) == CALLERS
        blocked = [decision for decision in at.decisions() if decision.action == "block"]
        assert len(blocked) == len(range(0, CALLERS, 3))
        assert len(judge_threads()) <= 64
    assert {number for number, _, judging in seen if judging} == set(range(CALLERS))
    assert all(asked == question(number) for number, asked, judging in seen if not judging)
    assert sim.problems == []


def test_two_hundred_tasks_each_get_their_own_answer() -> None:
    sim = Simulator(echo, judge=JUDGE)
    with nothing_left(), edge("async", sim) as at:

        async def ask(number: int) -> None:
            NUMBER.set(number)
            await asyncio.sleep(0)
            if number % 2:
                message = await at.client.messages.create(**asking(question(number)))
            else:
                async with at.client.messages.stream(**asking(question(number))) as stream:
                    async for _ in stream:
                        assert NUMBER.get() == number
                    message = await stream.get_final_message()
            said = "".join(block.text for block in message.content)
            check_answer(number, said, message.stop_reason)

        async def ask_all() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(CALLERS):
                    group.create_task(ask(number))
            assert asyncio.all_tasks() == {asyncio.current_task()}

        at.run(ask_all())
        assert len({decision.id for decision in at.decisions()}) == CALLERS
        blocked = [decision for decision in at.decisions() if decision.action == "block"]
        assert len(blocked) == len(range(0, CALLERS, 3))
    assert judge_threads() == [], "the async client needs none"
    assert sim.problems == []


def test_a_hundred_connections_to_a_real_port() -> None:
    sim = Simulator(echo, judge=JUDGE)
    with sim.serve() as url, edge("async", sim, url=url) as at:

        async def ask(number: int) -> None:
            NUMBER.set(number)
            stream = await at.client.messages.create(**asking(question(number)), stream=True)
            said, reason = "", None
            async for item in stream:
                if item.type == "content_block_delta":
                    said += item.delta.text
                elif item.type == "message_delta":
                    reason = item.delta.stop_reason
            check_answer(number, said, reason)

        async def ask_all() -> None:
            await asyncio.gather(*map(ask, range(CALLERS // 2)))

        at.run(ask_all())
    assert sim.problems == []


def test_one_moderation_serves_both_kinds_of_client_and_many_loops() -> None:
    sim = Simulator(echo, judge=JUDGE)
    moderation = Moderation({"version": 1})
    failures: list[BaseException] = []

    async def ask(number: int) -> None:
        client = magistrate.AsyncAnthropic(
            api_key="k", moderation=moderation, http_client=sim.async_http_client()
        )
        async with client:
            NUMBER.set(number)
            message = await client.messages.create(**asking(question(number)))
            check_answer(number, message.content[0].text, message.stop_reason)  # type: ignore[union-attr]

    def ask_in_a_loop(number: int) -> None:
        asyncio.run(ask(number))

    def ask_at_once(number: int) -> None:
        client = magistrate.Anthropic(
            api_key="k", moderation=moderation, http_client=sim.http_client()
        )
        with client:
            NUMBER.set(number)
            message = client.messages.create(**asking(question(number)))
            check_answer(number, message.content[0].text, message.stop_reason)  # type: ignore[union-attr]

    def run(number: int) -> None:
        try:
            (ask_in_a_loop if number % 2 else ask_at_once)(number)
        except BaseException as error:
            failures.append(error)

    with nothing_left():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(24)))
        moderation.close()
    assert failures == []
    assert len(moderation.engine.state.decisions.all()) == 24


def test_few_judging_threads_serve_many_callers() -> None:
    """They wait their turn within the deadline; nobody is waved through and nobody fails."""
    moderation = Moderation(
        {"version": 1, "judge": {"concurrency": 2, "deadline_s": 30}},
        judge=ScriptedJudge(ScriptedJudge.finding(BAD, CLAUSE), delay_s=0.01),
    )
    sim = Simulator(echo)
    with nothing_left(), edge("sync", sim, moderation=moderation) as at:

        def ask(number: int) -> None:
            NUMBER.set(number)
            message = at.client.messages.create(**asking(question(number)))
            check_answer(number, message.content[0].text, message.stop_reason)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(16)))
        assert len(judge_threads()) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12: threads and fork
def test_a_client_used_before_a_fork_works_in_the_child() -> None:
    """Servers load an application, perhaps use it once, and fork their workers."""
    settings = {"judge": {"concurrency": 2}}
    with edge("sync", Simulator(text("hello")), settings=settings) as at:
        at.ask("create", asking("before"))  # a thread that judges waits for more to do
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # rather dead than stuck: the parent waits for it
            try:
                got = [at.ask("create", asking(f"after {i}")).error for i in range(3)]
                os.write(writes, b"fine" if got == [None] * 3 else repr(got).encode())
            finally:
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        assert said == b"fine"
        assert at.ask("create", asking("in the parent too")).error is None


def test_what_is_started_while_a_judge_is_asked_is_moderated() -> None:
    """A worker of an inner middleware begins in the context of whatever request came first."""

    class Worker(anthropic.Middleware):
        def __init__(self) -> None:
            self.work: asyncio.Queue[str] = asyncio.Queue()
            self.done: asyncio.Queue[Any] = asyncio.Queue()
            self.task: asyncio.Task[None] | None = None

        async def handle_async(self, request: Any, call_next: Any) -> Any:
            if self.task is None:
                self.task = asyncio.create_task(self.run())
            return await call_next(request)

        async def run(self) -> None:
            while True:
                words = await self.work.get()
                await self.done.put(await client.messages.create(**asking(words)))

    async def story() -> None:
        await client.messages.create(**asking("hello"))
        await worker.work.put(BAD)
        answer = await asyncio.wait_for(worker.done.get(), 20)
        assert answer.stop_reason == "refusal"
        assert worker.task is not None
        worker.task.cancel()

    worker, sim = Worker(), Simulator(text("fine"), judge=JUDGE)
    client = magistrate.AsyncAnthropic(
        api_key="k",
        moderation=Moderation({"version": 1, "input_check": "before"}),
        middleware=[worker],
        http_client=sim.async_http_client(),
    )
    asyncio.run(story())


def test_a_stream_may_be_read_on_another_thread_than_it_was_opened_on() -> None:
    sim = Simulator(echo, judge=JUDGE)
    with edge("sync", sim) as at:
        stream = at.client.messages.create(**asking("question 001"), stream=True)
        with ThreadPoolExecutor(1) as pool:
            kinds = pool.submit(lambda: [item.type for item in stream]).result()
        assert kinds[-1] == "message_stop"
        assert at.decision().action == "allow"


# --- leaving early --------------------------------------------------------------------------------

LONG = "Word after word after word. " * 150
PACE = LatencyProfile(per_event_s=0.002)


def _some(at: Edge, stream: Any, count: int = 12) -> None:
    items = at.items(stream)
    for _ in range(count):
        next(items)


def _close(at: Edge) -> None:
    stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
    _some(at, stream)
    at.run(stream.close())


def _close_unread(at: Edge) -> None:
    stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
    at.run(stream.close())


def _break(at: Edge) -> None:
    with at.opened(at.client.messages.stream(**asking("hi"))) as stream:
        for count, _ in enumerate(at.items(stream)):
            if count == 12:
                break


def _leave_unread(at: Edge) -> None:
    with at.opened(at.client.messages.stream(**asking("hi"))):
        pass


def _raise(at: Edge) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        at.opened(at.client.messages.stream(**asking("hi"))) as stream,
    ):
        _some(at, stream)
        raise ZeroDivisionError


def _leave_response(at: Edge) -> None:
    manager = at.client.messages.with_streaming_response.create(**asking("hi"), stream=True)
    with at.opened(manager) as response:
        _some(at, response.iter_bytes(), 3)


def _leave_response_unread(at: Edge) -> None:
    manager = at.client.messages.with_streaming_response.create(**asking("hi"), stream=True)
    with at.opened(manager):
        pass


def _forget(at: Edge) -> None:
    stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
    _some(at, stream)
    del stream
    gc.collect()
    at.run(_a_moment(at))


def _forget_unread(at: Edge) -> None:
    stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
    del stream
    gc.collect()
    at.run(_a_moment(at))


def _a_moment(at: Edge) -> Any:
    return asyncio.sleep(0.05) if at.flavour == "async" else None


WAYS: dict[str, Callable[[Edge], None]] = {
    "close": _close,
    "close unread": _close_unread,
    "break": _break,
    "leave unread": _leave_unread,
    "raise": _raise,
    "leave the response": _leave_response,
    "leave the response unread": _leave_response_unread,
    "forget": _forget,
    "forget unread": _forget_unread,
}


def check_left(at: Edge, sim: Simulator) -> None:
    """Upstream is closed before its end, nobody judges any more, and the record says so."""
    assert at.flavour == "sync" or at.run(_settled(sim))
    assert sim.settle()
    assert [request.closed_early for request in sim.api_requests] == [True]
    (decision,) = at.decisions()
    assert decision.upstream == "cancelled"
    assert decision.action != "block"
    if decision.action == "unavailable":  # nobody waited for the verdict of what had not begun
        assert [failure.reason for failure in decision.judge_failures] == ["error"]


async def _settled(sim: Simulator) -> bool:
    """`settle`, with the loop running on: that is where async answers are sent."""
    return await asyncio.to_thread(sim.settle)


@pairs(flavour=FLAVOURS, port=[False, True], way=WAYS)
def test_who_leaves_early_leaves_nothing_open(way: str, port: bool, flavour: str) -> None:
    sim = Simulator(text(LONG), profile=PACE)
    with nothing_left():
        if port:
            with sim.serve() as url, edge(flavour, sim, url=url) as at:
                WAYS[way](at)
                check_left(at, sim)
        else:
            with edge(flavour, sim) as at:
                WAYS[way](at)
                check_left(at, sim)


@both
def test_who_leaves_while_the_answer_is_judged_does_not_wait(flavour: str) -> None:
    """An async judge is cancelled; a sync one ends by its own deadline, on its own thread."""
    script = JudgeScript(when_judging("Word", slow(1.0), stage="output"))
    sim = Simulator(text(LONG), judge=script)
    with nothing_left(), edge(flavour, sim) as at:
        stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
        if flavour == "sync":
            _some(at, stream, 1)  # the next one would wait for the verdict
        else:

            async def some() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        async for _ in stream:
                            pass

            at.run(some())
        started = time.monotonic()
        at.run(stream.close())
        assert time.monotonic() - started < 0.8
        if flavour == "async":
            assert at.run(_settled(sim))
            assert sim.judge_requests[-1].closed_early
        (decision,) = at.decisions()
        assert decision.upstream == "cancelled"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("settings", [{}, {"input_check": "before"}])
def test_a_cancelled_task_cancels_everything(streamed: bool, settings: dict[str, Any]) -> None:
    """While the judge thinks and upstream works: both are given up, and the record knows it."""
    script = JudgeScript(when_judging("", slow(5), stage="input"))
    sim = Simulator(text(LONG), judge=script, profile=LatencyProfile(first_byte_s=5))
    with nothing_left(), edge("async", sim, settings=settings) as at:

        async def ask() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await at.client.messages.create(**asking("hi"), stream=streamed)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        started = time.monotonic()
        at.run(ask())
        assert time.monotonic() - started < 3
        assert all(request.closed_early for request in sim.requests)
        sent = not settings
        assert at.decision().upstream == ("cancelled" if sent else "not_sent")
    assert len(sim.api_requests) == int(sent)


@pytest.mark.parametrize("settings", [{}, {"input_check": "before"}])
def test_a_cancelled_reader_cancels_everything(settings: dict[str, Any]) -> None:
    sim = Simulator(text(LONG), profile=LatencyProfile(per_event_s=0.02))
    with nothing_left(), edge("async", sim, settings=settings) as at:

        async def ask() -> None:
            async def read() -> None:
                stream = await at.client.messages.create(**asking("hi"), stream=True)
                async for _ in stream:
                    reading.set()

            reading = asyncio.Event()
            task = asyncio.create_task(read())
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gc.collect()
            await asyncio.sleep(0.05)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        at.run(ask())
        check_left(at, sim)


def test_a_call_that_nobody_waited_for_is_not_on_record_as_allowed() -> None:
    async def story() -> None:
        sim = Simulator(text("hello"), judge=JudgeScript(when_judging("", slow(5.0))))
        client = magistrate.AsyncAnthropic(
            api_key="k", moderation=moderation, http_client=sim.async_http_client()
        )
        call = asyncio.create_task(client.messages.create(**asking("hi")))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    moderation = Moderation({"version": 1})
    asyncio.run(story())
    (decision,) = moderation.engine.state.decisions.all()
    assert (decision.action, decision.stage, decision.findings) == ("unavailable", "input", ())
    assert [(f.stage, f.reason) for f in decision.judge_failures] == [("input", "error")]


@both
@pytest.mark.parametrize("settings", [{}, {"input_check": "before"}])
def test_an_interrupt_within_a_call_ends_it(settings: dict[str, Any], flavour: str) -> None:
    """Ctrl-C on the caller's thread, or a cancellation from further in: no hang, and a record."""
    interrupt = KeyboardInterrupt if flavour == "sync" else asyncio.CancelledError

    def inner(request: Any, call_next: Any) -> Any:
        if parse_prompt(request.json) is None:
            raise interrupt
        return call_next(request)

    async def inner_async(request: Any, call_next: Any) -> Any:
        if parse_prompt(request.json) is None:
            raise interrupt
        return await call_next(request)

    sim = Simulator(text("hello"))
    middleware = [inner if flavour == "sync" else inner_async]
    with nothing_left(), edge(flavour, sim, settings=settings, middleware=middleware) as at:
        with pytest.raises(interrupt):
            at.run(at.client.messages.create(**asking("hi")))
        assert at.decision().upstream == "cancelled"


@pytest.mark.parametrize("settings", [{}, {"input_check": "before"}])
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_judge_cancelled_from_within_is_a_missing_verdict(
    surface: str, settings: dict[str, Any]
) -> None:
    async def inner(request: Any, call_next: Any) -> Any:
        if parse_prompt(request.json) is not None:
            raise asyncio.CancelledError
        return await call_next(request)

    sim = Simulator(text("hello"))
    with nothing_left(), edge("async", sim, settings=settings, middleware=[inner]) as at:
        got = at.ask(surface, asking("hi"))
        assert type(got.error) is ModerationUnavailable
        assert "hello" not in got.seen


@both
def test_a_closed_moderation_answers_nothing_and_hangs_nobody(flavour: str) -> None:
    sim = Simulator(text("hello"))
    with nothing_left(), edge(flavour, sim) as at:
        at.moderation.close()
        got = at.ask("create", asking("hi"))
        if flavour == "sync":
            assert type(got.error) is ModerationUnavailable


# --- waking a caller who is blocked reading -------------------------------------------------------

STALL_S = 20


@pytest.mark.parametrize("stage", ["input", "output"])
def test_a_blocked_stream_is_cut_although_upstream_says_nothing(stage: str) -> None:
    """The caller's thread sits in a read on a real socket; the verdict must wake it."""
    reply = stall(text(f"Well, {BAD}. {LONG}"), after_events=30, seconds=STALL_S)
    if stage == "input":
        script = JudgeScript(when_judging("hi", slow(0.3, finds(CLAUSE)), stage="input"))
    else:
        script = JudgeScript(when_judging(BAD, slow(0.3, finds(CLAUSE)), stage="output"))
    sim = Simulator([reply, text("hello")], judge=script)
    # "before", so that upstream cannot stall ahead of the verdict on the input: a verdict that
    # allows does not wake the reader, it is seen with the next thing upstream says.
    settings = {"input_check": "before"} if stage == "output" else {}
    with nothing_left(), sim.serve() as url, edge("sync", sim, url=url, settings=settings) as at:
        started = time.monotonic()
        got = at.ask("create(stream=True)", asking("hi"))
        took = time.monotonic() - started
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert BAD not in got.seen
        assert took < 5
        assert at.decision().upstream == "cancelled"
        assert sim.settle()
        assert sim.api_requests[0].closed_early
        assert at.ask("create", asking("more")).text == "hello"


def test_an_unavailable_judge_wakes_the_caller_too() -> None:
    sim = Simulator(
        stall(text(LONG), after_events=10, seconds=STALL_S),
        judge=JudgeScript(when_judging("", slow(9), stage="input")),
    )
    with (
        nothing_left(),
        sim.serve() as url,
        edge("sync", sim, url=url, settings={"judge": {"deadline_s": 0.5}}) as at,
    ):
        started = time.monotonic()
        got = at.ask("create(stream=True)", asking("hi"))
        assert time.monotonic() - started < 5
        assert type(got.error) is ModerationUnavailable
        assert "Word" not in got.seen


@both
def test_a_cut_stream_does_not_disturb_its_neighbours(flavour: str) -> None:
    """Connections are shared through a pool; only the cut stream's own may be shut down."""

    def reply(body: dict[str, Any]) -> Any:
        said = body["messages"][-1]["content"]
        return text(f"{BAD} {LONG}" if "bad" in said else f"Answer to {said}. {LONG}")

    sim = Simulator(reply, judge=JUDGE)
    with sim.serve() as url, edge(flavour, sim, url=url) as at:

        def check(number: int, message: Any) -> None:
            if number % 4 == 0:
                assert message.stop_reason == "refusal"
            else:
                assert message.content[0].text == f"Answer to q{number}. {LONG}"

        def call(number: int) -> dict[str, Any]:
            return asking("bad" if number % 4 == 0 else f"q{number}")

        def ask(number: int) -> None:
            with at.client.messages.stream(**call(number)) as stream:
                check(number, stream.get_final_message())

        async def ask_async(number: int) -> None:
            async with at.client.messages.stream(**call(number)) as stream:
                check(number, await stream.get_final_message())

        async def ask_all() -> None:
            await asyncio.gather(*map(ask_async, range(16)))

        if flavour == "sync":
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(ask, range(16)))
        else:
            at.run(ask_all())
