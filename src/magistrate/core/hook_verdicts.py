"""What an inference hook is answered, from the decision on its frame. Pure.

A hook's verdict allows or denies. A hold is a denial with the review's id; a warning and a
disclosure cannot be expressed, so they are named as not enforced.
"""

from __future__ import annotations

from typing import Literal

from magistrate.core.decision_record import Decision
from magistrate.core.effects import Answer, Flow, perform
from magistrate.core.exchange import Exchange
from magistrate.core.input_only import moderate_answer, moderate_input, only_outage
from magistrate.core.questions import READ_AT_ONCE
from magistrate.text.tokens import BYTES_PER_TOKEN
from magistrate.verdicts import STAGES
from magistrate.wire.hook_frames import Frame, allow, deny
from magistrate.wire.messages import JSON

# What a hook is answered where magistrate itself failed.
OnError = Literal["deny", "allow"]

UNAVAILABLE_TEXT = "Content moderation is not available, so this request was stopped. Try again."


def answer_frame(exchange: Exchange, frame: Frame, on_error: OnError) -> Flow[None]:
    """Judge a frame and give its verdict as the answer."""
    if frame.kind == "prompt":
        decision = yield from moderate_input(exchange, frame.around)
    else:
        decision = yield from moderate_answer(exchange, frame.messages[0], frame.around)
    verdict = _verdict(exchange, decision, on_error)
    yield from perform(Answer(verdict, decision.public, ours=True))


def not_enforced(decision: Decision) -> list[str]:
    """Return what a decision asks for and a hook's verdict cannot say."""
    found = ["warn"] if decision.action == "warn" else []
    return [*found, *(["disclose"] if decision.disclosure == "owed" else [])]


def _verdict(exchange: Exchange, decision: Decision, on_error: OnError) -> JSON:
    ours: JSON = dict(decision.public)
    texts = exchange.settings.texts
    match decision.action:
        case "allow" | "warn":
            if missing := not_enforced(decision):
                ours["not_enforced"] = missing
            return allow(ours)
        case "hold":
            return deny(texts.hold, decision.review_id or decision.id, ours)
        case "block":
            return deny(texts.block, decision.id, ours)
        case "unavailable":
            if on_error == "allow" and only_outage(exchange, decision.stage):
                return allow(ours)
            return deny(UNAVAILABLE_TEXT, decision.id, ours)


def verdict_on_failure(
    on_error: OnError, failure: str, exchange: Exchange | None, *, late_over_bytes: int = 0
) -> JSON:
    """Return the verdict where a frame could not be judged to the end.

    `exchange`: what is known so far; what a judge found against it counts, though a store failed
    afterwards. `late_over_bytes`: the size of a body for which the time was too short. Of a very
    long one, its author can be the cause, so that is always a denial.
    """
    decision_id = None if exchange is None else exchange.id
    ours: JSON = {"id": decision_id, "action": "unavailable", "failure": failure}
    small = late_over_bytes <= READ_AT_ONCE * BYTES_PER_TOKEN
    clear = exchange is None or all(only_outage(exchange, stage) for stage in STAGES)
    if on_error == "allow" and small and clear:
        return allow(ours)
    return deny(UNAVAILABLE_TEXT, decision_id, ours)
