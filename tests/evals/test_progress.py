"""What a run shows while it runs: on a terminal one live line, elsewhere a line now and then."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_eval_run import served, some, written

from command_line import fork
from magistrate.cli.eval_progress import note, shown_progress
from magistrate.evals.run import Progress
from magistrate.testing import JudgeScript, Simulator, garbage, when_judging
from magistrate.verdicts import Usage

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when they are told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(stream: io.StringIO, steps: list[tuple[float, Progress]]) -> str:
    """What stands on the stream in the end, control sequences taken out."""
    clock = Clock()
    with shown_progress(stream, clock) as watch:
        for seconds, progress in steps:
            clock.now = 1000.0 + seconds
            watch(progress)
    return ESCAPES.sub("", stream.getvalue())


def at(done: int, **more: object) -> Progress:
    usage = Usage(max(done, 1), 1000, 10, cost_usd=0.01 * done)
    return replace(Progress(100, done, usage=usage, at_once=8), **more)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


def last(written: str) -> str:
    """The line as it stood last."""
    return " ".join(written.strip().splitlines()[-1].rpartition("\r")[2].split()).lstrip("━╸╺ ")


def test_a_terminal_shows_how_far_how_long_still_what_it_cost_and_what_failed():
    """20 in 40 seconds: the other 80 take 160."""
    steps = [(0.0, at(0)), (20.0, at(10)), (40.0, at(20, failures=3))]
    line = last(shown(Terminal(), steps))
    assert line == "20/100 0:00:40 eta 0:02:40 $0.2000, 3 failed, 8 at once"


def test_what_was_there_before_does_not_make_the_rest_seem_quick():
    """50 were there, 10 took 20 seconds: 40 more take 80, and not the 13 of 60 in 20."""
    before = at(50, resumed=50, usage=Usage())
    now = at(60, resumed=50, usage=Usage(10, cost_usd=0.1))
    for stream, eta in ((Terminal(), "0:01:20"), (io.StringIO(), "0:01:20")):
        said = shown(stream, [(0.0, before), (10.0, replace(now, done=55)), (20.0, now)])
        assert f"eta {eta}" in last(said)
        assert "$0.1000 since it was resumed" in last(said)


def test_elsewhere_there_is_a_plain_line_for_every_tenth():
    steps = [(float(n), at(n, failures=n // 50)) for n in range(101)]
    stream = io.StringIO()
    lines = shown(stream, steps).splitlines()
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert len(lines) == 10
    assert lines[0] == "10 of 100 judged, eta 0:01:30, $0.1000, 0 failed, 8 at once"
    assert lines[-1] == "100 of 100 judged, eta 0:00:00, $1.0000, 2 failed, 8 at once"


def test_waiting_for_the_server_is_said_once_a_tenth():
    waits = at(12, waiting_s=30.0)
    steps = [(0.0, at(0)), (5.0, at(10)), *[(6.0 + n, waits) for n in range(20)], (40.0, at(20))]
    lines = shown(io.StringIO(), steps).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["10", "12", "20"]
    assert lines[1].endswith("8 at once, waits 30 s for the server")


def test_before_anything_is_done_there_is_no_eta():
    steps = [(0.0, at(0, usage=Usage())), (30.0, at(0, usage=Usage(), waiting_s=30.0))]
    assert "eta unknown, $0.0000" in shown(io.StringIO(), steps)
    assert shown(io.StringIO(), [(0.0, Progress(0))]) == ""


def test_a_cost_that_nobody_knows_is_not_zero():
    assert note(at(5, usage=Usage(5, 100, 10))).startswith("cost unknown, ")


def test_the_command_says_in_a_log_how_it_goes(tmp_path: Path):
    """stderr is a file here; stdout stays what `--json` promises."""
    cases = some(20)
    file = written(tmp_path, cases)
    sim = Simulator(judge=JudgeScript(when_judging("number 4:", garbage())))
    with served(sim) as url:
        words = ("eval", "run", str(file), "--out", str(tmp_path / "r"), "--json")
        done = fork(*words, url=url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 10
    assert re.fullmatch(
        r"20 of 20 judged, eta 0:00:00, \$\d\.\d{4}, 1 failed, 16 at once", lines[-1]
    )
    assert done.stdout.startswith("{")
