"""A request's turns and the approval keys stored for them: context, to be judged, or blocked.

Pure. A turn is context only if this exact conversation up to it was allowed before. A turn that was
blocked before is replaced by a placeholder, so that it is not sent upstream and does not block the
rest of the conversation; the current question is never replaced, it is judged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field

from magistrate.core.approval_keys import ApprovalKeys, approval_key
from magistrate.values import value
from magistrate.wire.content import RequestContent, read_request, setup_of
from magistrate.wire.digests import Digests, returned_forms
from magistrate.wire.messages import (
    JSON,
    PLACEHOLDER,
    is_object,
    redacted,
    text_of,
    turns,
)
from magistrate.wire.parts import (
    Part,
    Subject,
    Uninspected,
    as_context,
    as_declined,
    is_declined,
)

_TURN = re.compile(r"messages\[(\d+)\]")


def _is_of_system(turn: object) -> bool:
    return is_object(turn) and turn.get("role") == "system"


@value
class RequestHistory:
    """A parsed request. `known` is the subset of `keys()` that is stored, each with the id of the
    decision that stored it.

    `prefixes` are the digests of the conversation before its first turn and up to each turn,
    `turn_keys` the approval keys made from those up to each turn.
    """

    body: JSON
    digests: Digests
    redact: bool
    prefixes: tuple[str, ...]
    turn_keys: tuple[ApprovalKeys, ...]
    content: RequestContent
    setup_key: str
    known: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, body: JSON, digests: Digests, *, redact: bool) -> RequestHistory:
        """Read a request; no key is known yet."""
        setup = setup_of(body)
        prefixes = tuple(digests.chain(setup, turns(body)))
        return cls(
            body,
            digests,
            redact,
            prefixes,
            tuple(map(ApprovalKeys.of, prefixes[1:])),
            read_request(body, setup),
            approval_key("setup", prefixes[0]),
        )

    def keys(self) -> tuple[str, ...]:
        """Return every key worth looking up for this request."""
        turn_keys = (key for at in self.turn_keys for key in (at.allowed, at.blocked, at.floor))
        refused = map(self._refused, range(self.question))
        return (self.setup_key, *turn_keys, *refused)

    def _refused(self, turn: int) -> str:
        """Return the key that says this very request was refused because of a turn."""
        return approval_key("refused", self.prefixes[-1], turn)

    # --- what is stored ---------------------------------------------------------------------------

    @property
    def question(self) -> int:
        """Return the turn being asked now: the user's last. A turn after it is a prefill."""
        roles = [m.get("role") if is_object(m) else None for m in turns(self.body)]
        return max((i for i, role in enumerate(roles) if role == "user"), default=0)

    @property
    def context_until(self) -> int:
        """Return how many turns, from the first, were allowed as this exact conversation."""
        allowed = (i + 1 for i, at in enumerate(self.turn_keys) if at.allowed in self.known)
        return max(allowed, default=0)

    @property
    def blocked_turns(self) -> frozenset[int]:
        """Return earlier turns that were blocked, in a conversation that continued after them.

        Without turns for which this very request was refused: sent again, it is refused again.
        """
        return frozenset(
            i
            for i, at in enumerate(self.turn_keys[: self.question])
            if at.blocked in self.known and self._refused(i) not in self.known
        )

    @property
    def floor_found(self) -> bool:
        """Return whether a clause that cannot be loosened was found earlier in the conversation."""
        return any(at.floor in self.known for at in self.turn_keys)

    @property
    def declined_by(self) -> str | None:
        """Return the id of the decision that declined the latest blocked turn."""
        blocked = self.blocked_turns
        return self.known.get(self.turn_keys[max(blocked)].blocked) if blocked else None

    # --- what follows from it ---------------------------------------------------------------------

    def forwarded(self) -> JSON | None:
        """Return the body to send upstream, or None to send the caller's unchanged."""
        blocked = self.blocked_turns
        if not self.redact or not blocked:
            return None
        kept = [
            redacted(message) if i in blocked else message
            for i, message in enumerate(turns(self.body))
        ]
        return {**self.body, "messages": kept}

    def read(self) -> tuple[Subject, tuple[Uninspected, ...]]:
        """Return what the input's judge is asked, and what no judge can read.

        A declined turn is shown to it, marked as such: the new turn may ask for it again.
        """
        setup = self.content.setup
        parts = [*(map(as_context, setup.parts) if self.setup_key in self.known else setup.parts)]
        # Noted with every request: what is named by reference may change where it is stored.
        unread = [*setup.uninspected]
        until, blocked = self.context_until, self.blocked_turns
        for index, found in enumerate(self.content.turns):
            if index in blocked and self.redact:
                parts += map(as_declined, found.parts)
            elif index < until or index in blocked:
                parts += map(as_context, found.parts)
            else:
                parts += found.parts
                unread += found.uninspected
        return Subject("input", tuple(parts)), tuple(unread)

    def seen_by_model(self, asked: tuple[Part, ...]) -> tuple[Part, ...]:
        """Return what was asked, as the model reads it: a placeholder for each declined turn."""
        parts: list[Part] = []
        for part in asked:
            if not is_declined(part):
                parts.append(part)
                continue
            turn = _TURN.match(part.path)
            path = turn[0] if turn else part.path
            if not parts or parts[-1].path != path:
                parts.append(Part(path, part.role, "text", PLACEHOLDER, judged=False))
        return tuple(parts)

    # --- what is to be stored ---------------------------------------------------------------------

    def allowed_keys(self, warned_of: Collection[str] | None = None) -> tuple[str, ...]:
        """Return the keys to store for an input that was judged and may pass.

        `warned_of`: the paths of the findings, if the input passes with a warning. It then becomes
        context only together with its answer: sent again unchanged, as the SDK's retries do, it is
        judged again, so that the warning is not lost. A setup with a finding is judged every time.

        The keys of blocked turns are renewed after the key that allows what follows them, so that
        a bounded store never drops a blocked key while it keeps the allowing one.
        """
        found = frozenset(warned_of or ())
        last = [at.allowed for at in self.turn_keys[-1:]] if warned_of is None else []
        around = [self.setup_key] if found.isdisjoint(self.content.setup.paths) else []
        blocked = [self.turn_keys[i].blocked for i in sorted(self.blocked_turns)]
        return (*around, *last, *blocked)

    def blocked_keys(self, causes: Iterable[str], *, floor: bool) -> tuple[str, ...]:
        """Return the keys to store for a blocked input: of the turns that contain the causes.

        `causes` are paths. If no path can be placed, the current question counts as the cause.
        Earlier turns may be shared by all users, such as the application's own examples, so they
        are blocked only if a path names them; system turns are never blocked.
        """
        named, _ = self._blamed(causes)
        keys = [at.blocked for i, at in enumerate(self.turn_keys) if i in named]
        keys += [self._refused(i) for i in sorted(named) if i < self.question]
        return (*keys, *([at.floor for at in self.turn_keys[-1:]] if floor else []))

    def _blamed(self, causes: Iterable[str]) -> tuple[set[int], bool]:
        """Return the turns to mark as blocked, and whether the causes lie in no other turn."""
        judged = range(self.context_until, len(self.turn_keys))
        of_system = {i for i in judged if _is_of_system(turns(self.body)[i])}
        outside = self.content.setup.paths
        paths = set(causes)
        places = {path: int(at[1]) for path in paths if (at := _TURN.match(path))}
        lost = {path for path in paths - outside if places.get(path, -1) not in judged}
        found = set(places.values()) & set(judged)
        named = found - of_system
        if lost == paths:  # none was placed
            named = {i for i in judged if i >= self.question} - of_system
        all_placed = bool(paths) and not lost
        return named, found <= named and (all_placed or named == set(judged))

    def answered_keys(
        self, message: JSON, blocked_by: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Return the keys to store for a delivered answer: one for each form it may return in.

        `blocked_by`: the causes of the block, if the answer is a refusal of ours. After a refusal,
        the turns before it become context, except those marked as blocked. So nothing is stored if
        a cause may lie in another turn.
        """
        if blocked_by is not None and not self._blamed(blocked_by)[1]:
            return ()
        turn: object = turns(self.body)[-1] if self.turn_keys else None
        last = self.prefixes[-1]
        found = [self.digests.extended(last, form) for form in returned_forms(message)]
        if is_object(turn) and turn.get("role") == "assistant":
            # A prefill: apps store the answer with the prefill in front, as one turn.
            text = text_of(turn.get("content")) + text_of(message.get("content"))
            joined = {"role": "assistant", "content": text}
            found.append(self.digests.extended(self.prefixes[-2], joined))
        return tuple(approval_key("allowed", prefix) for prefix in found)

    def carries(self, text: str) -> bool:
        """Return whether an earlier assistant turn of the request already contains a text."""
        return any(
            is_object(m) and m.get("role") == "assistant" and text in text_of(m.get("content"))
            for m in turns(self.body)
        )
