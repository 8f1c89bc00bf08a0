"""What `responses.py` takes for granted of the SDK beyond its public names.

If one of these fails after an upgrade of the SDK, read `src/magistrate/sdk/responses.py` against
the new `anthropic/_response.py` first: every other failure is likely to follow from it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import APIRequest, APIResponse, AsyncAPIResponse

from edges import asking
from magistrate import ModerationError
from magistrate.sdk import responses
from magistrate.sdk.responses import SyncBody, received, rewritten, synthetic, wrapped
from magistrate.testing import Simulator, text

PUBLIC = {"id": "dec_1", "action": "allow", "disclosure": None, "review_id": None}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "changed"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def test_the_private_names_that_we_rely_on_are_these() -> None:
    """The attributes of the SDK's that start with an underscore, and the only file with them.

    `_parsed_by_type` is the parse cache of a response: the copy of a response needs one of its own,
    or `parse()` answers with what upstream said. `_client` and its `_make_sse_decoder` say how a
    platform frames its streams; `test_platforms` pins them.
    """
    ours = {"_chunks", "_close"}
    used: dict[str, set[str]] = {}
    for path in sorted(Path(responses.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="self" | "cls")):
                    pass
                case ast.Attribute(attr=name) if name.startswith("_") and name[:2] != "__":
                    used.setdefault(path.name, set()).add(name)
    assert used["responses.py"] - ours == {"_client", "_make_sse_decoder", "_parsed_by_type"}
    assert used.get("clients.py", set()) <= {"_token_cache"}
    assert not {"middleware.py", "sync_driver.py", "async_edge.py"} & {
        name for name, attributes in used.items() if "_parsed_by_type" in attributes
    }


def _seen(kind: str) -> tuple[Any, Any]:
    """A request and a response as middleware meets them."""
    met: list[tuple[Any, Any]] = []
    sim = Simulator(text("hello"))

    def peek(request: Any, call_next: Any) -> Any:
        met.append((request, call_next(request)))
        return met[0][1]

    async def peek_async(request: Any, call_next: Any) -> Any:
        met.append((request, await call_next(request)))
        return met[0][1]

    if kind == "sync":
        client = anthropic.Anthropic(api_key="k", http_client=sim.http_client(), middleware=[peek])
        client.messages.create(**asking("hi"))
    else:

        async def ask() -> None:
            client = anthropic.AsyncAnthropic(
                api_key="k", http_client=sim.async_http_client(), middleware=[peek_async]
            )
            await client.messages.create(**asking("hi"))

        asyncio.run(ask())
    return met[0]


@pytest.mark.parametrize(("kind", "cls"), [("sync", APIResponse), ("async", AsyncAPIResponse)])
def test_a_response_has_the_parse_cache_that_we_reset(kind: str, cls: Any) -> None:
    request, response = _seen(kind)
    assert type(response) is cls
    assert isinstance(request, APIRequest)
    assert isinstance(response._parsed_by_type, dict)
    assert isinstance(response.http_response, httpx2.Response)


def test_a_rewritten_response_is_a_copy_with_another_body() -> None:
    request, response = _seen("sync")
    assert response.parse().content[0].text == "hello"
    new = rewritten(response, PUBLIC, MESSAGE)
    assert new.parse().content[0].text == "changed"
    assert response.parse().content[0].text == "hello", "the original is left alone"
    assert new.headers["magistrate-decision"]
    assert new.headers["request-id"] == response.headers["request-id"]
    assert new.retries_taken == response.retries_taken
    assert new.http_request is response.http_request
    assert request.cast_to is anthropic.types.Message


@pytest.mark.parametrize(("kind", "cls"), [("sync", APIResponse), ("async", AsyncAPIResponse)])
def test_a_response_can_be_built_without_a_call(kind: str, cls: Any) -> None:
    """The constructor's keywords, and a client that lends its parsing methods, are enough."""
    request, _ = _seen(kind)
    names = {"raw", "cast_to", "client", "stream", "stream_cls", "options", "retries_taken"}
    assert names <= set(inspect.signature(cls.__init__).parameters)
    made = synthetic(request, cls, PUBLIC, MESSAGE)
    assert type(made) is cls
    parsed = made.parse()
    message = asyncio.run(parsed) if kind == "async" else parsed
    assert message.content[0].text == "changed"
    assert made.http_request.method == "POST"


def test_a_bare_response_is_wrapped_so_that_statuses_count() -> None:
    request, _ = _seen("sync")
    raw = httpx2.Response(529, request=httpx2.Request("POST", "https://example.invalid/"))
    assert type(wrapped(raw, request, APIResponse)) is APIResponse
    assert received(raw, request, APIResponse).http_response is raw


def test_what_inner_middleware_may_answer_with_is_read_or_refused() -> None:
    request, response = _seen("sync")
    assert received(response, request, APIResponse) is response
    message = anthropic.types.Message.model_validate(MESSAGE)
    assert received(message, request, APIResponse).parse().content[0].text == "changed"
    for other in (None, "text", MESSAGE, object()):
        with pytest.raises(ModerationError, match="cannot be judged"):
            received(other, request, APIResponse)


def test_closing_a_body_closes_its_generator_and_what_feeds_it() -> None:
    """Also where nobody began to read: a generator that was not started has no `finally`."""
    for started in (False, True):
        ended: list[str] = []

        def chunks(ended: list[str] = ended) -> Any:
            try:
                yield b"a"
                yield b"b"
            finally:
                ended.append("generator")

        body = SyncBody(chunks(), lambda ended=ended: ended.append("feeder"))
        if started:
            next(iter(body))
        body.close()
        assert ended == ["generator", "feeder"][not started :]


@pytest.mark.parametrize(
    "odd",
    [
        *(float("nan"), float("inf"), -0.0, 1e16, 2**64, -(2**63) - 1, 10**30),
        *("\ud800", "\\ud800", "é 🎉", "\u2028", None, {"a": [None, float("nan")]}),
    ],
)
def test_a_body_says_what_upstream_said_also_at_the_edges_of_json(odd: Any) -> None:
    _, response = _seen("sync")
    body = {**MESSAGE, "more": odd}
    new = rewritten(response, PUBLIC, body).http_response
    assert repr(json.loads(new.content)) == repr(body)
    assert new.headers["content-length"] == str(len(new.content))
