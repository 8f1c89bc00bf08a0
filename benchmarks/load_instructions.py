"""Instructions in user space of a call and of a stream's event: they do not depend on who else uses
the machine. perf counts them where the processor lets it, else callgrind, some fifty times slower.

    python benchmarks/load_instructions.py KIND:VARIANT:CREATES:STREAMS ...    # what is counted
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

from load_clients import VARIANTS, Client
from load_timing import Row
from load_world import chunks

CREATES, STREAMS = 20, 3
MISSING = "needs perf with hardware counters (linux-perf), or callgrind (valgrind)"

_PERF = ["perf", "stat", "-x,", "-e", "instructions:u", "--"]
_CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--"]
_COUNTED = re.compile(r"^(\d+),[^,]*,instructions:u|Collected : (\d+)", re.MULTILINE)


def counter() -> list[str] | None:
    """The command that counts what another one takes; None if there is none here."""
    for command in (_PERF, _CALLGRIND):
        if shutil.which(command[0]) and _counts([*command, "true"]):
            return command
    return None


def instructions(command: list[str]) -> Iterator[Row]:
    """Each number is the difference between two runs, one of them without what is counted."""
    lengths = {"none": (0, 0), "create": (CREATES, 0), "stream event": (0, STREAMS)}
    per = {"create": CREATES, "stream event": STREAMS * len(chunks())}
    jobs = {
        (kind, variant, what): f"{kind}:{variant}:{creates}:{streams}"
        for kind in ("sync", "async")
        for variant in VARIANTS
        for what, (creates, streams) in lengths.items()
    }
    counted = dict(zip(jobs, _taken(command, list(jobs.values())), strict=True))
    for kind in ("sync", "async"):
        for what, each in per.items():
            values = {
                variant: (counted[kind, variant, what] - counted[kind, variant, "none"]) / each
                for variant in VARIANTS
            }
            yield Row("instructions", f"{what}, {kind}", values, "instructions")


def _taken(command: list[str], jobs: list[str]) -> list[int]:
    """perf adds up what a process and its children take. Callgrind counts each child apart, and
    since it is slow, imports are made only once, before the children fork."""
    run = [*command, sys.executable, __file__]
    if command is _PERF:
        found = [count for job in jobs for count in _counts([*run, job])]
    else:
        found = _counts([*run, *jobs])[: len(jobs)]  # the last one is the parent's
    if len(found) != len(jobs):
        raise RuntimeError(f"{command[0]} counted {len(found)} of {len(jobs)} runs")
    return found


def _counts(command: list[str]) -> list[int]:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        return []
    return [int(perf or callgrind) for perf, callgrind in _COUNTED.findall(ran.stderr)]


def main(jobs: list[str]) -> None:
    for job in jobs:
        child = os.fork()
        if not child:
            kind, variant, creates, streams = job.split(":")
            with closing(Client(kind, variant)) as client:
                client.create(3)  # warm, whatever follows
                client.stream()
                client.create(int(creates))
                client.stream(int(streams))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{job} failed")


if __name__ == "__main__":
    main(sys.argv[1:])
