"""What must be judged: a request or an answer as a `Subject`, and its parts.

Pure. A `Subject` is one question to a judge. Its parts are in reading order. Parts with
`judged=False` are context that was allowed before; the verdict is about all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any, Literal

from magistrate.values import value
from magistrate.verdicts import Stage
from magistrate.wire.digests import GrowingDigest
from magistrate.wire.messages import JSON

Role = Literal["system", "user", "assistant", "app"]
Kind = Literal[
    "text",  # written by the part's role
    "thinking",
    "tool_use",  # a call: its arguments as JSON, its name among the labels
    "third_party",  # tool results, fetched pages, documents: not written in the conversation
    "media",  # an image or document that a judge must look at; `attachment` holds the block
    "definition",  # tool definitions, answer schemas and other fields of the request
]
Reason = Literal[
    "file",
    "media",
    "encrypted",
    "thread",
    "remote_tools",
    "unknown_block",
    "unknown_event",
    "unknown_field",
    "endpoint",
]


# Weak references: a judge keeps what it prepared of an exchange as long as its first part exists.
@value(weakref_slot=True)
class Part:
    """One piece of content: its path, role, kind and text.

    `labels`: names that came with it (tool name, document title, media type, ids). Attackers can
    write there too, so the judge sees them.
    """

    path: str
    role: Role
    kind: Kind
    text: str
    judged: bool = True
    labels: dict[str, str] = field(default_factory=dict[str, str])
    attachment: JSON | None = None

    def as_json(self) -> list[Any]:
        """Return all fields, as JSON."""
        return [
            self.path,
            self.role,
            self.kind,
            self.text,
            self.judged,
            self.labels,
            self.attachment,
        ]


@value
class Uninspected:
    """Content that no judge could read, and why."""

    path: str
    reason: Reason


@value
class Subject:
    """One question to a judge. `final`: False for a window of an answer that is not complete."""

    stage: Stage
    parts: tuple[Part, ...]
    final: bool = True

    def digest(self, growing: GrowingDigest) -> str:
        """Return the digest of all fields, which identifies the question."""
        # Each window of an answer begins with the context of the window before.
        context = next((at for at, part in enumerate(self.parts) if part.judged), len(self.parts))
        return growing.of(self.parts, context, [self.stage, self.final])


Extract = Iterator[Part | Uninspected]


@value
class Extracted:
    """What a reader found in one place: what a judge can read, and what it cannot."""

    parts: tuple[Part, ...] = ()
    uninspected: tuple[Uninspected, ...] = ()

    @classmethod
    def of(cls, items: Iterable[Part | Uninspected]) -> Extracted:
        """Sort what was found; the order of each kind is kept."""
        found = list(items)
        return cls(
            tuple([item for item in found if isinstance(item, Part)]),
            tuple([item for item in found if isinstance(item, Uninspected)]),
        )

    @property
    def paths(self) -> frozenset[str]:
        """Where everything stands that was found."""
        return frozenset(item.path for item in (*self.parts, *self.uninspected))


def as_context(part: Part) -> Part:
    """Return the part as context: the judge reads it but does not judge it."""
    return piece(part, part.text, judged=False) if part.judged else part


# The label of a part that moderation declined earlier: the model never saw it.
_DECLINED = "declined"


def as_declined(part: Part) -> Part:
    """Return the part as context that was declined and not passed on."""
    labels = {**part.labels, _DECLINED: "not passed on"}
    return Part(part.path, part.role, part.kind, part.text, False, labels, part.attachment)


def is_declined(part: Part) -> bool:
    """Return whether moderation declined the part earlier; no field of a message can say so."""
    return not part.judged and _DECLINED in part.labels


def piece(part: Part, text: str, *, judged: bool) -> Part:
    return Part(part.path, part.role, part.kind, text, judged, part.labels, part.attachment)
