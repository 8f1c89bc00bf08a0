"""The SDK's clients of both kinds around our drivers, for the leak proof: wire, judge, and reader.

One client of each kind serves all examples of one configuration; what upstream sends and what the
judge says is planned anew for each. Nothing waits longer than a fraction of a millisecond, except
for a judge that waits for the end of the upstream stream.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, TypeAlias

import anthropic
import httpx2
import pydantic

from leak_strategies import (
    JUDGE,
    MARK,
    Objection,
    Upstream,
    configured,
    objects,
    outcome_of,
    shown,
    tokens_in,
    unreadable_stops,
)
from magistrate import Moderation
from magistrate.core.decision_record import Decision
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo, Outcome
from magistrate.wire.parts import Subject

# How long the judge takes: no time, a moment, or until upstream has sent its last byte.
Delay: TypeAlias = Literal["none", "moment", "after upstream"]
DELAYS: tuple[Delay, ...] = ("none", "moment", "after upstream")
Surface: TypeAlias = Literal["bytes", "events", "helper"]
SURFACES: tuple[Surface, ...] = ("bytes", "events", "helper")
Way: TypeAlias = Literal["close", "leave", "raise", "forget", "cancel"]
WAYS: tuple[Way, ...] = ("close", "leave", "raise", "forget", "cancel")

_MOMENT_S = 0.0002
_PATIENCE_S = 0.005
_PATIENCE_STEPS = 40
_numbers = count()  # makes every question a new one, so that no verdict is remembered


class Said(pydantic.BaseModel):
    """What structured output asks for."""

    said: str


class Left(Exception):
    """Raised by a caller in the middle of a stream."""


# --- one example ----------------------------------------------------------------------------------


@dataclass(repr=False)
class Example:
    """What is planned for one exchange, and what came of it.

    Planned: `asked_badly`: the question has the mark. `slow`: upstream waits for the judge, so that
    verdicts come in the middle of the stream and not after it. The caller reads through `surface`,
    and with `at` leaves after so many pieces, in some `way`.

    Noted: `allowed`, the tokens of everything that a verdict has allowed so far; `received`, what
    the caller was handed, each piece of it checked as it arrives.
    """

    config: str
    upstream: Upstream
    objection: Objection = "block"
    delays: list[Delay] = field(default_factory=list)
    asked_badly: bool = False
    slow: bool = False
    surface: Surface = "bytes"
    at: int = -1
    way: Way = "close"
    allowed: set[int] = field(default_factory=set)
    asked: int = 0
    busy: int = 0
    objected: bool = False
    refused_input: bool = False
    received: bytearray = field(default_factory=bytearray)
    bodies: list[Body] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    final: Any = None
    error: Exception | None = None
    decisions: list[Decision] = field(default_factory=list)

    def __repr__(self) -> str:
        left = f", {self.way} at {self.at}" if self.at >= 0 else ""
        judge = f"{self.objection} after {self.delays}"
        how = f"{self.surface}{left}, slow: {self.slow}, asked badly: {self.asked_badly}"
        return f"<{self.config}; {judge}; {how}; {self.upstream}>"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))

    @property
    def settings(self) -> Settings:
        return configured(self.config)

    @property
    def unreadable(self) -> bool:
        """Whether it has content that nobody can read and the settings do not let pass."""
        return unreadable_stops(self.settings, self.upstream.reasons)

    @property
    def decision(self) -> Decision:
        (only,) = self.decisions
        return only

    def receive(self, data: bytes | str) -> None:
        """Take in what the caller is handed: everything in it must have been allowed by now."""
        for number in tokens_in(data):
            before = set(range(number + 1)) - self.upstream.opaque.keys()
            assert before <= self.allowed, f"#{number}# came before a verdict on it"
            reason = self.upstream.opaque.get(number)
            assert reason is None or not unreadable_stops(self.settings, [reason])
        self.received += data if isinstance(data, bytes) else data.encode()

    def delay(self) -> Delay:
        """How long the next call of the judge takes."""
        with self.lock:
            number, self.asked = self.asked, self.asked + 1
            self.busy += 1
        return self.delays[number % len(self.delays)] if self.delays else "none"

    def answer(self, subject: Subject) -> Outcome:
        """The judge's answer; what it allows is noted before anybody can hear of it."""
        outcome = outcome_of(subject, self.objection)
        with self.lock:
            self.busy -= 1
            if objects(self.settings, subject.stage, outcome, self.objection):
                self.objected = True
                self.refused_input = self.refused_input or subject.stage == "input"
            else:
                self.allowed |= shown(subject)
        return outcome

    def cancelled(self) -> None:
        with self.lock:
            self.busy -= 1


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """An upstream body: the planned bytes, and how often it was closed."""

    def __init__(self, example: Example) -> None:
        self._example = example
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        example = self._example
        for chunk in example.upstream.chunks:
            yield chunk
            until = time.monotonic() + 5 * _MOMENT_S
            while example.slow and example.busy and time.monotonic() < until:
                time.sleep(_MOMENT_S / 4)
        self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        example = self._example
        for number, chunk in enumerate(example.upstream.chunks):
            for _ in range(6 if example.slow else number % 3 == 0):
                await asyncio.sleep(0)
            yield chunk
        self._end()

    def _end(self) -> None:
        self._example.over.set()
        if self._example.upstream.ending == "failed":
            raise httpx2.ReadError("connection reset")

    def close(self) -> None:
        self.closed += 1
        self._example.over.set()

    async def aclose(self) -> None:
        self.close()
        await asyncio.sleep(0)


class Wire(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers every request with the stream that is planned now."""

    example: Example

    def _response(self, request: httpx2.Request) -> httpx2.Response:
        body = Body(self.example)
        self.example.bodies.append(body)
        headers = {"content-type": "text/event-stream; charset=utf-8"}
        return httpx2.Response(200, headers=headers, stream=body, request=request)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._response(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0)
        return self._response(request)


class Listener:
    """A judge that takes its time, and objects to the mark."""

    example: Example

    def info(self, settings: Settings) -> JudgeInfo:
        return JUDGE

    def judge(self, subject: Subject, settings: Settings, ask: Any, deadline_s: float) -> Outcome:
        example = self.example
        match example.delay():
            case "none":
                pass
            case "moment":
                time.sleep(_MOMENT_S)
            case "after upstream":
                example.over.wait(_PATIENCE_S)
        return example.answer(subject)

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: Any, deadline_s: float
    ) -> Outcome:
        example = self.example
        delay = example.delay()
        try:
            if delay != "none":
                for step in range(_PATIENCE_STEPS):
                    await asyncio.sleep(0)
                    if step > 2 and (delay == "moment" or example.over.is_set()):
                        break
        except BaseException:
            example.cancelled()
            raise
        return example.answer(subject)


# --- the clients ----------------------------------------------------------------------------------


class Edge:
    """Both clients of one configuration."""

    def __init__(self, config: str) -> None:
        self.settings = configured(config)
        self._wire, self._judge = Wire(), Listener()
        self.moderation = Moderation(self.settings, judge=self._judge)
        options: dict[str, Any] = {"api_key": "k", "max_retries": 0, "timeout": 30.0}
        self.sync_client = anthropic.Anthropic(
            middleware=[self.moderation],
            http_client=httpx2.Client(transport=self._wire),
            **options,
        )
        self.async_client = anthropic.AsyncAnthropic(
            middleware=[self.moderation],
            http_client=httpx2.AsyncClient(transport=self._wire),
            **options,
        )

    def close(self, runner: asyncio.Runner) -> None:
        self.sync_client.close()
        runner.run(self.async_client.close())
        self.moderation.close()

    def plan(self, example: Example) -> dict[str, Any]:
        """Make this the exchange that comes next; the arguments to ask with."""
        self._wire.example = self._judge.example = example
        self.moderation.engine.state.decisions.clear()
        words = f"question {next(_numbers)}{MARK * example.asked_badly}"
        question = {"role": "user", "content": words}
        call: dict[str, Any] = {
            "model": "claude-haiku-5-5",
            "max_tokens": 9,
            "messages": [question],
        }
        if example.upstream.structured and example.surface == "helper":
            call["output_format"] = Said
        elif example.upstream.structured:
            call["output_config"] = {"format": {"type": "json_schema", "schema": {}}}
        return call

    def note(self, example: Example) -> None:
        example.decisions = self.moderation.engine.state.decisions.all()

    # --- synchronous ------------------------------------------------------------------------------

    def read(self, example: Example) -> None:
        """Ask and read to the end, or leave early."""
        call = self.plan(example)
        try:
            self._read(example, call)
        except Left:
            pass
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            example.error = error.with_traceback(None)
        if example.way in ("forget", "leave"):
            collect()
        self._settle(example)
        self.note(example)

    def _read(self, example: Example, call: dict[str, Any]) -> None:
        match example.surface:
            case "bytes":
                streaming = self.sync_client.messages.with_streaming_response
                with streaming.create(**call, stream=True) as response:
                    for number, data in enumerate(response.iter_bytes()):
                        if number == example.at:
                            return leave(example, response.close)
                        example.receive(data)
            case "events":
                stream = self.sync_client.messages.create(**call, stream=True)
                for number, item in enumerate(stream):
                    if number == example.at:
                        return leave(example, stream.close)
                    example.receive(item.to_json(warnings=False))
            case "helper":
                with self.sync_client.messages.stream(**call) as helper:
                    for number, item in enumerate(helper):
                        if number == example.at:
                            return leave(example, helper.close)
                        example.receive(item.to_json(warnings=False))
                    if has_begun(example):
                        example.final = helper.get_final_message()

    def _settle(self, example: Example) -> None:
        """Wait until no judge is at work any more."""
        until = time.monotonic() + 5
        while example.busy and time.monotonic() < until:
            time.sleep(_MOMENT_S)

    # --- asynchronous -----------------------------------------------------------------------------

    async def read_async(self, example: Example) -> None:
        """The same; `cancel` cancels the reading task after `at` steps of the event loop."""
        call = self.plan(example)
        reading = asyncio.create_task(self._read_to_end(example, call))
        if example.way == "cancel":
            for _ in range(example.at):
                await asyncio.sleep(0)
            reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()
        del reading
        if example.way in ("forget", "leave"):
            collect()  # an async generator that is dropped is closed by the event loop, later
        for step in range(500):
            await asyncio.sleep(0)
            if step > 20 and asyncio.all_tasks() == {asyncio.current_task()}:
                break
        self.note(example)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def _read_to_end(self, example: Example, call: dict[str, Any]) -> None:
        try:
            await self._read_async(example, call)
        except Left:
            pass
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            example.error = error.with_traceback(None)

    async def _read_async(self, example: Example, call: dict[str, Any]) -> None:
        at, number = (-1 if example.way == "cancel" else example.at), -1
        match example.surface:
            case "bytes":
                streaming = self.async_client.messages.with_streaming_response
                async with streaming.create(**call, stream=True) as response:
                    async for data in response.iter_bytes():
                        if (number := number + 1) == at:
                            return await leave_async(example, response.close)
                        example.receive(data)
            case "events":
                stream = await self.async_client.messages.create(**call, stream=True)
                async for item in stream:
                    if (number := number + 1) == at:
                        return await leave_async(example, stream.close)
                    example.receive(item.to_json(warnings=False))
            case "helper":
                async with self.async_client.messages.stream(**call) as helper:
                    async for item in helper:
                        if (number := number + 1) == at:
                            return await leave_async(example, helper.close)
                        example.receive(item.to_json(warnings=False))
                    if has_begun(example):
                        example.final = await helper.get_final_message()


def collect() -> None:
    """Collect garbage, and leave out what is left from now on: examples are many."""
    gc.collect()
    gc.freeze()


def has_begun(example: Example) -> bool:
    """Whether a message began to arrive; without one the SDK has no final message, moderated or
    not."""
    return b"message_start" in example.received


def leave(example: Example, close: Callable[[], Any]) -> None:
    """Leave a stream: close it, just go, or with an exception."""
    if example.way == "close":
        close()
    elif example.way == "raise":
        raise Left


async def leave_async(example: Example, close: Callable[[], Any]) -> None:
    """The same, asynchronous."""
    if example.way == "close":
        await close()
    elif example.way == "raise":
        raise Left
