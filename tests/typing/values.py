# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers say of values; `scripts/check` reads it, nobody runs it.

Each comment is an error that must be there: were it not, the comment itself would be one.
"""

from __future__ import annotations

from dataclasses import replace

from magistrate.core.effects import Write
from magistrate.verdicts import Finding, JudgeInfo, Verdict
from magistrate.wire.parts import Part, Subject
from magistrate.wire.sse import Event


def assign(
    part: Part, subject: Subject, verdict: Verdict, finding: Finding, effect: Write, event: Event
) -> None:
    """Nothing of a value can be set, added to or taken away."""
    part.text = "another"  # pyright: ignore[reportAttributeAccessIssue]
    part.judged = False  # pyright: ignore[reportAttributeAccessIssue]
    subject.parts = ()  # pyright: ignore[reportAttributeAccessIssue]
    verdict.findings += (finding,)  # pyright: ignore[reportAttributeAccessIssue]
    finding.grade = "none"  # pyright: ignore[reportAttributeAccessIssue]
    effect.data = b""  # pyright: ignore[reportAttributeAccessIssue]
    event.raw = b""  # pyright: ignore[reportAttributeAccessIssue]
    event.type = "ping"  # pyright: ignore[reportAttributeAccessIssue]
    part.other = 1  # pyright: ignore[reportAttributeAccessIssue]


def make() -> Verdict:
    """Fields are checked where a value is made or copied."""
    Part("path", "user")  # pyright: ignore[reportCallIssue]
    Part("path", "nobody", "text", "said")  # pyright: ignore[reportArgumentType]
    return replace(Verdict(JudgeInfo("judge")), discloses_ai=True)
