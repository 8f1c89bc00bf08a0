"""How sure the judge was of a case, as one level, and when that is a detection. Pure.

Detection is a grade of at least `likely`, the grade from which settings act unless they say
otherwise, whatever the severity.
"""

from __future__ import annotations

from typing import Literal

from magistrate.verdicts import GRADES, Grade

DETECTED_FROM: Grade = "likely"
RULE = f"a finding of grade {DETECTED_FROM} or above, whatever its severity"

Level = Literal["none", "unlikely", "possible", "likely", "certain", "failed"]
FAILED = len(GRADES)  # the level of a case without a verdict: above all grades
LEVELS: tuple[Level, ...] = (*GRADES, "failed")  # ascending
DETECTED = GRADES.index(DETECTED_FROM)


def detected(level: int) -> bool:
    """Return whether a level, an index into `LEVELS`, is a detection; having failed is none."""
    return DETECTED <= level < FAILED
