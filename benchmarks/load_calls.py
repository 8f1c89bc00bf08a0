"""CPU of calls and streams: the plain SDK, ours with a judge that answers at once, and ours with
the Claude judge, whose calls are answered at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from load_clients import Client, all_variants
from load_timing import Row, alternating
from load_world import every_window

TURNS = (1, 10, 100)
LENGTHS = (2_000, 8_000, 32_000, 100_000)
CALLS = 10  # in a round
STREAM = "stream, {:,} tokens"


def calls(seconds: float) -> Iterator[Row]:
    """A call that does not stream, and an event of a short stream, of both kinds of client."""
    for kind in ("sync", "async"):
        with all_variants(kind) as made:
            upstream = made["claude"].upstream
            values = alternating(_each(made, lambda c: c.create(CALLS)), seconds, per=CALLS)
            yield Row("calls", f"create, {kind}", values, calls=upstream.calls_each())
            events = len(upstream.chunks)
            values = alternating(_each(made, lambda c: c.stream()), seconds, per=events)
            yield Row("calls", f"stream event, {kind}", values)


def turns(seconds: float) -> Iterator[Row]:
    """A call late in a conversation whose earlier turns were judged before."""
    with all_variants("async") as made:
        for turn in TURNS:
            past = {client: client.history(turn - 1) for client in made.values()}
            made["claude"].upstream.calls_each()
            values = alternating(_each(made, lambda c, past=past: c.create(1, past[c])), seconds)
            asked = made["claude"].upstream.calls_each()
            yield Row("turns", f"turn {turn}", values, calls=asked)


def streams(seconds: float, *, longest: int) -> Iterator[Row]:
    """A stream by its length, every window of it judged."""
    for tokens in (length for length in LENGTHS if length <= longest):
        with every_window(), all_variants("async", tokens) as made:
            values = alternating(_each(made, lambda c: c.stream()), seconds)
            asked = made["claude"].upstream.calls_each()
            yield Row("streams", STREAM.format(tokens), values, tokens=tokens, calls=asked)


def _each(
    made: dict[str, Client], run: Callable[[Client], object]
) -> dict[str, Callable[[], object]]:
    return {name: lambda client=client: run(client) for name, client in made.items()}
