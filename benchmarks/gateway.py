"""What the gateway costs, beside its upstream alone and a bare pass-through.

    python benchmarks/gateway.py [--seconds 5] [--litellm PATH_OF_ITS_PYTHON]

Each server is a process of its own on this machine, and so is the load: what counts are the ratios
within one run. Upstream and the judge answer at once. `--litellm` adds LiteLLM's proxy without a
guardrail, run by an interpreter that has `litellm[proxy]`. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import aiohttp

HERE = Path(__file__)
BODY = {
    "model": "claude-haiku-5-5",
    "max_tokens": 256,
    "messages": [{"role": "user", "content": "How long does bread keep, and where?"}],
}
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": "In a bag, for three or four days. " * 8}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 80},
}


# --- servers --------------------------------------------------------------------------------------


async def upstream(scope, receive, send):
    """Answer every request at once, as the API would."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if json.loads(body or b"{}").get("stream"):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in _events():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    data = json.dumps(MESSAGE).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


def _events() -> Iterator[bytes]:
    start = {**MESSAGE, "content": [], "stop_reason": None}
    block = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": "a few words of an answer, and "}
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *[{"type": "content_block_delta", "index": 0, "delta": delta}] * 100,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    for each in events:
        yield f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode()


def bare(to: str):
    """A pass-through that does nothing else, on the same libraries."""
    session: aiohttp.ClientSession | None = None

    async def app(scope, receive, send):
        nonlocal session
        if scope["type"] != "http":
            return
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = {k.decode(): v.decode() for k, v in scope["headers"] if k in (b"x-api-key",)}
        async with session.post(to + scope["path"], data=body, headers=sent) as found:
            kind = found.headers["content-type"].encode()
            head = {"type": "http.response.start", "status": found.status}
            await send({**head, "headers": [(b"content-type", kind)]})
            async for piece in found.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    return app


def ours(to: str):
    """The gateway, with a judge that answers at once."""
    from magistrate.gateway.app import make_app
    from magistrate.gateway.loader import Served
    from magistrate.gateway.schema import AppSettings, GatewaySettings
    from magistrate.settings import Settings
    from magistrate.testing import ScriptedJudge

    gateway = GatewaySettings(upstream=to, apps=(AppSettings(name="app"),))
    app = make_app(Served(gateway, {"app": Settings()}))
    engine = app.routes[0].app.apps.all[0].engine  # type: ignore[attr-defined]
    engine.judge = ScriptedJudge(keep=False)
    return app


def serve(kind: str, port: int, to: str) -> None:
    import logging

    import uvicorn

    logging.disable(logging.CRITICAL)
    app = {"upstream": lambda: upstream, "bare": lambda: bare(to), "ours": lambda: ours(to)}[kind]()
    uvicorn.run(app, port=port, log_level="critical", access_log=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, cwd: str | None = None) -> Iterator[str]:
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 90
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command[0]} did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


# --- the load -------------------------------------------------------------------------------------


async def calls(url: str, at_once: int, seconds: float) -> tuple[float, float]:
    """Return the median of a call in milliseconds, and calls a second."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one(session: aiohttp.ClientSession) -> None:
        number = 0
        while time.perf_counter() < until:
            number += 1
            words = f"How long does bread keep, and where? {id(session)} {number} {time.time_ns()}"
            body = {**BODY, "messages": [{"role": "user", "content": words}]}
            began = time.perf_counter()
            async with session.post(f"{url}/v1/messages", json=body) as found:
                await found.read()
                assert found.status == 200, await found.text()
            took.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(headers=HEADERS) as session:
        await asyncio.gather(*(one(session) for _ in range(at_once)))
    return median(took) * 1000, len(took) / seconds


async def first_byte(url: str, seconds: float) -> float:
    """Return the median until the first byte of a stream's body, in milliseconds."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        while time.perf_counter() < until:
            words = f"How long does bread keep? {time.time_ns()}"
            body = {**BODY, "stream": True, "messages": [{"role": "user", "content": words}]}
            began = time.perf_counter()
            async with session.post(f"{url}/v1/messages", json=body) as found:
                await found.content.readany()
                took.append(time.perf_counter() - began)
                await found.read()
    return median(took) * 1000


def litellm_config(folder: str, to: str) -> Path:
    file = Path(folder) / "config.yaml"
    model = {"model": "anthropic/claude-haiku-5-5", "api_base": to, "api_key": "k"}
    listed = [{"model_name": "claude-haiku-5-5", "litellm_params": model}]
    file.write_text(json.dumps({"model_list": listed}))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--litellm", metavar="PYTHON")
    parser.add_argument(
        "--serve", nargs=3, metavar=("KIND", "PORT", "UPSTREAM"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], int(given.serve[1]), given.serve[2])
        return
    os.environ.pop("ANTHROPIC_API_KEY", None)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:

        def start(kind: str, to: str = "") -> str:
            port = free_port()
            command = [sys.executable, str(HERE), "--serve", kind, str(port), to]
            return stack.enter_context(running(command, port))

        plain = start("upstream")
        servers = {"upstream alone": plain, "bare pass-through": start("bare", plain)}
        servers["magistrate serve"] = start("ours", plain)
        if given.litellm:
            port = free_port()
            command = [str(Path(given.litellm).with_name("litellm")), "--port", str(port)]
            command += ["--host", "127.0.0.1", "--config", str(litellm_config(folder, plain))]
            servers["LiteLLM's proxy"] = stack.enter_context(running(command, port, folder))
        found: dict[str, tuple[float, float, float]] = {}
        for name, url in servers.items():
            asyncio.run(calls(url, 4, 1.0))  # warm
            alone, _ = asyncio.run(calls(url, 1, given.seconds))
            _, rate = asyncio.run(calls(url, 16, given.seconds))
            found[name] = (alone, rate, asyncio.run(first_byte(url, given.seconds)))
    base = found["bare pass-through"]
    head = ("p50, one at a time", "calls/s, 16 at once", "first byte of a stream")
    print(f"{'':20}{head[0]:>22}{head[1]:>24}{head[2]:>26}")
    for name, (alone, rate, first) in found.items():
        share = f"{rate:14,.0f} ({rate / base[1]:4.2f} x)"
        print(f"{name:20}{alone:16.2f} ms   {share}{first:20.2f} ms")
    more = found["magistrate serve"][0] - base[0]
    print(f"\nours beyond the bare pass-through: {more:+.2f} ms at p50")


if __name__ == "__main__":
    main()
