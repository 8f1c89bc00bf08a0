"""Both of the SDK's clients behind one shape, so that every case is written once.

A test is a plain function: `at.run(...)` resolves what the async client returns as an awaitable,
`at.items(...)` iterates either kind of stream. The async client's event loop stops between two such
calls, so what is opened in one task is read and closed in others, which callers do too.

`SURFACES` are the ways an application can ask; each notes in a `Got` everything that reached it, as
it came, also where it ends with an exception.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anthropic
import httpx2
import pydantic
import pytest

import magistrate
from magistrate import Moderation
from magistrate.core.decision_record import Decision
from magistrate.core.refusals import HEADER
from magistrate.testing import Simulator
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.sse import Decoder, event

FLAVOURS = ("sync", "async")
both = pytest.mark.parametrize("flavour", FLAVOURS)

Call: TypeAlias = dict[str, Any]

CLAUSE = "privacy_identity.private_information"
FLOOR = "child_safety.grooming"


def asking(*texts: str, **more: Any) -> Call:
    """A request whose turns are these texts, the user's first."""
    turns = [
        {"role": ("user", "assistant")[at % 2], "content": said} for at, said in enumerate(texts)
    ]
    return {"model": "claude-haiku-5-5", "max_tokens": 256, "messages": turns, **more}


class Answer(pydantic.BaseModel):
    """What structured surfaces ask for."""

    said: str


@dataclass
class Got:
    """What reached the application. `seen` is all of it, as text, in the order of its arrival."""

    value: Any = None
    body: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] | None = None
    seen: str = ""
    error: Exception | None = None

    @property
    def text(self) -> str:
        return "".join(b["text"] for b in self.body.get("content", []) if b["type"] == "text")

    @property
    def moderation(self) -> dict[str, Any] | None:
        return self.body.get("moderation")

    def message(self, value: Any) -> None:
        """Take in a message model."""
        self.value = value
        self.body = value.to_dict(mode="json")
        self.seen += value.to_json()

    def headers(self, headers: Mapping[str, str]) -> None:
        """Take in the headers of a response."""
        self.header = json.loads(headers[HEADER]) if HEADER in headers else None
        self.seen += repr(sorted(headers.items()))


class Edge:
    """One moderated client of either kind, on a simulated API."""

    def __init__(self, flavour: str, client: Any, sim: Simulator, runner: asyncio.Runner) -> None:
        self.flavour = flavour
        self.client = client
        self.sim = sim
        self._runner = runner

    @property
    def moderation(self) -> Moderation:
        return self.client.moderation

    def run(self, value: Any) -> Any:
        """The value, or what it resolves to."""
        if not inspect.isawaitable(value):
            return value

        async def resolve() -> Any:
            return await value

        return self._runner.run(resolve())

    def items(self, stream: Any) -> Iterator[Any]:
        """What a stream yields."""
        if not hasattr(stream, "__aiter__"):
            yield from stream
            return
        iterator = aiter(stream)
        end = object()

        async def following() -> Any:
            return await anext(iterator, end)

        while (item := self._runner.run(following())) is not end:
            yield item

    @contextmanager
    def opened(self, manager: Any) -> Iterator[Any]:
        """What a context manager of either kind gives, until the block is left."""
        if hasattr(manager, "__enter__"):
            with manager as value:
                yield value
            return
        value = self.run(manager.__aenter__())
        try:
            yield value
        except BaseException as error:
            if not self.run(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self.run(manager.__aexit__(None, None, None))

    def ask(self, surface: str, call: Call) -> Got:
        """Ask through one surface; an exception is noted, not raised."""
        got = Got()
        try:
            SURFACES[surface](self, got, dict(call))
        except Exception as error:
            got.error = error
        return got

    def decisions(self) -> list[Decision]:
        """Every decision on record, in the order in which they were made."""
        return self.moderation.engine.state.decisions.all()

    def decision(self) -> Decision:
        """The one decision that was made."""
        (only,) = self.decisions()
        return only

    def close(self) -> None:
        """Close everything; nothing of ours may be running any more."""
        self.run(self.client.close())
        left = self._runner.run(_unfinished())
        self.moderation.close()
        self._runner.close()
        assert not left, f"tasks left behind: {left}"


async def _unfinished() -> set[asyncio.Task[Any]]:
    for _ in range(20):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0.01)
    return left


@contextmanager
def edge(
    flavour: str,
    sim: Simulator,
    *,
    settings: Mapping[str, Any] | None = None,
    moderation: Moderation | None = None,
    url: str | None = None,
    **options: Any,
) -> Iterator[Edge]:
    """A drop-in client of one flavour on a simulator: in process, or over its port at `url`.

    `settings` is what a configuration holds besides its version.
    """
    given = moderation or Moderation({"version": 1, **(settings or {})})
    options = {"api_key": "test-key", "max_retries": 0, "timeout": 30.0, **options}
    if url is not None:
        options["base_url"] = url
    runner = asyncio.Runner()
    if flavour == "sync":
        if url is None:
            options.setdefault("http_client", sim.http_client())
        client: Any = magistrate.Anthropic(moderation=given, **options)
    else:
        if url is None:
            options.setdefault("http_client", sim.async_http_client())
        client = magistrate.AsyncAnthropic(moderation=given, **options)
    at = Edge(flavour, client, sim, runner)
    try:
        yield at
    finally:
        at.close()


@contextmanager
def plain(
    flavour: str, sim: Simulator, *, url: str | None = None, **options: Any
) -> Iterator[Edge]:
    """The SDK's own client, for comparison."""
    options = {"api_key": "test-key", "max_retries": 0, "timeout": 30.0, **options}
    if url is not None:
        options["base_url"] = url
    elif flavour == "sync":
        options.setdefault("http_client", sim.http_client())
    else:
        options.setdefault("http_client", sim.async_http_client())
    runner = asyncio.Runner()
    kind = anthropic.Anthropic if flavour == "sync" else anthropic.AsyncAnthropic
    at = Edge(flavour, kind(**options), sim, runner)
    try:
        yield at
    finally:
        at.run(at.client.close())
        runner.close()


# --- the ways to ask ------------------------------------------------------------------------------


def _create(at: Edge, got: Got, call: Call) -> None:
    got.message(at.run(at.client.messages.create(**call)))


def _beta_create(at: Edge, got: Got, call: Call) -> None:
    got.message(at.run(at.client.beta.messages.create(**call)))


def _parse(at: Edge, got: Got, call: Call) -> None:
    got.message(at.run(at.client.messages.parse(**call, output_format=Answer)))


def _beta_parse(at: Edge, got: Got, call: Call) -> None:
    got.message(at.run(at.client.beta.messages.parse(**call, output_format=Answer)))


def _events(at: Edge, got: Got, stream: Any) -> None:
    built = MessageBuilder()
    got.value = stream
    for item in at.items(stream):
        got.seen += item.to_json()
        built.feed(event(item.to_dict(mode="json")))
        got.body = built.message


def _create_stream(at: Edge, got: Got, call: Call) -> None:
    stream = at.run(at.client.messages.create(**call, stream=True))
    got.headers(stream.response.headers)
    _events(at, got, stream)


def _beta_create_stream(at: Edge, got: Got, call: Call) -> None:
    stream = at.run(at.client.beta.messages.create(**call, stream=True))
    got.headers(stream.response.headers)
    _events(at, got, stream)


def _helper(at: Edge, got: Got, manager: Any) -> None:
    with at.opened(manager) as stream:
        got.headers(stream.response.headers)
        for item in at.items(stream):
            got.seen += item.to_json()
        got.message(at.run(stream.get_final_message()))


def _stream(at: Edge, got: Got, call: Call) -> None:
    _helper(at, got, at.client.messages.stream(**call))


def _beta_stream(at: Edge, got: Got, call: Call) -> None:
    _helper(at, got, at.client.beta.messages.stream(**call))


def _stream_parsed(at: Edge, got: Got, call: Call) -> None:
    _helper(at, got, at.client.messages.stream(**call, output_format=Answer))


def _raw(at: Edge, got: Got, call: Call) -> None:
    response = at.run(at.client.messages.with_raw_response.create(**call))
    got.headers(response.headers)
    got.seen += at.run(response.text())
    got.message(at.run(response.parse()))


def _raw_stream(at: Edge, got: Got, call: Call) -> None:
    response = at.run(at.client.messages.with_raw_response.create(**call, stream=True))
    got.headers(response.headers)
    _events(at, got, at.run(response.parse()))


def _streaming(at: Edge, got: Got, call: Call) -> None:
    with at.opened(at.client.messages.with_streaming_response.create(**call)) as response:
        got.headers(response.headers)
        got.seen += at.run(response.read()).decode()
        got.message(at.run(response.parse()))


def _streaming_bytes(at: Edge, got: Got, call: Call) -> None:
    manager = at.client.messages.with_streaming_response.create(**call, stream=True)
    decoder, built = Decoder(), MessageBuilder()
    with at.opened(manager) as response:
        got.value = response
        got.headers(response.headers)
        for data in at.items(response.iter_bytes()):
            got.seen += data.decode()
            for item in decoder.feed(data):
                built.feed(item)
            got.body = built.message


def _post(at: Edge, got: Got, call: Call) -> None:
    got.message(at.run(at.client.post("/v1/messages", body=call, cast_to=anthropic.types.Message)))


def _post_http(at: Edge, got: Got, call: Call) -> None:
    response = at.run(at.client.post("/v1/messages", body=call, cast_to=httpx2.Response))
    got.value = response
    got.headers(response.headers)
    got.seen += response.text
    got.body = response.json()


def _tool_runner(at: Edge, got: Got, call: Call) -> None:
    if at.flavour == "sync":

        @anthropic.beta_tool
        def clock() -> str:
            """The time."""
            return "noon"
    else:

        @anthropic.beta_async_tool
        async def clock() -> str:
            """The time."""
            return "noon"

    runner = at.client.beta.messages.tool_runner(**call, tools=[clock], thread=False)
    got.message(at.run(runner.until_done()))


SURFACES: dict[str, Callable[[Edge, Got, Call], None]] = {
    "create": _create,
    "create(stream=True)": _create_stream,
    "stream": _stream,
    "parse": _parse,
    "stream(output_format)": _stream_parsed,
    "with_raw_response": _raw,
    "with_raw_response(stream)": _raw_stream,
    "with_streaming_response": _streaming,
    "with_streaming_response(stream)": _streaming_bytes,
    "post": _post,
    "post(httpx2.Response)": _post_http,
    "beta.create": _beta_create,
    "beta.create(stream=True)": _beta_create_stream,
    "beta.stream": _beta_stream,
    "beta.parse": _beta_parse,
    "tool_runner": _tool_runner,
}
STRUCTURED = frozenset({"parse", "stream(output_format)", "beta.parse"})
STREAMS = frozenset(
    {
        "create(stream=True)",
        "stream",
        "stream(output_format)",
        "with_raw_response(stream)",
        "with_streaming_response(stream)",
        "beta.create(stream=True)",
        "beta.stream",
    }
)
# Where the application sees the response's headers.
HEADERS = STREAMS | {"with_raw_response", "with_streaming_response", "post(httpx2.Response)"}
