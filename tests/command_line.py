"""The command line, run as a shell would: in this process, in one of its own, or in a new Python.

A process of its own is for what only one can show: files as streams, signals, and that nothing else
is printed. A new Python is slow. It is for what Python itself does with its streams.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import processes
from magistrate.cli import main

ROOT = Path(__file__).parents[1]

Ended = subprocess.CompletedProcess[str]


def environment(
    url: str | None, home: Path | None, variables: dict[str, str] | None = None
) -> dict[str, str]:
    """A clean environment: no key, no configuration, and with `url` a server to ask."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC_", "MAGISTRATE_"))}
    if url is not None:
        env |= {"ANTHROPIC_API_KEY": "sk-test-secret", "ANTHROPIC_BASE_URL": url}
    env |= {"HOME": str(home or ROOT / "nowhere"), "PYTHONWARNINGS": "error", "COLUMNS": "100"}
    return env | (variables or {})


def run(
    *words: str,
    url: str | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    variables: dict[str, str] | None = None,
) -> Ended:
    """Run the command in this process; `PYTHONIOENCODING` is heeded as Python would."""
    env = environment(url, cwd, variables)
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO((stdin or "").encode()), encoding="utf-8"),
        "stdout": io.TextIOWrapper(io.BytesIO(), encoding=encoding),
        "stderr": io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace"),
    }
    before = Path.cwd()
    os.chdir(cwd or before)
    try:
        with (
            patch.dict(os.environ, env, clear=True),
            patch.multiple(sys, argv=["magistrate", *words], **streams),
        ):
            code = _exit_code()
            said = [_bytes(stream).decode(encoding) for stream in (sys.stdout, sys.stderr)]
    finally:
        os.chdir(before)
    return subprocess.CompletedProcess(words, code, *said)


def _exit_code() -> int:
    """What a shell would see of `main`; what is no exit at all is raised."""
    try:
        main()
    except SystemExit as ended:
        assert ended.code is None or isinstance(ended.code, int), ended.code
        return ended.code or 0
    return 0


def _bytes(stream: Any) -> bytes:
    stream.flush()
    return stream.buffer.getvalue()


def fork(*words: str, url: str | None = None, stdin: str = "", cwd: Path | None = None) -> Ended:
    """Run the command in a process of its own."""
    env = environment(url, cwd)
    return processes.run(processes.COMMAND, *words, stdin=stdin, cwd=cwd, env=env)


def start(
    *words: str,
    url: str | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    variables: dict[str, str] | None = None,
    stdout: Any = subprocess.PIPE,
) -> Ended:
    """Run the command in a new Python."""
    return subprocess.run(
        [sys.executable, "-m", "magistrate", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment(url, cwd, variables),
        input=stdin,
        cwd=cwd,
        timeout=120,
        check=False,
    )
