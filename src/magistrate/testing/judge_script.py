"""The judge's side of a simulation: what it finds in what, and how it fails.

Only declarations: `judge_replies` renders them. A judge that does its work answers with a
`Judgement`; one that fails answers with any reply of the API. `JudgeScript` merges what all
matching rules say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from magistrate.testing import replies
from magistrate.testing.replies import Reply, structured, text
from magistrate.verdicts import AnswerKind, Grade, Severity, Stage
from magistrate.wire.parts import Part


class ParsedPrompt(Protocol):
    """What can be read back from a judge's prompt (see `magistrate.judging.prompt.parse_prompt`).

    `groups` are what a screen may name; empty for a judgment.
    """

    @property
    def stage(self) -> Stage: ...
    @property
    def parts(self) -> Sequence[Part]: ...
    @property
    def clauses(self) -> Sequence[str]: ...
    @property
    def domains(self) -> Sequence[str]: ...
    @property
    def labels(self) -> dict[str, str]: ...
    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def answers(self) -> bool: ...
    @property
    def explain(self) -> bool: ...
    @property
    def final(self) -> bool: ...
    @property
    def compares(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Found:
    """One finding. Without a `quote` it is the words that the rule looked for."""

    clause: str
    grade: Grade = "likely"
    severity: Severity = "high"
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """One high-risk entry of a judgement."""

    domain: str
    kind: AnswerKind = "advice"
    individual: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge answers when it does its work; empty: it found nothing."""

    findings: tuple[Found, ...] = ()
    high_risk: tuple[Domain, ...] = ()
    discloses_ai: bool = False
    continues_declined: bool = False

    def __add__(self, other: Judgement) -> Judgement:
        return Judgement(
            self.findings + other.findings,
            self.high_risk + other.high_risk,
            self.discloses_ai or other.discloses_ai,
            self.continues_declined or other.continues_declined,
        )


@dataclass(frozen=True, slots=True)
class Slow:
    """A judge that answers late."""

    seconds: float
    then: Judgement | Reply


JudgeReply: TypeAlias = Judgement | Slow | Reply
Judge: TypeAlias = Callable[[ParsedPrompt], JudgeReply]


def finds(
    clause: str,
    *,
    grade: Grade = "likely",
    severity: Severity = "high",
    quote: str | None = None,
) -> Judgement:
    """The judge finds `clause` touched."""
    return Judgement(findings=(Found(clause, grade, severity, quote),))


def high_risk(domain: str, *, kind: AnswerKind = "advice", individual: bool = True) -> Judgement:
    """The judge sees an answer in a high-risk domain."""
    return Judgement(high_risk=(Domain(domain, kind, individual),))


def discloses() -> Judgement:
    """The judge sees that the answer says it comes from an AI."""
    return Judgement(discloses_ai=True)


def continues_declined() -> Judgement:
    """The judge sees that the new turn asks again for what was declined."""
    return Judgement(continues_declined=True)


def nothing() -> Judgement:
    """The judge finds nothing."""
    return Judgement()


def fails_with(reply: Reply) -> Reply:
    """The judge's request fails with `reply`, usually an `error(...)`."""
    return reply


def refuses(category: str | None = None) -> Reply:
    """The judge model declines to answer."""
    return replies.refusal(category)


def truncated() -> Reply:
    """The judge runs out of tokens in the middle of its answer."""
    return text('{"findings": [{"clause": "', stop_reason="max_tokens")


def prose(said: str = "I think it is safe.") -> Reply:
    """The judge chats where a structured answer was asked for."""
    return text(said)


def garbage() -> Reply:
    """The judge answers with something that is not JSON."""
    return text('}{"findings": nonsense \u0007')


def empty() -> Reply:
    """The judge ends its turn without a word."""
    return text()


def says(obj: Any) -> Reply:
    """The judge answers `obj` as JSON, whatever its shape."""
    return structured(obj)


def wrong_clause(clause: str = "no_such_section.no_such_clause") -> Reply:
    """The judge finds a clause that was not on offer."""
    finding = {"clause": clause, "grade": "certain", "severity": "high", "part": "", "quote": ""}
    return structured({"findings": [finding], "high_risk": [], "discloses_ai": False})


def slow(seconds: float, then: Judgement | Reply | None = None) -> Slow:
    """The judge answers `then` (default: it finds nothing), `seconds` late."""
    return Slow(seconds, Judgement() if then is None else then)


@dataclass(frozen=True, slots=True)
class Rule:
    """What the judge answers where `needle` occurs in a part that is to be judged."""

    needle: str
    reply: JudgeReply
    stage: Stage | None = None
    times: int | None = None


def when_judging(
    needle: str, reply: JudgeReply, *, stage: Stage | None = None, times: int | None = None
) -> Rule:
    """Answer `reply` where `needle` occurs in the text or the labels of a judged part.

    An empty needle occurs everywhere. With `stage` the rule holds for that stage only, with
    `times` only for so many requests: a judge that fails once is
    `when_judging("", fails_with(error(529)), times=1)`.
    """
    return Rule(needle, reply, stage, times)


class JudgeScript:
    """A judge that finds what its rules say.

    All rules that match are merged: findings add up, delays add up, and the first reply that is
    not a judgement (a refusal, an error) wins over all findings. Safe to use from many threads.

    Raises `TypeError` for anything but a rule, such as a list of rules.
    """

    def __init__(self, *rules: Rule) -> None:
        for rule in rules:
            if not isinstance(rule, Rule):  # pyright: ignore[reportUnnecessaryIsInstance]
                given = type(rule).__name__
                raise TypeError(
                    f"JudgeScript takes when_judging(...) rules one by one, not a {given}"
                )
        self._rules = rules
        self._used = [0] * len(rules)
        self._lock = threading.Lock()

    def __call__(self, prompt: ParsedPrompt) -> JudgeReply:
        found = Judgement()
        failure: Reply | None = None
        seconds = 0.0
        for position, rule in enumerate(self._rules):
            if rule.stage not in (None, prompt.stage) or not self._occurs(rule.needle, prompt):
                continue
            reply = rule.reply
            finds_something = isinstance(reply, Judgement) and reply != Judgement()
            with self._lock:
                if rule.times is not None and self._used[position] >= rule.times:
                    continue
                # What a screen only suspects, the judgment after it is still to find.
                suspects = bool(prompt.groups) or prompt.compares
                self._used[position] += not (suspects and finds_something)
            if isinstance(reply, Slow):
                seconds += reply.seconds
                reply = reply.then
            if isinstance(reply, Judgement):
                found += _quoting(reply, rule.needle)
            elif failure is None:
                failure = reply
        said = failure or found
        return Slow(seconds, said) if seconds else said

    @staticmethod
    def _occurs(needle: str, prompt: ParsedPrompt) -> bool:
        return bool(judged_parts_with(needle, prompt.parts))


def _quoting(judgement: Judgement, needle: str) -> Judgement:
    findings = tuple(
        replace(found, quote=needle) if found.quote is None else found
        for found in judgement.findings
    )
    return replace(judgement, findings=findings)


def judged_parts_with(words: str, parts: Sequence[Part]) -> list[Part]:
    """Return the judged parts in whose text or labels `words` occur.

    A text that is judged in windows comes as context and then something to judge, under one path:
    words that only end in the second piece count, as a reader would see them.
    """
    found: list[Part] = []
    before: dict[str, str] = {}
    for part in parts:
        tail = before.get(part.path, "")[-(len(words) - 1) :] if len(words) > 1 else ""
        if part.judged and any(words in said for said in (tail + part.text, *part.labels.values())):
            found.append(part)
        before[part.path] = before.get(part.path, "") + part.text
    return found
