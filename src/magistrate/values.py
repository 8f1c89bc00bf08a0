"""Values: data classes that nobody changes after they are made.

A frozen data class sets each field through `object.__setattr__`, which doubles what making one
costs, and a request makes dozens. So a value is frozen to type checkers, which read every line that
could change one, and an ordinary class with slots at run time. For classes that are made for every
request or event; all others are frozen data classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def value(cls: type[T]) -> type[T]: ...


@overload
def value(*, weakref_slot: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(
    cls: type[T] | None = None, *, weakref_slot: bool = False
) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class of values: compared by its fields, and with their hash.

    `weakref_slot`: whether there can be weak references to them.
    """
    made = dataclass(slots=True, unsafe_hash=True, weakref_slot=weakref_slot)
    return made if cls is None else made(cls)
