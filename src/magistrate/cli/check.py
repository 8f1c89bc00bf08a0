"""`magistrate check`: judge one text or one request, without asking for a completion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console

from magistrate.cli.printing import (
    UNUSABLE,
    AsJson,
    console,
    pairs,
    print_json,
    refuse,
    table,
    text,
)
from magistrate.judges.base import ModelReply
from magistrate.judges.claude import ClaudeJudge
from magistrate.messages import JSON, is_array, is_object
from magistrate.settings import Settings, SettingsError
from magistrate.trial import Trial

if TYPE_CHECKING:
    from anthropic import Anthropic

    from magistrate.decisions import Decision

STOPPED = 1
UNAVAILABLE = 3
_LARGEST = 32 * 1024 * 1024  # bytes; the API takes no larger request

_WORDS = {
    "allow": "allowed",
    "warn": "allowed, with a warning on record",
    "hold": "held for review by a qualified person",
    "block": "blocked",
}


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

    Needs credentials for the Claude API (ANTHROPIC_API_KEY, or a profile): the judge is a model.

    Exit codes: 0 allowed (warned included); 1 blocked or held; 2 wrong usage or configuration;
    3 the judge could not answer, which says nothing about the text.
    """
    try:
        settings = Settings.load(config)
    except SettingsError as error:
        refuse(error, as_json)
    body, answer = _material(subject, request, stage, question)
    client = _client()
    with client:
        decision = _judged(client, settings, stage, body, answer)
    if as_json:
        print_json(decision.as_json(evidence=True))
    else:
        _print(console(), decision)
    if decision.judge_failures:
        raise typer.Exit(UNAVAILABLE)
    raise typer.Exit(STOPPED if decision.action in ("hold", "block") else 0)


def _material(
    given: str | None, request: Path | None, stage: str, question: str | None
) -> tuple[JSON, JSON]:
    """The request and the answer to judge, as Messages API JSON."""
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

    client = anthropic.Anthropic(max_retries=0)
    if client.api_key is None and client.auth_token is None and client.credentials is None:
        _stop(
            "no credentials for the Claude API: set ANTHROPIC_API_KEY. "
            "`magistrate demo` needs none."
        )
    return client


def _judged(
    client: Anthropic, settings: Settings, stage: Any, body: JSON, answer: JSON
) -> Decision:
    import anthropic

    def ask(body: JSON, timeout_s: float) -> ModelReply:
        import httpx2

        try:
            options: Any = {"timeout": timeout_s}
            raw = client.post("/v1/messages", body=body, cast_to=httpx2.Response, options=options)
        except anthropic.APITimeoutError:
            return ModelReply(0, failure="timeout")
        except anthropic.APIStatusError as error:
            found = error.body if is_object(error.body) else None
            return ModelReply(error.status_code, found, dict(error.response.headers))
        except anthropic.APIConnectionError:
            return ModelReply(0, failure="error")
        return ModelReply(raw.status_code, raw.json(), dict(raw.headers))

    judge = ClaudeJudge()
    trial = Trial.of(settings, stage, body, answer)
    outcomes = (
        [judge.judge(trial.subject, settings, ask, settings.judge.deadline_s)]
        if trial.subject is not None
        else []
    )
    return trial.decide(outcomes, judge.info(settings))


def _print(out: Console, decision: Decision) -> None:
    if decision.judge_failures:
        failed = decision.judge_failures[0]
        out.print(text(f"NOT JUDGED: {failed.reason} {failed.detail}".rstrip(), "bold"))
        out.print(text("This is not a verdict. With this configuration nothing would be released."))
    else:
        out.print(text(f"{decision.action.upper()}: {_WORDS[decision.action]}", "bold"))
    if decision.findings:
        rows = [
            [found.clause, found.grade, found.severity, found.path, found.evidence or ""]
            for found in decision.findings
        ]
        table(out, ["clause", "grade", "severity", "where", "quote"], rows)
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
