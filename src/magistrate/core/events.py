"""The events a flow waits for: progress of the upstream call, or a judge's outcome."""

from __future__ import annotations

from typing import TypeAlias

from magistrate.values import value
from magistrate.verdicts import Outcome


@value
class Head:
    """Upstream answered. `ok`: a 2xx status. `sse`: the body is a stream of server-sent events."""

    ok: bool
    sse: bool


@value
class Chunk:
    """Bytes of the upstream body, decoded of any content encoding."""

    data: bytes


@value
class End:
    """The upstream body ended normally."""


@value
class Failed:
    """The upstream call failed with an exception, before or within the body."""

    error: BaseException


@value
class JudgeResult:
    """A judge answered, or its deadline passed."""

    ticket: str
    outcome: Outcome


FlowEvent: TypeAlias = Head | Chunk | End | Failed | JudgeResult
