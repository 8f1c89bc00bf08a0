"""A declared reply as a plan of what goes over the wire when: status, headers, timed bytes.

Pure: an `Answer` says what is sent, where to pause and where the connection breaks. The in-process
transport and the real port carry it out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from magistrate.testing.events import Asked, dump, error_body, events, frame, message, request_id
from magistrate.testing.latency import LatencyProfile
from magistrate.testing.replies import (
    JSON,
    Delayed,
    ErrorReply,
    Faulty,
    Headers,
    MessageReply,
    RawReply,
    Reply,
)

ORGANIZATION = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Tear:
    """The connection goes down here, without a proper end of the body."""


_Core: TypeAlias = MessageReply | ErrorReply | RawReply
Step: TypeAlias = Send | Pause | Tear


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out for one request. `status` None: the connection closes without an answer."""

    status: int | None
    headers: Headers
    steps: tuple[Step, ...]
    head_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Event:
    data: bytes
    counted: bool = True  # pings do not count for `after_events`


_Body: TypeAlias = list[_Event | Pause | Tear]


def answer(reply: Reply, asked: Asked, profile: LatencyProfile | None = None) -> Answer:
    """Return the plan for `reply`; raise `ValueError` if a fault is after its last event."""
    profile = profile or LatencyProfile()
    core, faults, delay = _unwrap(reply)
    delay += profile.first_byte_s
    if core is None:
        return Answer(None, (), (), delay)
    if not asked.streams:
        core = next((fault.error for fault in faults if fault.error), core)
    status, content_type, extra = _head(core, asked)
    headers: Headers = (
        ("content-type", content_type),
        ("request-id", request_id(asked.serial)),
        ("anthropic-organization-id", ORGANIZATION),
        *extra,
    )
    body = _body(core, asked)
    for fault in faults:
        body = _afflict(body, fault, asked)
    return Answer(status, headers, tuple(_paced(body, profile)), delay)


def spoken(reply: Reply, asked: Asked) -> MessageReply | None:
    """Return the message that a reply holds, whole, whatever befalls it; None if it has none."""
    core, faults, _ = _unwrap(reply)
    failed = not asked.streams and any(fault.error for fault in faults)
    return core if isinstance(core, MessageReply) and not failed else None


def plain(body: JSON, asked: Asked) -> Answer:
    """Return the plan for a JSON body that is not a message."""
    return answer(RawReply(200, "application/json", dump(body)), asked)


def _unwrap(reply: Reply) -> tuple[_Core | None, list[Faulty], float]:
    """Return the answer (None: nothing), its faults (innermost first), and how late it is."""
    match reply:
        case Delayed():
            if reply.reply is None:
                return None, [], reply.seconds
            core, faults, delay = _unwrap(reply.reply)
            return core, faults, delay + reply.seconds
        case Faulty():
            core, faults, delay = _unwrap(reply.reply)
            return core, [*faults, reply], delay
        case _:
            return reply, [], 0.0


def _head(core: _Core, asked: Asked) -> tuple[int, str, Headers]:
    sse = "text/event-stream; charset=utf-8"
    match core:
        case MessageReply() if asked.streams:
            return 200, sse, (("cache-control", "no-cache"),)
        case MessageReply():
            return 200, "application/json", ()
        case ErrorReply():
            return core.status, "application/json", core.headers
        case RawReply():
            streamed = asked.streams and core.sse is not None
            return core.status, sse if streamed else core.content_type, ()
        case _:
            assert_never(core)


def _body(core: _Core, asked: Asked) -> _Body:
    match core:
        case MessageReply() if asked.streams:
            return [_Event(frame(each), each["type"] != "ping") for each in events(core, asked)]
        case MessageReply():
            return [_Event(dump(message(core, asked)))]
        case ErrorReply():
            return [_Event(dump(error_body(core, asked.serial)))]
        case RawReply():
            streamed = core.sse if asked.streams else None
            return [_Event(core.content if streamed is None else streamed)]
        case _:
            assert_never(core)


def _afflict(body: _Body, fault: Faulty, asked: Asked) -> _Body:
    """Return `body` with one fault put in its place."""
    if fault.error is not None and not asked.streams:
        return body  # it is an error answer already
    counted = [at for at, step in enumerate(body) if isinstance(step, _Event) and step.counted]
    after = fault.after_events
    if len(counted) == 1:  # not a stream of the API's: it happens in the middle of the body
        place = counted[0] + 1
        whole = body[counted[0]]
        assert isinstance(whole, _Event)
        middle = len(whole.data) // 2
        halves: _Body = [_Event(whole.data[:middle]), _Event(whole.data[middle:])]
        body = [*body[: place - 1], *halves, *body[place:]]
    else:
        after = after + len(counted) if after < 0 else after
        furthest = len(counted) if fault.fault in ("drop", "stall") else len(counted) - 1
        if not 0 <= after <= furthest:
            raise ValueError(
                f"{fault.fault}(after_events={fault.after_events}) does not fit a reply"
                f" with {len(counted)} events"
            )
        place = counted[after] if after < len(counted) else len(body)
    before = body[:place]
    match fault.fault:
        case "cut":
            return before
        case "drop":
            return [*before, Tear()]
        case "stall":
            return [*before, Pause(fault.seconds), *body[place:]]
        case "error_event":
            assert fault.error is not None
            return [*before, _Event(frame(error_body(fault.error, asked.serial)))]
        case _:
            assert_never(fault.fault)


def _paced(body: _Body, profile: LatencyProfile) -> Iterator[Step]:
    """Yield the steps for `body`: everything ready at the same time is cut into chunks together."""

    def sends() -> Iterator[Step]:
        # An empty chunk would end a chunked body.
        yield from (Send(chunk) for chunk in profile.chunks(ready) if chunk)
        ready.clear()

    ready: list[bytes] = []
    for position, step in enumerate(body):
        if not isinstance(step, _Event):
            yield from sends()
            yield step
            continue
        if position and profile.per_event_s:
            yield from sends()
            yield Pause(profile.per_event_s)
        ready.append(step.data)
    yield from sends()


def compressed(planned: Answer) -> Answer:
    """Return the same answer as gzip; every chunk can be read as it comes."""
    if planned.status is None:
        return planned
    gzip = zlib.compressobj(wbits=31)
    steps: list[Step] = []
    for step in planned.steps:
        if isinstance(step, Send):
            step = Send(gzip.compress(step.data) + gzip.flush(zlib.Z_SYNC_FLUSH))
        steps.append(step)
    if not any(isinstance(step, Tear) for step in steps):
        steps.append(Send(gzip.flush()))
    headers = (*planned.headers, ("content-encoding", "gzip"))
    return replace(planned, headers=headers, steps=tuple(steps))
