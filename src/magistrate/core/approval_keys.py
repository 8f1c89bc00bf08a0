"""The keys under which it is stored that a conversation was allowed or blocked. Pure."""

from __future__ import annotations

from magistrate.values import value


@value
class ApprovalKeys:
    """The keys that can be stored for a conversation up to one of its turns."""

    allowed: str
    blocked: str
    floor: str

    @classmethod
    def of(cls, prefix: str) -> ApprovalKeys:
        """Return the approval keys of a conversation, from its digest."""
        return cls(
            approval_key("allowed", prefix),
            approval_key("blocked", prefix),
            approval_key("floor", prefix),
        )


def approval_key(kind: str, *about: object) -> str:
    """Return an approval key: its kind and a digest. The digest is already keyed, so hashing it
    again would hide nothing more."""
    return " ".join((kind, *map(str, about)))
