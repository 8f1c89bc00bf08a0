"""`magistrate demo --judge local`: your own text, judged without a key by the embedded judge.

Each line is a request of its own, sent through a drop-in client to a simulated model that repeats
it, so both the request and an answer are judged. `?` before a line judges it as an answer only.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from magistrate.cli.printing import console, findings, paragraph, text

if TYPE_CHECKING:
    from magistrate.core.decision_record import Decision
    from magistrate.sdk.middleware import Moderation

_MODEL = "claude-sonnet-5-5"
_HELLO = (
    "Type a request and press Enter; an empty line or Ctrl-D ends. Begin a line with ? to have it "
    "judged as an answer instead. The judge is the embedded one: a bag of n-grams, for trying out. "
    "It misses much and is not for real users; docs/local-judge.md has its numbers."
)


def play(out: Console) -> None:
    """Read lines from standard input until it ends, and show what becomes of each.

    Raises `SettingsError` where the local judge cannot run.
    """
    import magistrate
    from magistrate.sdk.middleware import Moderation
    from magistrate.testing import Simulator

    moderation = Moderation({"version": 1, "judge": {"backend": "local"}})
    simulator = Simulator(_answer)
    typed = sys.stdin.isatty()
    paragraph(out, _HELLO)
    client = magistrate.Anthropic(
        api_key="demo", moderation=moderation, http_client=simulator.http_client()
    )
    with client:
        try:
            while line := _line(typed):
                _one(out, client, moderation, line)
        except KeyboardInterrupt:
            out.print()
    moderation.close()


def _line(typed: bool) -> str:
    if typed:
        console().print("> ", end="")
    return sys.stdin.readline().strip()


def _answer(body: dict[str, Any]) -> Any:
    """The simulated model repeats the request."""
    from magistrate.testing import text as reply

    return reply(f"You asked: {body['messages'][-1]['content']}")


def _one(out: Console, client: Any, moderation: Moderation, line: str) -> None:
    call: dict[str, Any] = {"model": _MODEL, "max_tokens": 1000}
    call["messages"] = [{"role": "user", "content": line}]
    if line.startswith("?") and len(line) > 1:
        from magistrate.core.offline import OfflineDecision
        from magistrate.judging.connection import no_model

        body = {"messages": [{"role": "user", "content": "(a question)"}]}
        answer = {"content": [{"type": "text", "text": line[1:].strip()}]}
        offline = OfflineDecision.of(moderation.settings, "output", body, answer)
        assert offline.subject is not None
        outcome = moderation.judge.judge(offline.subject, moderation.settings, no_model, 10.0)
        _print(
            out, offline.decide([outcome], moderation.engine.judge_info), "(judged as an answer)"
        )
        return
    message = client.messages.create(**call)
    decision = moderation.decision(message.moderation["id"])
    _print(out, decision, "".join(b.text for b in message.content if b.type == "text"))


def _print(out: Console, decision: Decision, received: str) -> None:
    out.print(text(f"{decision.action.upper()}  {received}", "bold"))
    findings(out, decision.findings)
