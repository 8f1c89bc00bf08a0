"""What is asked for one verdict, and what the answers add up to: played by hand, nobody asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistrate.core.decide import decide
from magistrate.judging.chunks import split
from magistrate.judging.combined_verdict import concluded
from magistrate.judging.plan import Question, plan_judging, tasks
from magistrate.judging.rubric import groups_for
from magistrate.policy import builtin_policy
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.verdicts import (
    STAGES,
    Failure,
    Finding,
    HighRiskAnswer,
    JudgeInfo,
    Outcome,
    Screened,
    Stage,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.parts import Part, Subject

JSON = dict[str, Any]
WHO = JudgeInfo("claude")
ONE = Usage(judge_calls=1, input_tokens=10, cost_usd=0.25)
APP: JSON = {"audience": "consumer", "interface": "chatbot"}
TEXT = Part("messages[0].content", "user", "text", "hello")
SUBJECT = Subject("input", (TEXT,))
ANSWERED = Subject("output", (replace(TEXT, judged=False), Part("r", "assistant", "text", "hi")))
SECTIONS = tuple(section.id for section in builtin_policy().sections)

FOUND = Finding("fraud_abuse.spam", "likely", "high", "input", "messages[0].content")
MINOR = Finding("fraud_abuse.spam", "likely", "low", "input", "messages[0].content")
OTHER = Finding("elections.lobbying", "likely", "high", "input", "messages[0].content")


def load(**judge: Any) -> Settings:
    app = judge.pop("app", None)
    return Settings.load({"version": 1, "judge": judge} | ({"app": app} if app else {}))


def screened(*groups: str, discloses: bool = False) -> Screened:
    return Screened(WHO, groups, discloses, ONE)


def verdict(*findings: Finding, **more: Any) -> Verdict:
    return Verdict(WHO, findings, usage=ONE, **more)


def missing(reason: Failure, detail: str = "") -> Unavailable:
    return Unavailable(reason, WHO, detail, ONE)


def play(
    settings: Settings, subject: Subject, *rounds: list[Outcome | Screened], **more: Any
) -> tuple[Outcome, list[list[Question]]]:
    """Play a deliberation against declared answers; its outcome, and what each round asked."""
    deliberation = plan_judging(settings, subject, WHO, **more)
    asked: list[list[Question]] = []
    try:
        asked.append(next(deliberation))
        for answers in rounds:
            assert len(answers) == len(asked[-1]), "as many answers as questions"
            asked.append(deliberation.send(answers))
    except StopIteration as end:
        return end.value, asked
    raise AssertionError(f"still asks {asked[-1]}")


def shape(questions: list[Question]) -> list[tuple[bool, tuple[str, ...] | None, str]]:
    return [(q.task.screen, q.task.groups, q.model) for q in questions]


MODEL = DEFAULT_JUDGE_MODEL


def test_a_cascade_ends_with_a_screen_that_suspects_nothing():
    outcome, asked = play(load(), SUBJECT, [screened()])
    assert shape(asked[0]) == [(True, None, MODEL)]
    assert outcome == Verdict(WHO, usage=ONE)


def test_a_cascade_asks_once_for_every_suspected_group_and_the_judgment_is_final():
    rounds: list[list[Outcome | Screened]] = [
        [screened("fraud_abuse", "elections")],
        [verdict(OTHER), verdict()],
    ]
    outcome, asked = play(load(), SUBJECT, *rounds)
    assert shape(asked[1]) == [
        (False, ("elections",), MODEL),
        (False, ("fraud_abuse",), MODEL),
    ]
    assert isinstance(outcome, Verdict)
    assert outcome.findings == (OTHER,)  # fraud was suspected, and cleared
    assert (outcome.usage.judge_calls, outcome.usage.cost_usd) == (3, 0.75)


def test_a_verdict_of_a_screen_alone_names_who_screened():
    quick = JudgeInfo("claude", "quick")
    outcome, _ = play(load(), SUBJECT, [replace(screened(), judge=quick)])
    assert outcome.judge == quick


def test_screens_and_judgments_can_have_models_of_their_own():
    settings = load(model="strong", screen={"model": "quick"})
    _, asked = play(settings, SUBJECT, [screened("elections")], [verdict()])
    assert [each.model for round_ in asked for each in round_] == ["quick", "strong"]


def test_a_bundled_judgment_is_one_call_with_everything():
    outcome, asked = play(load(strategy="bundled"), SUBJECT, [verdict(FOUND)])
    assert shape(asked[0]) == [(False, None, MODEL)]
    assert isinstance(outcome, Verdict)
    assert outcome.findings == (FOUND,)


@pytest.mark.parametrize(
    ("subject", "app", "groups"),
    [
        (SUBJECT, None, SECTIONS),
        (Subject("input", (replace(TEXT, kind="third_party"),)), None, (*SECTIONS, "integrity")),
        (ANSWERED, APP, (*SECTIONS, "answer")),
        (ANSWERED, None, SECTIONS),
    ],
)
def test_a_focused_judgment_asks_for_every_group_at_the_same_time(
    subject: Subject, app: JSON | None, groups: tuple[str, ...]
):
    settings = load(strategy="focused", app=app)
    answers: list[Outcome | Screened] = [verdict() for _ in groups]
    _, asked = play(settings, subject, answers)
    assert [q.task.groups for q in asked[0]] == [(group,) for group in groups]


def test_what_an_answer_is_comes_from_the_judgment_of_the_answer():
    medical = HighRiskAnswer("healthcare", "advice", True)
    rounds: list[list[Outcome | Screened]] = [
        [screened("answer", discloses=True)],
        [verdict(high_risk=(medical,))],
    ]
    outcome, _ = play(load(app=APP), ANSWERED, *rounds)
    assert isinstance(outcome, Verdict)
    assert outcome.high_risk == (medical,)
    assert outcome.discloses_ai


def test_what_cannot_matter_here_is_not_asked_about_though_a_screen_names_it():
    """A screen is one text for all subjects: it can name what is for answers, or planted text."""
    settings = load(app=APP)
    _, asked = play(settings, SUBJECT, [screened("integrity", "answer", "elections")], [verdict()])
    assert [q.task.groups for q in asked[1]] == [("elections",)]
    outcome, asked = play(settings, SUBJECT, [screened("answer")])
    assert (len(asked), outcome.usage.judge_calls) == (1, 1)


def test_what_is_clear_is_asked_about_nowhere():
    outcome, asked = play(load(), SUBJECT, clear=lambda subject: True)
    assert (outcome, asked) == (Verdict(WHO), [])
    _, asked = play(load(), SUBJECT, [screened()], clear=lambda subject: False)
    assert len(asked) == 1


@pytest.mark.parametrize(("subject", "asks"), [(ANSWERED, True), (SUBJECT, False)])
def test_a_clear_answer_of_a_declared_high_risk_use_is_heard_all_the_same(
    subject: Subject, asks: bool
):
    """Nothing is wrong with good advice, and a person may have to see it first."""
    settings = load(app=APP | {"high_risk": ["media"]})
    rounds: list[list[Outcome | Screened]] = [[screened()]] if asks else []
    _, asked = play(settings, subject, *rounds, clear=lambda subject: True)
    assert len(asked) == len(rounds)


# --- answers that are missing ---------------------------------------------------------------------


@pytest.mark.parametrize("reason", Failure.__args__)
def test_without_a_screen_there_is_no_verdict(reason: Failure):
    outcome, _ = play(load(), SUBJECT, [missing(reason)])
    assert isinstance(outcome, Unavailable)
    assert outcome.reason == reason


# What judgments of two groups say -> what it comes to.
TOGETHER: list[tuple[str, Outcome, Outcome, str]] = [
    ("both clean", verdict(), verdict(), "clean"),
    ("one found", verdict(FOUND), verdict(), "found"),
    ("one missing", missing("timeout"), verdict(), "timeout"),
    ("found and missing", verdict(FOUND), missing("timeout"), "found"),
    ("found, but not enough to block, and missing", verdict(MINOR), missing("timeout"), "timeout"),
    # An outage may fail open; what the content provoked must not be hidden behind one.
    ("outage and refusal", missing("timeout"), missing("refused"), "refused"),
    ("outage and garbage", missing("overloaded"), missing("unparseable"), "unparseable"),
]


@pytest.mark.parametrize(("name", "one", "two", "expected"), TOGETHER, ids=[r[0] for r in TOGETHER])
@pytest.mark.parametrize("turned", [False, True])
def test_what_several_answers_add_up_to(
    name: str, one: Outcome, two: Outcome, expected: str, turned: bool
):
    answers: list[Outcome | Screened] = [two, one] if turned else [one, two]
    outcome, _ = play(load(), SUBJECT, [screened("elections", "fraud_abuse")], answers)
    if isinstance(outcome, Unavailable):
        assert outcome.reason == expected
        assert set(outcome.findings) == {*one.findings, *two.findings}
    else:
        assert ("found" if outcome.findings else "clean") == expected
    assert outcome.usage.judge_calls == 3  # what was spent is on the bill, whatever came of it


@pytest.mark.parametrize(("group", "floor"), [("child_safety", True), ("fraud_abuse", False)])
def test_an_outage_behind_a_suspected_floor_never_fails_open(group: str, floor: bool):
    """`on_failure.input: allow` lets requests pass during an outage, but not these."""
    settings = Settings.load({"judge": {"on_failure": {"input": "allow"}}})
    outcome, _ = play(settings, SUBJECT, [screened(group)], [missing("timeout")])
    assert isinstance(outcome, Unavailable)
    decided = decide(settings, "input", [outcome])
    assert decided.action == ("unavailable" if floor else "allow")
    outcome, _ = play(settings, SUBJECT, [missing("timeout")])
    assert decide(settings, "input", [outcome]).action == "allow"


# --- refusals -------------------------------------------------------------------------------------

SECOND = load(second_model="second", strategy="bundled")

REFUSED: list[tuple[str, list[Outcome | Screened], str]] = [
    ("the second one judges", [verdict()], "clean"),
    ("the second one finds", [verdict(FOUND)], "fraud_abuse.spam"),
    ("both refuse, as cyber", [missing("refused", "category cyber")], "scams_phishing_malware"),
    ("both refuse, as bio", [missing("refused", "category bio")], "weapons"),
    ("both refuse, no category", [missing("refused")], "refused"),
    ("both refuse, an unmapped one", [missing("refused", "category general_harms")], "refused"),
    # The content stopped the first one: that is not undone by a second one that is out of reach.
    ("the second one is overloaded", [missing("overloaded")], "refused"),
    ("the second one is garbled", [missing("unparseable")], "refused"),
]


@pytest.mark.parametrize(("name", "second", "expected"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_refusal_goes_to_the_second_model(
    name: str, second: list[Outcome | Screened], expected: str
):
    outcome, asked = play(SECOND, SUBJECT, [missing("refused", "category cyber")], second)
    assert [q.model for round_ in asked for q in round_] == [MODEL, "second"]
    assert [q.task for q in asked[0]] == [q.task for q in asked[1]]
    assert outcome.usage.judge_calls == 2
    if isinstance(outcome, Unavailable):
        assert outcome.reason == expected
        return
    assert outcome.refusals
    clauses = [found.clause for found in outcome.findings]
    assert ("clean" if not clauses else clauses[0]).endswith(expected)


@pytest.mark.parametrize(
    "loosened",
    [
        {"actions": {"fraud_abuse": {"input": "warn"}}},
        {"actions": {"fraud_abuse": {"input": "allow"}}},
        {"streaming": {"release": "shadow"}},  # under which floors hold all the same
    ],
)
@pytest.mark.parametrize("strategy", ["cascade", "bundled"])
def test_a_refusal_is_no_finding_where_that_would_let_the_rest_pass_unjudged(
    loosened: JSON, strategy: str
):
    judge = {"second_model": "second", "strategy": strategy}
    settings = Settings.load({"version": 1, "judge": judge, **loosened})
    refusal: Outcome = missing("refused", "category cyber")
    outcome, _ = play(settings, SUBJECT, [refusal], [refusal])
    assert isinstance(outcome, Unavailable)
    assert outcome.reason == "refused"
    assert decide(settings, "input", [outcome]).action == "unavailable"


def test_without_a_second_model_a_refusal_is_a_judge_that_is_missing():
    refusal = missing("refused", "category cyber")
    outcome, asked = play(load(strategy="bundled"), SUBJECT, [refusal])
    assert isinstance(outcome, Unavailable)
    assert len(asked) == 1


def test_a_screen_that_is_refused_twice_is_a_finding_too():
    settings = load(second_model="second")
    refusal: Outcome = missing("refused", "category bio")
    outcome, asked = play(settings, SUBJECT, [refusal], [refusal])
    assert isinstance(outcome, Verdict)
    assert [f.clause for f in outcome.findings] == ["weapons_regulated_goods.weapons"]
    assert len(asked) == 2


def test_a_screen_that_only_the_second_model_makes_is_a_screen():
    settings = load(second_model="second")
    rounds: list[list[Outcome | Screened]] = [
        [missing("refused")],
        [screened("elections")],
        [verdict(OTHER)],
    ]
    outcome, _ = play(settings, SUBJECT, *rounds)
    assert isinstance(outcome, Verdict)
    assert outcome.findings == (OTHER,)


# --- long subjects --------------------------------------------------------------------------------


def long(*lengths: int, judged: bool = True) -> Subject:
    parts = (
        Part(f"messages[{i}]", "user", "text", f"<{i}>" + "word " * (length // 5), judged)
        for i, length in enumerate(lengths)
    )
    return Subject("input", tuple(parts))


def test_every_piece_of_a_long_subject_is_screened_and_judged_apart():
    subject = long(400_000, 10)
    pieces = split(subject)
    assert len(pieces) > 1
    screens: list[Outcome | Screened] = [screened() for _ in pieces]
    screens[1] = screened("elections")
    outcome, asked = play(load(), subject, screens, [verdict(OTHER)])
    assert [q.subject for q in asked[0]] == pieces
    assert [q.subject for q in asked[1]] == [pieces[1]]
    assert isinstance(outcome, Verdict)
    assert outcome.findings == (OTHER,)


def test_more_than_can_be_judged_in_pieces_is_too_long():
    outcome, asked = play(load(), long(20_000_000))
    assert isinstance(outcome, Unavailable)
    assert (outcome.reason, asked) == ("too_long", [])


# --- which prompts there are ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["cascade", "bundled", "focused"])
@pytest.mark.parametrize("stage", STAGES)
@given(
    third_party=st.booleans(),
    suspected=st.sets(st.sampled_from((*SECTIONS, "integrity", "answer")), max_size=3),
)
def test_whatever_is_asked_is_a_task_that_the_prompt_hash_covers(
    strategy: str, stage: Stage, third_party: bool, suspected: set[str]
):
    settings = load(strategy=strategy, app=APP)
    kind = "third_party" if third_party else "text"
    subject = Subject(stage, (Part("p", "user", kind, "hello"),))
    named = [g for g in groups_for(settings, stage, third_party=third_party) if g in suspected]
    deliberation = plan_judging(settings, subject, WHO)
    asked = next(deliberation)
    seen = list(asked)
    try:
        while True:
            answers: list[Outcome | Screened] = [
                screened(*named) if q.task.screen else verdict() for q in asked
            ]
            asked = deliberation.send(answers)
            seen += asked
    except StopIteration:
        pass
    assert {q.task for q in seen} <= set(tasks(settings, stage))


def test_nothing_heard_is_nothing_found():
    assert concluded(load(), "input", WHO, []) == Verdict(WHO)
