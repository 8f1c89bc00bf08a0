"""The clients for other platforms: each the SDK's own, judged by its own provider.

The wire is simulated: what a platform's client sends is recorded as it left, translated into a
request of the Messages API, and answered by the simulator in the platform's own framing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import itertools
import json
import os
import re
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

import magistrate
import processes
from edges import CLAUSE, FLAVOURS, STRUCTURED, SURFACES, Edge, asking, both
from magistrate import Moderation, ModerationUnavailable, SettingsError
from magistrate.core.refusals import HEADER
from magistrate.settings import DEFAULT_BLOCK_TEXT
from magistrate.testing import (
    JudgeScript,
    ScriptedJudge,
    Simulator,
    cut,
    drop,
    error,
    error_event,
    fails_with,
    finds,
    structured,
    text,
    when_judging,
)
from magistrate.testing.transport import SimulatorTransport
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.sse import Decoder, event
from pairs import pairs

MODEL = "claude-sonnet-5-5"
JUDGE = "claude-judge-of-this-platform"
BAD = "violating-words"
SECRET = "the-answer-in-full"
BINARY = "application/vnd.amazon.eventstream"
KEYS = {"aws_access_key": "key-id", "aws_secret_key": "secret", "aws_region": "us-east-1"}
PROJECT = "/v1/projects/p/locations/us-east5/publishers/anthropic/models"
GATEWAY = "/v1/projects/p/locations/us-east5"


@dataclass(frozen=True)
class Platform:
    """One platform: dummy credentials, and what its wire looks like with them."""

    options: Mapping[str, Any]
    host: str
    path: str  # a message's; {model}, where the path names it
    streaming: str | None = None  # a streamed message's, where that is another
    signed: tuple[str, str] = ("authorization", r"Bearer token")
    needs_model: bool = True
    counts: bool = True

    def where(self, model: str, *, stream: bool = False) -> str:
        return (self.streaming if stream and self.streaming else self.path).format(model=model)


def sigv4(service: str) -> tuple[str, str]:
    return ("authorization", rf"AWS4-HMAC-SHA256 Credential=key-id/\d+/us-east-1/{service}/")


PLATFORMS: dict[str, Platform] = {
    "AnthropicBedrock": Platform(
        KEYS,
        "bedrock-runtime.us-east-1.amazonaws.com",
        "/model/{model}/invoke",
        "/model/{model}/invoke-with-response-stream",
        sigv4("bedrock"),
        counts=False,
    ),
    "AnthropicBedrockMantle": Platform(
        KEYS,
        "bedrock-mantle.us-east-1.api.aws",
        "/anthropic/v1/messages",
        signed=sigv4("bedrock-mantle"),
    ),
    "AnthropicVertex": Platform(
        {"project_id": "p", "region": "us-east5", "access_token": "token"},
        "us-east5-aiplatform.googleapis.com",
        PROJECT + "/{model}:rawPredict",
        PROJECT + "/{model}:streamRawPredict",
    ),
    "AnthropicFoundry": Platform(
        {"resource": "mine", "api_key": "token"},
        "mine.services.ai.azure.com",
        "/anthropic/v1/messages",
        signed=("x-api-key", "token"),
    ),
    "AnthropicAWS": Platform(
        {**KEYS, "workspace_id": "wrkspc_1"},
        "aws-external-anthropic.us-east-1.api.aws",
        "/v1/messages",
        signed=sigv4("aws-external-anthropic"),
        needs_model=False,
    ),
    "AnthropicGoogleCloud": Platform(
        {
            "project": "p",
            "location": "us-east5",
            "workspace_id": "wrkspc_1",
            "token_provider": lambda: "token",
        },
        "claude.googleapis.com",
        GATEWAY + "/workspaces/wrkspc_1/invoke/v1/messages",
        needs_model=False,
    ),
}
every = pytest.mark.parametrize("name", PLATFORMS)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no configuration, of anybody."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "AWS_", "CLOUD_ML_", "GOOGLE_", "MAGISTRATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


# --- the wire -------------------------------------------------------------------------------------


def aws_frame(payload: bytes, **headers: str) -> bytes:
    """One message of AWS's event stream: prelude, headers, payload, each with its checksum."""
    pairs = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in headers.items()
    )
    head = struct.pack(">II", 16 + len(pairs) + len(payload), len(pairs))
    message = head + struct.pack(">I", binascii.crc32(head)) + pairs + payload
    return message + struct.pack(">I", binascii.crc32(message))


def aws_chunk(data: bytes) -> bytes:
    """An event of the Messages API as Bedrock frames it."""
    payload = json.dumps({"bytes": base64.b64encode(data).decode()}).encode()
    kind = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return aws_frame(payload, **kind)


def aws_exception(kind: str, message: str) -> bytes:
    """What Bedrock sends when a stream breaks after it began."""
    headers = {":exception-type": kind, ":content-type": "application/json"}
    payload = json.dumps({"message": message}).encode()
    return aws_frame(payload, **headers, **{":message-type": "exception"})


class Framed(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body of server-sent events in AWS's framing, in pieces of eleven bytes."""

    def __init__(self, inner: Any, instead: Callable[[bytes], bytes]) -> None:
        self._inner = inner
        self._instead = instead
        self._decoder = Decoder()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        for item in self._decoder.feed(data):
            framed = self._instead(json.dumps(item.data).encode())
            for at in range(0, len(framed), 11):
                yield framed[at : at + 11]

    def __iter__(self) -> Iterator[bytes]:
        for data in self._inner:
            yield from self._pieces(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            for piece in self._pieces(data):
                yield piece

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass(frozen=True)
class Sent:
    """A request as it left the client."""

    host: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def model(self) -> str | None:
        """The model, of which some platforms' path tells."""
        named = re.search(r"/models?/([^/:]+)[/:]", self.path)
        return named[1] if named is not None else self.body.get("model")

    @property
    def who(self) -> dict[str, str]:
        """What of the headers says who asks, without what changes from second to second."""
        names = ("authorization", "x-api-key", "api-key", "anthropic-workspace-id", "x-b")
        told = {name: self.headers[name] for name in names if name in self.headers}
        return {name: value.split(", ")[0] for name, value in told.items()}


@dataclass
class Wire(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Records what a platform's client sends, and answers as that platform would."""

    sim: Simulator
    binary: bool = False
    frame: Callable[[bytes], bytes] = aws_chunk
    kind: str | None = BINARY
    sent: list[Sent] = field(default_factory=list)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        neutral = self._neutral(request, request.read())
        return self._framed(request, SimulatorTransport(self.sim).handle_request(neutral))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        neutral = self._neutral(request, await request.aread())
        found = await SimulatorTransport(self.sim).handle_async_request(neutral)
        return self._framed(request, found)

    def _neutral(self, request: httpx2.Request, content: bytes) -> httpx2.Request:
        path = request.url.path
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = json.loads(content)
        sent = Sent(request.url.host, path, headers, body)
        self.sent.append(sent)
        body = {key: value for key, value in body.items() if not key.startswith("anthropic_")}
        counting = "count_tokens" in path or "count-tokens" in path
        if not counting:
            body["model"] = sent.model
        if "invoke-with-response-stream" in path:
            body["stream"] = True
        return httpx2.Request(
            "POST",
            "https://api.invalid/v1/messages" + ("/count_tokens" if counting else ""),
            headers={"x-api-key": "k", "anthropic-version": "2026-10-21"},
            content=json.dumps(body).encode(),
            extensions=request.extensions,
        )

    def _framed(self, request: httpx2.Request, found: httpx2.Response) -> httpx2.Response:
        streams = found.headers.get("content-type", "").startswith("text/event-stream")
        if self.binary and streams:
            found.stream = Framed(found.stream, self.frame)
            del found.headers["content-type"]
            if self.kind is not None:
                found.headers["content-type"] = self.kind
        found.request = request
        return found


def kind_of(name: str, flavour: str, module: Any = magistrate) -> Any:
    return getattr(module, name if flavour == "sync" else f"Async{name}")


@contextmanager
def client_of(
    name: str,
    flavour: str,
    sim: Simulator,
    *,
    module: Any = magistrate,
    settings: Mapping[str, Any] | None = None,
    moderation: Moderation | None = None,
    wire: Wire | None = None,
    **options: Any,
) -> Iterator[tuple[Edge, Wire]]:
    """A client of one platform and flavour on a simulator: ours, or the SDK's from `anthropic`."""
    wire = wire or Wire(sim)
    wire.binary = name == "AnthropicBedrock"
    kind = httpx2.Client if flavour == "sync" else httpx2.AsyncClient
    options = {
        "max_retries": 0,
        "timeout": 30.0,
        "http_client": kind(transport=wire),
        **PLATFORMS[name].options,
        **options,
    }
    if module is magistrate:
        judged = {"version": 1, "judge": {"model": JUDGE}, **(settings or {})}
        options["moderation"] = moderation or Moderation(judged)
    runner = asyncio.Runner()
    at = Edge(flavour, kind_of(name, flavour, module)(**options), sim, runner)
    try:
        yield at, wire
    finally:
        if module is magistrate:
            at.close()
        else:
            at.run(at.client.close())
            runner.close()


# --- what they are --------------------------------------------------------------------------------


@both
@every
def test_it_is_a_client_of_the_sdks_own_kind(name: str, flavour: str) -> None:
    plain = kind_of(name, flavour, anthropic)
    with client_of(name, flavour, Simulator()) as (at, _):
        assert type(at.client) is kind_of(name, flavour)
        assert isinstance(at.client, plain)
        assert type(at.client).__name__ == plain.__name__
        assert at.client.middleware == (at.moderation,)
        for method in ("__init__", "copy", "with_options"):
            theirs = inspect.signature(getattr(plain, method))
            assert inspect.signature(getattr(type(at.client), method)) == theirs
        for copied in (at.client.copy(), at.client.with_options(timeout=1)):
            assert type(copied) is type(at.client)


@every
def test_every_client_of_the_sdk_for_a_platform_has_a_twin(name: str) -> None:
    theirs = {
        each for each in dir(anthropic) if re.fullmatch(r"(Async)?Anthropic[A-Z]\w+", each)
    } - {"AnthropicError"}
    ours = set(PLATFORMS) | {f"Async{each}" for each in PLATFORMS}
    assert theirs == ours
    assert {name, f"Async{name}"} <= set(magistrate.__all__)


@both
@every
def test_an_applications_own_subclass_is_moderated_too(name: str, flavour: str) -> None:
    class Ours(kind_of(name, flavour)):
        def __init__(self, *, tenant: str = "nobody", **options: Any) -> None:
            self.tenant = tenant
            super().__init__(**options)

    moderation = Moderation({"version": 1}, judge=ScriptedJudge())
    client = Ours(tenant="acme", moderation=moderation, **PLATFORMS[name].options)
    copied = client.with_options(middleware=[])
    assert type(copied) is Ours
    assert client.tenant == "acme"
    assert copied.middleware == (moderation,)
    with pytest.raises(SettingsError) if PLATFORMS[name].needs_model else nullcontext():
        Ours(moderation={"version": 1}, **PLATFORMS[name].options)


def test_bedrocks_parameters_may_go_by_position_as_with_the_sdk() -> None:
    client = magistrate.AnthropicBedrock(
        "secret",
        "key-id",
        "eu-west-1",
        moderation=Moderation({"version": 1}, judge=ScriptedJudge()),
    )
    assert (client.aws_secret_key, client.aws_access_key) == ("secret", "key-id")
    assert client.aws_region == "eu-west-1"
    with pytest.raises(TypeError, match="aws_secret_key"):
        magistrate.AnthropicBedrock(
            "secret",
            aws_secret_key="twice",
            moderation=Moderation({"version": 1}, judge=ScriptedJudge()),
        )


# --- what becomes of a request --------------------------------------------------------------------

OUTCOMES: dict[str, tuple[JudgeScript, str]] = {
    "allow": (JudgeScript(), "hi"),
    "input blocked": (JudgeScript(when_judging(BAD, finds(CLAUSE), stage="input")), BAD),
    "output blocked": (JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output")), "hi"),
}


# What differs from platform to platform is the wire; only Bedrock's differs in its answers too.
ELSEWHERE = ("create", "create(stream=True)", "parse", "post", "beta.stream", "tool_runner")


@pairs(flavour=FLAVOURS, name=PLATFORMS, surface=ELSEWHERE)
def test_every_way_to_ask_is_moderated(name: str, surface: str, flavour: str) -> None:
    check_way(name, surface, flavour)


@both
@pytest.mark.parametrize("surface", [each for each in SURFACES if each not in ELSEWHERE])
def test_every_other_way_to_ask_bedrock_is_moderated(surface: str, flavour: str) -> None:
    check_way("AnthropicBedrock", surface, flavour)


def check_way(name: str, surface: str, flavour: str) -> None:
    """Allowed, stopped before and stopped after, in every shape in which the SDK can be asked."""
    asked_for = {"said": SECRET}
    for outcome, (judge, said) in OUTCOMES.items():
        reply = structured(asked_for) if surface in STRUCTURED else text(SECRET)
        sim = Simulator(reply, judge=judge)
        with client_of(name, flavour, sim, settings={"input_check": "before"}) as (at, _):
            got = at.ask(surface, asking(said, model=MODEL))
            assert got.error is None, (outcome, got.error)
            assert at.decision().action == ("allow" if outcome == "allow" else "block")
            if outcome == "allow":
                assert got.text == (json.dumps(asked_for) if surface in STRUCTURED else SECRET)
                assert got.body["stop_reason"] == "end_turn"
                continue
            assert SECRET not in got.seen
            assert got.body["stop_reason"] == "refusal"
            assert got.text == ("" if surface in STRUCTURED else DEFAULT_BLOCK_TEXT)
            assert len(sim.api_requests) == (0 if outcome == "input blocked" else 1)


@both
@every
def test_a_stream_is_cut_where_the_answer_turns(name: str, flavour: str) -> None:
    """What was judged before has been given out; nothing of what was refused is."""
    said = "All is well. " * 80 + SECRET + " and more. " * 80
    judge = JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output"))
    for surface in ("create(stream=True)", "stream", "with_streaming_response(stream)"):
        sim = Simulator(text(said), judge=judge)
        with client_of(name, flavour, sim) as (at, _):
            got = at.ask(surface, asking("hi", model=MODEL))
            assert got.error is None
            assert SECRET not in got.seen
            assert got.text.startswith("All is well. ")
            assert got.text.endswith(DEFAULT_BLOCK_TEXT)
            assert got.body["stop_reason"] == "refusal"


@both
@every
def test_the_judge_is_asked_of_the_same_provider_in_the_same_way(name: str, flavour: str) -> None:
    """Same host, path and signature, with the judge's model; nothing of the caller's extras."""
    platform = PLATFORMS[name]
    header, signature = platform.signed
    for stream in (False, True):
        sim = Simulator(text(SECRET))
        with client_of(name, flavour, sim) as (at, wire):
            surface = "create(stream=True)" if stream else "create"
            more = {"extra_headers": {"x-mine": "1"}, "extra_query": {"mine": "1"}}
            assert at.ask(surface, asking("hi", model=MODEL, **more)).error is None
        assert {sent.host for sent in wire.sent} == {platform.host}
        assert all(re.match(signature, sent.headers[header]) for sent in wire.sent)
        judges = [sent for sent in wire.sent if "x-mine" not in sent.headers]
        assert len(judges) == len(sim.judge_requests) == 2
        assert {sent.path for sent in judges} == {platform.where(JUDGE)}
        assert {request.body["model"] for request in sim.judge_requests} == {JUDGE}
        (asked,) = [sent for sent in wire.sent if "x-mine" in sent.headers]
        assert asked.path == platform.where(MODEL, stream=stream)


@both
@every
def test_counting_tokens_is_passed_on(name: str, flavour: str) -> None:
    with client_of(name, flavour, Simulator()) as (at, wire):
        count = dict(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        if PLATFORMS[name].counts:
            assert at.run(at.client.messages.count_tokens(**count)).input_tokens > 0
            assert len(wire.sent) == 1
        else:
            with pytest.raises(anthropic.AnthropicError, match="not supported in Bedrock"):
                at.run(at.client.messages.count_tokens(**count))


# --- copies ---------------------------------------------------------------------------------------


class _Nothing(anthropic.Middleware):
    def handle(self, request: Any, call_next: Any) -> Any:
        return call_next(request)

    async def handle_async(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda client: client,
    "copy": lambda client: client.copy(),
    "copy of a copy": lambda client: client.with_options(middleware=[]).copy(timeout=2),
    "timeout": lambda client: client.with_options(timeout=3),
    "no middleware": lambda client: client.with_options(middleware=[]),
    "other middleware": lambda client: client.with_options(middleware=[_Nothing()]),
    "more middleware": lambda client: client.with_middleware(_Nothing()),
    "headers": lambda client: client.with_options(default_headers={"x-b": "1"}),
    "another host": lambda client: client.with_options(base_url="https://other.example/x"),
    "no retries": lambda client: client.with_options(max_retries=0),
    "no tracing": lambda client: client.with_options(open_telemetry=False),
}
OWN_CHANGES: dict[str, dict[str, Any]] = {
    "AnthropicBedrock": {"aws_region": "eu-west-1", "aws_access_key": "b", "aws_secret_key": "c"},
    "AnthropicBedrockMantle": {"aws_access_key": "b", "aws_secret_key": "c"},
    "AnthropicVertex": {"project_id": "q", "access_token": "other"},
    "AnthropicFoundry": {"api_key": "other"},
    "AnthropicAWS": {"aws_region": "eu-west-1", "workspace_id": "wrkspc_2"},
    "AnthropicGoogleCloud": {"project": "q", "token_provider": lambda: "other"},
}


@pairs(flavour=FLAVOURS, name=PLATFORMS, change=[*CHANGES, "its own"])
def test_a_copy_sends_what_the_sdks_copy_sends_and_stays_moderated(
    change: str, name: str, flavour: str
) -> None:
    seen: list[tuple[str, str, dict[str, str]]] = []
    for module in (anthropic, magistrate):
        with client_of(name, flavour, Simulator(text(SECRET)), module=module) as (at, wire):
            changed = CHANGES.get(change, lambda client: client.with_options(**OWN_CHANGES[name]))
            copied = changed(at.client)
            message = at.run(copied.messages.create(**asking("hi", model=MODEL)))
            assert message.content[0].text == SECRET
            if module is magistrate:
                assert copied.moderation is at.moderation
                assert copied.middleware[0] is at.moderation
                assert at.decision().action == "allow"
                assert len({(sent.host, *sent.who.items()) for sent in wire.sent}) == 1
            asked = [sent for sent in wire.sent if sent.model != JUDGE]
            seen += [(sent.host, sent.path, sent.who) for sent in asked]
    assert len(seen) == 2
    assert seen[0] == seen[1]


# --- the judge's model ----------------------------------------------------------------------------


@both
@every
def test_the_judges_model_must_be_set_where_the_default_may_not_exist(
    name: str, flavour: str, tmp_path: Path
) -> None:
    platform, kind = PLATFORMS[name], kind_of(name, flavour)
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\n")
    shared = Moderation({"version": 1})
    if not platform.needs_model:
        assert kind(moderation=shared, **platform.options).moderation is shared
        return
    forms: list[dict[str, Any]] = [
        {"moderation": {"version": 1}},
        {"moderation": str(path)},
        {"moderation": shared},
        {"middleware": [shared]},
    ]
    for form in forms:
        with pytest.raises(SettingsError, match=r"judge\.model: not set") as caught:
            kind(**form, **platform.options)
        assert kind.__name__ in str(caught.value)
        assert "set it to" in str(caught.value)
        assert ("mine.yaml" in str(caught.value)) is (form.get("moderation") == str(path))
    kind(moderation={"version": 1, "judge": {"model": JUDGE}}, **platform.options)
    kind(moderation=Moderation({"version": 1}, judge=ScriptedJudge()), **platform.options)


@both
@every
def test_a_model_that_the_provider_does_not_have_is_named_when_nobody_could_judge(
    name: str, flavour: str
) -> None:
    """With a plain client nothing is known of the platform until the judge is asked."""
    for status in (400, 404):
        sim = Simulator(
            text(SECRET), judge=JudgeScript(when_judging("", fails_with(error(status))))
        )
        moderation = Moderation({"version": 1, "judge": {"deadline_s": 0.5}})
        options = {"module": anthropic, "middleware": [moderation]}
        with client_of(name, flavour, sim, **options) as (at, _):
            got = at.ask("create", asking("hi", model=MODEL))
        moderation.close()
        assert isinstance(got.error, ModerationUnavailable)
        assert f"HTTP {status}" in str(got.error)
        assert "set `judge.model`" in str(got.error)
        assert "claude-haiku-5-5" in str(got.error)


@both
def test_other_failures_of_the_judge_do_not_speak_of_its_model(flavour: str) -> None:
    for reply in (error(403), error(500), error(400, message="prompt is too long: 9 tokens")):
        sim = Simulator(text(SECRET), judge=JudgeScript(when_judging("", fails_with(reply))))
        settings = {"judge": {"model": JUDGE, "deadline_s": 0.5}}
        with client_of("AnthropicVertex", flavour, sim, settings=settings) as (at, _):
            got = at.ask("create", asking("hi", model=MODEL))
        assert isinstance(got.error, ModerationUnavailable)
        assert "judge.model" not in str(got.error)


# --- Bedrock's binary streams ---------------------------------------------------------------------


def said_in(body: bytes) -> str:
    """The text that a body of server-sent events adds up to."""
    built = MessageBuilder()
    for item in Decoder().feed(body):
        built.feed(item)
    assert built.message["stop_reason"]
    return "".join(block["text"] for block in built.content)


def events(at: Edge, **call: Any) -> tuple[list[Any], Any]:
    """The events that a stream brought, and how it broke, if it did."""
    found: list[Any] = []
    try:
        stream = at.run(at.client.messages.create(**asking("hi", model=MODEL), stream=True, **call))
        for item in at.items(stream):
            found.append(item.to_dict(mode="json"))
    except Exception as broke:
        return found, broke
    return found, None


def alike(flavour: str, sim: Callable[[], Simulator], **wire: Any) -> list[Any]:
    """What the same stream brings with the SDK's client and with ours; and how either broke."""
    told: list[Any] = []
    for module in (anthropic, magistrate):
        made = sim()
        options: dict[str, Any] = {"module": module, "wire": Wire(made, **wire)}
        if module is magistrate:
            options["moderation"] = Moderation({"version": 1}, judge=ScriptedJudge())
        with client_of("AnthropicBedrock", flavour, made, **options) as (at, _):
            told.append(events(at))
    return told


@both
def test_an_allowed_stream_brings_the_events_that_bedrock_sent(flavour: str) -> None:
    said = "Grüße\u2028an \u0085alle 🦊.\r\n\r\ndata: x\n" * 20
    (theirs, none), (ours, also_none) = alike(flavour, lambda: Simulator(text(said)))
    assert none is also_none is None
    for item in ours:
        item.get("delta", {}).pop("moderation", None)
    assert ours == theirs
    assert said_in(b"".join(event(item).raw for item in ours)) == said


@both
def test_an_exception_in_mid_stream_is_raised_as_by_the_sdk(flavour: str) -> None:
    for kind in ("throttlingException", "internalServerException", "modelStreamErrorException"):
        counted = itertools.count()

        def broken(data: bytes, counted: Any = counted, kind: str = kind) -> bytes:
            return aws_exception(kind, "no more") if next(counted) % 9 == 5 else aws_chunk(data)

        (_, theirs), (_, ours) = alike(
            flavour, lambda: Simulator(text("All is well. " * 40)), frame=broken
        )
        assert isinstance(theirs, anthropic.APIStatusError)
        assert type(ours) is type(theirs)
        assert (str(ours), ours.type, ours.status_code) == (
            str(theirs),
            theirs.type,
            theirs.status_code,
        )


@both
@pytest.mark.parametrize(
    "reply",
    [
        error_event(text("All is well. " * 40), after_events=4),
        cut(text("All is well. " * 40), after_events=6),
        drop(text("All is well. " * 40), after_events=6),
    ],
    ids=["an error event", "an early end", "a broken connection"],
)
def test_a_stream_that_breaks_breaks_as_with_the_sdk(reply: Any, flavour: str) -> None:
    (_, theirs), (got, ours) = alike(flavour, lambda: Simulator(reply))
    assert type(ours) is type(theirs)
    assert str(ours) == str(theirs)
    assert "message_stop" not in [item["type"] for item in got]


@both
def test_a_frame_that_was_damaged_is_an_error_as_with_the_sdk(flavour: str) -> None:
    counted = itertools.count()

    def damaged(data: bytes) -> bytes:
        framed = aws_chunk(data)
        return framed[:-1] + b"\x00" if next(counted) % 9 == 5 else framed

    (_, theirs), (_, ours) = alike(
        flavour, lambda: Simulator(text("All is well. " * 40)), frame=damaged
    )
    assert type(theirs).__name__ == "ChecksumMismatch"
    assert type(ours) is type(theirs)


@both
def test_a_body_without_a_name_is_decoded_as_the_sdk_decodes_it(flavour: str) -> None:
    (_, none), (ours, also_none) = alike(flavour, lambda: Simulator(text(SECRET)), kind=None)
    assert none is also_none is None
    assert said_in(b"".join(event(item).raw for item in ours)) == SECRET


@both
def test_the_rewritten_response_is_server_sent_events_to_everybody_outside(flavour: str) -> None:
    """To the caller who reads bytes, and to a middleware that reads the SDK's raw events."""
    read: list[str] = []

    def outer(request: Any, call_next: Any) -> Any:
        found = call_next(request)
        http = found.http_response
        assert http.headers["content-type"].startswith("text/event-stream")
        read.extend(str(item.event) for item in anthropic.Stream.raw_events(http))
        return found

    async def outer_async(request: Any, call_next: Any) -> Any:
        found = await call_next(request)
        http = found.http_response
        assert http.headers["content-type"].startswith("text/event-stream")
        read.extend([str(item.event) async for item in anthropic.AsyncStream.raw_events(http)])
        return found

    moderation = Moderation({"version": 1, "judge": {"model": JUDGE}})
    outside = outer if flavour == "sync" else outer_async
    sim = Simulator(text(SECRET))
    options: dict[str, Any] = {"module": anthropic, "middleware": [outside, moderation]}
    with (
        client_of("AnthropicBedrock", flavour, sim, **options) as (at, _),
        suppress(httpx2.StreamError),  # the body has been read
    ):
        at.run(at.client.messages.create(**asking("hi", model=MODEL), stream=True))
    moderation.close()
    assert read[0] == "message_start"
    assert read[-1] == "message_stop"
    with client_of("AnthropicBedrock", flavour, Simulator(text(SECRET))) as (at, _):
        manager = at.client.messages.with_streaming_response.create(
            **asking("hi", model=MODEL), stream=True
        )
        with at.opened(manager) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert HEADER in response.headers
            got = b"".join(at.items(response.iter_bytes()))
    assert got.startswith(b"event: message_start\ndata: {")
    assert said_in(got) == SECRET


@both
def test_two_moderations_on_bedrock_both_judge_the_stream(flavour: str) -> None:
    inner = Moderation(
        {"version": 1, "judge": {"model": JUDGE}},
        judge=ScriptedJudge(ScriptedJudge.finding(SECRET, CLAUSE)),
    )
    with client_of("AnthropicBedrock", flavour, Simulator(text(SECRET))) as (at, _):
        client = at.client.with_middleware(inner)
        stream = at.run(client.messages.create(**asking("hi", model=MODEL), stream=True))
        seen = [item.to_dict(mode="json") for item in at.items(stream)]
    inner.close()
    assert SECRET not in json.dumps(seen)
    assert seen[-1]["type"] == "message_stop"


@both
def test_a_bare_response_with_a_binary_stream_is_read_too(flavour: str) -> None:
    """With `cast_to=httpx2.Response` the SDK hands middleware a response without a client."""
    bad = JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output"))
    for judge, allowed in ((JudgeScript(), True), (bad, False)):
        sim = Simulator(text(SECRET), judge=judge)
        with client_of("AnthropicBedrock", flavour, sim) as (at, _):
            body = {**asking("hi", model=MODEL), "stream": True}
            response = at.run(at.client.post("/v1/messages", body=body, cast_to=httpx2.Response))
            got = b"".join(
                at.items(response.iter_bytes() if flavour == "sync" else response.aiter_bytes())
            )
        assert response.headers["content-type"].startswith("text/event-stream")
        assert said_in(got) == (SECRET if allowed else DEFAULT_BLOCK_TEXT)


@both
def test_a_stream_may_be_closed_early(flavour: str) -> None:
    sim = Simulator(text("All is well. " * 400))
    with client_of("AnthropicBedrock", flavour, sim) as (at, _):
        stream = at.run(at.client.messages.create(**asking("hi", model=MODEL), stream=True))
        for item in at.items(stream):
            if item.type == "content_block_delta":
                break
        at.run(stream.close())
        assert sim.settle()
        # The decision says what became of the call; that the simulator saw it, too, is shown for
        # the first-party clients in `test_concurrency`.
        assert at.decision().upstream == "cancelled"


# --- what `responses.py` takes for granted --------------------------------------------------------


@both
@every
def test_a_response_knows_its_client_and_that_how_its_streams_are_framed(
    name: str, flavour: str
) -> None:
    met: list[Any] = []

    def peek(request: Any, call_next: Any) -> Any:
        met.append(call_next(request))
        return met[-1]

    async def peek_async(request: Any, call_next: Any) -> Any:
        met.append(await call_next(request))
        return met[-1]

    inner = peek if flavour == "sync" else peek_async
    options: dict[str, Any] = {"module": anthropic, "middleware": [inner]}
    with client_of(name, flavour, Simulator(text(SECRET)), **options) as (at, _):
        at.run(at.client.messages.create(**asking("hi", model=MODEL)))
        assert met[0]._client is at.client
    decoder = met[0]._client._make_sse_decoder()
    plain = anthropic.Anthropic(api_key="k")._make_sse_decoder()
    assert (type(decoder) is type(plain)) is (name != "AnthropicBedrock")
    assert callable(decoder.iter_bytes)
    assert callable(decoder.aiter_bytes)
    event = type(next(plain.iter_bytes(iter([b"event: a\ndata: b\n\n"]))))
    if name == "AnthropicBedrock":
        (found,) = decoder.iter_bytes(iter([aws_chunk(b'{"type": "ping"}')]))
        assert type(found) is event
        assert (found.event, found.data) == ("ping", '{"type": "ping"}')


# --- extras ---------------------------------------------------------------------------------------


MISSING = {
    "AnthropicBedrock": ("boto3", "botocore"),
    "AnthropicAWS": ("boto3", "botocore"),
    "AnthropicVertex": ("google", "google.auth"),
    "AnthropicGoogleCloud": ("google", "google.auth"),
}


def test_a_missing_extra_is_the_sdks_own_error() -> None:
    """The judge's request is the first to miss it, and is not what the application hears of."""
    cases = [
        (kind_of(name, flavour).__name__, missing, _without_tokens(PLATFORMS[name].options))
        for name, missing in MISSING.items()
        for flavour in FLAVOURS
    ]
    done = processes.run(f"""
        import asyncio, inspect, sys
        import anthropic, magistrate

        async def ask(client):
            call = dict(model="m", max_tokens=5, messages=[{{"role": "user", "content": "hi"}}])
            found = client.messages.create(**call)
            if inspect.isawaitable(found):
                await found

        def told(module, name, options):
            try:
                asyncio.run(ask(getattr(module, name)(max_retries=0, **options)))
            except Exception as error:
                return type(error), str(error)

        judge = {{"version": 1, "judge": {{"model": "m"}}}}
        for name, missing, options in {cases!r}:
            for module in missing:
                sys.modules[module] = None
            theirs = told(anthropic, name, options)
            ours = told(magistrate, name, {{**options, "moderation": judge}})
            assert theirs == ours, (name, theirs, ours)
            assert theirs[0].__name__ in ("ModuleNotFoundError", "MissingDependencyError"), theirs
    """)
    assert done.returncode == 0, done.stderr


def _without_tokens(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k not in ("access_token", "token_provider")}


@both
def test_missing_credentials_are_the_sdks_own_error(flavour: str) -> None:
    """The judge's request fails first, and says what the caller's own would have said."""
    told: list[Any] = []
    for module in (anthropic, magistrate):
        sim = Simulator(text(SECRET))
        kind = httpx2.Client if flavour == "sync" else httpx2.AsyncClient
        wire = {"http_client": kind(transport=SimulatorTransport(sim))}
        if module is magistrate:
            wire["moderation"] = {"version": 1}
        client = kind_of("Anthropic", flavour, module)(**wire)
        with asyncio.Runner() as runner:
            at = Edge(flavour, client, sim, runner)
            got = at.ask("create", asking("hi"))
            told.append((type(got.error), str(got.error)))
            at.run(client.close())
        assert sim.requests == []
    assert told[0] == told[1]
    assert told[0][0] is TypeError


@both
def test_what_would_be_retried_never_stands_for_a_judge(flavour: str) -> None:
    """Else one failed judgment would cost the caller three requests."""
    met: list[str] = []

    def gone(request: Any) -> None:
        met.append(request.json["model"])
        if request.json["model"] == JUDGE:
            raise anthropic.RetryableError("again")

    def inner(request: Any, call_next: Any) -> Any:
        gone(request)
        return call_next(request)

    async def inner_async(request: Any, call_next: Any) -> Any:
        gone(request)
        return await call_next(request)

    middleware = [inner if flavour == "sync" else inner_async]
    options: dict[str, Any] = {"middleware": middleware, "max_retries": 2}
    options["settings"] = {"input_check": "before"}
    with client_of("AnthropicVertex", flavour, Simulator(text(SECRET)), **options) as (at, _):
        got = at.ask("create", asking("hi", model=MODEL))
    assert isinstance(got.error, ModerationUnavailable)
    assert met == [JUDGE]
