"""The loop of every driver in Python: a task a line in, what came of it a line out.

As tasks.mjs has it. Knows nothing of this repository: one driver has an environment without it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

MODEL = "claude-sonnet-5-5"


@dataclass
class Got:
    """What came of a task."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    value: Any = None
    stop: str | None = None
    error: str | None = None
    status: int | None = None


def answer_tasks(**ways: Callable[[str, str, Got], None]) -> None:
    """Answer tasks until there are no more. Each way takes address, text, and what it fills in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    for line in sys.stdin:
        task = json.loads(line)
        got = Got()
        try:
            ways[task["way"]](task["url"], task["said"], got)
        except Exception as error:
            got.error = f"{type(error).__name__}: {error}"
            got.status = getattr(error, "status_code", None)
        print(json.dumps(asdict(got)), file=answers, flush=True)
