"""Claude Code in print mode: $ANTHROPIC_BASE_URL."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tasks import Got, answer_tasks

SCHEMA = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
# The program itself: the package's own command is a link that an install script makes.
(PROGRAM,) = Path(os.environ["MAGISTRATE_CLIENTS"]).glob(
    "node/node_modules/@anthropic-ai/claude-code-*/claude"
)


def ask(url: str, said: str, got: Got, *more: str) -> list[dict[str, Any]]:
    """Run it in a folder of its own; return the events that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [PROGRAM, "-p", said, "--output-format", "stream-json", "--verbose", *more],
            cwd=folder,
            env={**os.environ, "HOME": folder, "ANTHROPIC_BASE_URL": url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        for written in Path(folder).glob("ran.txt"):  # what the command of the model writes
            got.calls.append(("Bash", written.read_text().strip()))
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    result = next((each for each in reversed(events) if each["type"] == "result"), {})
    got.text = result.get("result") or ""
    got.stop = result.get("stop_reason") or result.get("subtype")
    got.value = result.get("structured_output")
    if done.returncode:
        got.error = f"exit {done.returncode}: {got.text or done.stderr.strip() or result}"
        got.status = result.get("api_error_status")
    return events


def chat(url: str, said: str, got: Got) -> None:
    ask(url, said, got)


def stream(url: str, said: str, got: Got) -> None:
    events = ask(url, said, got, "--include-partial-messages")
    deltas = [each["event"].get("delta", {}) for each in events if each["type"] == "stream_event"]
    got.text = "".join(each.get("text", "") for each in deltas)


def tools(url: str, said: str, got: Got) -> None:
    ask(url, said, got, "--allowedTools", "Bash")


def structured(url: str, said: str, got: Got) -> None:
    ask(url, said, got, "--json-schema", json.dumps(SCHEMA))


answer_tasks(chat=chat, stream=stream, tools=tools, structured=structured)
