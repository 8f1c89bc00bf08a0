"""What a reader would see, next to what was sent. (Filled in by the normalisation work.)"""

from __future__ import annotations

from dataclasses import dataclass

from magistrate.messages import JSON


@dataclass(frozen=True, slots=True)
class Reading:
    """Hidden characters by name, the normalised text where it differs, decoded payloads."""

    hidden: tuple[str, ...] = ()
    normalised: str | None = None
    decoded: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> JSON:
        found: JSON = {}
        if self.hidden:
            found["hidden"] = list(self.hidden)
        if self.normalised is not None:
            found["normalised"] = self.normalised
        if self.decoded:
            found["decoded"] = [{"as": how, "text": text} for how, text in self.decoded]
        return found


def reading(text: str) -> Reading:
    return Reading()
