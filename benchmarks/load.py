"""What moderation costs a process, beside the plain SDK in the same run.

    python benchmarks/load.py [--quick]

Upstream is a transport in this process and the judge answers at once, so that what is left is our
own work and the SDK's. Ratios compare runs that alternate within this process; absolute numbers are
this machine's. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import anthropic
import httpx2
from rich.console import Console
from rich.table import Table

from magistrate import Moderation
from magistrate.settings import Settings
from magistrate.storage import memory as record
from magistrate.storage.memory import Record
from magistrate.verdicts import JudgeInfo, Outcome, Usage, Verdict
from magistrate.wire.content import Subject

STREAMS = 500
DELTAS = 100  # of a stream, about four tokens each
SLOW_S = 1.0
SLOW = "slow question"
_numbers = count()


# --- the world around the clients -----------------------------------------------------------------

USAGE = {"input_tokens": 9, "output_tokens": 400}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": "some words of an answer " * 20}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}


def _events() -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for number in range(DELTAS):
        delta = {"type": "text_delta", "text": f"four tokens or so {number} "}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 400}}
    yield {"type": "message_stop"}


CHUNKS = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in _events()]


class Chunks(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream's bytes, an event at a time; `turns`: other tasks get a turn after each."""

    def __init__(self, *, turns: bool) -> None:
        self._turns = turns

    def __iter__(self) -> Iterator[bytes]:
        yield from CHUNKS

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            if self._turns:
                await asyncio.sleep(0)
            yield chunk


class Upstream(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers every request with the same message, as JSON or as a stream."""

    def __init__(self, *, turns: bool = False) -> None:
        self._turns = turns

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not json.loads(request.content).get("stream"):
            return httpx2.Response(200, json=MESSAGE, request=request)
        headers = {"content-type": "text/event-stream"}
        stream = Chunks(turns=self._turns)
        return httpx2.Response(200, headers=headers, stream=stream, request=request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


class Instant:
    """A judge that finds nothing, at once, except in a slow question, where it takes `SLOW_S`."""

    def info(self, settings: Settings) -> JudgeInfo:
        return JudgeInfo("instant")

    def judge(self, subject: Subject, settings: Settings, ask: Any, deadline_s: float) -> Outcome:
        return Verdict(JudgeInfo("instant"), usage=Usage(judge_calls=1))

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: Any, deadline_s: float
    ) -> Outcome:
        if SLOW in subject.parts[0].text:
            await asyncio.sleep(SLOW_S)
        return self.judge(subject, settings, ask, deadline_s)


def asking(said: str = "question") -> dict[str, Any]:
    """A question that nobody asked before, so that no verdict is remembered."""
    turn = {"role": "user", "content": f"{said} {next(_numbers)}"}
    return {"model": "claude-haiku-5-5", "max_tokens": 99, "messages": [turn]}


def clients(stack: ExitStack, kind: Any, http: Any) -> dict[str, Any]:
    """The plain client and ours, of one kind."""
    moderation = Moderation({"version": 1}, judge=Instant())
    stack.callback(moderation.close)
    options: dict[str, Any] = {"api_key": "k", "max_retries": 0}
    return {
        "plain": kind(http_client=http(transport=Upstream()), **options),
        "ours": kind(http_client=http(transport=Upstream()), middleware=[moderation], **options),
    }


# --- CPU time, ours to plain ----------------------------------------------------------------------


def alternating(run: Callable[[str], Any], rounds: int, *, per: int) -> tuple[float, float]:
    """The CPU seconds that `run("plain")` and `run("ours")` take per unit.

    Rounds alternate, and the best of each counts: what else the machine does can only add. They
    should be short, a few milliseconds, so that some of them have the machine to themselves. No
    collection of garbage right before one: it would leave the processor's caches cold.
    """
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    gc.collect()
    for number in range(rounds + 1):
        for name, times in taken.items():
            before = time.process_time()
            run(name)
            if number:  # the first round warms up
                times.append((time.process_time() - before) / per)
    return min(taken["plain"]), min(taken["ours"])


def cpu_sync(rounds: int, calls: int) -> Iterator[tuple[str, float, float]]:
    """CPU per call and per event of the synchronous client."""
    with ExitStack() as stack:
        made = clients(stack, anthropic.Anthropic, httpx2.Client)

        def create(name: str) -> None:
            for _ in range(calls):
                made[name].messages.create(**asking())

        def stream(name: str) -> None:
            for _ in range(streams):
                for _ in made[name].messages.create(**asking(), stream=True):
                    pass

        streams = max(1, calls // 20)
        yield ("create, sync", *alternating(create, rounds, per=calls))
        events = streams * len(CHUNKS)
        yield ("stream event, sync", *alternating(stream, rounds, per=events))


def cpu_async(rounds: int, calls: int) -> Iterator[tuple[str, float, float]]:
    """The same of the asynchronous one."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        made = clients(stack, anthropic.AsyncAnthropic, httpx2.AsyncClient)

        async def create(name: str) -> None:
            for _ in range(calls):
                await made[name].messages.create(**asking())

        async def stream(name: str) -> None:
            for _ in range(streams):
                async for _ in await made[name].messages.create(**asking(), stream=True):
                    pass

        def running(what: Callable[[str], Awaitable[None]]) -> Callable[[str], None]:
            return lambda name: runner.run(what(name))  # type: ignore[arg-type]

        streams = max(1, calls // 20)
        yield ("create, async", *alternating(running(create), rounds, per=calls))
        events = streams * len(CHUNKS)
        yield ("stream event, async", *alternating(running(stream), rounds, per=events))


# --- many streams at once -------------------------------------------------------------------------


async def read(client: Any, said: str = "question") -> float:
    """Read one stream to its end; how long that took."""
    started = time.perf_counter()
    last = None
    async for event in await client.messages.create(**asking(said), stream=True):
        last = event.type
    assert last == "message_stop"
    return time.perf_counter() - started


async def read_all(client: Any, streams: int) -> None:
    await asyncio.gather(*(read(client) for _ in range(streams)))


def crowd(stack: ExitStack, kind: str = "ours") -> Any:
    """An async client for many streams at once, whose chunks arrive interleaved."""
    options: dict[str, Any] = {"api_key": "k", "max_retries": 0}
    http = httpx2.AsyncClient(transport=Upstream(turns=True))
    if kind == "plain":
        return anthropic.AsyncAnthropic(http_client=http, **options)
    moderation = Moderation({"version": 1}, judge=Instant())
    stack.callback(moderation.close)
    return anthropic.AsyncAnthropic(http_client=http, middleware=[moderation], **options)


def at_once(rounds: int, streams: int) -> tuple[str, float, float]:
    """CPU per stream where all run at the same time."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        made = {name: crowd(stack, name) for name in ("plain", "ours")}

        def run(name: str) -> None:
            runner.run(read_all(made[name], streams))

        return (f"stream, {streams} at once", *alternating(run, rounds, per=streams))


def one_slow_judge(streams: int) -> list[tuple[str, str]]:
    """One stream's judge takes a second, the others' none."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        client = crowd(stack)

        async def run(said: str) -> list[float]:
            others = (read(client) for _ in range(streams - 1))
            return await asyncio.gather(read(client, said), *others)

        runner.run(run("question"))
        fast = runner.run(run("question"))
        slow = runner.run(run(SLOW))
    return [
        ("no slow judge: the slowest stream", f"{max(fast):.2f} s"),
        (f"one judge takes {SLOW_S:.0f} s a verdict: its own stream", f"{slow[0]:.2f} s"),
        ("one slow judge: the slowest of all others", f"{max(slow[1:]):.2f} s"),
    ]


def resident() -> float:
    """Memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory(rounds: int, streams: int) -> list[tuple[str, str]]:
    """Memory over a long run, once what is remembered has reached its bounds.

    The bounds are lowered for it: the real ones hold a day of traffic.
    """
    kept = Record()
    bounds = {"marks": kept._marks.maxsize, "verdicts": kept._verdicts.maxsize}
    with ExitStack() as stack, asyncio.Runner() as runner:
        record.MARKS, record.VERDICTS = 4 * streams, 2 * streams
        client = crowd(stack)
        (moderation,) = client.middleware
        moderation._decisions = type(moderation._decisions)(streams)
        sizes: list[float] = []
        traced: list[int] = []
        tracemalloc.start()
        for number in range(rounds):
            runner.run(read_all(client, streams))
            gc.collect()
            sizes.append(resident())
            traced.append(tracemalloc.get_traced_memory()[0])
            if number == 0:
                first = traced[0]
        tracemalloc.stop()
        record.MARKS, record.VERDICTS = int(bounds["marks"]), int(bounds["verdicts"])
    settled = rounds // 4
    grown = (traced[-1] - traced[settled]) / 2**10
    shown = [sizes[at] for at in sorted({0, settled, rounds // 2, rounds - 1})]
    return [
        (
            f"{rounds} rounds of {streams} streams: RSS",
            " → ".join(f"{s:.0f}" for s in shown) + " MiB",
        ),
        (f"traced memory, round {settled + 1} to {rounds}", f"{grown:+.0f} KiB"),
        ("traced memory, round 1", f"{first / 2**20:.1f} MiB"),
    ]


# --- the report -----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short run, less exact")
    quick: bool = parser.parse_args().quick
    rounds, calls = (200, 10) if quick else (600, 10)
    started = time.perf_counter()
    table = Table(title="CPU time, ours beside the plain SDK")
    for column in ("", "plain", "ours", "added", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    rows = [*cpu_sync(rounds, calls), *cpu_async(rounds, calls)]
    rows.append(at_once(8, 100 if quick else STREAMS))
    for name, plain, ours in rows:
        table.add_row(
            name,
            f"{plain * 1e6:,.0f} µs",
            f"{ours * 1e6:,.0f} µs",
            f"{(ours - plain) * 1e6:,.0f} µs",
            f"{ours / plain:.2f}",
        )
    facts = Table(title="Many streams in one process", show_header=False)
    streams = 100 if quick else STREAMS
    for name, value in [*one_slow_judge(streams), *memory(4 if quick else 20, streams)]:
        facts.add_row(name, value)
    console = Console()
    console.print(table, facts)
    took = time.perf_counter() - started
    versions = f"anthropic {anthropic.__version__}, Python {platform.python_version()}"
    console.print(f"{versions}; {took:.0f} s")


if __name__ == "__main__":
    main()
