"""The local judge: embedded and free; needs no key and no network; understands nothing.

For offline development and tests, and to skip subjects that no model needs to judge. Its limits
are in `docs/local-judge.md`: it weighs n-grams, so it recognises topics far better than intentions.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator

from magistrate.config.diagnostics import Problem, SettingsError, listed
from magistrate.judging.base import AskModel, AskModelAsync
from magistrate.judging.local_answers import discloses_ai, high_risk
from magistrate.judging.local_model import (
    LocalModel,
    Scored,
    load_model,
    pieces,
    said,
    spoken,
    worst,
)
from magistrate.judging.rubric import has_third_party
from magistrate.policy import INTEGRITY, Policy
from magistrate.policy.schema import Clause
from magistrate.settings import Settings
from magistrate.text.reading import Reading, reading
from magistrate.verdicts import (
    GRADES,
    Finding,
    Grade,
    JudgeInfo,
    Outcome,
    Severity,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.digests import sha256
from magistrate.wire.parts import Part, Subject

# Most characters to judge: about a second on one core. A longer subject is `too_long`.
MAX_LENGTH = 400_000
# Most characters of a clear subject. Each further piece is another chance of an error, and the
# first stage of a cascade must cause no noticeable delay (this takes about 40 ms).
MAX_CLEAR_LENGTH = 20_000

# English is recognised by its most frequent words: they are at least a quarter of the words in
# nearly every English dev case, and in none in another language. The model knows almost nothing
# about other languages.
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        """a about all an and are as at be but by can do for from get has have he her his how i if
        in is it me my no not of on or our out she so that the their them there they this to was we
        what when who will with would you your""",
    )
)
_ENGLISH_SHARE = 0.25

_FREE = Usage(judge_calls=1, cost_usd=0.0)

_LETTERS = re.compile(r"[^\W\d_]+")


class LocalJudge:
    """Implements `Judge` with the local model. Thread-safe; answers in milliseconds.

    A finding names one section and one clause. Its grade says how much the text differs from
    ordinary traffic (`likely`: at most 1 % of ordinary dev cases differ as much). Its severity is
    the middle one of the clause's levels, the upper of two, because n-grams say nothing about
    severity. The model does not know sections that a policy adds to the built-in ones, and never
    finds them.

    Raises `SettingsError` if numpy is missing (extra `local`).
    """

    def __init__(self, model: LocalModel | None = None) -> None:
        self.model = model or load_model()

    def check(self, policy: Policy) -> None:
        """Raise `SettingsError` if the policy lacks clauses that the model can find."""
        missing = [id for id in self.model.clauses if id not in policy.clauses]
        if missing:
            message = (
                f"the local judge only knows {self.model.header['policy']}, and {policy.ref} lacks "
                f"{listed(missing, 3)}; include that policy, or use backend: claude"
            )
            raise SettingsError([Problem(None, None, None, "judge.backend", message)])

    def info(self, settings: Settings) -> JudgeInfo:
        """Return the model's name with version and hash, and a hash of all that affects a verdict.

        Raises `SettingsError` for a policy that lacks clauses of the model.
        """
        self.check(settings.policy)
        domains = settings.app.high_risk if settings.app else ()
        shape = [self.model.hash, settings.policy.hash, domains]
        return JudgeInfo("local", self.model.name, sha256(shape), waits="never")

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel | None, deadline_s: float
    ) -> Outcome:
        """Judge on this thread; `ask` is not used."""
        give_up = time.monotonic() + deadline_s
        info = self.info(settings)
        if any(part.judged and part.attachment is not None for part in subject.parts):
            return Unavailable("unsupported", info, "the local judge reads text only")
        if _length(subject) > MAX_LENGTH:
            return Unavailable("too_long", info, f"more than {MAX_LENGTH:,} characters")
        scored: list[Scored] = []
        for piece in pieces(said(subject)):
            scored.append(self.model.scored(piece))
            if time.monotonic() > give_up:
                return Unavailable("timeout", info)
        findings = tuple(self._findings(subject, settings.policy, worst(scored)))
        answers = tuple(high_risk(subject, settings))
        return Verdict(info, findings, answers, discloses_ai(subject), _FREE)

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: AskModelAsync | None, deadline_s: float
    ) -> Outcome:
        """Judge on another thread, since a long text would block an event loop noticeably."""
        return await asyncio.to_thread(self.judge, subject, settings, None, deadline_s)

    def clear(self, subject: Subject) -> bool:
        """Return whether no model needs to be asked about a subject; never a reason to block.

        False for all that a bag of n-grams cannot judge: see `is_plain`.
        """
        if not is_plain(subject):
            return False
        return self._score(said(subject)) < self.model.thresholds["clear"]

    def _score(self, text: str) -> float:
        return worst(map(self.model.scored, pieces(text))).any

    def _findings(self, subject: Subject, policy: Policy, found: Scored) -> Iterator[Finding]:
        least = self.model.thresholds
        reached: list[Grade] = [grade for grade in GRADES[1:] if found.any >= least[grade]]
        clause = self._clause(subject, policy, found)
        if reached and clause is not None:
            path = self._path(subject)
            yield Finding(clause.id, reached[-1], middle(clause), subject.stage, path)

    def _clause(self, subject: Subject, policy: Policy, found: Scored) -> Clause | None:
        """Return the clause most similar to a text, within the section with the highest score.

        Only clauses that apply at the subject's stage count; those on third-party text only if the
        subject has some.
        """
        third_party = has_third_party(subject)
        possible = [
            clause
            for clause in map(policy.clauses.__getitem__, self.model.clauses)
            if subject.stage in clause.stages and (third_party or _section(clause) != INTEGRITY)
        ]
        likeness = self.model.likeness(found.text)

        def order(clause: Clause) -> tuple[float, float]:
            return found.sections[_section(clause)], likeness[clause.id]

        return max(possible, key=order, default=None)

    def _path(self, subject: Subject) -> str:
        """Return the path of the judged part with the highest score; of equal ones, the last."""
        judged = [part for part in subject.parts if part.judged]
        if len(judged) == 1:
            return judged[0].path
        return max(reversed(judged), key=lambda part: self._score(spoken(part))).path


def is_plain(subject: Subject) -> bool:
    """Return whether a subject is complete, short, English and undisguised; others are never clear.

    An unfinished answer can still become anything. Images are not read. A long text has many
    chances of a wrong score. The model learnt almost nothing of other languages. Hidden or encoded
    text has a reason that a model should look at.
    """
    judged = [part for part in subject.parts if part.judged]
    return (
        subject.final
        and _length(subject) <= MAX_CLEAR_LENGTH
        and not any(part.attachment for part in judged)
        and all(is_english(part.text) for part in judged if part.text)
        and all(reading(text) == Reading() for part in judged for text in _written(part))
    )


def is_english(text: str) -> bool:
    """Return whether enough of the words are among the most frequent English words."""
    words = _LETTERS.findall(text.lower())
    return sum(word in _ENGLISH for word in words) >= max(1.0, _ENGLISH_SHARE * len(words))


def _written(part: Part) -> Iterator[str]:
    yield part.text
    yield from part.labels.values()


def _length(subject: Subject) -> int:
    return sum(len(text) for part in subject.parts if part.judged for text in _written(part))


def _section(clause: Clause) -> str:
    return clause.id.partition(".")[0]


def middle(clause: Clause) -> Severity:
    """Return the middle one of a clause's severity levels, the upper of two."""
    levels = list(clause.severity)
    return levels[len(levels) // 2]
