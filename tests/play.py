"""A driver without I/O: performs a flow against declared verdicts, in any order of events.

The world of one exchange is what upstream would say (`head`, `chunks`, how it ends) and what the
judge finds. `order` decides, at each `Next`, whether a waiting verdict or the next upstream event
comes first; every interleaving that a real edge could produce is one such sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from magistrate.core.effects import (
    Answer,
    Cancel,
    Effect,
    Forward,
    HoldAnswer,
    KeepThread,
    Next,
    Open,
    PropagateError,
    RaiseDecision,
    Recall,
    RejectAnswer,
    Relay,
    Remember,
    Settle,
    StartJudging,
    Write,
)
from magistrate.core.events import Chunk, End, Failed, FlowEvent, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.flow import moderate
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo, Outcome
from magistrate.wire.digests import Digests
from magistrate.wire.parts import Subject

JUDGE = JudgeInfo("declared")
Body = dict[str, Any]


@dataclass
class World:
    """Everything outside the flow. `record` may be shared between exchanges."""

    judge: Callable[[Subject], Outcome]
    head: Head | Failed = field(default_factory=lambda: Head(ok=True, sse=False))
    chunks: list[bytes] = field(default_factory=list)
    ending: End | Failed = field(default_factory=End)
    order: Callable[[], bool] = lambda: True  # True: a verdict that waits comes first
    record: dict[str, str] = field(default_factory=dict)


@dataclass
class Played:
    """What happened, in the order it did."""

    effects: list[Effect[Any]]
    exchange: Exchange

    def of(self, *kinds: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kinds)]

    @property
    def story(self) -> list[str]:
        """The effects' names, without bookkeeping and waiting."""
        quiet = (Recall, Remember, Next)
        return [type(e).__name__ for e in self.effects if not isinstance(e, quiet)]

    @property
    def written(self) -> bytes:
        return b"".join(effect.data for effect in self.of(Write))

    @property
    def decision(self) -> Any:
        (settled,) = self.of(Settle)
        return settled.decision


def play(
    body: Body, world: World, settings: Settings | None = None, *, stream: bool = False
) -> Played:
    """Run one exchange to its end."""
    settings = settings or Settings()
    exchange = Exchange("dec_1", body, settings, Digests(b"key", "scope"), JUDGE, stream)
    flow = moderate(exchange)
    effects: list[Effect[Any]] = []
    upstream = _upstream(world)
    forwarded = over = False
    waiting: list[JudgeResult] = []
    reply: Any = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration:
            return Played(effects, exchange)
        effects.append(effect)
        reply = None
        match effect:
            case Recall(keys):
                reply = {key: world.record[key] for key in keys if key in world.record}
            case Remember(keys, decision_id):
                world.record.update(dict.fromkeys(keys, decision_id))
            case StartJudging(ticket, subject):
                waiting.append(JudgeResult(ticket, world.judge(subject)))
            case Forward():
                assert not forwarded, "one upstream call per exchange"
                forwarded = True
            case Next(read):
                can_read = read and forwarded and not over
                assert waiting or can_read, "the flow waits for something that cannot come"
                if waiting and (not can_read or world.order()):
                    reply = waiting.pop(0)
                else:
                    reply = next(upstream)
                    over = isinstance(reply, End | Failed)
            case Cancel():
                reply = "not_sent" if not forwarded else "completed" if over else "cancelled"
                over = True
            case HoldAnswer():
                reply = "rev_1"
            case RaiseDecision() | PropagateError() | RejectAnswer():
                flow.close()
                return Played(effects, exchange)
            case Settle(decision):
                reply = decision
            case Relay() | Answer() | Open() | Write() | KeepThread():
                pass
            case _:
                raise AssertionError(effect)


def _upstream(world: World) -> Iterator[FlowEvent]:
    yield world.head
    for data in world.chunks:
        yield Chunk(data)
    yield world.ending
