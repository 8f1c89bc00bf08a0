"""The simulated Messages API, asked by the real SDK: in process and over a port, sync and async."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import anyio
import anyio.to_thread
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic

from magistrate import testing
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    Reply,
    Simulator,
    citations,
    cut,
    delayed,
    discloses,
    drop,
    empty,
    error,
    error_event,
    fails_with,
    finds,
    garbage,
    hang,
    high_risk,
    html_error,
    not_json,
    nothing,
    prose,
    raw_blocks,
    redacted_thinking,
    refusal,
    refuses,
    says,
    server_tool,
    slow,
    stall,
    structured,
    text,
    thinking,
    tool_use,
    truncated,
    when,
    when_judging,
    wrong_clause,
)
from magistrate.verdicts import Stage
from magistrate.wire.parts import Part

CALL: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hi"}],
}
HEADERS = {"x-api-key": "test", "anthropic-version": "2026-10-21"}
LONG = "Grüße an alle 🎉👩‍🔬, und dann noch viel mehr Worte als diese hier: " + "naïve café " * 20

REPLIES: dict[str, Reply] = {
    "text": text(LONG),
    "several texts": text("One.", "Two.", "Three."),
    "no content": text(),
    "max tokens": text("Once upon a", stop_reason="max_tokens"),
    "stop sequence": text("Up to here", stop_reason="stop_sequence", stop_sequence="END"),
    "usage": text("x", usage={"input_tokens": 9, "cache_read_input_tokens": 700}),
    "thinking": thinking("Let me think about that for a while.", "Done."),
    "thinking tokens": text("x", usage={"output_tokens_details": {"thinking_tokens": 3}}),
    "redacted thinking": redacted_thinking("Done."),
    "tool use": tool_use("lookup", {"city": "Zürich", "days": [1, 2], "deep": {"a": None}}),
    "tool use after text": tool_use("lookup", {"city": "Bern"}, id="toolu_mine", text="Wait."),
    "tool use without input": tool_use("now"),
    "structured": structured({"ok": True, "why": "ü"}),
    "refusal": refusal("cyber", "No."),
    "refusal after a part": refusal(partial="I would begin with"),
    "citations": citations("The grass is green.", "grass", "green", document_title="Botany"),
    "server tool": server_tool("weather", "Sunny.", results=[("Weather", "https://w.example")]),
    "unknown block": raw_blocks([{"type": "hologram", "depth": 3}, {"type": "text", "text": "x"}]),
}

WHERE = ("process", "port")
FLAVOUR = ("sync", "async")


def no_judge(body: dict[str, Any]) -> None:
    """Stands for `parse_prompt` where no request is a judge's."""
    return None


def simulator(replies: Any = None, **options: Any) -> Simulator:
    return Simulator(replies, parse_prompt=no_judge, **options)


class Asking:
    """A client of one flavour behind one set of coroutines."""

    def __init__(self, client: Anthropic | AsyncAnthropic) -> None:
        self.client = client

    async def create(self, **call: Any) -> Any:
        client = self.client
        if isinstance(client, AsyncAnthropic):
            return await client.messages.create(**{**CALL, **call})
        return await anyio.to_thread.run_sync(lambda: client.messages.create(**{**CALL, **call}))

    async def stream(self, **call: Any) -> Any:
        client = self.client
        if isinstance(client, AsyncAnthropic):
            async with client.messages.stream(**{**CALL, **call}) as stream:
                return await stream.get_final_message()

        def final() -> Any:
            with client.messages.stream(**{**CALL, **call}) as stream:
                return stream.get_final_message()

        return await anyio.to_thread.run_sync(final)

    async def first_event(self) -> str:
        """Read one event of a stream, then leave it."""
        client = self.client
        if isinstance(client, AsyncAnthropic):
            async with await client.messages.create(**CALL, stream=True) as stream:
                return (await stream.__anext__()).type

        def first() -> str:
            with client.messages.create(**CALL, stream=True) as stream:
                return next(stream).type

        return await anyio.to_thread.run_sync(first)


@asynccontextmanager
async def asking(sim: Simulator, where: str, flavour: str, **options: Any) -> AsyncIterator[Asking]:
    options = {"api_key": "test", "max_retries": 0, **options}
    with ExitStack() as stack:
        if where == "port":
            options["base_url"] = stack.enter_context(sim.serve())
        elif flavour == "sync":
            options["http_client"] = sim.http_client()
        else:
            options["http_client"] = sim.async_http_client()
        if flavour == "sync":
            with Anthropic(**options) as client:
                yield Asking(client)
        else:
            async with AsyncAnthropic(**options) as client:
                yield Asking(client)


@contextmanager
def plain_client(sim: Simulator, where: str = "process") -> Iterator[httpx2.Client]:
    """An HTTP client without an SDK, for what goes over the wire as such."""
    if where == "process":
        with sim.http_client() as client:
            client.base_url = "https://api.example"
            client.headers.update(HEADERS)
            yield client
    else:
        with sim.serve() as url, httpx2.Client(base_url=url, headers=HEADERS) as client:
            yield client


def both_places(test: Callable[..., Any]) -> Callable[..., Any]:
    return pytest.mark.parametrize("where", WHERE)(test)


def everywhere(test: Callable[..., Any]) -> Callable[..., Any]:
    return both_places(pytest.mark.parametrize("flavour", FLAVOUR)(test))


def comparable(message: Any) -> dict[str, Any]:
    """A message without what differs between any two requests."""
    return json.loads(
        json.dumps(message.to_dict(warnings=False)).replace("sim_000002", "sim_000001")
    )


def data(response: httpx2.Response) -> list[dict[str, Any]]:
    lines = response.content.split(b"\n")
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


# One declaration, two forms


@everywhere
@pytest.mark.parametrize("name", REPLIES)
async def test_a_stream_adds_up_to_the_json_form(name: str, where: str, flavour: str) -> None:
    sim = simulator(REPLIES[name])
    async with asking(sim, where, flavour) as client:
        whole = await client.create()
        added_up = await client.stream()
    assert comparable(added_up) == comparable(whole)
    assert sim.problems == []
    assert [each.closed_early for each in sim.requests] == [False, False]


@everywhere
@pytest.mark.parametrize("chunking", ["whole", "line", "bytes:1", "bytes:7", "random:3"])
async def test_chunks_may_end_inside_events_and_characters(
    chunking: str, where: str, flavour: str
) -> None:
    sim = simulator(text(LONG), profile=LatencyProfile(chunking=chunking))
    async with asking(sim, where, flavour) as client:
        assert (await client.create()).content[0].text == LONG
        assert (await client.stream()).content[0].text == LONG


@everywhere
async def test_bodies_are_compressed_where_asked(where: str, flavour: str) -> None:
    sim = simulator(text(LONG), gzip=True, profile=LatencyProfile(chunking="bytes:11"))
    async with asking(sim, where, flavour) as client:
        assert (await client.create()).content[0].text == LONG
        assert (await client.stream()).content[0].text == LONG


@both_places
def test_a_compressed_body_says_so(where: str) -> None:
    sim = simulator(text(LONG), gzip=True)
    with plain_client(sim, where) as client:
        assert client.post("/v1/messages", json=CALL).headers["content-encoding"] == "gzip"
        uncompressed = client.post(
            "/v1/messages", json=CALL, headers={"accept-encoding": "identity"}
        )
        assert "content-encoding" not in uncompressed.headers


@both_places
def test_a_stream_has_the_events_of_the_api_in_their_order(where: str) -> None:
    sim = simulator(tool_use("lookup", {"a": 1}, text="Wait."))
    with plain_client(sim, where) as client:
        response = client.post("/v1/messages", json={**CALL, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["request-id"] == "req_sim_000001"
    events = data(response)
    names = [line[7:].decode() for line in response.content.split(b"\n") if line[:6] == b"event:"]
    assert names == [event["type"] for event in events]
    usage = {
        "input_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 1,
        "service_tier": "standard",
    }
    call = {"type": "tool_use", "id": "toolu_sim_000001_1", "name": "lookup", "input": {}}
    assert events[0] == {
        "type": "message_start",
        "message": {
            "id": "msg_sim_000001",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-5-5",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": usage,
        },
    }
    assert events[1] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    assert events[2] == {"type": "ping"}
    assert {"type": "content_block_start", "index": 1, "content_block": call} in events
    fragments = [each["delta"]["partial_json"] for each in events if "partial_json" in str(each)]
    assert fragments[0] == "" and "".join(fragments) == '{"a": 1}'
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None, "stop_details": None},
        "usage": {
            "input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": events[-2]["usage"]["output_tokens"],
        },
    }
    assert events[-1] == {"type": "message_stop"}


def test_the_signature_of_a_thought_comes_last_in_its_block() -> None:
    with plain_client(simulator(thinking("a thought " * 9))) as client:
        events = data(client.post("/v1/messages", json={**CALL, "stream": True}))
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert deltas[-1] == "signature_delta"
    assert set(deltas[:-1]) == {"thinking_delta"}


def test_long_streams_hold_pings_now_and_then() -> None:
    with plain_client(simulator(text("word " * 400))) as client:
        events = data(client.post("/v1/messages", json={**CALL, "stream": True}))
    assert [event["type"] for event in events].count("ping") > 3


def test_texts_are_cut_at_the_same_places_for_the_same_seed() -> None:
    bodies: list[bytes] = []
    for seed in (1, 1, 2):
        with plain_client(simulator(text(LONG), seed=seed)) as client:
            bodies.append(client.post("/v1/messages", json={**CALL, "stream": True}).content)
    assert bodies[0] == bodies[1] != bodies[2]


# Failures


@everywhere
@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
    ],
)
async def test_errors_raise_what_the_sdk_raises_for_the_api(
    status: int, raised: type[anthropic.APIStatusError], kind: str, where: str, flavour: str
) -> None:
    async with asking(simulator(error(status)), where, flavour) as client:
        for ask in (client.create, client.stream):
            with pytest.raises(raised) as caught:
                await ask()
            assert caught.value.status_code == status
            assert caught.value.type == kind
            assert str(caught.value.request_id).startswith("req_sim_")


@everywhere
async def test_errors_are_retried_after_the_time_they_name(where: str, flavour: str) -> None:
    sim = simulator([error(529, retry_after=0.001), error(429, retry_after=0.001), text("Hi.")])
    async with asking(sim, where, flavour, max_retries=2) as client:
        assert (await client.create()).content[0].text == "Hi."
    assert [each.status for each in sim.requests] == [529, 429, 200]


def test_retry_after_is_whole_seconds_with_the_fraction_beside_it() -> None:
    with plain_client(simulator([error(429, retry_after=7), error(429, retry_after=0.25)])) as c:
        whole, part = (c.post("/v1/messages", json=CALL).headers for _ in range(2))
    assert (whole["retry-after"], whole.get("retry-after-ms")) == ("7", None)
    assert (part["retry-after"], part.get("retry-after-ms")) == ("1", "250")


@everywhere
async def test_a_cut_stream_ends_without_an_error(where: str, flavour: str) -> None:
    async with asking(simulator(cut(text(LONG), after_events=4)), where, flavour) as client:
        message = await client.stream()
    assert message.stop_reason is None
    assert LONG.startswith(message.content[0].text) and message.content[0].text


@everywhere
@pytest.mark.parametrize("after", [1, 3, -1])
async def test_a_dropped_connection_breaks_the_body(after: int, where: str, flavour: str) -> None:
    sim = simulator(drop(text(LONG), after_events=after))
    async with asking(sim, where, flavour) as client:
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
            await client.stream()
        with pytest.raises(anthropic.APIConnectionError):
            await client.create()
    assert [each.closed_early for each in sim.requests] == [False, False]


@everywhere
async def test_an_error_event_breaks_off_a_stream(where: str, flavour: str) -> None:
    async with asking(simulator(error_event(text(LONG))), where, flavour) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.stream()
        assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.create()
        assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")


@everywhere
async def test_a_stall_is_a_pause_for_patient_clients(where: str, flavour: str) -> None:
    sim = simulator(stall(text(LONG), seconds=0.2))
    async with asking(sim, where, flavour) as client:
        started = time.monotonic()
        assert (await client.stream()).content[0].text == LONG
        assert time.monotonic() - started > 0.19


@everywhere
async def test_a_stall_is_a_timeout_for_impatient_clients(where: str, flavour: str) -> None:
    sim = simulator(stall(text(LONG), seconds=20))
    async with asking(sim, where, flavour, timeout=0.2) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.stream()
        assert sim.settle()
    assert sim.requests[0].closed_early


@everywhere
async def test_a_late_answer_is_a_timeout_for_impatient_clients(where: str, flavour: str) -> None:
    sim = simulator([delayed(text("Hi."), 20), hang(20), delayed(text("Hi."), 0.05)])
    async with asking(sim, where, flavour, timeout=0.3) as client:
        for _ in range(2):
            with pytest.raises(anthropic.APITimeoutError):
                await client.create()
        assert (await client.create()).content[0].text == "Hi."
        assert sim.settle()
    assert [each.closed_early for each in sim.requests] == [True, True, False]


@everywhere
async def test_a_hang_ends_in_a_closed_connection(where: str, flavour: str) -> None:
    sim = simulator([hang(0.05), text("Hi.")])
    async with asking(sim, where, flavour) as client:
        with pytest.raises(anthropic.APIConnectionError):
            await client.create()
        assert (await client.create()).content[0].text == "Hi."
    assert [each.status for each in sim.requests] == [None, 200]


@everywhere
async def test_what_is_no_json_is_an_error(where: str, flavour: str) -> None:
    async with asking(simulator(not_json()), where, flavour) as client:
        with pytest.raises(ValueError):
            await client.create()
        with pytest.raises(ValueError):
            await client.stream()


@everywhere
async def test_the_error_page_of_a_proxy_is_an_error(where: str, flavour: str) -> None:
    async with asking(simulator(html_error(502)), where, flavour) as client:
        for ask in (client.create, client.stream):
            with pytest.raises(anthropic.InternalServerError, match="<h1>502</h1>"):
                await ask()


@pytest.mark.parametrize(
    "fault",
    [
        cut(text("x"), after_events=6),
        drop(text("x"), after_events=7),
        cut(text("x"), after_events=-7),
    ],
)
def test_a_fault_beyond_the_end_is_told_to_the_test(fault: Reply) -> None:
    sim = simulator(fault)
    with plain_client(sim) as client:
        response = client.post("/v1/messages", json={**CALL, "stream": True})
    assert response.status_code == 500
    assert "does not fit a reply with 6 events" in sim.problems[0]


def test_faults_of_a_json_answer_strike_in_the_middle_of_the_body() -> None:
    with plain_client(simulator([text("Hello."), cut(text("Hello."))])) as client:
        whole, half = (client.post("/v1/messages", json=CALL).content for _ in range(2))
    assert len(half) == len(whole) // 2


def test_faults_add_up() -> None:
    reply = cut(stall(delayed(text(LONG), 0.05), after_events=2, seconds=0.05), after_events=4)
    started = time.monotonic()
    with plain_client(simulator(reply)) as client:
        events = data(client.post("/v1/messages", json={**CALL, "stream": True}))
    assert time.monotonic() - started > 0.09
    assert [event["type"] for event in events if event["type"] != "ping"][-1] != "message_stop"


# Pace and early ends


@everywhere
async def test_events_come_at_the_pace_of_the_profile(where: str, flavour: str) -> None:
    profile = LatencyProfile(first_byte_s=0.1, per_event_s=0.02)
    async with asking(simulator(text("word"), profile=profile), where, flavour) as client:
        started = time.monotonic()
        await client.stream()
        assert time.monotonic() - started > 0.1 + 5 * 0.02


@everywhere
async def test_nothing_is_held_back_until_the_end(where: str, flavour: str) -> None:
    sim = simulator(stall(text(LONG), after_events=1, seconds=20))
    async with asking(sim, where, flavour) as client:
        with anyio.fail_after(5):
            assert await client.first_event() == "message_start"


@everywhere
async def test_a_client_that_leaves_early_is_seen(where: str, flavour: str) -> None:
    sim = simulator(text(LONG), profile=LatencyProfile(per_event_s=0.05))
    async with asking(sim, where, flavour) as client:
        await client.first_event()
        assert sim.settle()
    assert sim.requests[0].closed_early


@both_places
async def test_a_cancelled_task_is_seen(where: str) -> None:
    sim = simulator(hang(20))
    async with asking(sim, where, "async") as client:
        with anyio.move_on_after(0.2):
            await client.create()
        assert await anyio.to_thread.run_sync(sim.settle)
    assert sim.requests[0].closed_early


@both_places
def test_shutting_the_socket_down_wakes_a_blocked_reader(where: str) -> None:
    sim = simulator(stall(text(LONG), seconds=20))
    with (
        plain_client(sim, where) as client,
        client.stream("POST", "/v1/messages", json={**CALL, "stream": True}) as response,
    ):
        connection = response.extensions["network_stream"].get_extra_info("socket")
        threading.Timer(0.1, connection.shutdown, [socket.SHUT_RDWR]).start()
        started = time.monotonic()
        with pytest.raises(httpx2.TransportError):
            response.read()
        assert time.monotonic() - started < 5
    assert sim.settle()
    assert sim.requests[0].closed_early


def test_closing_the_response_wakes_a_blocked_reader_in_process() -> None:
    sim = simulator(stall(text(LONG), seconds=20))
    with (
        plain_client(sim) as client,
        client.stream("POST", "/v1/messages", json={**CALL, "stream": True}) as response,
    ):
        threading.Timer(0.1, response.close).start()
        with pytest.raises(httpx2.ReadError):
            response.read()
    assert sim.requests[0].closed_early


async def test_shutting_the_socket_down_wakes_an_async_reader_in_process() -> None:
    sim = simulator(stall(text(LONG), seconds=20))
    async with sim.async_http_client() as client:
        url = "https://api.example/v1/messages"
        body = {**CALL, "stream": True}
        async with client.stream("POST", url, json=body, headers=HEADERS) as response:
            connection = response.extensions["network_stream"].get_extra_info("socket")
            threading.Timer(0.1, connection.shutdown, [socket.SHUT_RDWR]).start()
            with anyio.fail_after(5), pytest.raises(httpx2.ReadError):
                await response.aread()


def test_settle_tells_whether_an_answer_is_still_being_sent() -> None:
    sim = simulator(stall(text(LONG), seconds=20))
    with (
        plain_client(sim) as client,
        client.stream("POST", "/v1/messages", json={**CALL, "stream": True}),
    ):
        assert not sim.settle(0.01)
    assert sim.settle(0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunking": "bytes"},
        {"chunking": "bytes:0"},
        {"chunking": "lines"},
        {"chunking": "whole:1"},
        {"per_event_s": -1},
    ],
)
def test_a_wrong_profile_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"latency profile|unknown chunking"):
        LatencyProfile(**wrong)


# Many at once, and nothing left behind


def test_fifty_threads_are_served_on_the_port() -> None:
    sim = simulator(lambda body: text(f"Hello {body['messages'][0]['content']}. " * 20))

    def ask(client: Anthropic, number: int) -> bool:
        call = {**CALL, "messages": [{"role": "user", "content": f"number {number}"}]}
        with client.messages.stream(**call) as stream:
            return stream.get_final_text() == f"Hello number {number}. " * 20

    with (
        sim.serve() as url,
        Anthropic(api_key="test", base_url=url, max_retries=0) as client,
        ThreadPoolExecutor(50) as pool,
    ):
        assert all(pool.map(lambda number: ask(client, number), range(50)))
    assert len(sim.requests) == 50


@both_places
async def test_fifty_tasks_are_served(where: str) -> None:
    sim = simulator(
        lambda body: text(f"Hello {body['messages'][0]['content']}. " * 20),
        profile=LatencyProfile(first_byte_s=0.1),
    )
    answers: list[bool] = []

    async def ask(client: Asking, number: int) -> None:
        said = (await client.stream(messages=[{"role": "user", "content": f"{number}"}])).content
        answers.append(said[0].text == f"Hello {number}. " * 20)

    started = time.monotonic()
    async with asking(sim, where, "async") as client, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, client, number)
    assert answers == [True] * 50
    assert time.monotonic() - started < 4  # one after the other would take more than five


def test_a_closed_port_leaves_neither_threads_nor_sockets() -> None:
    sim = simulator(stall(text(LONG), seconds=30))
    before = set(threading.enumerate())
    with ExitStack() as clients:
        with sim.serve() as url:
            client = clients.enter_context(httpx2.Client(base_url=url, headers=HEADERS))
            clients.enter_context(
                client.stream("POST", "/v1/messages", json={**CALL, "stream": True})
            )
            idle = clients.enter_context(httpx2.Client(base_url=url, headers=HEADERS))
            idle.post("/v1/messages/count_tokens", json=CALL)
            started = time.monotonic()
        assert time.monotonic() - started < 3
        assert set(threading.enumerate()) <= before
        with pytest.raises(httpx2.ConnectError):
            httpx2.post(url)
    gc.collect()  # an open socket would warn here, and warnings are errors
    assert sim.settle(0)
    assert not sim.requests[0].closed_early  # the port closed, not the client
    assert sim.problems == []


def test_connections_are_kept_alive() -> None:
    sim = simulator(text("Hi."))
    with plain_client(sim, "port") as client:
        ports = {
            client.post("/v1/messages", json=CALL)
            .extensions["network_stream"]
            .get_extra_info("client_addr")
            for _ in range(3)
        }
    assert len(ports) == 1


def test_a_chunked_request_is_read() -> None:
    sim = simulator(text("Hi."))
    with plain_client(sim, "port") as client:
        content = json.dumps(CALL).encode()
        pieces = iter([content[:10], content[10:]])
        assert client.post("/v1/messages", content=pieces).status_code == 200
    assert sim.requests[0].body == CALL


# Which reply is chosen, and what is recorded


def test_replies_are_used_up_in_order_and_whens_go_first() -> None:
    sim = simulator(
        [text("first"), when("weather", text("sunny")), text("second")], default=text("default")
    )
    said: list[str] = []
    with Anthropic(api_key="test", http_client=sim.http_client()) as client:
        for content in ("a", "the weather", "b", "c", "weather", "d"):
            call = {**CALL, "messages": [{"role": "user", "content": content}]}
            said.append(client.messages.create(**call).content[0].text)
    assert said == ["first", "sunny", "second", "default", "sunny", "default"]


def test_a_when_sees_the_results_of_tools() -> None:
    sim = simulator([when("21 degrees", text("warm"))])
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "text", "text": "It is 21 degrees."}],
    }
    turns = [
        {"role": "user", "content": "How warm is it?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "lookup", "input": {}}],
        },
        {"role": "user", "content": [result]},
    ]
    with Anthropic(api_key="test", http_client=sim.http_client()) as client:
        message = client.messages.create(**{**CALL, "messages": turns})
    assert message.content[0].text == "warm"


@everywhere
async def test_running_out_of_replies_is_told_and_not_retried(where: str, flavour: str) -> None:
    sim = simulator([text("only one")])
    async with asking(sim, where, flavour, max_retries=2) as client:
        await client.create()
        with pytest.raises(anthropic.InternalServerError, match="no reply left"):
            await client.create()
    assert len(sim.requests) == 2
    assert "last user turn 'hi': 1 declared" in sim.problems[0]


def test_a_callable_that_fails_is_told() -> None:
    def choose(body: dict[str, Any]) -> Reply:
        raise KeyError("no such thing")

    sim = simulator(choose)
    with plain_client(sim) as client:
        assert client.post("/v1/messages", json=CALL).status_code == 500
    assert "KeyError: 'no such thing'" in sim.problems[0]


@pytest.mark.parametrize("wrong", ["Hello.", ["Hello."], [None]])
def test_what_is_no_reply_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="is not a reply"):
        simulator(wrong)


@both_places
def test_requests_are_recorded(where: str) -> None:
    sim = simulator(text("Hi."))
    with plain_client(sim, where) as client:
        client.post("/v1/messages?beta=true", json=CALL, headers={"X-Mine": "yes"})
        client.post("/v1/messages", content=b"not json")
        client.get("/v1/nothing")
    recorded = [(each.method, each.path, each.body, each.status) for each in sim.requests]
    assert recorded == [
        ("POST", "/v1/messages?beta=true", CALL, 200),
        ("POST", "/v1/messages", None, 400),
        ("GET", "/v1/nothing", None, 404),
    ]
    assert sim.requests[0].headers["x-mine"] == "yes"
    assert sim.requests[0].ended is not None
    assert sim.requests[0].ended >= sim.requests[0].started
    assert (len(sim.api_requests), sim.judge_requests) == (3, [])


# What the API refuses


def turn(role: str, *blocks: dict[str, Any] | str) -> dict[str, Any]:
    said = [{"type": "text", "text": each} if isinstance(each, str) else each for each in blocks]
    return {"role": role, "content": said}


CALLED = {"type": "tool_use", "id": "t1", "name": "lookup", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "21"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": ...}, "model: Field required"),
    ({"max_tokens": ...}, "max_tokens: Field required"),
    ({"messages": ...}, "messages: Field required"),
    ({"model": 3}, "model: Input should be a valid string"),
    ({"max_tokens": "many"}, "max_tokens: Input should be an integer"),
    ({"max_tokens": True}, "max_tokens: Input should be an integer"),
    ({"messages": "hi"}, "messages: Input should be a valid list"),
    ({"messages": []}, "at least one message is required"),
    ({"messages": ["hi"]}, "messages.0: Input should be an object"),
    ({"messages": [turn("wizard", "hi")]}, "messages.0.role: Input should be"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content: Input should be"),
    ({"messages": [{"role": "user", "content": ""}]}, "must have non-empty content"),
    ({"messages": [turn("user", "")]}, "text content blocks must be non-empty"),
    ({"messages": [turn("user", {"text": "x"})]}, "messages.0.content.0.type: Field required"),
    ({"messages": [{**turn("user", "hi"), "id": "m1"}]}, "messages.0.id: Extra inputs"),
    ({"messages": [turn("user", "hi"), turn("assistant", "So ")]}, "trailing whitespace"),
    ({"messages": [turn("user", RESULT)]}, "unexpected `tool_use_id`"),
    (
        {"messages": [turn("user", "hi"), turn("assistant", CALLED), turn("user", "well?")]},
        "messages.2: `tool_use` ids were found without `tool_result` blocks",
    ),
    ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks"),
    ({"temperature": 0}, "temperature: sampling parameters"),
    ({"moderation": {}}, "moderation: Extra inputs are not permitted"),
]

TAKEN: list[dict[str, Any]] = [
    {"system": "Be kind."},
    {"messages": [turn("user", "hi"), turn("assistant", "The answer is (")]},
    {"messages": [turn("user", "a"), turn("user", "b")]},
    {"messages": [turn("user", "hi"), turn("assistant", CALLED), turn("user", RESULT, "so?")]},
    {
        "messages": [
            turn("user", "hi"),
            turn("assistant", CALLED),
            turn("user", RESULT),
            turn("user", "so?"),
        ]
    },
    {"max_tokens": 0},
    {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
]


def changed(change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**CALL, **change}.items() if value is not ...}


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_wrong_request_is_refused_and_uses_no_reply_up(change: dict[str, Any], said: str) -> None:
    sim = simulator([text("Hi.")])
    with plain_client(sim) as client:
        response = client.post("/v1/messages", json=changed(change))
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"
        assert said in response.json()["error"]["message"]
        assert client.post("/v1/messages", json=CALL).status_code == 200
    assert sim.problems == []


@pytest.mark.parametrize("change", TAKEN)
def test_a_right_request_is_taken(change: dict[str, Any]) -> None:
    with plain_client(simulator(text("Hi."))) as client:
        response = client.post("/v1/messages", json=changed(change))
    assert response.status_code == 200, response.text


@both_places
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/messages", {"x-api-key": ""}, 401),
        ("POST", "/v1/messages", {"x-api-key": "", "authorization": "Bearer test"}, 200),
        ("POST", "/v1/messages", {"x-api-key": "", "authorization": "Basic test"}, 401),
        ("POST", "/v1/messages", {"anthropic-version": ""}, 400),
        ("POST", "/v1/nothing", {}, 404),
        ("POST", "/v1/messages/", {}, 404),
        ("PUT", "/v1/messages", {}, 405),
        ("POST", "/v1/messages/count_tokens", {}, 200),
    ],
)
def test_requests_are_routed_as_the_api_does(
    where: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    with plain_client(simulator(text("Hi.")), where) as client:
        response = client.request(method, path, json=CALL, headers=headers)
    assert response.status_code == status
    if status != 200:
        envelope = response.json()
        assert envelope["type"] == "error"
        assert envelope["request_id"] == response.headers["request-id"] == "req_sim_000001"


def test_half_a_surrogate_pair_is_no_json_for_the_api() -> None:
    with plain_client(simulator(text("Hi."))) as client:
        half = json.dumps({**CALL, "system": "half \ud83d of a pair"}).encode()
        response = client.post("/v1/messages", content=half)
    assert response.status_code == 400
    assert "not valid JSON" in response.json()["error"]["message"]


def test_a_reply_that_no_json_can_hold_is_told() -> None:
    sim = simulator(text("half \ud83d of a pair"))
    with plain_client(sim) as client:
        assert client.post("/v1/messages", json=CALL).status_code == 500
    assert "UnicodeEncodeError" in sim.problems[0]


def test_a_body_above_the_limit_is_refused() -> None:
    with plain_client(simulator(text("Hi."))) as client:
        response = client.post("/v1/messages", content=b" " * (32 * 1024 * 1024 + 1))
    assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")


@everywhere
async def test_tokens_are_counted(where: str, flavour: str) -> None:
    sim = simulator()
    async with asking(sim, where, flavour) as client:
        counting: Any = client.client.messages.count_tokens
        counted = counting(model="claude-haiku-5-5", messages=CALL["messages"])
        counted = await counted if flavour == "async" else counted
    assert counted.input_tokens > 0


# The judge


@dataclass
class Prompt:
    """What a judge's prompt parses to in these tests."""

    stage: Stage
    parts: tuple[Part, ...]
    clauses: tuple[str, ...] = ("fraud.fake_reviews", "privacy.doxxing")
    domains: tuple[str, ...] = ("healthcare",)
    labels: dict[str, str] = field(default_factory=dict[str, str])
    groups: tuple[str, ...] = ()
    answers: bool = True
    explain: bool = False
    final: bool = True
    compares: bool = False


def judge_prompt(body: dict[str, Any]) -> Prompt | None:
    """A judge's request of these tests: its stage as system prompt, one part a turn.

    Turns of the assistant are context.
    """
    stage = body.get("system")
    if stage not in ("input", "output"):
        return None
    parts = tuple(
        Part(f"messages[{at}]", "user", "text", each["content"], judged=each["role"] == "user")
        for at, each in enumerate(body["messages"])
    )
    return Prompt(stage, parts, labels={f"p{at}": part.path for at, part in enumerate(parts)})


def judged(script: Any, *said: str, stage: str = "input", **options: Any) -> tuple[Simulator, Any]:
    """The simulator, and what its judge answered about `said` (with context between)."""
    sim = Simulator(judge=script, parse_prompt=judge_prompt, **options)
    turns = [{"role": "user", "content": each} for each in said]
    turns[1:1] = [{"role": "assistant", "content": "context with fake words"}]
    with Anthropic(api_key="test", http_client=sim.http_client(), max_retries=0) as client:
        message = client.messages.create(**{**CALL, "system": stage, "messages": turns})
    return sim, message


def test_a_judge_without_a_script_finds_nothing() -> None:
    sim, message = judged(None, "hello")
    expected = {"findings": [], "high_risk": [], "discloses_ai": False}
    assert json.loads(message.content[0].text) == expected
    assert (len(sim.judge_requests), sim.api_requests) == (1, [])


def test_a_script_takes_rules_not_a_list_of_them() -> None:
    with pytest.raises(TypeError, match=r"when_judging\(\.\.\.\) rules one by one, not a list"):
        JudgeScript([when_judging("hello", nothing())])  # type: ignore[arg-type]


def test_findings_quote_the_words_where_they_stand() -> None:
    script = JudgeScript(
        when_judging("fake words", finds("fraud.fake_reviews", grade="possible", severity="low")),
        when_judging("hello", finds("privacy.doxxing", quote="hello")),
        when_judging("", high_risk("healthcare", kind="recommendation", individual=False)),
        when_judging("hello", discloses()),
        when_judging("unsaid", finds("fraud.fake_reviews")),
        when_judging("context", refuses()),
    )
    sim, message = judged(script, "hello", "more fake words")
    assert json.loads(message.content[0].text) == {
        "findings": [
            {
                "clause": "fraud.fake_reviews",
                "grade": "possible",
                "severity": "low",
                "part": "p2",
                "quote": "fake words",
            },
            {
                "clause": "privacy.doxxing",
                "grade": "likely",
                "severity": "high",
                "part": "p0",
                "quote": "hello",
            },
        ],
        "high_risk": [{"domain": "healthcare", "kind": "recommendation", "individual": False}],
        "discloses_ai": True,
    }
    assert sim.problems == []


def test_a_rule_without_words_quotes_the_beginning() -> None:
    _, message = judged(lambda prompt: finds("privacy.doxxing"), "hello there")
    finding = json.loads(message.content[0].text)["findings"][0]
    assert (finding["part"], finding["quote"]) == ("p0", "hello there")


def test_a_quote_is_always_valid_json() -> None:
    prompt = Prompt("input", (Part("p", "user", "text", "half \ud83d of"),), labels={"p1": "p"})
    sim = Simulator(
        judge=JudgeScript(
            when_judging("half", nothing()), when_judging("", finds("privacy.doxxing"))
        ),
        parse_prompt=lambda body: prompt,
    )
    with Anthropic(api_key="test", http_client=sim.http_client()) as client:
        said = json.loads(client.messages.create(**CALL).content[0].text)
    assert said["findings"][0]["quote"] == "half ? of"


def test_a_rule_for_a_stage_holds_for_that_stage_only() -> None:
    script = JudgeScript(when_judging("hello", finds("privacy.doxxing"), stage="output"))
    assert json.loads(judged(script, "hello")[1].content[0].text)["findings"] == []
    found = json.loads(judged(script, "hello", stage="output")[1].content[0].text)["findings"]
    assert [each["clause"] for each in found] == ["privacy.doxxing"]


def test_what_is_not_on_offer_is_left_out_and_told() -> None:
    script = JudgeScript(when_judging("", finds("fraud.typo")), when_judging("", high_risk("law")))
    sim, message = judged(script, "hello")
    said = json.loads(message.content[0].text)
    assert (said["findings"], said["high_risk"]) == ([], [])
    assert "the clause 'fraud.typo' is not on offer in the input stage" in sim.problems[0]
    assert "(on offer: healthcare)" in sim.problems[1]


@pytest.mark.parametrize(
    ("reply", "stop_reason", "says_json"),
    [
        (refuses("bio"), "refusal", False),
        (truncated(), "max_tokens", False),
        (prose(), "end_turn", False),
        (garbage(), "end_turn", False),
        (empty(), "end_turn", False),
        (says({"verdict": "safe"}), "end_turn", True),
        (wrong_clause(), "end_turn", True),
        (nothing(), "end_turn", True),
    ],
)
def test_a_judge_fails_in_many_ways(reply: Any, stop_reason: str, says_json: bool) -> None:
    message = judged(JudgeScript(when_judging("hello", reply)), "hello")[1]
    assert message.stop_reason == stop_reason
    said = "".join(block.text for block in message.content)
    if says_json:
        json.loads(said)
    else:
        with pytest.raises(ValueError):
            json.loads(said)


def test_a_failure_wins_over_findings_and_delays_add_up() -> None:
    script = JudgeScript(
        when_judging("hello", finds("privacy.doxxing")),
        when_judging("hello", slow(0.05)),
        when_judging("hello", slow(0.05, fails_with(error(529)))),
    )
    started = time.monotonic()
    with pytest.raises(anthropic.APIStatusError) as caught:
        judged(script, "hello")
    assert caught.value.status_code == 529
    assert time.monotonic() - started > 0.09


def test_a_rule_may_hold_for_some_requests_only() -> None:
    script = JudgeScript(when_judging("", fails_with(error(529)), times=1))
    with pytest.raises(anthropic.APIStatusError):
        judged(script, "hello")
    assert judged(script, "hello")[1].stop_reason == "end_turn"


def test_judge_and_application_have_their_own_pace_and_replies() -> None:
    sim = Simulator(
        [text("Hi.")],
        parse_prompt=judge_prompt,
        profile=LatencyProfile(first_byte_s=0.2),
        judge_profile=LatencyProfile(),
    )
    with Anthropic(api_key="test", http_client=sim.http_client()) as client:
        started = time.monotonic()
        client.messages.create(**{**CALL, "system": "input"})
        assert time.monotonic() - started < 0.2
        client.messages.create(**CALL)
        assert time.monotonic() - started > 0.2
    assert [each.is_judge for each in sim.requests] == [True, False]


def test_a_judge_that_answers_nonsense_is_told() -> None:
    with pytest.raises(anthropic.InternalServerError, match="is not a reply"):
        judged(lambda prompt: "safe", "hello")


# The package


def test_the_public_names_are_sorted_and_exist() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_importing_the_package_does_not_import_the_sdk() -> None:
    code = "import sys, magistrate.testing; sys.exit('anthropic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
