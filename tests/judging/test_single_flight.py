"""Equal questions at the same time are one judge call; whoever leads may fail or leave."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from edges import CLAUSE, asking, edge
from magistrate import Moderation
from magistrate.judging.single_flight import SingleFlight
from magistrate.testing import ScriptedJudge, Simulator, delayed, text
from magistrate.verdicts import JudgeInfo, Outcome, Unavailable, Usage, Verdict
from magistrate.wire.parts import Subject

PAID = Verdict(JudgeInfo("j"), usage=Usage(judge_calls=1, input_tokens=7))
MISSING = Unavailable("timeout", JudgeInfo("j"))
CALLERS = 20


class Follower:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Verdict | None] = []

    def __call__(self, verdict: Verdict | None) -> None:
        self.told.append(verdict)


def closed(verdict: Verdict | None) -> None:
    raise RuntimeError("Event loop is closed")


def test_who_comes_first_leads_and_the_others_are_told_for_nothing():
    single_flight, followers = SingleFlight(), [Follower() for _ in range(3)]
    assert single_flight.join("q", Follower(), 9)
    assert not any(single_flight.join("q", each, 9) for each in followers)
    single_flight.resolve("q", PAID)
    assert [each.told for each in followers] == [[Verdict(JudgeInfo("j"), usage=Usage())]] * 3
    assert single_flight.join("q", Follower(), 9), "it has landed"


@pytest.mark.parametrize("nothing", [None, MISSING])
def test_without_a_verdict_one_after_the_other_leads(nothing: Outcome | None):
    single_flight, followers = SingleFlight(), [Follower() for _ in range(3)]
    single_flight.join("q", Follower(), 9)
    for each in followers:
        single_flight.join("q", each, 9)
    single_flight.resolve("q", nothing)
    assert [each.told for each in followers] == [[None], [], []]
    late = Follower()
    assert not single_flight.join("q", late, 9), "the second one is asking now"
    single_flight.resolve("q", nothing)
    single_flight.resolve("q", PAID)
    assert [len(each.told) for each in followers] == [1, 1, 1]
    assert followers[2].told == late.told == [Verdict(JudgeInfo("j"), usage=Usage())]


def test_one_whose_loop_is_closed_is_passed_over():
    single_flight, follower = SingleFlight(), Follower()
    single_flight.join("q", Follower(), 9)
    single_flight.join("q", closed, 9)
    single_flight.join("q", follower, 9)
    single_flight.resolve("q", None)
    assert follower.told == [None]


def test_a_leader_that_never_lands_is_given_up():
    single_flight = SingleFlight()
    assert single_flight.join("q", Follower(), 9)
    assert not single_flight.join("q", Follower(), 9)
    assert single_flight.join("q", Follower(), 0.0)


def test_who_waited_for_a_leader_that_is_gone_is_told_by_the_next():
    single_flight, follower = SingleFlight(), Follower()
    single_flight.join("q", Follower(), 9)
    single_flight.join("q", follower, 9)
    assert single_flight.join("q", Follower(), 0.0), "leads: the first one is gone"
    single_flight.resolve("q", PAID)
    assert len(follower.told) == 1


def test_different_questions_fly_apart():
    single_flight = SingleFlight()
    assert single_flight.join("a", Follower(), 9)
    assert single_flight.join("b", Follower(), 9)


class Gate:
    """A judge that answers when it is let, and counts how often it was asked."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.asked = 0
        self.opened = threading.Event()
        self.outcomes = list(outcomes)

    def __call__(self, subject: Subject) -> Outcome:
        self.asked += 1
        self.opened.wait(10)
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


def moderation(gate: Gate) -> Moderation:
    return Moderation({"version": 1}, judge=ScriptedJudge(gate))


OUTPUT_TOO = 2  # the request and its answer are two questions


def test_equal_requests_of_many_threads_are_judged_once() -> None:
    gate = Gate(PAID)
    sim = Simulator(default=text("Hello."))
    with edge("sync", sim, moderation=moderation(gate)) as at:
        begun = threading.Barrier(CALLERS + 1)

        def ask(_: int) -> str:
            begun.wait()
            return at.client.messages.create(**asking("the same")).content[0].text

        with ThreadPoolExecutor(CALLERS) as pool:
            found = pool.map(ask, range(CALLERS))
            begun.wait()
            gate.opened.set()
            assert list(found) == ["Hello."] * CALLERS
        assert gate.asked <= OUTPUT_TOO
        spent = sum(decision.usage.judge_calls for decision in at.decisions())
        assert spent == gate.asked == at.moderation.usage.judge_calls


class AsyncGate:
    """The same for tasks: `judge_async` of its own."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.asked = 0
        self.cancelled = 0
        self.opened = asyncio.Event()
        self.outcomes = list(outcomes)

    def info(self, settings: Any) -> JudgeInfo:
        return JudgeInfo("gate")

    def judge(self, *_: Any) -> Outcome:
        raise AssertionError("tasks are judged in tasks")

    async def judge_async(self, *_: Any) -> Outcome:
        self.asked += 1
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


def test_equal_requests_of_many_tasks_are_judged_once() -> None:
    gate = AsyncGate(PAID)
    sim = Simulator(default=text("Hello."))
    with edge("async", sim, moderation=Moderation({"version": 1}, judge=gate)) as at:

        async def ask_all() -> list[str]:
            asked = [
                asyncio.create_task(at.client.messages.create(**asking("the same")))
                for _ in range(CALLERS)
            ]
            await asyncio.sleep(0.05)
            gate.opened.set()
            return [message.content[0].text for message in await asyncio.gather(*asked)]

        assert at.run(ask_all()) == ["Hello."] * CALLERS
        assert gate.asked <= OUTPUT_TOO


def test_when_the_leading_caller_goes_away_another_one_asks() -> None:
    gate = AsyncGate(PAID)
    sim = Simulator(default=text("Hello."))
    with edge("async", sim, moderation=Moderation({"version": 1}, judge=gate)) as at:

        async def ask_all() -> str:
            first = asyncio.create_task(at.client.messages.create(**asking("the same")))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(at.client.messages.create(**asking("the same")))
            await asyncio.sleep(0.05)
            assert gate.asked == 1
            first.cancel()
            await asyncio.wait([first])
            await asyncio.sleep(0.05)
            assert (gate.asked, gate.cancelled) == (2, 1)
            gate.opened.set()
            return (await second).content[0].text

        assert at.run(ask_all()) == "Hello."


def test_an_outage_of_the_leading_one_is_not_that_of_all() -> None:
    gate = Gate(MISSING, PAID)
    gate.opened.set()
    sim = Simulator(default=text("Hello."))
    with edge("sync", sim, moderation=moderation(gate)) as at:
        begun = threading.Barrier(2)

        def ask(_: int) -> str:
            begun.wait()
            try:
                return at.client.messages.create(**asking("the same")).content[0].text
            except Exception as error:
                return type(error).__name__

        with ThreadPoolExecutor(2) as pool:
            found = sorted(pool.map(ask, range(2)))
        assert found == ["Hello.", "ModerationUnavailable"]


def test_a_verdict_that_blocks_blocks_all_of_them() -> None:
    script = ScriptedJudge.finding("the same", CLAUSE)
    opened = threading.Event()

    def judge(subject: Subject) -> Outcome:
        opened.wait(10)
        return script(subject)

    scripted = ScriptedJudge(judge)
    sim = Simulator(default=text("Hello."))
    with edge("sync", sim, moderation=Moderation({"version": 1}, judge=scripted)) as at:

        def ask(_: int) -> str | None:
            return at.client.messages.create(**asking("the same")).stop_reason

        with ThreadPoolExecutor(5) as pool:
            found = pool.map(ask, range(5))
            threading.Timer(0.1, opened.set).start()
            assert list(found) == ["refusal"] * 5
        assert len(scripted.subjects) == 1


TENANT: ContextVar[str] = ContextVar("tenant")


def test_who_leads_after_another_asks_in_a_context_of_its_own() -> None:
    """What an application keeps in context variables (a tenant, a trace) belongs to one request."""
    seen: list[str] = []

    class Judge(AsyncGate):
        async def judge_async(self, *given: Any) -> Outcome:
            seen.append(TENANT.get())
            return await super().judge_async(*given)

    gate = Judge(PAID)
    sim = Simulator(default=text("Hello."))
    with edge("async", sim, moderation=Moderation({"version": 1}, judge=gate)) as at:

        async def ask(tenant: str) -> Any:
            TENANT.set(tenant)
            return await at.client.messages.create(**asking("the same"))

        async def ask_all() -> None:
            first = asyncio.create_task(ask("first"))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(ask("second"))
            await asyncio.sleep(0.05)
            first.cancel()
            await asyncio.wait([first])
            await asyncio.sleep(0.05)
            gate.opened.set()
            await second

        at.run(ask_all())
    assert seen[:2] == ["first", "second"]


def test_an_answer_in_time_is_not_followed_by_its_absence() -> None:
    """The clock of a question that was joined runs on while upstream takes longer than that."""
    judge = ScriptedJudge(delay_s=0.1)
    settings = {"version": 1, "input_check": "before", "judge": {"deadline_s": 0.3}}
    sim = Simulator(default=delayed(text("Hello."), 1.0))
    with edge("async", sim, moderation=Moderation(settings, judge=judge)) as at:

        async def ask_twice() -> list[str]:
            asked = (at.client.messages.create(**asking("the same")) for _ in range(2))
            async with asyncio.timeout(30):
                return [message.content[0].text for message in await asyncio.gather(*asked)]

        assert at.run(ask_twice()) == ["Hello."] * 2
    assert len([subject for subject in judge.subjects if subject.stage == "input"]) == 1
