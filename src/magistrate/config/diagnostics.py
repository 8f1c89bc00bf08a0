"""Problems in a configuration file: one `Problem` each, all in one `SettingsError`.

Pure text. Quotes from a file are made safe here for one line of a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

Where: TypeAlias = tuple[str | int, ...]  # ("review", "reviewers", 0, "name")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem and its position. Lines and columns count from 1."""

    file: str | None
    line: int | None
    column: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = [self.file] if self.file is not None else []
        if self.line is not None:
            place += [str(self.line), str(self.column)]
        parts = [":".join(place), self.path, self.message]
        return ": ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class ConstraintViolation:
    """A value (with `on_key`: a key) that another part of the file does not allow."""

    where: Where
    message: str
    on_key: bool = False


class SettingsError(ValueError):
    """A settings, policy or case file is invalid. `str()` has a paragraph per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)


def dotted(where: Where) -> str:
    """Format `("reviewers", 0, "name")` as `reviewers[0].name`."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{shown(part)}"
    return text


def shown(text: str, limit: int = 60) -> str:
    """Return untrusted text, made safe and at most `limit` characters long, for a terminal line."""
    plain = text if text.isprintable() else repr(text)[1:-1]
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def closest(word: object, allowed: Iterable[str]) -> str | None:
    """Return the allowed word most similar to `word`; None if none is similar."""
    matches = get_close_matches(str(word).lower(), list(allowed), n=1, cutoff=0.6)
    return matches[0] if matches else None


def nearest(word: object, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or an empty string if no allowed word is similar."""
    match = closest(word, allowed)
    return f"; did you mean '{match}'?" if match else ""


def listed(words: Iterable[str], limit: int = 40) -> str:
    """Return `a, b, c`, with a count of the rest if there are more than `limit`."""
    all_words = list(words)
    more = f" and {len(all_words) - limit} more" if len(all_words) > limit else ""
    return ", ".join(all_words[:limit]) + more


def described(value: object) -> str:
    """Describe a Python value in a few words, for messages."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value)
        case str():
            return f"'{shown(value)}'"
        case int() if abs(value) >= 10**18:
            return "a very large number"
        case int() | float():
            return str(value)
        case Mapping():
            return "a mapping"
        case list() | tuple() | set() | frozenset():
            return "a list"
        case _:
            return f"a {type(value).__name__}"
