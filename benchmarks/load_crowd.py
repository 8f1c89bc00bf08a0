"""Many streams in one process: CPU, what one slow judge does to the others, memory."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx2
from load_timing import Row, alternating
from load_world import OPTIONS, SETTINGS, SLOW, SLOW_S, Instant, Upstream, asking

from magistrate import Moderation
from magistrate.storage import memory as state
from magistrate.storage.memory import DecisionCache

Facts = Iterator[tuple[str, str]]


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


def crowd(stack: ExitStack, variant: str = "instant") -> Any:
    """An async client for many streams at once, whose chunks arrive interleaved."""
    http = httpx2.AsyncClient(transport=Upstream(turns=True))
    if variant == "plain":
        return anthropic.AsyncAnthropic(http_client=http, **OPTIONS)
    moderation = Moderation(SETTINGS, judge=Instant())
    stack.callback(moderation.close)
    return anthropic.AsyncAnthropic(http_client=http, middleware=[moderation], **OPTIONS)


def at_once(seconds: float, *counts: int) -> Iterator[Row]:
    """CPU per stream where all run at the same time."""
    for streams in counts:
        with ExitStack() as stack, asyncio.Runner() as runner:
            clients = {name: crowd(stack, name) for name in ("plain", "instant")}
            runs = {
                name: lambda client=client, streams=streams: runner.run(read_all(client, streams))
                for name, client in clients.items()
            }
            values = alternating(runs, seconds, per=streams)
        yield Row("crowd", f"stream, {streams:,} at once", values)


def one_slow_judge(streams: int) -> Facts:
    """One stream's judge takes a second, the others' none."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        client = crowd(stack)

        async def run(said: str) -> list[float]:
            others = (read(client) for _ in range(streams - 1))
            return await asyncio.gather(read(client, said), *others)

        runner.run(run("question"))
        fast = runner.run(run("question"))
        slow = runner.run(run(SLOW))
    yield f"no slow judge: the slowest of {streams} streams", f"{max(fast):.2f} s"
    yield f"one judge takes {SLOW_S:.0f} s a verdict: its own stream", f"{slow[0]:.2f} s"
    yield "one slow judge: the slowest of all others", f"{max(slow[1:]):.2f} s"


def resident() -> float:
    """Memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory(rounds: int, streams: int) -> Facts:
    """Memory over a long run, once what is remembered has reached its bounds.

    The bounds are lowered for it: the real ones hold a day of traffic.
    """
    bounds = state.APPROVALS, state.VERDICTS
    with ExitStack() as stack, asyncio.Runner() as runner:
        state.APPROVALS, state.VERDICTS = 4 * streams, 2 * streams
        client = crowd(stack)
        (moderation,) = client.middleware
        moderation.engine.state.decisions = DecisionCache(streams)
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
        state.APPROVALS, state.VERDICTS = bounds
    settled = rounds // 4
    grown = (traced[-1] - traced[settled]) / 2**10
    shown = [sizes[at] for at in sorted({0, settled, rounds // 2, rounds - 1})]
    said = " → ".join(f"{size:.0f}" for size in shown)
    yield f"{rounds} rounds of {streams} streams: RSS", f"{said} MiB"
    yield f"traced memory, round {settled + 1} to {rounds}", f"{grown:+.0f} KiB"
    yield "traced memory, round 1", f"{first / 2**20:.1f} MiB"
