"""The protocol of a state store. Memory is the default; others give the same guarantees.

A store holds keyed digests, verdicts without quotes, finished records, and the content that the
provider keeps between requests. A store that cannot serve raises `StoreError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from magistrate.core.decision_record import Decision
from magistrate.verdicts import Verdict
from magistrate.wire.messages import JSON


class StoreError(RuntimeError):
    """A store failed: nothing was stored. The message names the store."""


class StateStore(Protocol):
    """What is stored from one request to the next. Thread-safe.

    `blocks`: a call may wait for a network or a disk, so an event loop makes it on a thread.
    """

    @property
    def blocks(self) -> bool: ...

    def known(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Return those of the approval keys that are stored, each with its decision's id."""
        ...

    def remember(self, keys: Iterable[str], decision_id: str) -> None:
        """Store approval keys of a decision; a key that is already stored is renewed."""
        ...

    def verdict(self, key: str) -> Verdict | None:
        """Return an earlier verdict by the digest of its subject, with zero usage."""
        ...

    def keep_verdict(self, key: str, verdict: Verdict) -> None:
        """Store a verdict."""
        ...

    def claim(self, key: str, lifetime_s: float) -> str | None:
        """Claim a question for so many seconds, and return the claim; None: it is claimed.

        Its loss costs a judge call and changes no answer.
        """
        ...

    def release(self, key: str, claim: str) -> None:
        """Give a claim up."""
        ...

    def thread(self, message_id: str) -> JSON | None:
        """Return the conversation that the provider holds under its last message's id."""
        ...

    def keep_thread(self, message_id: str, conversation: JSON) -> None:
        """Store a conversation that the provider holds."""
        ...

    def batch(self, batch_id: str) -> JSON | None:
        """Return what was stored for a message batch."""
        ...

    def keep_batch(self, batch_id: str, batch: JSON) -> None:
        """Store the questions of a message batch, and the refusals of omitted entries."""
        ...

    def decision(self, decision_id: str) -> Decision:
        """Return a finished record. Raises KeyError for an id that is not stored."""
        ...

    def keep_decision(self, decision: Decision) -> None:
        """Store a finished record."""
        ...

    def after_fork(self) -> None:
        """Make the store usable in a child process."""
        ...
