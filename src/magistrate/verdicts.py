"""What a judge found: the vocabulary of grades, severities and actions, and the judge's answer.

Pure data. A judge answers with a `Verdict`, or with `Unavailable` when it could not; there is no
third way, and nothing here ever turns the second into the first.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias, get_args

from magistrate.values import value

Stage = Literal["input", "output"]
Grade = Literal["none", "unlikely", "possible", "likely", "certain"]
Severity = Literal["low", "medium", "high", "critical"]
Action = Literal["allow", "warn", "hold", "block"]  # what settings can ask for
# What a decision can be. `unavailable`: nobody decided, so nothing more was given out. A block
# says more: it is a verdict, or a rule about what could not be read.
DecisionAction = Literal["allow", "warn", "hold", "unavailable", "block"]
AnswerKind = Literal["general", "advice", "recommendation", "decision", "publication"]
Waits = Literal["never", "within_deadline", "unknown"]
Failure = Literal[
    "timeout",
    "overloaded",
    "error",
    "refused",
    "truncated",
    "unparseable",
    "too_long",
    "unsupported",
]

STAGES: tuple[Stage, ...] = get_args(Stage)
GRADES: tuple[Grade, ...] = get_args(Grade)  # ascending: index is the order
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # ascending
ACTIONS: tuple[Action, ...] = get_args(Action)  # ascending
DECISION_ACTIONS: tuple[DecisionAction, ...] = get_args(DecisionAction)  # ascending
ANSWER_KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
FAILURES: tuple[Failure, ...] = get_args(Failure)


def at_least(value: str, threshold: str, scale: tuple[str, ...]) -> bool:
    """Whether `value` stands at or above `threshold` on an ascending `scale`."""
    return scale.index(value) >= scale.index(threshold)


@value
class JudgeInfo:
    """Which judge spoke: its name, the model it used, and the hash of prompt and rubric.

    `waits` says how long the judge may keep its caller waiting: `never` (it computes, for
    milliseconds on a short text), `within_deadline` (it answers by its deadline without being
    stopped), or `unknown`. Verdicts do not depend on it, so it is no part of who judged.
    """

    name: str
    model: str | None = None
    prompt_hash: str | None = None
    waits: Waits = field(default="unknown", compare=False)


@value
class Usage:
    """Tokens that judging took. `cost_usd` is None where the price is not known, never zero."""

    judge_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        if not self.judge_calls or not other.judge_calls:
            cost = self.cost_usd if self.judge_calls else other.cost_usd
        elif self.cost_usd is None or other.cost_usd is None:
            cost = None
        else:
            cost = self.cost_usd + other.cost_usd
        return Usage(
            self.judge_calls + other.judge_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            cost,
        )


@value
class Finding:
    """One clause of the policy that the judge sees touched.

    `path` is where (`messages[2].content[0]`, `response.content[1]`); `evidence` a quote that
    occurs there, or None; `reason` the judge's own words, where the settings ask for them.
    """

    clause: str
    grade: Grade
    severity: Severity
    stage: Stage
    path: str
    evidence: str | None = None
    reason: str | None = None


@value
class HighRiskAnswer:
    """The judge's view of an answer in a high-risk domain of the policy.

    `individual`: the answer addresses, or decides about, one particular person.
    """

    domain: str
    kind: AnswerKind
    individual: bool


@value
class Verdict:
    """What a judge found in one subject.

    `dropped_quotes`: how many quotes did not occur where the judge said; the findings stay.
    `refusals`: what judge models said when they refused to judge it, before one did or the policy
    made a finding of it.
    """

    judge: JudgeInfo
    findings: tuple[Finding, ...] = ()
    high_risk: tuple[HighRiskAnswer, ...] = ()
    discloses_ai: bool = False
    usage: Usage = Usage()
    dropped_quotes: int = 0
    refusals: tuple[str, ...] = ()


@value
class Screened:
    """What a first pass says: the groups of rules that a judgment must look at, maybe none."""

    judge: JudgeInfo
    suspected: tuple[str, ...] = ()
    discloses_ai: bool = False
    usage: Usage = Usage()


@value
class Unavailable:
    """A judge that could not answer, and why. Never to be read as "safe".

    `detail` is for operators; it never carries judged content. `floor`: a first pass suspected a
    group of rules with floors before the judge was lost, so this never fails open. `findings` are
    what other calls of the same judgment found: not the whole, but not to be lost either.
    """

    reason: Failure
    judge: JudgeInfo
    detail: str = ""
    usage: Usage = Usage()
    floor: bool = False
    findings: tuple[Finding, ...] = ()


Outcome: TypeAlias = Verdict | Unavailable


def no_answer(judge: JudgeInfo) -> Unavailable:
    """What stands for a judge whose deadline has passed."""
    return Unavailable("timeout", judge, "no answer within the deadline")


NOT_AWAITED = "nobody waited for the verdict"


def not_awaited(judge: JudgeInfo) -> Unavailable:
    """What stands for a judge whose verdict came too late for a request that had ended."""
    return Unavailable("error", judge, NOT_AWAITED)


def broken(judge: JudgeInfo, what: str) -> Unavailable:
    """What stands for a judge that raised. `what` names the error's type, never its text."""
    return Unavailable("error", judge, what)
