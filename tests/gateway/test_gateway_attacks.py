"""What was tried against the gateway: two readings of one request, another's records, stalls."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edges import CLAUSE, asking
from gateways import Served, served, stub
from magistrate.config.diagnostics import SettingsError
from magistrate.core.refusals import HEADER, header_value
from magistrate.gateway import http as gateway_http
from magistrate.gateway import serve as gateway_serve
from magistrate.gateway.keys import key_hash, new_key
from magistrate.gateway.loader import load
from magistrate.gateway.upstream import Upstream
from magistrate.testing import JudgeScript, Simulator, finds, text, when_judging

KEY = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
LOCAL = {"judge": {"backend": "local"}}
MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
).encode()


def connection(gateway: Served) -> socket.socket:
    at = urlsplit(gateway.url)
    return socket.create_connection((at.hostname or "", at.port or 0), 10)


def until_closed(at: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionResetError):
        while data := at.recv(65536):
            found += data
    return found


@pytest.mark.parametrize("together", [True, False])
def test_a_body_behind_an_upgrade_is_never_the_next_request(together: bool, tmp_path: Path) -> None:
    hidden = b"POST /v1/messages/count_tokens HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    head = (
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
        b"content-length: %d\r\n\r\n" % len(hidden)
    )
    with (
        stub(MESSAGE, content_type="application/json") as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        connection(gateway) as at,
    ):
        at.sendall(head + hidden if together else head)
        if not together:
            time.sleep(0.1)
            with suppress(OSError):
                at.sendall(hidden)
        assert until_closed(at).startswith(b"HTTP/1.1 400 ")
        assert kept == []


def test_a_trailer_is_no_header(tmp_path: Path) -> None:
    body = json.dumps(asking("hi")).encode()
    sent = (
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: first\r\n"
        b"transfer-encoding: chunked\r\ntrailer: x-api-key\r\nconnection: close\r\n\r\n"
        b"%x\r\n%s\r\n0\r\nx-api-key: second\r\n\r\n" % (len(body), body)
    )
    with (
        stub(MESSAGE, content_type="application/json") as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        connection(gateway) as at,
    ):
        at.sendall(sent)
        assert until_closed(at).startswith(b"HTTP/1.1 200 ")
        assert [v for name, v in kept[0].headers if name.lower() == "x-api-key"] == ["first"]


@pytest.mark.parametrize(
    "path",
    [
        "//v1/messages",
        "/v1/messages%3f/count_tokens",
        "/v1/messages%23",
        "/v1/messages%00",
        "/v1/messages;/count_tokens",
        "/v1/files/../messages",
        "/v1/%2e%2e/messages",
        "/v1/a%2fb",
        "/v1/messages/batches/b/results%5C",
        "/healthz/../v1/messages",
        "//[evil/x",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(path: str, tmp_path: Path) -> None:
    with (
        stub(MESSAGE, content_type="application/json") as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        connection(gateway) as at,
    ):
        for method in (b"POST", b"GET"):
            with connection(gateway) as at:
                at.sendall(
                    b"%s %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    % (method, path.encode())
                )
                assert until_closed(at).startswith(b"HTTP/1.1 400 ")
        assert kept == []


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", {}, b'{"messages": []}'),
        ("DELETE", {}, b"x"),
        ("POST", {"content-type": "application/json; charset=utf-7"}, b"{}"),
        ("POST", {"content-encoding": "identity, gzip"}, b"{}"),
        ("POST", {"x-more": b"\xff"}, b"{}"),
    ],
)
def test_what_upstream_could_read_otherwise_is_refused(
    method: str, headers: dict[str, Any], body: bytes, tmp_path: Path
) -> None:
    with (
        stub(MESSAGE, content_type="application/json") as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        gateway.http(headers=KEY) as http,
    ):
        answer = http.request(method, "/v1/messages", content=body, headers=headers)
        assert answer.status_code == 400
        assert kept == []


def test_a_method_is_not_overridden(tmp_path: Path) -> None:
    with (
        stub(b"{}", content_type="application/json") as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        gateway.http(headers=KEY) as http,
    ):
        http.get("/v1/models", headers={"x-http-method-override": "POST"})
        assert "x-http-method-override" not in {name.lower() for name, _ in kept[0].headers}


def test_a_judge_has_no_header_of_the_callers_that_could_steer_it(tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript())
    steering = {
        "idempotency-key": "1",
        "cookie": "a=b",
        "x-portkey-custom-host": "evil",
        "x-a": "1",
    }
    with served(sim, tmp_path) as gateway, gateway.http(headers=KEY | steering) as http:
        assert http.post("/v1/messages", json=asking("hi")).status_code == 200
        assert sim.judge_requests
        for request in sim.judge_requests:
            assert not set(steering) & set(request.headers)


def test_no_credentials_come_from_a_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login operator password s3cret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    with (
        stub(b"{}", content_type="application/json") as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        gateway.http(headers=KEY) as http,
    ):
        assert http.get("/v1/models").status_code == 200
        assert "authorization" not in {name.lower() for name, _ in kept[0].headers}


def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("no_proxy", "inside.test")
    assert Upstream("https://api.test")._proxy == "http://proxy.test:3128"
    assert Upstream("https://inside.test")._proxy is None


def test_a_strangers_body_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "real")
    apps = {"apps": [{"name": "a", "keys": [key_hash(new_key())]}]}
    head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 60000000\r\n\r\n"
    with (
        served(Simulator(text("")), tmp_path, gateway=apps) as gateway,
        connection(gateway) as at,
    ):
        at.sendall(head + b"{")
        found = until_closed(at)
        assert found.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in found


def test_more_values_than_can_be_read_at_once_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_http, "MOST_VALUES", 1000)
    with served(Simulator(text("ok")), tmp_path, LOCAL) as gateway, gateway.http() as http:
        answer = http.post("/v1/messages", content=b"[" + b"{}," * 1000 + b"{}]", headers=KEY)
        assert answer.status_code == 413


def test_empty_lines_keep_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_serve, "HEADERS_S", 0.3)
    with served(Simulator(text("ok")), tmp_path, LOCAL) as gateway, connection(gateway) as at:
        at.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert at.recv(65536).startswith(b"HTTP/1.1 200 ")
        at.sendall(b"\r\n")
        assert until_closed(at) == b""


def test_a_header_of_upstream_that_is_no_text_arrives_as_it_is(tmp_path: Path) -> None:
    from test_limits import sending

    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-odd: \xe9\xff\r\n"
        b"x-good: \xc3\xa9\r\ncontent-length: %d\r\n\r\n%s" % (len(MESSAGE), MESSAGE)
    )
    with (
        sending(lambda: [answer]) as url,
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        connection(gateway) as at,
    ):
        body = json.dumps(asking("hi")).encode()
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        at.sendall(head.encode() + b"connection: close\r\n\r\n" + body)
        found = until_closed(at)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert b"x-odd: \xe9\xff" in found
        assert b"x-good: \xc3\xa9" in found


# --- the header of a decision ---------------------------------------------------------------------


def test_the_header_is_ascii_and_bounded() -> None:
    public = {"id": "dec_1", "action": "block", "entries": {f"é{n}": "dec" for n in range(3)}}
    assert json.loads(header_value(public)) == public
    assert header_value(public).isascii()
    many = public | {"entries": {f"entry-{n}": "dec_1234567890" for n in range(2000)}}
    assert json.loads(header_value(many)) == {
        "id": "dec_1",
        "action": "block",
        "truncated": True,
    }


def test_omitted_entries_of_any_name_break_no_answer(tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript(when_judging("bad words", finds(CLAUSE))))
    settings = {"batches": {"on_block": "omit"}}
    entries = [{"custom_id": "good", "params": asking("hi")}] + [
        {"custom_id": f"bad-é-{n}", "params": asking(f"bad words {n}")} for n in range(3)
    ]
    with served(sim, tmp_path, settings) as gateway, gateway.http(headers=KEY) as http:
        answer = http.post("/v1/messages/batches", json={"requests": entries})
        assert answer.status_code == 200
        assert answer.headers[HEADER].isascii()


# --- one name in one store ------------------------------------------------------------------------


def test_apps_that_would_read_each_others_records_are_refused(tmp_path: Path) -> None:
    review = {
        "store": f"sqlite:///{tmp_path}/r.db",
        "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
    }
    held = {"version": 1, "actions": {"privacy_identity": {"output": "hold"}}, "review": review}
    shared = {"version": 1, "state": "redis://127.0.0.1/0"}
    file = tmp_path / "gateway.yaml"
    apps = [{"name": name, "config": f"{name}.yaml"} for name in ("shop", "clinic")]
    file.write_text(json.dumps({"gateway": {"apps": apps}}))
    for said in (held, shared):
        for name in ("shop", "clinic"):
            (tmp_path / f"{name}.yaml").write_text(json.dumps(said))
        with pytest.raises(SettingsError, match=r"clinic and shop share a store.*`app.name`"):
            load(str(file))
        profile = {"name": "clinic", "audience": "consumer", "interface": "api"}
        (tmp_path / "clinic.yaml").write_text(json.dumps({**said, "app": profile}))
        assert set(load(str(file)).apps) == {"shop", "clinic"}
