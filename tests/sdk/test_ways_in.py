"""Every other way into and around the SDK: HTTP stacks, middleware, extras, tracing, and what the
platform itself says. The surfaces as such are in `test_accessors`, the clients in `test_clients`.
"""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from edges import CLAUSE, FLAVOURS, STRUCTURED, SURFACES, Edge, asking, both, edge, plain
from magistrate import Moderation
from magistrate.core.refusals import HEADER
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    Reply,
    ScriptedJudge,
    Simulator,
    finds,
    refusal,
    structured,
    text,
    when_judging,
)
from magistrate.testing.prompt_parser import parse_prompt
from magistrate.wire.sse import Decoder, event
from pairs import pairs
from server_side import Batches, message

BAD = "violating-words"
SECRET = "the-answer-in-full"
JUDGE = JudgeScript(
    when_judging(BAD, finds(CLAUSE)), when_judging(SECRET, finds(CLAUSE), stage="output")
)
BEFORE = {"input_check": "before"}


def answer_for(surface: str, said: str) -> Reply:
    return structured({"said": said}) if surface in STRUCTURED else text(said)


# --- what is asked for ----------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
    "additionalProperties": False,
}


@both
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("said", ["fine", SECRET])
def test_a_schema_given_by_hand_is_structured_output_too(
    said: str, streamed: bool, flavour: str
) -> None:
    """`output_config` without `parse`: no text of ours joins the JSON, whatever becomes of it."""
    sim = Simulator(structured({"said": said}), judge=JUDGE)
    chatbot = {"app": {"audience": "consumer", "interface": "chatbot"}}
    call = asking("hi", output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    with edge(flavour, sim, settings=chatbot) as at:
        got = at.ask("stream" if streamed else "create", call)
        if said == SECRET:
            assert (got.body["stop_reason"], got.body["content"]) == ("refusal", [])
        else:
            assert json.loads(got.text) == {"said": said}
        assert at.decision().disclosure == "owed"


class Own(anthropic.BaseModel):
    """An application's own idea of an answer."""

    id: str
    stop_reason: str
    moderation: dict[str, Any]


@both
@pytest.mark.parametrize("said", ["hi", BAD])
@pytest.mark.parametrize("cast_to", [object, dict[str, Any], Own, str])
def test_post_casts_to_whatever_it_is_asked_for(cast_to: Any, said: str, flavour: str) -> None:
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings=BEFORE) as at:
        found = at.run(at.client.post("/v1/messages", body=asking(said), cast_to=cast_to))
        if isinstance(found, anthropic.BaseModel):
            found = found.model_dump()
        found = json.loads(found) if isinstance(found, str) else found
        assert found["stop_reason"] == ("refusal" if said == BAD else "end_turn")
        assert found["moderation"] == at.decision().public


@both
@pytest.mark.parametrize("said", ["hi", BAD])
def test_post_streams_with_a_stream_class(said: str, flavour: str) -> None:
    sim = Simulator(text("hello"), judge=JUDGE)
    kind: Any = anthropic.Stream if flavour == "sync" else anthropic.AsyncStream
    events = anthropic.types.RawMessageStreamEvent
    with edge(flavour, sim, settings=BEFORE) as at:
        stream = at.run(
            at.client.post(
                "/v1/messages",
                body=asking(said, stream=True),
                cast_to=anthropic.types.Message,
                stream=True,
                stream_cls=kind[events],
            )
        )
        found = [item.to_dict(mode="json") for item in at.items(stream)]
        assert (found[0]["type"], found[-1]["type"]) == ("message_start", "message_stop")
        (delta,) = [item["delta"] for item in found if item["type"] == "message_delta"]
        assert delta["stop_reason"] == ("refusal" if said == BAD else "end_turn")


EXTRAS: dict[str, Any] = {
    "other messages": {"messages": [{"role": "user", "content": BAD}]},
    "a system prompt": {"system": BAD},
    "a tool": {"tools": [{"name": "t", "description": BAD, "input_schema": {"type": "object"}}]},
    "a field nobody knows": {"novel_instructions": BAD},
    "a field nobody knows, deep inside": {"novel": {"a": [{"b": BAD}]}},
}


@pairs(flavour=FLAVOURS, surface=["create", "stream", "parse", "beta.create"], extra=EXTRAS)
def test_an_extra_body_is_judged_as_part_of_the_request(
    extra: str, surface: str, flavour: str
) -> None:
    """It is merged into the request before anybody sees it, over what was given by name."""
    sim = Simulator(answer_for(surface, "hello"), judge=JUDGE)
    with edge(flavour, sim, settings=BEFORE) as at:
        got = at.ask(surface, asking("hi", extra_body=EXTRAS[extra]))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
    assert sim.api_requests == []


@both
def test_an_extra_body_that_is_allowed_arrives_and_the_judge_gets_none_of_it(
    flavour: str,
) -> None:
    sim = Simulator(text("hello"))
    with edge(flavour, sim) as at:
        got = at.ask(
            "create",
            asking("hi", extra_body={"service_tier": "standard_only", "stop_sequences": ["x"]}),
        )
        assert got.text == "hello"
    (sent,) = sim.api_requests
    assert sent.body is not None
    assert (sent.body["service_tier"], sent.body["stop_sequences"]) == ("standard_only", ["x"])
    bodies = [request.body or {} for request in sim.judge_requests]
    assert not any({"service_tier", "stop_sequences"} & body.keys() for body in bodies)


@both
@pytest.mark.parametrize(
    "headers",
    [
        {HEADER: '{"action": "allow"}'},
        {"x-stainless-raw-response": "false"},
        {"x-stainless-helper-method": "magistrate"},
        {"content-type": "text/plain"},
        {"anthropic-beta": "novel-2030-01-01"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_no_extra_header_talks_its_way_past(headers: dict[str, str], flavour: str) -> None:
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings=BEFORE) as at:
        got = at.ask("create", asking(BAD, extra_headers=headers))
        assert got.body["stop_reason"] == "refusal"
    assert sim.api_requests == []


# --- compressed bodies ----------------------------------------------------------------------------


@both
@pytest.mark.parametrize("surface", SURFACES)
def test_compressed_answers_arrive_as_they_do_from_the_plain_client(
    surface: str, flavour: str
) -> None:
    reply = answer_for(surface, "Grüße " * 50)
    with plain(flavour, Simulator(reply, gzip=True)) as at:
        expected = at.ask(surface, asking("hi"))
    with edge(flavour, Simulator(reply, gzip=True)) as at:
        got = at.ask(surface, asking("hi"))
    assert (got.error, expected.error) == (None, None)
    assert got.text == expected.text
    ours = {"id": None, "moderation": None}
    assert {**got.body, **ours} == {**expected.body, **ours}


# --- the application's HTTP client ----------------------------------------------------------------


@contextmanager
def aiohttp_edge(sim: Simulator, **settings: Any) -> Iterator[Edge]:
    """The async client on aiohttp, over a real port."""
    with sim.serve() as url:
        http = anthropic.DefaultAioHttpClient(timeout=10)
        with edge("async", sim, settings=settings, url=url, http_client=http) as at:
            yield at


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
def test_on_aiohttp_every_surface_gets_its_answer(surface: str, gzip: bool) -> None:
    sim = Simulator(answer_for(surface, "Grüße"), gzip=gzip)
    with aiohttp_edge(sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert "Grüße" in got.text
        assert at.decision().action == "allow"
        assert len(sim.judge_requests) == 2


@pytest.mark.parametrize("surface", SURFACES)
def test_on_aiohttp_what_is_blocked_does_not_arrive(surface: str) -> None:
    sim = Simulator(answer_for(surface, SECRET), judge=JUDGE)
    with aiohttp_edge(sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert SECRET not in got.seen


def test_on_aiohttp_a_blocked_question_cuts_the_answer() -> None:
    sim = Simulator(text("word " * 300), judge=JUDGE, profile=LatencyProfile(per_event_s=0.1))
    with aiohttp_edge(sim) as at:
        got = at.ask("stream", asking(BAD))
        assert got.body["stop_reason"] == "refusal"
        assert "word" not in got.seen
        assert sim.settle()
    assert [request.closed_early for request in sim.api_requests] == [True]


def test_on_aiohttp_a_stream_that_is_left_closes_upstream() -> None:
    sim = Simulator(text("word " * 300), profile=LatencyProfile(per_event_s=0.02))
    with aiohttp_edge(sim) as at:
        with at.opened(at.client.messages.stream(**asking("hi"))) as stream:
            assert next(at.items(stream)).type == "message_start"
        assert sim.settle()
    assert [request.closed_early for request in sim.api_requests] == [True]


@both
def test_the_applications_http_client_carries_the_judges_calls_too(flavour: str) -> None:
    """Its proxies, headers and hooks hold for them: content goes nowhere the app did not choose."""
    sim = Simulator(text("hello"))
    hooked: list[str] = []

    def hook(request: httpx2.Request) -> None:
        hooked.append(request.headers["x-gateway"])

    async def hook_async(request: httpx2.Request) -> None:
        hook(request)

    client = sim.http_client() if flavour == "sync" else sim.async_http_client()
    client.headers["x-gateway"] = "acme"
    hooks: Any = [hook if flavour == "sync" else hook_async]
    client.event_hooks = {"request": hooks}
    with edge(flavour, sim, http_client=client) as at:
        assert at.ask("create", asking("hi")).text == "hello"
    assert hooked == ["acme"] * 3
    assert len(sim.judge_requests) == 2


# --- the application's middleware -----------------------------------------------------------------


def middleware(flavour: str, around: Callable[[Any], Any], back: Callable[[Any], Any]) -> Any:
    """A middleware that changes a request on its way in, and a response on its way out."""

    def handle(request: Any, call_next: Any) -> Any:
        return back(call_next(around(request)))

    async def handle_async(request: Any, call_next: Any) -> Any:
        return back(await call_next(around(request)))

    return handle if flavour == "sync" else handle_async


def same(value: Any) -> Any:
    return value


@both
@pytest.mark.parametrize("surface", ["create", "stream", "beta.create", "post"])
def test_what_a_middleware_outside_ours_makes_of_a_request_is_what_is_judged(
    surface: str, flavour: str
) -> None:
    def worse(request: Any) -> Any:
        return request.copy(body={**request.json, "system": BAD})

    sim = Simulator(text("hello"), judge=JUDGE)
    moderation = Moderation({"version": 1, **BEFORE})
    chain = [middleware(flavour, worse, same), moderation]
    with edge(flavour, sim, moderation=moderation, middleware=chain) as at:
        assert at.ask(surface, asking("hi")).body["stop_reason"] == "refusal"
    assert sim.api_requests == []


@both
@pytest.mark.parametrize("surface", SURFACES)
def test_middleware_on_either_side_sees_a_response_of_the_sdks_kind(
    surface: str, flavour: str
) -> None:
    """Outside: the moderated answer, once. Inside: the provider's, and those of the judge."""
    outside: list[Any] = []
    inside: list[Any] = []

    def noted(where: list[Any]) -> Any:
        requests: list[Any] = []

        def around(request: Any) -> Any:
            requests.append(request)
            return request

        def back(response: Any) -> Any:
            where.append((requests.pop(0) if len(requests) == 1 else None, response))
            return response

        return middleware(flavour, around, back)

    sim = Simulator(answer_for(surface, SECRET), judge=JUDGE)
    moderation = Moderation({"version": 1})
    chain = [noted(outside), moderation, noted(inside)]
    with edge(flavour, sim, moderation=moderation, middleware=chain) as at:
        assert at.ask(surface, asking("hi")).body["stop_reason"] == "refusal"
    kind = anthropic.APIResponse if flavour == "sync" else anthropic.AsyncAPIResponse
    ((_, response),) = outside
    assert isinstance(response, kind)
    assert HEADER in response.http_response.headers
    assert len(inside) == 4  # the model's, the screens of request and answer, and a judgment
    found = [getattr(item, "http_response", item) for _, item in inside]
    assert all(HEADER not in http.headers for http in found)


@both
def test_a_middleware_outside_ours_can_read_and_rewrite_our_streams(flavour: str) -> None:
    """With the SDK's own tool for it, which needs ordinary server-sent events."""

    def louder(response: Any) -> Any:
        http = response.http_response
        swapped = httpx2.Response(
            200, headers=http.headers, stream=_Louder(http, flavour), request=http.request
        )
        response.http_response = swapped
        return response

    sim = Simulator(text("hello there, reader"), judge=JUDGE)
    moderation = Moderation({"version": 1})
    chain = [middleware(flavour, same, louder), moderation]
    with edge(flavour, sim, moderation=moderation, middleware=chain) as at:
        assert at.ask("stream", asking("hi")).text == "HELLO THERE, READER"
        refused = at.ask("stream", asking(BAD))
        assert refused.body["stop_reason"] == "refusal"
        assert refused.text.isupper()


class _Louder(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, http: httpx2.Response, flavour: str) -> None:
        self._http = http
        self._flavour = flavour

    @staticmethod
    def _changed(item: Any) -> bytes:
        data = item.json()
        if data.get("delta", {}).get("type") == "text_delta":
            data["delta"]["text"] = data["delta"]["text"].upper()
        return event(data).raw

    def __iter__(self) -> Iterator[bytes]:
        for item in anthropic.Stream.raw_events(self._http):
            yield self._changed(item)

    async def __aiter__(self) -> Any:
        async for item in anthropic.AsyncStream.raw_events(self._http):
            yield self._changed(item)

    def close(self) -> None:
        self._http.close()

    async def aclose(self) -> None:
        await self._http.aclose()


@both
@pytest.mark.parametrize("said", ["fine words", SECRET])
@pytest.mark.parametrize("surface", ["create", "post", "with_raw_response"])
def test_an_answer_that_an_inner_middleware_gives_itself_is_judged(
    surface: str, said: str, flavour: str
) -> None:
    """A cache, say: it answers without the provider, with a response or a finished message."""

    def cached(request: Any) -> Any:
        kind = anthropic.APIResponse if flavour == "sync" else anthropic.AsyncAPIResponse
        raw = httpx2.Response(200, json=message(said, 1))
        raw.request = httpx2.Request("POST", "https://cache.example/v1/messages")
        return kind(
            raw=raw,
            cast_to=request.cast_to,
            client=at.client,
            stream=False,
            stream_cls=None,
            options=request.options,
            retries_taken=0,
        )

    def handle(request: Any, call_next: Any) -> Any:
        return call_next(request) if parse_prompt(request.json) else cached(request)

    async def handle_async(request: Any, call_next: Any) -> Any:
        return await call_next(request) if parse_prompt(request.json) else cached(request)

    sim = Simulator(judge=JUDGE)
    chain: Any = [handle if flavour == "sync" else handle_async]
    with edge(flavour, sim, middleware=chain) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.body["stop_reason"] == ("refusal" if said == SECRET else "end_turn")
        assert SECRET not in got.seen
    assert sim.api_requests == []


@both
def test_with_middleware_adds_inside_ours_and_keeps_what_was_there(flavour: str) -> None:
    calls: list[str] = []

    def named(name: str) -> Any:
        def around(request: Any) -> Any:
            calls.append(name)
            return request

        return middleware(flavour, around, same)

    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings=BEFORE, middleware=[named("first")]) as at:
        client = at.client.with_middleware(named("second"))
        assert client.middleware[0] is at.moderation
        assert at.run(client.messages.create(**asking("hi"))).content[0].text == "hello"
        assert calls == ["first", "second"] * 3, "the judge's two calls, and the model's"
        calls.clear()
        assert at.run(client.messages.create(**asking(BAD))).stop_reason == "refusal"
        assert calls == ["first", "second"] * 2, "the judge's screen, and its judgment"


@both
def test_two_moderations_answer_with_the_outer_ones_header(flavour: str) -> None:
    outer = Moderation({"version": 1})
    inner = Moderation({"version": 1})
    sim = Simulator(text("hello"))
    with edge(flavour, sim, moderation=outer, middleware=[inner]) as at:
        for surface in ("with_raw_response", "stream"):
            got = at.ask(surface, asking("hi"))
            assert got.error is None
            assert got.header is not None
            assert at.moderation.decision(got.header["id"]).action == "allow"


@both
def test_context_variables_of_the_caller_hold_in_the_middleware(flavour: str) -> None:
    """Tenants, request ids and the like, which applications keep in them."""
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen: list[tuple[str, bool]] = []

    def around(request: Any) -> Any:
        seen.append((tenant.get(), parse_prompt(request.json) is not None))
        return request

    sim = Simulator(text("hello"))
    with edge(flavour, sim, middleware=[middleware(flavour, around, same)]) as at:
        tenant.set("acme")
        assert at.ask("create", asking("hi")).text == "hello"
    assert ("acme", False) in seen


# --- tracing --------------------------------------------------------------------------------------


@contextmanager
def traced(
    flavour: str, sim: Simulator, opened: Any = edge, **options: Any
) -> Iterator[tuple[Edge, Any]]:
    """A client with a tracer of its own, and what gives its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = {"tracer_provider": provider, **options}
    with opened(flavour, sim, open_telemetry=tracing) as at:
        yield at, exporter.get_finished_spans
    provider.shutdown()


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@both
@pytest.mark.parametrize("content", ["no_content", "content"])
@pytest.mark.parametrize("surface", SURFACES)
def test_a_call_leaves_the_spans_of_the_plain_client_and_the_judge_none(
    surface: str, content: str, flavour: str
) -> None:
    reply = answer_for(surface, "hello")
    options: Any = {"traces": {"content_mode": content}} if content == "content" else {}
    found: list[list[Any]] = []
    for opened in (plain, edge):
        with traced(flavour, Simulator(reply), opened, **options) as (at, spans):
            assert at.ask(surface, asking("hi")).error is None
            found.append([(s.name, s.kind, s.status.status_code, told(s)) for s in spans()])
    for *_, attributes in [*found[0], *found[1]]:
        for changing in ("anthropic.request.id", "gen_ai.response.id"):
            attributes.pop(changing, None)
        attributes.pop("gen_ai.response.time_to_first_chunk", None)
        # The SDK counts what is sent through its chain, and the judge is asked through it.
        resent = attributes.pop("http.request.resend_count", 0)
        assert resent in (0, 1, 2)
    for theirs, ours in zip(*found, strict=True):
        assert theirs[:-1] == ours[:-1]
        # Ours may tell more: an answer that was judged has been read, also where the caller reads
        # it only later.
        assert theirs[-1].items() <= ours[-1].items()
    if surface == "create":
        ((name, *_, attributes),) = found[1]
        assert name == "anthropic.messages.create"
        assert attributes["anthropic.message.stop_reason"] == "end_turn"
        assert attributes["gen_ai.usage.output_tokens"] > 0
        assert ("hello" in str(attributes)) == (content == "content")


@both
@pytest.mark.parametrize("surface", ["create", "stream", "beta.create"])
def test_a_refusal_is_what_the_span_tells(surface: str, flavour: str) -> None:
    with traced(flavour, Simulator(text(SECRET), judge=JUDGE)) as (at, spans):
        assert at.ask(surface, asking("hi")).body["stop_reason"] == "refusal"
        (span,) = spans()
        assert told(span)["anthropic.message.stop_reason"] == "refusal"
        assert SECRET not in str(told(span))


@both
def test_a_span_of_the_applications_own_is_the_parent_of_the_calls(flavour: str) -> None:
    with traced(flavour, Simulator(text("hello"))) as (at, spans):
        tracer = at.client.open_telemetry["tracer_provider"].get_tracer("app")
        if flavour == "sync":
            with tracer.start_as_current_span("outer"):
                at.client.messages.create(**asking("hi"))
        else:

            async def ask() -> None:
                with tracer.start_as_current_span("outer"):
                    await at.client.messages.create(**asking("hi"))

            at.run(ask())
        call, outer = spans()
        assert (call.name, outer.name) == ("anthropic.messages.create", "outer")
        assert call.parent is not None
        assert call.parent.span_id == outer.context.span_id


# --- what the platform says itself ----------------------------------------------------------------

RESULTS = [{"type": "safeguard", "tool_use_id": "toolu_1", "verdict": "flagged", "quote": SECRET}]
DETAILS = {"type": "refusal", "category": "cyber", "explanation": "No.", "novel": {"a": 1}}


def platform_answer(**more: Any) -> dict[str, Any]:
    return message("I would rather not.", 1, **more)


class Platform:
    """A provider whose answers carry fields of its own. `late`: in the delta that ends a stream."""

    def __init__(self, answer: dict[str, Any], *, late: tuple[str, ...] = ()) -> None:
        self.answer = answer
        self.late = late

    def events(self) -> list[dict[str, Any]]:
        ends = {"stop_reason", "stop_details", "stop_sequence", *self.late}
        start = {k: v for k, v in self.answer.items() if k not in ends}
        delta = {k: v for k, v in self.answer.items() if k in ends}
        said = {"type": "text_delta", "text": self.answer["content"][0]["text"]}
        block = {"type": "text", "text": ""}
        return [
            {"type": "message_start", "message": {**start, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": said},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]

    def stream(self) -> bytes:
        return b"".join(event(data).raw for data in self.events())

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if json.loads(request.content).get("stream"):
            kind = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=kind, content=self.stream())
        return httpx2.Response(200, json=self.answer)


@contextmanager
def on(flavour: str, platform: Any, judge: Any = None, **settings: Any) -> Iterator[Edge]:
    transport = httpx2.MockTransport(platform)
    http: Any = (
        httpx2.Client(transport=transport)
        if flavour == "sync"
        else httpx2.AsyncClient(transport=transport)
    )
    moderation = Moderation({"version": 1, **settings}, judge=judge or ScriptedJudge())
    with edge(flavour, Simulator(), moderation=moderation, http_client=http) as at:
        yield at


SIGNALS: dict[str, tuple[dict[str, Any], tuple[str, ...], Any]] = {
    "a refusal": (
        {"stop_reason": "refusal", "stop_details": DETAILS},
        (),
        {"stop_reason": "refusal", "category": "cyber"},
    ),
    "a refusal without details": (
        {"stop_reason": "refusal"},
        (),
        {"stop_reason": "refusal", "category": None},
    ),
    "safeguard results": (
        {"safeguard_results": RESULTS},
        (),
        {"safeguard_results": RESULTS},
    ),
    "safeguard results at the end": (
        {"safeguard_results": RESULTS},
        ("safeguard_results",),
        {"safeguard_results": RESULTS},
    ),
    "both": (
        {"stop_reason": "refusal", "stop_details": DETAILS, "safeguard_results": RESULTS},
        ("safeguard_results",),
        {"stop_reason": "refusal", "category": "cyber", "safeguard_results": RESULTS},
    ),
    "neither": ({}, (), None),
    "results that are null": ({"safeguard_results": None}, (), None),
}


@both
@pytest.mark.parametrize("name", SIGNALS)
def test_what_the_platform_says_survives_and_is_on_record(name: str, flavour: str) -> None:
    """Field by field as it came, beside our verdict: never acted on, never called ours."""
    fields, late, expected = SIGNALS[name]
    platform = Platform(platform_answer(**fields), late=late)
    with on(flavour, platform) as at:
        got = at.ask("create", asking("hi"))
        moderation = got.body.pop("moderation")
        assert got.body == platform.answer
        assert moderation == at.decision().public
        assert at.decision().action == "allow"
        assert at.decision().platform == expected


@both
@pytest.mark.parametrize("release", ["window", "message", "shadow"])
@pytest.mark.parametrize("name", SIGNALS)
def test_what_the_platform_says_in_a_stream_survives_and_is_on_record(
    name: str, release: str, flavour: str
) -> None:
    fields, late, expected = SIGNALS[name]
    platform = Platform(platform_answer(**fields), late=late)
    with on(flavour, platform, streaming={"release": release}) as at:
        manager = at.client.messages.with_streaming_response.create(**asking("hi"), stream=True)
        with at.opened(manager) as response:
            data = b"".join(at.items(response.iter_bytes()))
        assert data == platform.stream()
        assert [item.data for item in Decoder().feed(data)] == platform.events()
        assert at.decision().action == "allow"
        assert at.decision().platform == expected


@both
@pytest.mark.parametrize("surface", ["create", "stream", "beta.stream"])
def test_our_verdict_stands_beside_the_platforms(surface: str, flavour: str) -> None:
    """Both have something to say: the caller gets ours, marked as ours, and both are on record."""
    answer = message(SECRET, 1, stop_reason="refusal", stop_details=DETAILS)
    judge = ScriptedJudge(ScriptedJudge.finding(SECRET, CLAUSE))
    with on(flavour, Platform(answer), judge) as at:
        got = at.ask(surface, asking("hi"))
        assert got.body["stop_details"]["magistrate"] == {"decision_id": at.decision().id}
        assert got.body["stop_details"]["category"] is None
        assert at.decision().action == "block"
        assert at.decision().platform == {"stop_reason": "refusal", "category": "cyber"}


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_refusal_of_ours_is_never_recorded_as_the_platforms(surface: str, flavour: str) -> None:
    outer = Moderation({"version": 1, "input_check": "before"}, judge=ScriptedJudge())
    inner = Moderation({"version": 1, **BEFORE})
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, moderation=outer, middleware=[inner]) as at:
        got = at.ask(surface, asking(BAD))
        assert got.body["stop_reason"] == "refusal"
        assert at.decision().action == "allow", "the outer one has a judge that finds nothing"
        assert at.decision().platform is None
    with on(flavour, Platform(message("x", 1)), ScriptedJudge(_finds_bad)) as at:
        assert at.ask(surface, asking(BAD)).body["stop_reason"] == "refusal"
        assert at.decision().platform is None


_finds_bad = ScriptedJudge.finding(BAD, CLAUSE)


@both
def test_results_of_a_batch_record_what_the_platform_said(flavour: str) -> None:
    refused = message("No.", 1, stop_reason="refusal", stop_details=DETAILS)
    server = Batches({"a": {"type": "succeeded", "message": refused}})
    with on(flavour, server) as at:
        entries: Any = [{"custom_id": name, "params": asking(f"hi {name}")} for name in "ab"]
        at.run(at.client.messages.batches.create(requests=entries))
        lines = list(at.items(at.run(at.client.messages.batches.results("msgbatch_1"))))
        first, second = sorted(lines, key=lambda line: line.custom_id)
        assert first.result.message.stop_details.category == "cyber"
        assert second.result.message.stop_reason == "end_turn"
        said = [decision.platform for decision in at.decisions() if decision.platform]
        assert said == [{"stop_reason": "refusal", "category": "cyber"}]


@both
@pytest.mark.parametrize(("content", "kept"), [("none", "present"), ("all", RESULTS)])
def test_the_audit_keeps_words_of_the_platform_only_where_content_may_be_kept(
    content: str, kept: Any, flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has documented what safeguard results hold, so they may quote the answer."""
    caplog.set_level(logging.INFO, logger="magistrate")
    answer = platform_answer(safeguard_results=RESULTS, stop_reason="refusal")
    with on(flavour, Platform(answer), audit={"content": content}) as at:
        at.ask("create", asking("hi"))
    (line,) = [json.loads(each.getMessage()) for each in caplog.records]
    assert line["platform"] == {
        "stop_reason": "refusal",
        "category": None,
        "safeguard_results": kept,
    }
    assert (SECRET in json.dumps(line)) == (content == "all")


@both
def test_the_platforms_refusal_reaches_no_browser_by_way_of_ours(flavour: str) -> None:
    sim = Simulator(refusal("cyber", "No."))
    with edge(flavour, sim) as at:
        assert set(at.ask("create", asking("hi")).moderation or {}) == {
            "id",
            "action",
            "disclosure",
            "review_id",
        }


@both
def test_a_header_that_is_not_ascii_comes_through_as_it_came(flavour: str) -> None:
    """A proxy's header need not be ASCII; moderation must not fail on it."""
    sim = Simulator(text("hello"))
    answer = sim.http_client().post(
        "https://api.anthropic.com/v1/messages",
        json={"model": "m", "max_tokens": 9, "messages": asking("hi")["messages"]},
        headers={"x-api-key": "k", "anthropic-version": "2023-06-01"},
    )
    raw = [(b"content-type", b"application/json"), (b"x-proxy", "Zürich".encode("latin-1"))]

    def serve(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=raw, content=answer.content)

    judge = ScriptedJudge()
    with edge(flavour, sim, moderation=Moderation({"version": 1}, judge=judge)) as at:
        kind = httpx2.Client if flavour == "sync" else httpx2.AsyncClient
        client = at.client.with_options(http_client=kind(transport=httpx2.MockTransport(serve)))
        got = at.run(client.messages.with_raw_response.create(**asking("hi")))
        assert (b"x-proxy", "Zürich".encode("latin-1")) in got.headers.raw
        assert HEADER in got.headers
