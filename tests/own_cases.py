"""The labelled cases of this repository, read once for all tests of a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Dataset
from magistrate.policy import builtin_policy

FOLDER = Path(__file__).parents[1] / "evals" / "cases"


@cache
def own_cases() -> Dataset:
    """Every case in `evals/cases`; reading them takes seconds."""
    return load_cases([FOLDER], builtin_policy())
