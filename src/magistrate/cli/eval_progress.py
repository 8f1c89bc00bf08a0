"""How far a run is, on stderr: how long still, what it has cost, what failed.

On a terminal a live line. Elsewhere, as in the log of a CI job, a plain line for every tenth of the
work, and one when the server makes the run wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from magistrate.evals.run import Progress as Progressed
from magistrate.evals.run import Watcher

Clock = Callable[[], float]


@contextmanager
def shown_progress(stream: IO[str], clock: Clock = time.monotonic) -> Generator[Watcher]:
    """Yield a watcher that shows what it is told on this stream, until the block is left.

    `clock` gives seconds from any beginning.
    """
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        yield _Lines(stream, clock)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, get_time=clock) as bar:
        task = bar.add_task("judging", total=None, note="")
        begun = False

        def watch(now: Progressed) -> None:
            nonlocal begun
            if not begun:
                # What was there before took no time: it must not make the rest seem quick.
                bar.reset(task, total=now.total, completed=now.resumed)
                begun = True
            bar.update(task, total=now.total, completed=now.done, note=note(now))

        yield watch


class _Lines:
    """Plain lines, about ten of them in a whole run."""

    def __init__(self, stream: IO[str], clock: Clock) -> None:
        self._stream, self._clock = stream, clock
        self._began: float | None = None
        self._tenth: int = 0
        self._waits = False

    def __call__(self, now: Progressed) -> None:
        tenth: int = 10 * now.done // now.total if now.total else 0
        if self._began is None:
            self._began, self._tenth = self._clock(), tenth
        waits = now.waiting_s > 0 and not self._waits
        if tenth == self._tenth and not waits:
            return
        self._tenth, self._waits = tenth, waits
        new, left = now.done - now.resumed, now.total - now.done
        seconds = (self._clock() - self._began) / new * left if new else None
        eta = "eta unknown" if seconds is None else f"eta {timedelta(seconds=round(seconds))}"
        line = f"{now.done:,} of {now.total:,} judged, {eta}, {note(now)}\n"
        self._stream.write(line)
        self._stream.flush()


def note(now: Progressed) -> str:
    """Return what this session cost, what failed, and how many are asked at the same time."""
    spent = "cost unknown" if now.spent is None else f"${now.spent:.4f}"
    since = " since it was resumed" if now.resumed else ""
    waiting = f", waits {now.waiting_s:.0f} s for the server" if now.waiting_s else ""
    return f"{spent}{since}, {now.failures} failed, {now.at_once} at once{waiting}"
