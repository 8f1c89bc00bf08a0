"""The world of `load.py`: an API in this process that answers at once, and a judge that does.

What it does itself is kept small, since the plain SDK and ours both pay for it: bodies are encoded
beforehand, and requests are told apart without parsing them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx2
from ledger import prose, user

from magistrate.core import streaming, windows
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo, Outcome, Usage, Verdict
from magistrate.wire.parts import Subject

MODEL = "claude-haiku-5-5"
# A deadline that no busy machine overruns.
SETTINGS: dict[str, Any] = {"version": 1, "judge": {"deadline_s": 600}}
OPTIONS: dict[str, Any] = {"api_key": "k", "max_retries": 0}
SLOW_S = 1.0
SLOW = "slow question"
TOKENS = 400  # of a stream, where its length does not matter
DELTA = 16  # characters of a delta, four tokens
_numbers = count()

# --- the API --------------------------------------------------------------------------------------

NONE_SUSPECTED = '{"suspected": [], "discloses_ai": false}'


def message(text: str) -> dict[str, Any]:
    """A message of the API with one text block."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 400},
    }


def numbered(tokens: int) -> str:
    """Prose with a place for a number in every 32 tokens: no two answers are alike, so whatever is
    remembered of one text is no help with the next."""
    said = prose(tokens, tokens)
    return "".join(f"# {said[at + 2 : at + 128]}" for at in range(0, len(said), 128))


def _events(text: str) -> Iterator[dict[str, Any]]:
    start = {**message(""), "content": [], "stop_reason": None}
    yield {"type": "message_start", "message": start}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for at in range(0, len(text), DELTA):
        delta = {"type": "text_delta", "text": text[at : at + DELTA]}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 400}}
    yield {"type": "message_stop"}


def chunks(tokens: int = TOKENS) -> list[bytes]:
    """A stream of so many tokens, as the API sends it."""
    events = _events(numbered(tokens))
    return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]


ANSWER = json.dumps(message(numbered(120))).encode()
VERDICT = message(NONE_SUSPECTED)
_VERDICT = json.dumps(VERDICT).encode()


class Chunks(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream's bytes, an event at a time; `turns`: other tasks get a turn after each."""

    def __init__(self, chunks: list[bytes], number: bytes, *, turns: bool) -> None:
        self._chunks, self._number, self._turns = chunks, number, turns

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            yield chunk.replace(b"#", self._number)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if self._turns:
                await asyncio.sleep(0)
            yield chunk.replace(b"#", self._number)


class Upstream(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers as JSON, or as a stream of so many tokens; a judge's call with `none suspected`."""

    def __init__(self, tokens: int = TOKENS, *, turns: bool = False) -> None:
        self.chunks = chunks(tokens)
        self._turns = turns
        self._answered = self._judged = 0

    def calls_each(self) -> int:
        """Calls of the judge that an answer took, since the last time."""
        each = round(self._judged / max(1, self._answered))
        self._answered = self._judged = 0
        return each

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        body, number = request.content, b"%08d" % next(_numbers)
        headers = {"content-type": "application/json"}
        if body.rfind(b'"output_config"') >= 0:  # from its end, where a judge's call has it
            self._judged += 1
            return httpx2.Response(200, headers=headers, content=_VERDICT, request=request)
        self._answered += 1
        if body.rfind(b'"stream"') < 0:
            answer = ANSWER.replace(b"#", number)
            return httpx2.Response(200, headers=headers, content=answer, request=request)
        headers = {"content-type": "text/event-stream"}
        stream = Chunks(self.chunks, number, turns=self._turns)
        return httpx2.Response(200, headers=headers, stream=stream, request=request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


def asking(said: str = "question", before: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A question that nobody asked before, so that no verdict is remembered."""
    turn = user(f"{said} {next(_numbers)}")
    return {"model": MODEL, "max_tokens": 99, "messages": [*(before or []), turn]}


# --- judges ---------------------------------------------------------------------------------------


class Instant:
    """A judge that finds nothing, at once, except in a slow question, where it takes `SLOW_S`.

    `subjects` keeps what it is asked while it is a list.
    """

    subjects: list[Subject] | None = None

    def info(self, settings: Settings) -> JudgeInfo:
        return JudgeInfo("instant")

    def judge(self, subject: Subject, settings: Settings, ask: Any, deadline_s: float) -> Outcome:
        if self.subjects is not None:
            self.subjects.append(subject)
        return Verdict(JudgeInfo("instant"), usage=Usage(judge_calls=1))

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: Any, deadline_s: float
    ) -> Outcome:
        if SLOW in subject.parts[0].text:
            await asyncio.sleep(SLOW_S)
        return self.judge(subject, settings, ask, deadline_s)


class _VerdictsFirst(windows.StreamBuffer):
    """A hold-back that reads on only once a verdict is there."""

    __slots__ = ()

    @property
    def wants_more(self) -> bool:
        return super().wants_more and not self.out


@contextmanager
def every_window() -> Iterator[None]:
    """Judge each window as soon as it is full, the most that there can be.

    Else a stream that is there at once runs ahead of any judge, and how many windows it is cut into
    is chance; a model that writes is slower than its judge.
    """
    streaming.StreamBuffer = _VerdictsFirst
    try:
        yield
    finally:
        streaming.StreamBuffer = windows.StreamBuffer
