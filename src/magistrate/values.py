"""Values: data classes that are never changed after construction.

A frozen data class sets each field through `object.__setattr__`, which doubles the cost of
construction, and a request constructs dozens. So a value is frozen for type checkers, which see
every assignment, and an ordinary class with slots at run time. Use it for classes constructed for
every request or event; all others are frozen data classes.
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
    """Make a class a value: compared and hashed by its fields.

    `weakref_slot`: allow weak references to its instances.
    """
    made = dataclass(slots=True, unsafe_hash=True, weakref_slot=weakref_slot)
    return made if cls is None else made(cls)
