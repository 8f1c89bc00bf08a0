"""The replies that a test declared for the application, and which of them a request gets."""

from __future__ import annotations

import threading
from collections.abc import Callable

from magistrate.testing import compacting
from magistrate.testing.replies import JSON, Replies, Reply, When, checked
from magistrate.testing.validation import last_user_text


class Declared:
    """Chooses among the replies given to a `Simulator`, which says in which order.

    Raises `TypeError` for replies that are none.
    """

    def __init__(self, replies: Replies | None, default: Reply | None) -> None:
        self._default = default
        self._choose: Callable[[JSON], Reply] | None = None
        self._whens: list[When] = []
        self._queue: list[Reply] = []
        self._lock = threading.Lock()
        if callable(replies):
            self._choose = replies
        elif isinstance(replies, Reply):
            self._default = replies
        else:
            entries = [replies] if isinstance(replies, When) else replies or []
            self._whens = [each for each in entries if isinstance(each, When)]
            self._queue = [checked(each) for each in entries if not isinstance(each, When)]
        self._declared = len(self._queue)

    def reply(self, body: JSON) -> Reply | str:
        """Return the reply to a request, or why there is none."""
        if self._choose is not None:
            return checked(self._choose(body))
        summary = compacting.reply(body)
        if summary is not None:
            return summary
        said = last_user_text(body)
        for kept in self._whens:
            if kept.needle in said:
                return kept.reply
        with self._lock:
            if self._queue:
                return self._queue.pop(0)
        if self._default is not None:
            return self._default
        return (
            f"no reply left for the last user turn {said[:80]!r}: {self._declared} declared,"
            f" all used up, no `when` matches, and there is no default"
        )
