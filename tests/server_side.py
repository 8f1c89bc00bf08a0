"""The two surfaces where the provider keeps things between calls: message batches and threads.

Small servers in the API's own shapes (see the SDK's types), for a `MockTransport`. Each notes what
it was sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from edges import Edge, edge
from magistrate import Moderation
from magistrate.core.refusals import as_stream
from magistrate.testing import ScriptedJudge, Simulator

Body = dict[str, Any]


def message(text: str, number: int, **more: Any) -> Body:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
        **more,
    }


class Batches:
    """`/v1/messages/batches`. `answers` maps a custom id to its result; the rest say "fine".

    `results_at`: where a batch says that its results are.
    """

    def __init__(
        self,
        answers: dict[str, Any] | None = None,
        *,
        chunk: int = 50,
        results_at: str = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    ) -> None:
        self.results_at = results_at
        self.made: list[Body] = []
        self.answers = answers or {}
        self.chunk = chunk
        self.file: bytes | None = None  # the results as they are, in place of those of `answers`
        self.error: int | None = None
        self.closed = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if self.error is not None:
            body = {"type": "error", "error": {"type": "api_error", "message": "no"}}
            return httpx2.Response(self.error, json=body)
        if path.endswith("/batches"):
            self.made.append(json.loads(request.content))
            return httpx2.Response(200, json=self._batch())
        if str(request.url) == self.results_at:
            lines = b"".join(json.dumps(line).encode() + b"\n" for line in self.results())
            lines = lines if self.file is None else self.file
            return httpx2.Response(
                200, headers={"content-type": "application/x-jsonl"}, stream=self._chunks(lines)
            )
        return httpx2.Response(200, json=self._batch())

    def _chunks(self, data: bytes) -> Any:
        server = self

        class Stream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
            def __iter__(self) -> Any:
                for at in range(0, len(data), server.chunk):
                    yield data[at : at + server.chunk]

            async def __aiter__(self) -> Any:
                for piece in self:
                    yield piece

            def close(self) -> None:
                server.closed += 1

            async def aclose(self) -> None:
                server.closed += 1

        return Stream()

    def results(self) -> list[Any]:
        sent = [request["custom_id"] for request in self.made[-1]["requests"]] if self.made else []
        lines: list[Any] = []
        for number, name in enumerate([*sent, *(k for k in self.answers if k not in sent)]):
            found = self.answers.get(name, "fine")
            if isinstance(found, str):
                found = {"type": "succeeded", "message": message(found, number)}
            lines.append({"custom_id": name, "result": found})
        return lines

    def _batch(self) -> Body:
        return {
            "id": "msgbatch_1",
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": dict.fromkeys(
                ("processing", "succeeded", "errored", "canceled", "expired"), 0
            ),
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z",
            "ended_at": "2026-01-01T01:00:00Z",
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": self.results_at,
        }


class Threads:
    """`/v1/messages` with `thread`. Each reply is what `answer` makes of the new turns."""

    def __init__(self, answer: Callable[[Body], str] | None = None) -> None:
        self.sent: list[Body] = []
        self.held: dict[str, list[Any]] = {}
        self.answer = answer or (lambda body: "fine")

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.sent.append(body)
        thread = body.get("thread") or {}
        before: list[Any] = []
        if thread.get("type") == "continue":
            if thread["previous_message_id"] not in self.held:
                details = {"error_code": "thread_not_found"}
                error = {"type": "not_found_error", "message": "gone", "details": details}
                return httpx2.Response(404, json={"type": "error", "error": error})
            before = self.held[thread["previous_message_id"]]
        said = self.answer(body)
        reply = message(said, len(self.sent))
        self.held[reply["id"]] = [*before, *body["messages"], reply["content"]]
        if body.get("stream"):
            data = b"".join(item.raw for item in as_stream(reply))
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)
        return httpx2.Response(200, json=reply)


@contextmanager
def connected(flavour: str, server: Any, moderation: Moderation) -> Iterator[Edge]:
    """A drop-in client of one flavour that talks to one of these servers."""
    transport = httpx2.MockTransport(server)
    http: Any = (httpx2.Client if flavour == "sync" else httpx2.AsyncClient)(transport=transport)
    with edge(flavour, Simulator(), moderation=moderation, http_client=http) as at:
        yield at


def judge(words: str, clause: str = "fraud_abuse.fake_reviews") -> ScriptedJudge:
    """Finds a clause wherever the words stand in a judged part."""
    return ScriptedJudge(ScriptedJudge.finding(words, clause))
