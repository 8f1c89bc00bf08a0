"""Conversations that the simulated API holds between calls (message threads).

A request with `thread: {"type": "create"}` has its turns held under the id of its answer; one with
`{"type": "continue", "previous_message_id": ...}` sends the new turns only. An answer that paused
(`pause_turn`, `compaction`) is resumed with `messages: []`. An answer can be continued once.

Not simulated: which fields may not change within a thread, which features threads do not support,
and requests that continue the same answer at the same time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, cast

from magistrate.testing.replies import JSON, ErrorReply, error

RESUMED = frozenset({"pause_turn", "compaction"})
CREATE_ONLY = ("system", "tools")  # the thread has them already


@dataclass(frozen=True, slots=True)
class Held:
    """What is held under the id of an answer: all turns, that answer's too."""

    turns: tuple[JSON, ...]
    stop_reason: str

    @property
    def paused(self) -> bool:
        return self.stop_reason in RESUMED


class Threads:
    """The threads of one simulator."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._continued: set[str] = set()
        self._lock = threading.Lock()

    def before(self, fields: JSON) -> Held | ErrorReply | None:
        """Return what a request continues, the error for a wrong one, or None: it continues none.

        A complaint about the shape of `thread` is a 400; an id that nothing is held under is a 404.
        """
        thread: Any = fields.get("thread")
        if thread is None:
            return None
        kind = cast(JSON, thread).get("type") if isinstance(thread, dict) else None
        if kind == "create":
            return None
        if kind != "continue":
            return error(400, message="thread.type: Input should be 'create' or 'continue'")
        previous = cast(JSON, thread).get("previous_message_id")
        if not isinstance(previous, str):
            return error(400, message="thread.previous_message_id: Field required")
        for name in CREATE_ONLY:
            if fields.get(name) is not None:
                said = f"{name}: cannot be set on a request that continues a thread"
                return error(400, message=said)
        with self._lock:
            held = self._held.get(previous)
            if held is None:
                said = f"No usable Thread state was found for {previous}."
                return error(404, message=said, code="thread_not_found")
            if previous in self._continued:
                said = f"The response {previous} has already been continued."
                return error(400, message=said, code="thread_already_continued")
        return held

    def hold(self, fields: JSON, before: Held | None, message: JSON) -> None:
        """Hold the conversation under the id of its answer, if the request asks for that."""
        thread = cast("JSON | None", fields.get("thread"))
        if thread is None:
            return
        answered: JSON = {"role": "assistant", "content": message["content"]}
        turns = (*(before.turns if before else ()), *fields["messages"], answered)
        with self._lock:
            self._held[message["id"]] = Held(turns, message["stop_reason"])
            if thread["type"] == "continue":
                self._continued.add(thread["previous_message_id"])
