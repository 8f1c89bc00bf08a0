"""Programs in processes of their own, without starting Python and importing the SDK for each.

One process has imported everything and does nothing but fork: once for each program, which then has
its own streams, folder and environment, and ends as Python ends, or as a signal ends it. Warnings
are errors. It is for what a process does; what one imports, and what Python does at its start, only
a new Python can show.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Ended = subprocess.CompletedProcess[str]

TIMEOUT_S = 60.0
COMMAND = """
import runpy
runpy.run_module("magistrate", run_name="__main__", alter_sys=True)
"""
FORKING = """
import gc, json, os, signal, sys
import anthropic, sqlalchemy
from magistrate import *
from magistrate.reviews import ReviewStore
from magistrate.testing import Simulator

def fork():
    for line in requests:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            return asked
        print(child, file=replies, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=replies, flush=True)
    os._exit(0)

# In the background of a shell SIGINT is ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
requests, replies = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")
gc.freeze()
asked = fork()
requests.close()
replies.close()
for number, name in enumerate(("stdin", "stdout", "stderr")):
    opened = os.open(asked[name], os.O_RDWR)
    os.dup2(opened, number)
    os.close(opened)
os.chdir(asked["cwd"])
os.environ.clear()
os.environ.update(asked["env"])
sys.argv = asked["argv"]
code = compile(asked["code"], "<program>", "exec")
del gc, json, fork, requests, replies, number, name, opened, asked
exec(code)
"""


@dataclass
class _Forking:
    """The process that forks."""

    process: subprocess.Popen[bytes]
    requests: int
    replies: int
    rest: bytes = field(default=b"")

    def ask(self, request: Mapping[str, object]) -> None:
        os.write(self.requests, json.dumps(request).encode() + b"\n")

    def number(self, timeout_s: float) -> int | None:
        """The next number it tells; None if that takes too long."""
        while b"\n" not in self.rest:
            if not select.select([self.replies], [], [], timeout_s)[0]:
                return None
            data = os.read(self.replies, 1_000)
            assert data, "the process that forks has ended"
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return int(line)

    def close(self) -> None:
        os.close(self.requests)
        os.close(self.replies)
        self.process.wait(10)


@cache
def _forking() -> _Forking:
    request_end, requests = os.pipe()
    replies, reply_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FORKING, str(request_end), str(reply_end)],
        pass_fds=(request_end, reply_end),
        stdin=subprocess.DEVNULL,
    )
    os.close(request_end)
    os.close(reply_end)
    forking = _Forking(process, requests, replies)
    atexit.register(forking.close)
    return forking


class Program:
    """A program that runs. Only one may at a time."""

    def __init__(
        self,
        code: str,
        *words: str,
        stdin: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.words = words
        self._folder = tempfile.TemporaryDirectory()
        self._files = {
            name: Path(self._folder.name, name) for name in ("stdin", "stdout", "stderr")
        }
        for name, file in self._files.items():
            file.write_text(stdin if name == "stdin" else "", "utf-8")
        _forking().ask(
            {
                "code": textwrap.dedent(code),
                "argv": ["-c", *words],
                "cwd": str(cwd or Path.cwd()),
                "env": dict(os.environ if env is None else env),
                **{name: str(file) for name, file in self._files.items()},
            }
        )
        pid = _forking().number(TIMEOUT_S)
        assert pid is not None
        self.pid = pid

    def wait(self) -> Ended:
        """Wait for its end. One that does not end by itself fails."""
        code = _forking().number(TIMEOUT_S)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            code = _forking().number(TIMEOUT_S)
            raise AssertionError(f"it does not end: {self.words}")
        said = [self._files[name].read_text("utf-8", "replace") for name in ("stdout", "stderr")]
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.words, code, *said)


def run(
    code: str,
    *words: str,
    stdin: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end; `words` are its arguments."""
    return Program(code, *words, stdin=stdin, cwd=cwd, env=env).wait()
