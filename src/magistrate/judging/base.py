"""The interface of a judge, and of the function it uses to call a model.

Implement `Judge` to use your own: a classifier, another provider, a heuristic. A judge never raises
because of what it judges. It returns `Unavailable` with a reason, and the settings say what then
happens.
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
    """The result of one Messages API call: a status and JSON, or a failure without a status.

    `detail` names what failed, for operators. It never has content.
    """

    status: int
    body: JSON | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    failure: Failure | None = None
    detail: str = ""


def named(error: Exception) -> str:
    """Return the types of an error and of its cause, for operators. Leave its message out."""
    cause = error.__cause__
    return type(error).__name__ + (f" ({type(cause).__name__})" if cause is not None else "")


class AskModel(Protocol):
    """Sends one Messages API request as the moderated client would.

    Same provider, same credentials, one HTTP attempt. `timeout_s` is in seconds. Never raises
    because of what the server does.
    """

    def __call__(self, body: JSON, timeout_s: float) -> ModelReply: ...


class AskModelAsync(Protocol):
    """The asynchronous version of `AskModel`."""

    async def __call__(self, body: JSON, timeout_s: float) -> ModelReply: ...


class Judge(Protocol):
    """Returns a verdict on a subject, within `deadline_s` seconds.

    `info` names the judge and everything its verdicts depend on (`prompt_hash`): cached verdicts
    are valid only for a judge with the same info. The two methods must agree. The sync client calls
    `judge`, the async client awaits `judge_async`.

    `info` may also say how long the judge makes its caller wait (`JudgeInfo.waits`):

    - `unknown`: the sync client calls it on a separate thread and stops waiting after the deadline.
    - `within_deadline`: it is called on the caller's thread if that thread has nothing else to do,
      so only the judge itself ends the wait.
    - `never`: for a short text, both clients call `judge` at once, on the caller's thread or in the
      event loop.
    """

    def info(self, settings: Settings) -> JudgeInfo: ...

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel, deadline_s: float
    ) -> Outcome: ...

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: AskModelAsync, deadline_s: float
    ) -> Outcome: ...
