"""What moderation costs a process, beside the plain SDK in the same run.

    python benchmarks/load.py [--quick] [--only PART ...] [--json FILE]
    python benchmarks/load.py --compare OLD.json NEW.json

Upstream is a transport in this process, so that what is left is our own work and the SDK's. `plain`
is the SDK alone, `instant` ours with a judge that answers at once, `claude` ours with the Claude
judge, whose calls are answered at once. Ratios compare runs that alternate within one process;
absolute numbers are this machine's. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import anthropic
import load_instructions
import load_peer
from load_calls import calls, streams, turns
from load_crowd import at_once, memory, one_slow_judge
from load_judge import preparation
from load_report import TITLES, Report, compared, show
from load_timing import Row
from rich.console import Console

Found = tuple[Iterable[Row], Iterable[tuple[str, str]]]
console = Console(width=150)


def parts(quick: bool, peer_python: str) -> dict[str, Callable[[], Found]]:
    """What each part runs: its rows and facts."""
    seconds, longest, crowd = (1.5, 8_000, 100) if quick else (15.0, 100_000, 500)
    counts = (500,) if quick else (500, 2_000)
    return {
        "calls": lambda: (calls(seconds), ()),
        "turns": lambda: (turns(seconds), ()),
        "streams": lambda: (streams(seconds, longest=longest), ()),
        "judge": lambda: (preparation(seconds, longest=longest), ()),
        "crowd": lambda: (at_once(seconds, *counts), ()),
        "peer": lambda: _peer(peer_python, seconds),
        "slow": lambda: ((), one_slow_judge(crowd)),
        "memory": lambda: ((), memory(4 if quick else 20, crowd)),
        "instructions": _instructions,
    }


def _peer(python: str, seconds: float) -> Found:
    rows, said = load_peer.measured(python, seconds)
    return rows, [("peer", said)]


def _instructions() -> Found:
    command = load_instructions.counter()
    if command is None:
        return (), [("not counted", load_instructions.MISSING)]
    return load_instructions.instructions(command), [("counted by", command[0])]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short run, less exact")
    parser.add_argument("--only", nargs="+", choices=TITLES, metavar="PART", help=", ".join(TITLES))
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions too; takes minutes"
    )
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        metavar="PATH",
        help=f"an interpreter for the peer ({load_peer.INSTALL}); by default this one",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the numbers; parts not run stay as they are"
    )
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"))
    options = parser.parse_args()
    if options.compare:
        print(compared(*map(Report.load, options.compare)))
        return
    report = Report()
    if options.json and options.json.exists():
        report = Report.load(options.json)
    report.about = {
        "anthropic": f"anthropic {anthropic.__version__}",
        "python": f"Python {platform.python_version()}",
        "run": "a quick run" if options.quick else "a whole run",
    }
    started = time.perf_counter()
    wanted = options.only or [p for p in TITLES if p != "instructions" or options.instructions]
    for part, run in parts(options.quick, options.peer_python).items():
        if part not in wanted:
            continue
        rows, facts = map(list, run())
        show(console, part, rows, dict(facts))
        report.put(part, rows, dict(facts))
        if options.json:
            report.save(options.json)
    console.print(", ".join(report.about.values()) + f"; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
