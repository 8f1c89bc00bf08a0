"""What a judge is, and how it may ask a model.

Implement `Judge` to bring your own: a classifier, another provider, a rule. A judge never raises
for what it judges; it answers `Unavailable` with a reason, and the settings say what follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from magistrate.settings import Settings
from magistrate.verdicts import Failure, JudgeInfo, Outcome
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What came back from one Messages API call: a status and JSON, or a failure without one.

    `detail` names what failed, for operators; never content.
    """

    status: int
    body: JSON | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    failure: Failure | None = None
    detail: str = ""


def named(error: Exception) -> str:
    """The types of an error and of what caused it: what operators look for, without its words."""
    cause = error.__cause__
    return type(error).__name__ + (f" ({type(cause).__name__})" if cause is not None else "")


class AskModel(Protocol):
    """Sends one Messages API request the way the moderated client would: same provider, same
    credentials, one HTTP attempt. `timeout_s` in seconds. Never raises for what the server does."""

    def __call__(self, body: JSON, timeout_s: float) -> ModelReply: ...


class AskModelAsync(Protocol):
    """The same, awaited."""

    async def __call__(self, body: JSON, timeout_s: float) -> ModelReply: ...


class Judge(Protocol):
    """Answers with a verdict on a subject, within `deadline_s` seconds.

    `info` names the judge and everything its verdicts depend on (`prompt_hash`): remembered
    verdicts are only good for a judge with the same info. The two methods must agree; the sync
    client calls the first, the async client awaits the second.

    `info` may also say how long the judge keeps its caller waiting (`JudgeInfo.waits`). With
    `unknown`, the sync client calls it on a thread of its own and gives it up after the deadline.
    With `within_deadline`, it is called on the caller's thread where that has nothing else to do,
    so nothing but the judge ends the wait. With `never`, both clients call `judge` at once, on the
    caller's thread or in the event loop, for a text that is short.
    """

    def info(self, settings: Settings) -> JudgeInfo: ...

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel, deadline_s: float
    ) -> Outcome: ...

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: AskModelAsync, deadline_s: float
    ) -> Outcome: ...
