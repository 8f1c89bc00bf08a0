"""`magistrate hooks selftest`: signed samples for a server of inference hooks."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

import typer

from magistrate.cli.printing import UNUSABLE, console, text
from magistrate.gateway.signatures import ID, SIGNATURE, TIMESTAMP, TOLERANCE_S, key_of, sign
from magistrate.wire.messages import JSON, is_object, parsed

app = typer.Typer(help="Try a server of inference hooks.", no_args_is_help=True)

FAILED = 1
SECRET = "MAGISTRATE_HOOKS_SECRET"
# What an organisation waits by default, in seconds; a later verdict is a failure to it.
PATIENCE_S = 5.0
_GIVE_UP_S = 15.0
_LARGEST = 64 * 1024  # bytes of a verdict
_REFERENCE = re.compile(r"[A-Za-z0-9._:/-]{1,50}")

Expected = Literal["allow", "a verdict", "401"]
Signed = Literal["now", "never", "long ago", "by another key"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request to send, and what must come."""

    name: str
    frame: JSON
    expected: Expected
    signed: Signed = "now"


@app.callback()
def _hooks() -> None:
    pass


@app.command()
def selftest(
    url: Annotated[str, typer.Argument(help="The address that the organisation was given.")],
    secret_env: Annotated[
        str,
        typer.Option("--secret-env", metavar="NAME", help="The variable that holds the secret."),
    ] = SECRET,
    allow_unsigned: Annotated[
        bool,
        typer.Option("--allow-unsigned", help="Unsigned frames are to be answered, not refused."),
    ] = False,
) -> None:
    """Sign and send samples to a server of inference hooks, and say what came.

    Nothing in them violates a policy. A verdict must come within 5 seconds, the organisation's
    default.

    Exit codes: 0 all came as expected; 1 some did not; 2 no usable secret, or no server there.
    """
    import httpx2

    try:
        known = httpx2.URL(url).scheme in ("http", "https") and bool(httpx2.URL(url).host)
    except httpx2.InvalidURL:
        known = False
    if not known:
        _stop(f"not an address: {url}")
    if not (secret := os.environ.get(secret_env)):
        _stop(f"the environment variable {secret_env} is not set: it must hold the hook's secret")
    try:
        key = key_of(secret)
    except ValueError as error:
        _stop(f"{secret_env}: {error}")
    samples = _samples(allow_unsigned)
    failed = 0
    out = console()
    with httpx2.Client(timeout=_GIVE_UP_S) as http:
        for sample in samples:
            body, headers = _request(sample, key)
            began = time.monotonic()
            try:
                answer = http.post(url, content=body, headers=headers)
            except httpx2.ConnectError as error:
                _stop(f"no server at {url}: {error}")
            except httpx2.HTTPError as error:
                got = type(error).__name__
            else:
                got = _said(answer.status_code, dict(answer.headers), answer.content)
            took = time.monotonic() - began
            good = _is_expected(sample.expected, got) and took <= PATIENCE_S
            failed += not good
            mark = "ok  " if good else "FAIL"
            line = f"{mark}  {sample.name:<18} expected {sample.expected:<10} got {got:<10}"
            out.print(text(f"{line} {took * 1000:6.0f} ms"), soft_wrap=True)
    out.print(text(f"{len(samples) - failed} of {len(samples)} as expected."))
    if failed:
        raise typer.Exit(FAILED)


def _samples(allow_unsigned: bool) -> list[Sample]:
    # With a random word, so that no verdict is one that was remembered from the last run.
    words = f"Which vegetables can I sow in May? (test {secrets.token_hex(4)})"
    call = {
        "type": "tool_use",
        "id": f"toolu_{secrets.token_hex(4)}",
        "tool_name": "get_weather",
        "input": {"city": "Paris", "note": secrets.token_hex(4)},
        "tool_info": {"type": "client"},
    }
    prompt = _frame("prompt", "user", {"type": "text", "text": words})
    return [
        Sample("clean prompt", prompt, "allow"),
        Sample("unsigned", prompt, "a verdict" if allow_unsigned else "401", "never"),
        Sample("old timestamp", prompt, "401", "long ago"),
        Sample("wrong signature", prompt, "401", "by another key"),
        Sample("unknown frame", {**prompt, "type": "selftest_unknown"}, "allow"),
        Sample("config-test", {**prompt, "source": {"application": "config-test"}}, "a verdict"),
        Sample("tool call", _frame("tool_call", "assistant", call), "allow"),
    ]


def _frame(kind: str, role: str, block: JSON) -> JSON:
    return {
        "type": kind,
        "tenant_id": None,
        "session_id": f"selftest-{secrets.token_hex(4)}",
        "model": None,
        "actor": {"type": "user", "id": None, "email_address": None},
        "source": {"application": "claude-code"},
        "messages": [{"role": role, "content": [block]}],
        "metadata": {},
    }


def _request(sample: Sample, key: bytes) -> tuple[bytes, dict[str, str]]:
    name = f"req_{secrets.token_hex(8)}"
    body = json.dumps({**sample.frame, "request_id": name}).encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "anthropic-dlp/1",
        "accept-encoding": "identity",
    }
    if sample.signed == "never":
        return body, headers
    at = int(time.time()) - (TOLERANCE_S + 60 if sample.signed == "long ago" else 0)
    used = secrets.token_bytes(32) if sample.signed == "by another key" else key
    signed = {ID: name, TIMESTAMP: str(at), SIGNATURE: sign(used, name, str(at), body)}
    return body, headers | signed


def _said(status: int, headers: dict[str, str], content: bytes) -> str:
    """Return the action of a valid verdict, else what is there in its place."""
    if status != 200:
        return str(status)
    if headers.get("content-encoding", "identity") != "identity":
        return "an encoded body"
    if len(content) > _LARGEST:
        return "a body that is too large"
    try:
        verdict: Any = parsed(content)
    except ValueError:
        verdict = None
    action = verdict.get("action") if is_object(verdict) else None
    reference = verdict.get("reference_id", "none") if is_object(verdict) else ""
    if action not in ("allow", "deny") or not _REFERENCE.fullmatch(str(reference)):
        return "no verdict"
    return str(action)


def _is_expected(expected: Expected, got: str) -> bool:
    return got in ("allow", "deny") if expected == "a verdict" else got == expected


def _stop(message: str) -> NoReturn:
    console(stderr=True).print(text(message), soft_wrap=True)
    raise typer.Exit(UNUSABLE)
