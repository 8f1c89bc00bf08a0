"""The shared vocabulary: stages, grades, severities, actions, and a judge's outcome.

Pure data. A judge returns a `Verdict`, or `Unavailable` when it could not judge. There is no third
outcome, and nothing here turns an `Unavailable` into a `Verdict`.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal, TypeAlias, get_args

from magistrate.values import value

Stage = Literal["input", "output"]
Grade = Literal["none", "unlikely", "possible", "likely", "certain"]
Severity = Literal["low", "medium", "high", "critical"]
Action = Literal["allow", "warn", "hold", "block"]  # the actions that settings can choose
# The actions of a decision. `unavailable`: no judge was available, so nothing was delivered.
# `block`: a verdict, or the settings for content that could not be read.
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
    """Return whether `value` is at or above `threshold` on an ascending `scale`."""
    return scale.index(value) >= scale.index(threshold)


@value
class JudgeInfo:
    """The judge that judged: its name, its model, and the hash of its prompt and rubric.

    `waits`: how long the judge may keep its caller waiting. `never`: it only computes, for
    milliseconds on a short text. `within_deadline`: it returns by its deadline without being
    stopped. Else `unknown`. Verdicts do not depend on it, so comparisons ignore it.
    """

    name: str
    model: str | None = None
    prompt_hash: str | None = None
    waits: Waits = field(default="unknown", compare=False)


@value
class Usage:
    """Calls and tokens used for judging. `cost_usd`: None if the price is unknown, never zero."""

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
    """One clause of the policy that the judge found content for.

    `path`: where (`messages[2].content[0]`, `response.content[1]`). `evidence`: a quote that occurs
    there, or None. `reason`: the judge's own words, if the settings ask for them.
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
    """The judge's classification of an answer in a high-risk domain of the policy.

    `individual`: the answer addresses one particular person, or decides about one.
    """

    domain: str
    kind: AnswerKind
    individual: bool


@value
class Verdict:
    """The result of judging one subject.

    `dropped_quotes`: the number of quotes that do not occur where the judge said; their findings
    are kept. `refusals`: the texts of judge models that refused to judge it, before another model
    judged it or the policy turned the refusal into a finding. `continues_declined`: the request
    asks again for what was declined earlier in its conversation.
    """

    judge: JudgeInfo
    findings: tuple[Finding, ...] = ()
    high_risk: tuple[HighRiskAnswer, ...] = ()
    discloses_ai: bool = False
    usage: Usage = Usage()
    dropped_quotes: int = 0
    refusals: tuple[str, ...] = ()
    continues_declined: bool = False

    def without_usage(self) -> Verdict:
        """Return the verdict for a caller who did not pay for it."""
        return replace(self, usage=Usage())


@value
class Screened:
    """The result of a first pass: the groups of rules to judge in full, possibly none."""

    judge: JudgeInfo
    suspected: tuple[str, ...] = ()
    discloses_ai: bool = False
    usage: Usage = Usage()


@value
class Unavailable:
    """A judge that could not judge, and why. Never treat it as "safe".

    `detail` is for operators and never contains judged content. `floor`: a first pass suspected a
    group of rules with floors before the judge failed, so this never fails open. `findings`: what
    other calls of the same judgment found; incomplete, but kept.
    """

    reason: Failure
    judge: JudgeInfo
    detail: str = ""
    usage: Usage = Usage()
    floor: bool = False
    findings: tuple[Finding, ...] = ()


Outcome: TypeAlias = Verdict | Unavailable


def no_answer(judge: JudgeInfo) -> Unavailable:
    """Return the outcome for a judge whose deadline has passed."""
    return Unavailable("timeout", judge, "no answer within the deadline")


NOT_AWAITED = "no caller waited for the verdict"


def not_awaited(judge: JudgeInfo) -> Unavailable:
    """Return the outcome for a judge that was still judging when its request ended."""
    return Unavailable("error", judge, NOT_AWAITED)


def broken(judge: JudgeInfo, what: str) -> Unavailable:
    """Return the outcome for a judge that raised. `what` names the error's type, not its text."""
    return Unavailable("error", judge, what)
