"""A judge for unit tests: it says what it is told, at once, without HTTP.

from magistrate import Anthropic, Moderation
from magistrate.testing import ScriptedJudge

judge = ScriptedJudge(ScriptedJudge.finding("five stars", "fraud_abuse.fake_reviews"))
client = Anthropic(moderation=Moderation({"version": 1}, judge=judge))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import anyio

from magistrate.judging.base import AskModel, AskModelAsync
from magistrate.settings import Settings
from magistrate.testing.judge_script import judged_parts_with
from magistrate.verdicts import (
    Failure,
    Finding,
    Grade,
    JudgeInfo,
    Outcome,
    Severity,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.parts import Subject

Script: TypeAlias = Callable[[Subject], Outcome]


class ScriptedJudge:
    """Implements `Judge`. `script` maps a subject to an outcome; `delay_s` passes before it.

    `subjects` holds what it was asked, in order, unless `keep` is off. Without a script it finds
    nothing.
    """

    def __init__(
        self, script: Script | None = None, *, delay_s: float = 0.0, keep: bool = True
    ) -> None:
        self.subjects: list[Subject] = []
        self._script: Script = script if script is not None else _finds_nothing
        self._delay_s = delay_s
        self._keep = keep
        self._lock = threading.Lock()

    def info(self, settings: Settings) -> JudgeInfo:
        """The same for every script: give each test a `Moderation` of its own."""
        return JudgeInfo("scripted")

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel, deadline_s: float
    ) -> Outcome:
        """Answer on this thread."""
        self._note(subject)
        if self._delay_s:
            time.sleep(self._delay_s)
        return self._script(subject)

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: AskModelAsync, deadline_s: float
    ) -> Outcome:
        """Answer in this task."""
        self._note(subject)
        if self._delay_s:
            await anyio.sleep(self._delay_s)
        return self._script(subject)

    def _note(self, subject: Subject) -> None:
        if self._keep:
            with self._lock:
                self.subjects.append(subject)

    @staticmethod
    def verdict(
        *findings: Finding, discloses_ai: bool = False, continues_declined: bool = False
    ) -> Verdict:
        """Return a verdict of this judge."""
        return Verdict(
            JudgeInfo("scripted"),
            findings,
            discloses_ai=discloses_ai,
            usage=Usage(judge_calls=1),
            continues_declined=continues_declined,
        )

    @staticmethod
    def unavailable(reason: Failure) -> Unavailable:
        """Return a failure of this judge."""
        return Unavailable(reason, JudgeInfo("scripted"))

    @classmethod
    def finding(
        cls, words: str, clause: str, *, grade: Grade = "likely", severity: Severity = "high"
    ) -> Script:
        """Return a script that reports one clause wherever a judged part contains the words."""

        def script(subject: Subject) -> Outcome:
            places = judged_parts_with(words, subject.parts)[:1]
            return cls.verdict(
                *(Finding(clause, grade, severity, subject.stage, p.path, words) for p in places)
            )

        return script


def _finds_nothing(_: Subject) -> Outcome:
    return ScriptedJudge.verdict()
