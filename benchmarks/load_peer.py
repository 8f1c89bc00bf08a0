"""A peer beside its own SDK: openai-guardrails with a check of one keyword, over the openai SDK.

    PYTHON benchmarks/load_peer.py SECONDS

`load.py` runs this in a process of its own, under any interpreter that has the two; it imports
nothing of ours but `load_timing`. Prints rows as JSON. What compares is what each layer adds to its
SDK where judging takes no time: the keyword check here, the instant judge there.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from load_timing import Row, alternating

CALLS = 10
DELTAS = 100  # of a stream, four tokens each
INSTALL = "pip install openai-guardrails"
_MISSING = 3  # the exit code
_CHECK = {
    "version": 1,
    "guardrails": [{"name": "Keyword Filter", "config": {"keywords": ["qwertyuiop"]}}],
}
_PIPELINE = {"version": 1, "input": _CHECK, "output": _CHECK}
_ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "question"}]}


def measured(python: str, seconds: float) -> tuple[list[Row], str]:
    """The rows of the peer and its versions; no rows, and how to install it, if it is missing."""
    ran = subprocess.run([python, __file__, str(seconds)], capture_output=True, text=True)
    if ran.returncode == _MISSING:
        return [], f"not installed for {python}; {INSTALL}, or --peer-python PATH"
    if ran.returncode:
        return [], f"failed: {(ran.stderr.strip().splitlines() or ['no word'])[-1]}"
    found = json.loads(ran.stdout)
    return [Row(**row) for row in found["rows"]], found["versions"]


def _chunk(delta: dict[str, Any], ending: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": ending}
    said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**said, "choices": [choice]}).encode() + b"\n\n"


def _upstream(http: Any) -> Any:
    """A transport that answers as JSON or as a stream."""
    message = {"role": "assistant", "content": "some words of an answer " * 20}
    said = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = json.dumps({**said, "choices": [choice]}).encode()
    chunks = [_chunk({"role": "assistant", "content": ""})]
    chunks += [_chunk({"content": "some words of an"}) for _ in range(DELTAS)]
    chunks += [_chunk({}, "stop"), b"data: [DONE]\n\n"]

    class Chunks(http.SyncByteStream, http.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from chunks

        async def __aiter__(self) -> Any:
            for chunk in chunks:
                yield chunk

    def handle(request: Any) -> Any:
        if b'"stream":true' in request.content.replace(b" ", b""):
            headers = {"content-type": "text/event-stream"}
            return http.Response(200, headers=headers, stream=Chunks())
        headers = {"content-type": "application/json"}
        return http.Response(200, headers=headers, content=answer)

    return http.MockTransport(handle)


def _sync(clients: dict[str, Any], seconds: float) -> Iterator[Row]:
    def create(client: Any) -> None:
        for _ in range(CALLS):
            client.chat.completions.create(**_ASKED)

    def stream(client: Any) -> None:
        assert sum(1 for _ in client.chat.completions.create(**_ASKED, stream=True)) > DELTAS

    runs = {name: lambda client=client: create(client) for name, client in clients.items()}
    yield Row("peer", "create, sync", alternating(runs, seconds, per=CALLS))
    runs = {name: lambda client=client: stream(client) for name, client in clients.items()}
    yield Row("peer", "stream event, sync", alternating(runs, seconds, per=DELTAS + 2))


def _async(clients: dict[str, Any], seconds: float) -> Iterator[Row]:
    async def create(client: Any) -> None:
        for _ in range(CALLS):
            await client.chat.completions.create(**_ASKED)

    async def stream(client: Any) -> None:
        found = await client.chat.completions.create(**_ASKED, stream=True)
        assert len([chunk async for chunk in found]) > DELTAS

    with asyncio.Runner() as runner:
        for name, run, per in (("create", create, CALLS), ("stream event", stream, DELTAS + 2)):
            runs = {
                each: lambda client=client, run=run: runner.run(run(client))
                for each, client in clients.items()
            }
            yield Row("peer", f"{name}, async", alternating(runs, seconds, per=per))


def main(seconds: float) -> None:
    try:
        import guardrails
        import httpx2
        import openai
    except ImportError:
        sys.exit(_MISSING)
    from importlib.metadata import version

    def both(plain: Any, guarded: Any, http: Any) -> dict[str, Any]:
        options: dict[str, Any] = {"api_key": "k", "max_retries": 0}
        upstream = _upstream(httpx2)
        return {
            "plain": plain(http_client=http(transport=upstream), **options),
            "guarded": guarded(_PIPELINE, http_client=http(transport=upstream), **options),
        }

    rows = [
        *_sync(both(openai.OpenAI, guardrails.GuardrailsOpenAI, httpx2.Client), seconds),
        *_async(
            both(openai.AsyncOpenAI, guardrails.GuardrailsAsyncOpenAI, httpx2.AsyncClient), seconds
        ),
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("openai-guardrails", "openai"))
    json.dump({"rows": [row.as_json() for row in rows], "versions": versions}, sys.stdout)


if __name__ == "__main__":
    main(float(sys.argv[1]))
