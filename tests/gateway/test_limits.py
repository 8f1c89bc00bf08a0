"""What callers and upstream can do to the gateway: leave, stall, flood, die."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from edges import CLAUSE, asking
from gateway_process import process
from gateways import Served, served
from magistrate.gateway import app as gateway_app
from magistrate.gateway import serve as gateway_serve
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    Simulator,
    finds,
    text,
    when_judging,
)
from magistrate.wire.sse import Decoder

KEY = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
LOCAL = {"judge": {"backend": "local"}}
WAIT_S = 10.0


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


@contextmanager
def connected(gateway: Served) -> Iterator[socket.socket]:
    """A connection without any client library."""
    at = urlsplit(gateway.url)
    with socket.create_connection((at.hostname, at.port), WAIT_S) as connection:
        yield connection


def request(body: bytes, *, length: int | None = None) -> bytes:
    head = ["POST /v1/messages HTTP/1.1", "host: x", "content-type: application/json"]
    head += [f"{name}: {value}" for name, value in KEY.items()]
    head.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


# --- callers --------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_app, "MOST_BYTES", 1000)
    sim = Simulator(text("ok"))
    with served(sim, tmp_path, LOCAL) as gateway, gateway.http(headers=KEY) as http:
        assert http.post("/v1/messages", json=asking("hi")).status_code == 200
        answer = http.post("/v1/messages", json=asking("x" * 1000))
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "request_too_large"
        assert len(sim.api_requests) == 1


@pytest.mark.parametrize("sent", [b"", b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-slow: "])
def test_a_caller_that_does_not_say_what_it_wants_is_hung_up_on(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_serve, "HEADERS_S", 0.2)
    with served(Simulator(text("ok")), tmp_path) as gateway, connected(gateway) as connection:
        connection.sendall(sent)
        assert received(connection) == b""


def test_headers_without_end_are_hung_up_on(tmp_path: Path) -> None:
    with served(Simulator(text("ok")), tmp_path) as gateway, connected(gateway) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        with pytest.raises(OSError):
            for number in range(200_000):
                connection.sendall(b"x-%d: %s\r\n" % (number, b"a" * 1000))


def test_a_body_that_stalls_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_app, "BODY_IDLE_S", 0.2)
    with served(Simulator(text("ok")), tmp_path) as gateway, connected(gateway) as connection:
        connection.sendall(request(b'{"mess', length=100))
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_caller_that_leaves_while_it_sends_costs_nothing(tmp_path: Path) -> None:
    sim = Simulator(text("ok"))
    with served(sim, tmp_path) as gateway:
        with connected(gateway) as connection:
            connection.sendall(request(b'{"mess', length=100))
        with gateway.http() as http:
            assert http.get("/healthz").status_code == 200
        assert sim.requests == []


SLOWLY = LatencyProfile(first_byte_s=0.5, per_event_s=0.05)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "JSON"])
def test_a_caller_that_leaves_ends_upstream_and_is_on_record(stream: bool, tmp_path: Path) -> None:
    sim = Simulator(text("word " * 2000), profile=SLOWLY, judge=JudgeScript())
    body = json.dumps(asking("hi", stream=stream)).encode()
    with served(sim, tmp_path) as gateway:
        with connected(gateway) as connection:
            connection.sendall(request(body))
            if stream:
                assert connection.recv(65536)
            else:
                eventually(lambda: len(sim.api_requests) == 1)
        eventually(lambda: [r.closed_early for r in sim.api_requests] == [True])
        eventually(lambda: len(gateway.decisions()) == 1)
        assert gateway.decisions()[0].upstream in ("cancelled", "streamed")


def test_a_caller_that_leaves_ends_its_judges(tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript(), judge_profile=LatencyProfile(first_byte_s=5.0))
    with served(sim, tmp_path, {"input_check": "before"}) as gateway:
        with connected(gateway) as connection:
            connection.sendall(request(json.dumps(asking("hi")).encode()))
            eventually(lambda: len(sim.judge_requests) > 0)
        eventually(lambda: all(r.closed_early for r in sim.judge_requests))
        assert sim.api_requests == []


def test_a_slow_reader_holds_upstream_back(tmp_path: Path) -> None:
    """What it does not read is not kept: upstream gets no further than the buffers on the way."""
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    delta = {"type": "text_delta", "text": "bread and butter " * 4000}
    piece = {"type": "content_block_delta", "index": 0, "delta": delta}
    begin = SSE + chunk(START) + chunk(frame(block))
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        yield begin
        for number in range(4000):  # 272 MB
            yield chunk(frame(piece))
            sent.append(number)

    settings = {**LOCAL, "streaming": {"release": "shadow"}}
    with (
        sending(endless) as url,
        served(Simulator(text("")), tmp_path, settings, upstream=url) as gateway,
        connected(gateway) as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(request(json.dumps(asking("hi", stream=True)).encode()))
        assert connection.recv(1000)
        before = -1
        while before != len(sent):
            before = len(sent)
            time.sleep(0.5)
        assert 0 < len(sent) < 400


# --- upstream -------------------------------------------------------------------------------------


@contextmanager
def sending(answer: Callable[[], Iterable[bytes]]) -> Iterator[str]:
    """A server that sends these pieces for every request and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        connection.recv(65536)
                        for piece in answer():
                            connection.sendall(piece)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def frame(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


START = frame(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    }
)


DEATHS = {
    "nothing at all": (b"", 502),
    "no HTTP": (b"hello\r\n\r\n", 502),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-ty", 502),
    "half a body": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        502,
    ),
    "a page": (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        502,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 502),
    "false gzip": (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 6\r\n\r\n<html>",
        502,
    ),
}


@pytest.mark.parametrize("name", DEATHS)
def test_an_upstream_that_dies_is_an_error_of_upstream(name: str, tmp_path: Path) -> None:
    data, status = DEATHS[name]
    with (
        sending(lambda: [data]) as url,
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        gateway.http(headers=KEY) as http,
    ):
        answer = http.post("/v1/messages", json=asking("hi"))
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "api_error"
        assert gateway.decisions()[0].action in ("allow", "unavailable")
        assert "html" not in answer.text


def test_a_stream_that_breaks_off_ends_with_an_error_event(tmp_path: Path) -> None:
    with (
        sending(lambda: [SSE + chunk(START)]) as url,
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        gateway.http(headers=KEY) as http,
    ):
        answer = http.post("/v1/messages", json=asking("hi", stream=True))
        assert answer.status_code == 200
        types = [item.type for item in Decoder().feed(answer.content)]
        assert types == ["message_start", "error"]


def test_a_judge_whose_reply_has_no_end_is_given_up(tmp_path: Path) -> None:
    """It is bounded while it is read, in bytes, and does not grow the process."""
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b" " * 8_000_000
    with (
        sending(lambda: [reply]) as url,
        served(
            Simulator(text("")), tmp_path, {"judge": {"deadline_s": 5.0}}, upstream=url
        ) as gateway,
        gateway.http(headers=KEY) as http,
    ):
        answer = http.post("/magistrate/check", json={"text": "hi"})
        assert answer.json()["action"] == "unavailable"
        assert gateway.decisions()[0].judge_failures


# --- health ---------------------------------------------------------------------------------------


def test_a_gateway_whose_judge_fails_is_not_ready(tmp_path: Path) -> None:
    from magistrate.testing import error, fails_with

    failing = JudgeScript(when_judging("fail", fails_with(error(403))))
    sim = Simulator(text("ok"), judge=failing)
    with served(sim, tmp_path) as gateway, gateway.http(headers=KEY) as http:
        for number in range(5):
            assert http.get("/readyz").status_code == 200
            http.post("/v1/messages", json=asking(f"fail {number}"))
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["missing"]["app"][0].startswith("judge: ")
        assert http.get("/healthz").status_code == 200
        assert http.post("/v1/messages", json=asking("hi")).status_code == 200
        assert http.get("/readyz").status_code == 200


def test_a_gateway_whose_review_store_is_gone_is_not_ready(tmp_path: Path) -> None:
    store = tmp_path / "reviews.db"
    settings = {
        "actions": {"privacy_identity": {"output": "hold"}},
        "review": {
            "store": f"sqlite:///{store}",
            "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
        },
    }
    sim = Simulator(text("bad words"), judge=JudgeScript(when_judging("bad", finds(CLAUSE))))
    with served(sim, tmp_path, settings) as gateway, gateway.http(headers=KEY) as http:
        assert http.get("/readyz").status_code == 200
        store.write_bytes(b"this is no database" * 1000)
        for extra in ("-wal", "-shm"):
            store.with_name(store.name + extra).unlink(missing_ok=True)
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["missing"]["app"][0].startswith("review store: ")
        answer = http.post("/v1/messages", json=asking("hi"))
        assert answer.status_code == 529
        assert "review store" in answer.json()["error"]["message"]


# --- the process ----------------------------------------------------------------------------------


def test_the_command_serves_drains_and_ends(tmp_path: Path) -> None:
    sim = Simulator(text("word " * 30), profile=LatencyProfile(per_event_s=0.03))
    (tmp_path / "magistrate.yaml").write_text('{"version": 1, "judge": {"backend": "local"}}')
    with sim.serve() as upstream, process(tmp_path, upstream) as (url, running):
        with httpx2.stream(
            "POST", f"{url}/v1/messages", json=asking("hi", stream=True), headers=KEY
        ) as answer:
            pieces = answer.iter_bytes()
            first = next(pieces)
            running.send_signal(signal.SIGTERM)
            whole = first + b"".join(pieces)
        assert whole.rstrip().endswith(b'{"type":"message_stop"}'), "a running stream ends well"
        assert running.wait(10) == 0
        assert running.stderr is not None
        said = running.stderr.read()
        assert url in said and upstream in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("no.yaml",), "no.yaml"),
        (("--upstream", "nowhere"), "an address such as"),
        (("--port", "70000"), "65535"),
    ],
)
def test_the_command_says_what_is_wrong(more: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "magistrate", "serve", *more],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "magistrate", "serve", "--port", port],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_several_processes_serve_one_port(tmp_path: Path) -> None:
    sim = Simulator(text("ok"))
    (tmp_path / "magistrate.yaml").write_text('{"version": 1, "judge": {"backend": "local"}}')
    with sim.serve() as upstream, process(tmp_path, upstream, "--workers", "2") as (url, running):
        for _ in range(5):
            answer = httpx2.post(f"{url}/v1/messages", json=asking("hi"), headers=KEY)
            assert answer.status_code == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
