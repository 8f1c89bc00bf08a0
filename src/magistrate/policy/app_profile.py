"""What an app says about itself, and the conditions a policy may tie to it.

The app profile is declared by a person; nothing here looks at a message. A policy's `when`,
`applies_when` and `requires` are all one thing: facts of this profile that must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from magistrate.config.schema import Listed, Strict, Text, Word

Audience = Literal["consumer", "business", "internal"]
Interface = Literal["chatbot", "agent", "api", "batch"]
Facts: TypeAlias = Mapping[str, tuple[str | bool, ...]]


class AppProfile(Strict):
    """The app as its team declares it. Disclosure and review depend on audience and interface,
    so neither has a default."""

    name: Text = "app"
    audience: Audience
    interface: Interface
    serves_minors: bool = False
    high_risk: Listed[Text] = ()
    decides_about_individuals: bool = False
    publishes_automatically: bool = False
    organisation: Word = "company"
    authorised: Listed[Word] = ()


_FLAG = (True, False)

# What a policy may ask about a profile; None where any word may stand.
FACTS: dict[str, tuple[str | bool, ...] | None] = {
    "audience": get_args(Audience),
    "interface": get_args(Interface),
    "serves_minors": _FLAG,
    "decides_about_individuals": _FLAG,
    "publishes_automatically": _FLAG,
    "organisation": None,
    "authorised": None,
}


def holds(facts: Facts, app: AppProfile | None) -> bool:
    """Whether the profile has, for every fact named, one of the values asked for."""
    return app is not None and all(
        _one_of(getattr(app, name, None), wanted) for name, wanted in facts.items()
    )


def _one_of(actual: Any, wanted: tuple[str | bool, ...]) -> bool:
    if isinstance(actual, tuple):  # a list in the profile: one shared word is enough
        return any(word in wanted for word in actual)  # pyright: ignore[reportUnknownVariableType]
    return actual in wanted
