"""`magistrate check`: judge one text or one request, without asking for a completion."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console

from magistrate.cli.printing import (
    UNUSABLE,
    AsJson,
    console,
    findings,
    pairs,
    print_json,
    refuse,
    text,
)
from magistrate.config.diagnostics import SettingsError, listed
from magistrate.wire.messages import JSON, is_array, is_object

if TYPE_CHECKING:
    from anthropic import Anthropic

    from magistrate.core.decision_record import Decision
    from magistrate.settings import Settings
    from magistrate.verdicts import Outcome, Stage

STOPPED = 1
UNAVAILABLE = 3
_LARGEST = 32 * 1024 * 1024  # bytes; the API takes no larger request

_WORDS = {
    "allow": "allowed",
    "warn": "allowed, with a warning on record",
    "hold": "held for review by a qualified person",
    "unavailable": "nothing would be released; this is not a verdict",
    "block": "blocked",
}
_EXITS = {"allow": 0, "warn": 0, "hold": STOPPED, "unavailable": UNAVAILABLE, "block": STOPPED}


def check(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]",
            help="What to judge; - or nothing reads standard input.",
            show_default=False,
        ),
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(
            "--request",
            metavar="FILE",
            help="Judge a Messages API request (JSON) instead of a text. A `response` key in it "
            "holds the answer for --stage output: a message or a text.",
        ),
    ] = None,
    stage: Annotated[
        Literal["input", "output"],
        typer.Option("--stage", help="Judge it as a request, or as an answer."),
    ] = "input",
    question: Annotated[
        str | None,
        typer.Option("--question", help="With --stage output: the question TEXT answers."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The magistrate.yaml to judge under.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge one text or request under the configuration, without asking for an answer to it.

    Needs credentials for the Claude API (ANTHROPIC_API_KEY, or a profile): the judge is a model,
    unless the configuration says `judge: {backend: local}`.

    Exit codes: 0 allowed (warned included); 1 blocked or held; 2 wrong usage or configuration;
    3 no judge was available, which says nothing about the text. Where `judge.on_failure` lets the
    text pass nevertheless, that is 0.
    """
    from magistrate.settings import Settings

    try:
        settings = Settings.load(config)
    except SettingsError as error:
        refuse(error, as_json)
    body, answer = _material(subject, request, stage, question)
    began = time.monotonic()
    try:
        decision = _judged(settings, stage, body, answer)
    except SettingsError as error:
        refuse(error, as_json)
    decision = replace(decision, latency_ms=round((time.monotonic() - began) * 1000, 1))
    if as_json:
        print_json(decision.as_json(evidence=True))
    else:
        _print(console(), decision)
    raise typer.Exit(_EXITS[decision.action])


def _material(
    given: str | None, request: Path | None, stage: str, question: str | None
) -> tuple[JSON, JSON]:
    """Return the request and the answer to judge, as Messages API JSON."""
    if request is not None:
        if given is not None or question is not None:
            _stop("give either a text or --request, not both")
        body = _json(request)
        answer = body.pop("response", None)
        if stage == "output" and answer is None:
            _stop(f"{request}: --stage output needs the answer under the key `response`")
        if not is_array(body.get("messages")):
            _stop(f"{request}: not a Messages API request: `messages` must be a list")
        return body, _as_message(answer, request)
    if given is None or given == "-":
        given = str(sys.stdin.buffer.read(_LARGEST + 1), "utf-8", "replace")
    if not given.strip():
        _stop("there is nothing to judge: the text is empty")
    if len(given) > _LARGEST:
        _stop("the text is larger than the 32 MB the API takes")
    if stage == "input":
        if question is not None:
            _stop("--question goes with --stage output")
        return {"messages": [{"role": "user", "content": given}]}, {}
    turns = [{"role": "user", "content": question}] if question else []
    return {"messages": turns}, {"content": [{"type": "text", "text": given}]}


def _as_message(answer: object, file: Path) -> JSON:
    if answer is None:
        return {}
    if isinstance(answer, str):
        return {"content": [{"type": "text", "text": answer}]}
    if is_object(answer) and is_array(answer.get("content")):
        return answer
    _stop(f"{file}: `response` must be a text or a message with a `content` list")


def _json(file: Path) -> JSON:
    try:
        if file.stat().st_size > _LARGEST:
            _stop(f"{file}: larger than the 32 MB the API takes")
        found: object = json.loads(file.read_text("utf-8"))
    except OSError as error:
        _stop(f"{file}: {error.strerror}")
    except (ValueError, RecursionError) as error:
        _stop(f"{file}: not JSON: {error}")
    if not is_object(found):
        _stop(f"{file}: not a JSON object")
    return found


def _client() -> Anthropic:
    import anthropic

    from magistrate.judging.connection import NO_CREDENTIALS, has_credentials

    client = anthropic.Anthropic(max_retries=0)
    if not has_credentials(client):
        _stop(NO_CREDENTIALS)
    return client


def _judged(settings: Settings, stage: Stage, body: JSON, answer: JSON) -> Decision:
    from magistrate.core.offline import OfflineDecision
    from magistrate.judging.connection import asking, no_model
    from magistrate.judging.selection import judge_for

    judge = judge_for(settings)
    offline = OfflineDecision.of(settings, stage, body, answer)
    outcomes: list[Outcome] = []
    if offline.subject is not None:
        deadline_s = settings.judge.deadline_s
        if settings.judge.backend == "local":
            outcomes.append(judge.judge(offline.subject, settings, no_model, deadline_s))
        else:
            with _client() as client:
                outcomes.append(judge.judge(offline.subject, settings, asking(client), deadline_s))
    return offline.decide(outcomes, judge.info(settings))


def _print(out: Console, decision: Decision) -> None:
    out.print(text(f"{decision.action.upper()}: {_WORDS[decision.action]}", "bold"))
    for failed in decision.judge_failures:
        out.print(text(f"no judge was available: {failed.reason} {failed.detail}".rstrip()))
    if decision.domains:
        out.print(text(f"Releasing it takes a person qualified in {listed(decision.domains)}."))
    findings(out, decision.findings)
    for item in decision.uninspected:
        out.print(text(f"uninspected: {item.path} ({item.reason})"))
    usage = decision.usage
    pairs(
        out,
        [
            ("policy", decision.policy),
            ("judge", f"{decision.judge.model}"),
            ("tokens", f"{usage.input_tokens} in, {usage.output_tokens} out"),
        ],
    )


def _stop(message: str) -> NoReturn:
    console(stderr=True).print(text(message), soft_wrap=True)
    raise typer.Exit(UNUSABLE)
