"""Combine several answers about one subject into one outcome. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from magistrate.core.decide import is_blocking
from magistrate.settings import Settings
from magistrate.verdicts import (
    JudgeInfo,
    Outcome,
    Screened,
    Stage,
    Unavailable,
    Usage,
    Verdict,
)


def concluded(
    settings: Settings, stage: Stage, judge: JudgeInfo, judged: Sequence[Outcome | Screened]
) -> Outcome:
    """Combine several answers about one subject into one outcome.

    Each finding in any answer is a finding of the whole. A missing answer makes the whole
    unavailable, unless the findings already block: an outage must not hide a violation.
    """
    usage = sum((each.usage for each in judged), Usage())
    verdicts = [each for each in judged if isinstance(each, Verdict)]
    whole = Verdict(
        next((each.judge for each in (*verdicts, *judged)), judge),
        tuple(dict.fromkeys(found for each in verdicts for found in each.findings)),
        tuple(dict.fromkeys(answer for each in verdicts for answer in each.high_risk)),
        any(each.discloses_ai for each in judged if not isinstance(each, Unavailable)),
        usage,
        sum(each.dropped_quotes for each in verdicts),
        tuple(note for each in verdicts for note in each.refusals),
        any(each.continues_declined for each in verdicts),
    )
    missing = [each for each in judged if isinstance(each, Unavailable)]
    if missing and not is_blocking(settings, stage, whole):
        # What content can provoke takes precedence over an outage, which may fail open.
        worst = min(missing, key=lambda each: each.reason in ("timeout", "overloaded", "error"))
        floor = _floor_suspected(settings, judged)
        return replace(worst, usage=usage, floor=floor, findings=whole.findings)
    return whole


def _floor_suspected(settings: Settings, judged: Sequence[Outcome | Screened]) -> bool:
    """Return whether a screen named a group in which some clause has a floor."""
    named = {group for each in judged if isinstance(each, Screened) for group in each.suspected}
    return any(
        settings.floor(clause.id)
        for section in settings.policy.sections
        if section.id in named
        for clause in section.clauses
    )
