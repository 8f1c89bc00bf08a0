"""The leak proof over the gateway's own sockets: any stream, any judge, any reader.

Upstream is a server that knows nothing of the API; the reader is a plain HTTP client, so what is
checked is what left the port.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateways import running
from leak_checks import OURS, check_valid
from leak_edges import DELAYS, Delay
from leak_strategies import (
    CONFIGS,
    JUDGE,
    MARK,
    OBJECTIONS,
    Objection,
    Upstream,
    configured,
    objects,
    outcome_of,
    rest_after,
    shown,
    tokens_in,
    unreadable_stops,
    upstreams,
)
from magistrate.gateway.app import Gateway, make_app
from magistrate.gateway.loader import Served
from magistrate.gateway.schema import AppSettings, GatewaySettings
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo, Outcome
from magistrate.wire.parts import Subject
from magistrate.wire.sse import Decoder

MANY = int(os.environ.get("MAGISTRATE_LEAK_EXAMPLES", "2000"))
_numbers = itertools.count()


@dataclass(repr=False)
class Example:
    """One exchange: what is planned for it, and what came of it."""

    config: str
    upstream: Upstream
    objection: Objection
    delays: list[Delay]
    asked_badly: bool
    stop_after: int  # the reader leaves after so many pieces; -1: never
    slowly: bool  # the reader pauses between pieces
    allowed: set[int] = field(default_factory=set)
    received: bytearray = field(default_factory=bytearray)
    asked: int = 0
    objected: bool = False
    refused_input: bool = False
    sent: bool = False
    status: int = 0

    def __repr__(self) -> str:
        judge = f"{self.objection} after {self.delays}, asked badly: {self.asked_badly}"
        return f"<{self.config}; {judge}; leaves at {self.stop_after}; {self.upstream}>"

    @property
    def settings(self) -> Settings:
        return configured(self.config)

    def receive(self, data: bytes) -> None:
        """Take in what arrived: all of it must have been allowed by now."""
        self.received += data
        for number in tokens_in(bytes(self.received)):
            before = set(range(number + 1)) - self.upstream.opaque.keys()
            assert before <= self.allowed, f"#{number}# came before a verdict on it"
            reason = self.upstream.opaque.get(number)
            assert reason is None or not unreadable_stops(self.settings, [reason])


class Listener:
    """A judge that takes its time, and objects to the mark."""

    example: Example

    def info(self, settings: Settings) -> JudgeInfo:
        return JUDGE

    def judge(self, *_: Any) -> Outcome:
        raise AssertionError("a gateway judges in its event loop")

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: Any, deadline_s: float
    ) -> Outcome:
        example = self.example
        number, example.asked = example.asked, example.asked + 1
        delay = example.delays[number % len(example.delays)] if example.delays else "none"
        if delay != "none":
            await asyncio.sleep(0.0005 if delay == "moment" else 0.004)
        outcome = outcome_of(subject, example.objection)
        if objects(example.settings, subject.stage, outcome, example.objection):
            example.objected = True
            example.refused_input = example.refused_input or subject.stage == "input"
        else:
            example.allowed |= shown(subject)
        return outcome


class Played:
    """A server that plays the planned stream: chunk by chunk, and its end as it is planned."""

    example: Example

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, name="played", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += _more(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        (length,) = (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += _more(connection)
        self.example.sent = True
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        for chunk in self.example.upstream.chunks:
            if chunk:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if self.example.upstream.ending != "failed":
            connection.sendall(b"0\r\n\r\n")

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def _more(connection: socket.socket) -> bytes:
    found = connection.recv(65536)
    if not found:
        raise OSError("the gateway left")
    return found


class Port:
    """A gateway under one configuration, with its upstream and its judge."""

    def __init__(self, config: str) -> None:
        self.played, self.judge = Played(), Listener()
        app = AppSettings(name="app")
        gateway = GatewaySettings(upstream=self.played.url, apps=(app,))
        application = make_app(Served(gateway, {"app": configured(config)}))
        self.gateway: Gateway = application.routes[0].app  # type: ignore[attr-defined]
        self.engine = self.gateway.apps.all[0].engine
        self.engine.judge = self.judge
        self._running = running(application)
        url, _ = self._running.__enter__()
        self._http = httpx2.Client(base_url=url, timeout=30.0, trust_env=False)

    def close(self) -> None:
        self._http.close()
        self._running.__exit__(None, None, None)
        self.played.close()

    def run(self, example: Example) -> None:
        self.played.example = self.judge.example = example
        self.engine.state.decisions.clear()  # type: ignore[attr-defined]
        words = f"question {next(_numbers)}{MARK * example.asked_badly}"
        body: dict[str, Any] = {
            "model": "m",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": words}],
        }
        if example.upstream.structured:
            body["output_config"] = {"format": {"type": "json_schema", "schema": {}}}
        with self._http.stream("POST", "/v1/messages", json=body) as answer:
            example.status = answer.status_code
            for number, data in enumerate(answer.iter_raw()):
                if number == example.stop_after:
                    return
                example.receive(data)
                if example.slowly:
                    time.sleep(0.001)

    def decisions(self) -> list[Any]:
        """The decisions on record, once there is one."""
        until = time.monotonic() + 5
        while True:
            found = self.engine.state.decisions.all()  # type: ignore[attr-defined]
            if found or time.monotonic() > until:
                return found
            time.sleep(0.001)


@pytest.fixture(scope="module")
def ports() -> Iterator[Callable[[str], Port]]:
    made: dict[str, Port] = {}
    logging.disable(logging.ERROR)  # thousands of decisions, which pytest would keep

    def of(config: str) -> Port:
        if config not in made:
            made[config] = Port(config)
        return made[config]

    yield of
    logging.disable(logging.NOTSET)
    for port in made.values():
        port.close()


def case(port: Port, example: Example) -> None:
    port.run(example)
    decisions = port.decisions()
    assert len(decisions) == 1
    (decision,) = decisions
    upstream = example.upstream
    unreadable = unreadable_stops(example.settings, upstream.reasons)
    blocked = example.objected or unreadable
    if example.refused_input:
        assert not tokens_in(bytes(example.received))
    if example.stop_after >= 0 and decision.upstream != "completed":
        return
    events = Decoder().feed(bytes(example.received))
    error = bool(events) and events[-1].type == "error"
    if upstream.ending == "failed" and example.stop_after < 0 and decision.action != "block":
        # What arrived just before a connection broke may be lost with it, but never its end.
        assert example.status in (502, 529) or error
        return
    missing = example.objected and example.objection in ("timeout", "refused")
    words = {"unavailable"} if missing else {"block"} if blocked else {"allow", "warn"}
    assert decision.action in (words | {"block"} if unreadable else words)
    if example.stop_after >= 0:
        return
    written, _ = OURS.subn(b"", bytes(example.received))
    if not blocked:
        whole = sum(not piece.passing for piece in upstream.whole_pieces)
        assert rest_after(upstream, written) == (whole, b"")
    elif decision.action == "unavailable":
        assert example.status == 529 or error
    elif example.settings.on_block == "refuse" and not error:
        check_valid(written, decision.id, structured=upstream.structured)


examples_of = st.builds(
    Example,
    config=st.sampled_from(CONFIGS),
    upstream=upstreams(structured=None),
    objection=st.sampled_from(OBJECTIONS).filter(lambda each: each != "hold"),
    delays=st.lists(st.sampled_from(DELAYS), max_size=4),
    asked_badly=st.integers(0, 7).map(lambda drawn: drawn == 7),
    stop_after=st.just(-1) | st.integers(-1, 12),
    slowly=st.booleans(),
)


def tried(count: int) -> Callable[[Any], Any]:
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
    return settings(max_examples=count, deadline=None, suppress_health_check=slow, database=None)


@tried(200)
@given(example=examples_of)
def test_no_stream_leaks_through_the_port(ports: Callable[[str], Port], example: Example) -> None:
    case(ports(example.config), example)


@pytest.mark.slow
@tried(MANY)
@given(example=examples_of)
def test_no_stream_leaks_through_the_port_in_many_more(
    ports: Callable[[str], Port], example: Example
) -> None:
    case(ports(example.config), example)
