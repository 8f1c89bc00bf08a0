"""Plan a judgment: what is asked, in which order, and how the answers are combined.

Pure. A generator yields lists of questions that may be asked concurrently, and receives their
answers. The Claude judge runs it in two ways, on threads and in tasks; the logic is here once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from magistrate.core.decide import is_blocking
from magistrate.judging.chunks import split
from magistrate.judging.combined_verdict import concluded
from magistrate.judging.rubric import groups_for, has_third_party
from magistrate.policy import INTEGRITY
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.verdicts import (
    Finding,
    JudgeInfo,
    Outcome,
    Screened,
    Stage,
    Unavailable,
    Verdict,
)
from magistrate.wire.parts import Subject, is_declined


@dataclass(frozen=True, slots=True)
class Task:
    """What a judge is asked to do, independent of the subject: a screen or a judgment of groups.

    `groups`: None means all groups that can apply. `third_party`: the subject has text that was
    written outside the conversation, so the clauses on such text apply. `floors`: about the floors
    of a policy that a team wrote, and nothing else. `compares`: whether the new turn only goes on
    with one that was declined.
    """

    stage: Stage
    third_party: bool
    screen: bool = False
    groups: tuple[str, ...] | None = None
    floors: bool = False
    compares: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One call to a judge model."""

    task: Task
    subject: Subject
    model: str


Answers: TypeAlias = list["Outcome | Screened"]
JudgingPlan: TypeAlias = Generator[list[Question], Answers, Outcome]


def tasks(settings: Settings, stage: Stage) -> list[Task]:
    """Return every task that a judgment under these settings can have."""
    found: list[Task] = []
    for third_party in (False, True):
        strategy = settings.judge.strategy
        for floors in _pieces(settings):
            if strategy == "cascade":
                found.append(Task(stage, third_party, screen=True, floors=floors))
            if strategy == "bundled":
                found.append(Task(stage, third_party, floors=floors))
            else:
                groups = groups_for(settings, stage, third_party=third_party, floors=floors)
                found += [_focused(stage, group, floors=floors) for group in groups]
    if stage == "input":
        found.append(_COMPARISON)
    return list(dict.fromkeys(found))


_COMPARISON = Task("input", third_party=False, compares=True)


def _pieces(settings: Settings) -> tuple[bool, ...]:
    """Return the `floors` of the tasks that together judge the whole policy."""
    whole, *floors = settings.judged_policies
    rest = [False] if whole.sections or whole.integrity or settings.app else []
    return (*rest, *(True for _ in floors))


def _focused(stage: Stage, group: str, *, floors: bool = False) -> Task:
    """Return the task to judge one group: the same whether or not the subject has such text."""
    return Task(stage, group == INTEGRITY, groups=(group,), floors=floors)


def _may_owe_review(settings: Settings, stage: Stage) -> bool:
    """Return whether a subject without violations could still have to be reviewed."""
    return stage == "output" and settings.app is not None and bool(settings.app.high_risk)


def plan_judging(
    settings: Settings,
    subject: Subject,
    judge: JudgeInfo,
    clear: Callable[[Subject], bool] | None = None,
    *,
    sizes: Sequence[int] | None = None,
) -> JudgingPlan:
    """Ask about a subject until there is a verdict, or a reason why there is none.

    `sizes` are the sizes of its parts, if they are known (see `split`). `clear` returns whether no
    model needs to be asked about a subject; it is given only if the settings ask for it. It
    recognises violations, not kinds of answers, so with a declared high-risk use all answers are
    judged.
    """
    stage, third_party = subject.stage, has_third_party(subject)
    if clear is not None and not _may_owe_review(settings, stage) and clear(subject):
        return Verdict(judge)
    pieces = split(subject, sizes=sizes)
    if not pieces:
        return Unavailable("too_long", judge, "more than could be judged in pieces")
    options = settings.judge
    model = options.model or DEFAULT_JUDGE_MODEL
    judged: list[Outcome | Screened] = []

    first = options.screen.model or model
    goes_on = stage == "input" and any(is_declined(part) for part in subject.parts)
    compared = [Question(_COMPARISON, piece, first) for piece in pieces] if goes_on else []
    whole = [(piece, floors) for piece in pieces for floors in _pieces(settings)]

    def judgments(piece: Subject, floors: bool, among: Collection[str] | None) -> list[Question]:
        groups = groups_for(settings, stage, third_party=third_party, floors=floors)
        return [
            Question(_focused(stage, group, floors=floors), piece, model)
            for group in groups
            if among is None or group in among
        ]

    questions: list[Question] = []
    match options.strategy:
        case "bundled":
            questions = [
                Question(Task(stage, third_party, floors=floors), piece, model)
                for piece, floors in whole
            ]
        case "focused":
            questions = [each for piece, floors in whole for each in judgments(piece, floors, None)]
        case "cascade":
            screens = yield from _asked(
                settings,
                [
                    Question(Task(stage, third_party, screen=True, floors=floors), piece, first)
                    for piece, floors in whole
                ]
                + compared,
            )
            judged += screens
            screens, compared = screens[: len(whole)], []
            for (piece, floors), said in zip(whole, screens, strict=True):
                if isinstance(said, Screened):
                    # A screen knows neither stage nor kind of text: some groups may not apply.
                    questions += judgments(piece, floors, said.suspected)
    if questions := [*questions, *compared]:
        judged += yield from _asked(settings, questions)
    return concluded(settings, stage, judge, judged)


def _asked(
    settings: Settings, questions: list[Question]
) -> Generator[list[Question], Answers, Answers]:
    """Ask, and ask the second model, if any, about what the first refuses to judge."""
    answers = yield questions
    second = settings.judge.second_model
    refused = [i for i, answer in enumerate(answers) if _is_refusal(answer)]
    if second is None or not refused:
        return answers
    again = yield [replace(questions[i], model=second) for i in refused]
    for i, answer in zip(refused, again, strict=True):
        first = answers[i]
        usage = first.usage + answer.usage
        if _is_refusal(answer):
            answers[i] = _as_finding(settings, questions[i], replace(answer, usage=usage))
        elif isinstance(answer, Unavailable):
            # The second model is unavailable, but the first refused because of the content: this
            # must not look like an outage, which may fail open.
            answers[i] = replace(first, usage=usage)
        elif isinstance(answer, Verdict):
            answers[i] = replace(answer, usage=usage, refusals=(_note(questions[i], first),))
        else:
            answers[i] = replace(answer, usage=usage)
    return answers


def _is_refusal(answer: Outcome | Screened) -> bool:
    return isinstance(answer, Unavailable) and answer.reason == "refused"


def _note(question: Question, answer: Outcome | Screened) -> str:
    said = answer.detail if isinstance(answer, Unavailable) else ""
    return f"{question.model}: {said or 'no category'}"


def _as_finding(
    settings: Settings, question: Question, answer: Outcome | Screened
) -> Outcome | Screened:
    """Turn a refusal by both models into the finding that the policy gives for it, if any.

    Judge models refuse the worst content first, so a refusal is evidence. The finding is `likely`,
    because they sometimes also refuse benign work in the same field. If the finding would not
    block, the refusal is returned: no model has judged the rest of the question.
    """
    assert isinstance(answer, Unavailable)
    stage = question.task.stage
    refusals = settings.policy.refusals
    clause = refusals.get(answer.detail.removeprefix("category "), refusals.get("any"))
    if clause is None or stage not in settings.policy.clauses[clause].stages:
        return answer
    path = "request" if stage == "input" else "response"
    found = Finding(clause, "likely", "high", stage, path)
    refused = _note(question, answer)
    verdict = Verdict(answer.judge, (found,), usage=answer.usage, refusals=(refused,))
    return verdict if is_blocking(settings, stage, verdict) else answer
