"""How a judgment comes about: what is asked, in which order, and what the answers add up to.

Pure: a generator yields questions that may be asked at the same time and is sent their answers. The
Claude judge performs it twice, on threads and in tasks, so the rules stand here once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from magistrate.core.decide import is_blocking
from magistrate.judging.chunks import split
from magistrate.judging.conclusion import concluded
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
from magistrate.wire.parts import Subject


@dataclass(frozen=True, slots=True)
class Task:
    """What a judge is to do, whatever the subject: a screen, or a judgment over some groups.

    `groups` None: over all that can matter. `third_party`: rules about text of nobody in the
    conversation apply, the subject having some.
    """

    stage: Stage
    third_party: bool
    screen: bool = False
    groups: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One call to a judge model."""

    task: Task
    subject: Subject
    model: str


Answers: TypeAlias = list["Outcome | Screened"]
JudgingPlan: TypeAlias = Generator[list[Question], Answers, Outcome]


def tasks(settings: Settings, stage: Stage) -> list[Task]:
    """Every task that a judgment under these settings can take: what its prompts may be."""
    found: list[Task] = []
    for third_party in (False, True):
        strategy = settings.judge.strategy
        if strategy == "cascade":
            found.append(Task(stage, third_party, screen=True))
        if strategy == "bundled":
            found.append(Task(stage, third_party))
        else:
            groups = groups_for(settings, stage, third_party=third_party)
            found += [_focused(stage, group) for group in groups]
    return list(dict.fromkeys(found))


def _focused(stage: Stage, group: str) -> Task:
    """The judgment of one group: the same prompt, whether others would be about such text."""
    return Task(stage, group == INTEGRITY, groups=(group,))


def _may_owe_review(settings: Settings, stage: Stage) -> bool:
    """Whether a subject in which there is nothing wrong could owe something all the same."""
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

    `sizes` are those of its parts, where they are known (see `split`).
    `clear` says of a subject that nobody needs to be asked about it; only the settings bring it in.
    It knows what breaks a rule, not what an answer is: those of a declared high-risk use are heard.
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

    def judgments(piece: Subject, groups: Sequence[str]) -> list[Question]:
        return [Question(_focused(stage, group), piece, model) for group in groups]

    questions: list[Question] = []
    match options.strategy:
        case "bundled":
            questions = [Question(Task(stage, third_party), piece, model) for piece in pieces]
        case "focused":
            groups = groups_for(settings, stage, third_party=third_party)
            questions = [each for piece in pieces for each in judgments(piece, groups)]
        case "cascade":
            first = options.screen.model or model
            task = Task(stage, third_party, screen=True)
            screens = yield from _asked(
                settings, [Question(task, piece, first) for piece in pieces]
            )
            judged += screens
            for piece, said in zip(pieces, screens, strict=True):
                if isinstance(said, Screened):
                    # A screen knows neither stage nor kind of text: some groups cannot matter here.
                    possible = groups_for(settings, stage, third_party=third_party)
                    questions += judgments(piece, [g for g in possible if g in said.suspected])
    if questions:
        judged += yield from _asked(settings, questions)
    return concluded(settings, stage, judge, judged)


def _asked(
    settings: Settings, questions: list[Question]
) -> Generator[list[Question], Answers, Answers]:
    """Ask; what the model refuses to judge is put to the second one, if there is one."""
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
            # The second one is out of reach, but it was the content that stopped the first: this
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
    """A refusal of all who were asked, as what the policy says it is; else it stays one.

    Judge models refuse the worst content first, so their refusal is evidence. The finding is
    `likely`: benign work in the same field is refused at times too. Where it would not block, it
    stays a refusal: nobody has judged the rest of what this question was about.
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
