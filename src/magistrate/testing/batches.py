"""Message batches of the simulated API: created, polled, cancelled, read and deleted.

An entry is answered as a single request with its `params` would be, at the moment the batch ends.
Results come in another order than the entries: the API promises none.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, cast

from magistrate.testing.listing import page
from magistrate.testing.replies import JSON, ErrorReply, error

MOST_ENTRIES = 100_000
LIFE = timedelta(hours=24)
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_STATES = ("processing", "succeeded", "errored", "canceled", "expired")

AnswerEntry: TypeAlias = Callable[[JSON, int], JSON]


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """How batches go on.

    `polls`: how often a batch is still in progress when it is asked for; with None it is until it
    is cancelled. `expired`: the custom ids of entries that the API finds no time for.
    `before_cancel`: how many entries, from the first, are answered although the batch is cancelled.
    Raises `ValueError` for negative numbers.
    """

    polls: int | None = 0
    expired: Collection[str] = ()
    before_cancel: int = 0

    def __post_init__(self) -> None:
        if (self.polls or 0) < 0 or self.before_cancel < 0:
            raise ValueError("a batch profile cannot have negative numbers")


@dataclass(slots=True, eq=False)
class _Batch:
    id: str
    entries: list[JSON]
    results_url: str
    serial: int
    polls: int | None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled: datetime | None = None
    ended: datetime | None = None
    results: list[JSON] = field(default_factory=list[JSON])

    @property
    def status(self) -> str:
        if self.ended is not None:
            return "ended"
        return "in_progress" if self.cancelled is None else "canceling"

    def body(self) -> JSON:
        """Return the batch as the API shows it."""
        counts = Counter[str](line["result"]["type"] for line in self.results)
        counts["processing"] = len(self.entries) - len(self.results)
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": {state: counts[state] for state in _STATES},
            "created_at": _written(self.created),
            "expires_at": _written(self.created + LIFE),
            "cancel_initiated_at": _written(self.cancelled),
            "ended_at": _written(self.ended),
            "archived_at": None,
            "results_url": self.results_url if self.ended is not None else None,
        }


class Batches:
    """The batches of one simulator.

    `answer` maps the params of an entry, and a number for its ids, to a result of the API. Every
    method returns the API's answer, or its error.
    """

    def __init__(self, profile: BatchProfile, answer: AnswerEntry) -> None:
        self._profile = profile
        self._answer = answer
        self._batches: dict[str, _Batch] = {}
        self._lock = threading.RLock()

    def create(self, body: Any, serial: int, base_url: str) -> JSON | ErrorReply:
        """Take a batch. `base_url` is where its results will be; `serial` makes its id."""
        said = _complaint(body)
        if said is not None:
            return error(400, message=said)
        entries = cast(list[JSON], body["requests"])
        name = f"msgbatch_sim_{serial:06d}"
        url = f"{base_url}/v1/messages/batches/{name}/results"
        batch = _Batch(name, entries, url, serial, self._profile.polls)
        with self._lock:
            self._batches[name] = batch
            return batch.body()

    def retrieve(self, name: str) -> JSON | ErrorReply:
        """Show a batch. This is what makes it go on: time does not."""
        with self._lock:
            batch = self._batches.get(name)
            if batch is None:
                return _not_found(name)
            if batch.ended is None:
                if batch.cancelled is not None or batch.polls == 0:
                    self._end(batch)
                elif batch.polls is not None:
                    batch.polls -= 1
            return batch.body()

    def listed(self, query: Mapping[str, Sequence[str]]) -> JSON | ErrorReply:
        """Show a page of all batches, the most recent first."""
        with self._lock:
            return page([each.body() for each in reversed(self._batches.values())], query)

    def cancel(self, name: str) -> JSON | ErrorReply:
        """Begin to cancel a batch; it has ended when it is next asked for."""
        with self._lock:
            batch = self._batches.get(name)
            if batch is None:
                return _not_found(name)
            if batch.ended is not None:
                return error(400, message=f"Batch {name} has ended and cannot be canceled")
            batch.cancelled = batch.cancelled or datetime.now(UTC)
            return batch.body()

    def delete(self, name: str) -> JSON | ErrorReply:
        """Forget a batch that has ended."""
        with self._lock:
            batch = self._batches.get(name)
            if batch is None:
                return _not_found(name)
            if batch.ended is None:
                said = f"Batch {name} is still being processed: cancel it, then delete it"
                return error(400, message=said)
            del self._batches[name]
            return {"id": name, "type": "message_batch_deleted"}

    def results(self, name: str) -> list[JSON] | ErrorReply:
        """Return the lines of the results of a batch that has ended."""
        with self._lock:
            batch = self._batches.get(name)
            if batch is None:
                return _not_found(name)
            if batch.ended is None:
                return error(404, message=f"Batch {name} has no results yet")
            return batch.results[::-1]

    def _end(self, batch: _Batch) -> None:
        for number, entry in enumerate(batch.entries):
            name = entry["custom_id"]
            if batch.cancelled is not None and number >= self._profile.before_cancel:
                result: JSON = {"type": "canceled"}
            elif name in self._profile.expired:
                result = {"type": "expired"}
            else:
                result = self._answer(entry["params"], batch.serial * MOST_ENTRIES + number)
            batch.results.append({"custom_id": name, "result": result})
        batch.ended = datetime.now(UTC)


def _complaint(body: Any) -> str | None:
    """Why the API does not take a batch, or None. What is wrong in params shows in the results."""
    fields = cast(JSON, body) if isinstance(body, dict) else None
    if fields is None:
        return "The request body must be a JSON object."
    if "requests" not in fields:
        return "requests: Field required"
    if extra := next((name for name in fields if name != "requests"), None):
        return f"{extra}: Extra inputs are not permitted"
    entries = cast(list[Any], fields["requests"])
    if not isinstance(fields["requests"], list):
        return "requests: Input should be a valid list"
    if not 1 <= len(entries) <= MOST_ENTRIES:
        return f"requests: List should have 1 to {MOST_ENTRIES} items, not {len(entries)}"
    seen: set[str] = set()
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict):
            return f"requests.{at}: Input should be an object"
        entry = cast(JSON, entry)
        for name in ("custom_id", "params"):
            if name not in entry:
                return f"requests.{at}.{name}: Field required"
        if extra := next((name for name in entry if name not in ("custom_id", "params")), None):
            return f"requests.{at}.{extra}: Extra inputs are not permitted"
        name = entry["custom_id"]
        if not isinstance(name, str) or not _CUSTOM_ID.fullmatch(name):
            return f"requests.{at}.custom_id: String should match '^[a-zA-Z0-9_-]{{1,64}}$'"
        if name in seen:
            return f"requests.{at}.custom_id: {name} is not unique within the batch"
        if not isinstance(entry["params"], dict):
            return f"requests.{at}.params: Input should be an object"
        seen.add(name)
    return None


def _not_found(name: str) -> ErrorReply:
    return error(404, message=f"Not found: no message batch has the id {name}")


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
