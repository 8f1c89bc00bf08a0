"""Load the judge's templates. No other module looks for them.

They are in `prompts/` at the top of the repository, where people find them, and in the wheel.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from magistrate.judging.rubric import Templates


@cache
def templates() -> Templates:
    """Return the judge's templates, read once. Raise FileNotFoundError if they are missing."""
    packaged = files("magistrate") / "prompts"
    # An editable install has no packaged copy: the folder is at the top of the repository.
    folder = packaged if packaged.is_dir() else Path(__file__).resolve().parents[3] / "prompts"
    return Templates(
        system=(folder / "judge-system.md.j2").read_text("utf-8"),
        declined=(folder / "judge-declined.md.j2").read_text("utf-8"),
        screen=(folder / "judge-screen.md.j2").read_text("utf-8"),
        subject=(folder / "judge-subject.md.j2").read_text("utf-8"),
    )
