"""The drivers as running programs: one for each client, asked over its standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WAYS = ("chat", "stream", "tools", "structured")
KEY = "test"  # what every driver presents
# Seconds for one answer. A client that takes longer hangs.
PATIENCE_S = 45.0


@dataclass(frozen=True)
class Client:
    """A client: what it is called, how its driver is started, and the ways to ask that it has.

    `goes_on`: after a refusal it asks again by itself. `repeats`: how often it asks again after
    a 529 that says not to, by default, which is what the way `with_retries` tries.
    `with_version`: its address may end in /v1.
    """

    name: str
    driver: str
    ways: tuple[str, ...] = WAYS
    python: str = "python"  # the environment of a driver in Python
    goes_on: bool = False
    repeats: int = 0
    with_version: bool = False

    def command(self, folder: Path) -> list[str | Path]:
        """Return the command of its driver, with the environments in `folder`."""
        if self.driver.endswith(".mjs"):
            return ["node", folder / "node" / self.driver]
        return [folder / self.python / "bin" / "python", HERE / self.driver]


CLIENTS = (
    Client("@anthropic-ai/sdk", "anthropic_sdk.mjs"),
    Client(
        "@ai-sdk/anthropic", "vercel_ai.mjs", (*WAYS, "with_retries"), repeats=2, with_version=True
    ),
    Client("litellm", "ask_litellm.py"),
    Client(
        "dspy", "ask_dspy.py", (*WAYS, "with_retries", "other_engine"), repeats=3, with_version=True
    ),
    Client("llama-index", "ask_llama_index.py", python="llama-index"),
    Client("claude-code", "ask_claude_code.py", goes_on=True),
    Client("claude-agent-sdk", "ask_agent_sdk.py", goes_on=True),
)


@dataclass
class Got:
    """What the client made of an answer; `tasks.py` says what the fields are."""

    text: str = ""
    calls: list[list[Any]] = field(default_factory=list[list[Any]])
    value: Any = None
    stop: str | None = None
    error: str | None = None
    status: int | None = None


class Program:
    """A running driver. It is started when it is first asked, and again after it hung."""

    def __init__(self, client: Client, folder: Path, home: Path) -> None:
        self._command = client.command(folder)
        self._environment = _environment(folder, home)
        self._home = home
        self._running: subprocess.Popen[str] | None = None

    def ask(self, url: str, way: str, said: str) -> Got:
        """Ask in one of the ways. Raises `AssertionError` if the client hangs or dies."""
        running = self._started()
        assert running.stdin is not None and running.stdout is not None
        timer = threading.Timer(PATIENCE_S, running.kill)
        timer.start()
        try:
            running.stdin.write(json.dumps({"url": url, "way": way, "said": said}) + "\n")
            running.stdin.flush()
            line = running.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self.close()
            raise AssertionError(f"{self._command}: no answer within {PATIENCE_S:g} s, or it died")
        return Got(**json.loads(line))

    def close(self) -> None:
        """End the program."""
        if self._running is not None:
            with self._running as ending:
                ending.kill()
            self._running = None

    def _started(self) -> subprocess.Popen[str]:
        if self._running is None:
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                cwd=self._home,
                text=True,
            )
        return self._running


def _environment(folder: Path, home: Path) -> Mapping[str, str]:
    """Return what a driver finds: nothing of the developer's own, and nobody to report to."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TERM": "dumb",
        "MAGISTRATE_CLIENTS": str(folder),
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    }


def own_folder() -> Path:
    """Return where the environments are. `scripts/clients` says it."""
    folder = os.environ.get("MAGISTRATE_CLIENTS")
    assert folder, f"run with scripts/clients, not with {sys.executable}"
    return Path(folder)
