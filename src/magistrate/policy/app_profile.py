"""The app profile, and the conditions on it that a policy may contain.

The app's team declares the profile; nothing here reads a message. A policy's `when`, `applies_when`
and `requires` all have the same form: facts of the profile that must hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from magistrate.config.schema import Listed, Strict, Text, Word

Audience = Literal["consumer", "business", "internal"]
Interface = Literal["chatbot", "agent", "api", "batch"]
Facts: TypeAlias = Mapping[str, tuple[str | bool, ...]]


DEFAULT_APP_NAME = "app"


class AppProfile(Strict):
    """The app as its team declares it.

    Disclosure and review depend on `audience` and `interface`, so neither has a default.
    """

    name: Text = DEFAULT_APP_NAME
    audience: Audience
    interface: Interface
    serves_minors: bool = False
    high_risk: Listed[Text] = ()
    decides_about_individuals: bool = False
    publishes_automatically: bool = False
    organisation: Word = "company"
    authorised: Listed[Word] = ()


_FLAG = (True, False)

# The facts that a policy may ask for, and their values; None: any word is allowed.
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
    """Return whether the profile has one of the wanted values for every fact in `facts`."""
    return app is not None and all(
        _one_of(getattr(app, name, None), wanted) for name, wanted in facts.items()
    )


def _one_of(actual: Any, wanted: tuple[str | bool, ...]) -> bool:
    if isinstance(actual, tuple):  # a list in the profile: one shared word is enough
        return any(word in wanted for word in actual)  # pyright: ignore[reportUnknownVariableType]
    return actual in wanted
