"""The effects: what a flow asks of an edge, and what the edge replies.

The flow yields effects and is sent their replies; it never does I/O itself. Each edge performs
them in its own way: on the caller's thread, in an event loop, in a gateway. `perform` types the
replies, so a type can be wrong only if a driver sends a wrong reply. The union `AnyEffect` is
closed: the type checker finds a driver that forgot an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import field
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar, cast

from magistrate.core.decision_record import Decision, Upstream
from magistrate.core.events import FlowEvent
from magistrate.values import value
from magistrate.verdicts import Outcome
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject

T = TypeVar("T")


class Effect(Generic[T]):
    """Something an edge does for the flow; T is the type of its reply."""

    __slots__ = ()


# --- what the flow asks for -----------------------------------------------------------------------


@value
class Recall(Effect[Mapping[str, str]]):
    """Return those of these approval keys that are stored, each with the decision's id."""

    keys: tuple[str, ...]


@value
class Remember(Effect[None]):
    """Store these approval keys, with the id of the decision they follow from."""

    keys: tuple[str, ...]
    decision_id: str


@value
class StartJudging(Effect[None]):
    """Start judging and return at once; the outcome arrives as `JudgeResult` with this ticket.

    `fatal` tells, without waiting for the flow, whether an outcome makes the upstream call
    pointless. An edge that cannot wait for two things at once uses it to wake itself up.
    """

    ticket: str
    subject: Subject
    fatal: Callable[[Outcome], bool]


@value
class Forward(Effect[None]):
    """Start the upstream call and return at once. None: send the request unchanged."""

    body: JSON | None


@value
class Next(Effect[FlowEvent]):
    """Wait for the next event. With `read=False` the upstream body is not read."""

    read: bool


@value
class Cancel(Effect[Upstream]):
    """Cancel the upstream call. The reply says how far it got."""


@value
class StoreFailure:
    """A store could not do what was asked. `reason` names it and carries no content."""

    reason: str


@value
class HoldAnswer(Effect[str | StoreFailure]):
    """Store an answer durably in the review queue before the caller is told. Replies its id."""

    domains: tuple[str, ...]
    request: JSON
    message: JSON
    decision: Decision


@value
class KeepThread(Effect[None]):
    """Store a conversation that the provider now holds under the id of its last message."""

    message_id: str
    conversation: JSON


@value
class KeepBatch(Effect[None]):
    """Store an accepted batch: its questions, and refusals for omitted entries, by `custom_id`."""

    batch_id: str
    questions: dict[str, JSON]
    omitted: dict[str, JSON]


@value
class RecallThread(Effect[JSON | None]):
    """Return the conversation that the provider holds under this id; None if it is not known."""

    message_id: str


@value
class RecallBatch(Effect[tuple[dict[str, JSON], dict[str, JSON]]]):
    """Return what was stored of a batch: questions and refusals; empty for an unknown batch."""

    batch_id: str


@value
class Settle(Effect[Decision]):
    """Make a decision final and record it. The reply is the stored record: with the time it took,
    and without quotes if the settings do not keep them."""

    decision: Decision


@value
class Relay(Effect[None]):
    """Give the caller the upstream response unchanged; its body was not read."""


@value
class Answer(Effect[None]):
    """Give the caller this JSON message. `ours`: it is not a (changed) upstream response."""

    message: JSON
    public: JSON
    ours: bool


@value
class Open(Effect[None]):
    """Begin an event stream to the caller. `ours`: there is no upstream stream behind it."""

    public: JSON
    ours: bool


@value
class Write(Effect[None]):
    """Hand these bytes to the caller."""

    data: bytes


@value
class RaiseDecision(Effect[NoReturn]):
    """End by raising: `blocked`, `held`, or `unavailable`.

    `entries`: the decisions of the batch entries that are the cause, by `custom_id`. `detail`: why
    it is unavailable, if a judge is not the cause.
    """

    kind: Literal["blocked", "held", "unavailable"]
    decision: Decision
    entries: dict[str, Decision] = field(default_factory=dict[str, Decision])
    detail: str = ""


@value
class RespondError(Effect[NoReturn]):
    """End with an error response in the API's own shape, without sending the request."""

    status: int
    body: JSON


@value
class PropagateError(Effect[NoReturn]):
    """End by raising what upstream raised, unchanged."""

    error: BaseException


@value
class RejectAnswer(Effect[NoReturn]):
    """End because upstream's response is no answer: an upstream error, and nothing is released.

    `is_json`: whether its body is JSON at all. `detail` says what it is, without content.
    """

    is_json: bool
    detail: str


# What a session performs itself, on the stores; an edge only chooses the thread.
StateEffect: TypeAlias = (
    Recall | Remember | RecallThread | KeepThread | RecallBatch | KeepBatch | HoldAnswer | Settle
)
# What ends a flow: an exception or an error response for the caller.
Ending: TypeAlias = RaiseDecision | RespondError | PropagateError | RejectAnswer
AnyEffect: TypeAlias = (
    StateEffect | StartJudging | Forward | Next | Cancel | Relay | Answer | Open | Write | Ending
)
Flow: TypeAlias = Generator[AnyEffect, Any, T]


def perform(effect: Effect[T]) -> Flow[T]:
    """Yield one effect and return the driver's reply, precisely typed."""
    reply: T = yield cast("AnyEffect", effect)
    return reply


def end(effect: Effect[NoReturn]) -> Flow[NoReturn]:
    """Yield an effect that ends the flow. A driver must not resume the flow after it."""
    yield cast("AnyEffect", effect)
    raise AssertionError(f"the flow was driven on after {type(effect).__name__}")
