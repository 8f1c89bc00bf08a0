"""Objects with every field of the installed SDK's types, each string of them a mark.

Knows the SDK's types and nothing of magistrate: what must be judged is worked out here anew.
"""

from __future__ import annotations

import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
import typing_extensions

JSON = Any
SLOT = "\0slot"  # where a string of no fixed value stands


def filled(tp: Any, inside: tuple[Any, ...] = ()) -> list[JSON]:
    """Objects of a type that together have every field, and every alternative of every union."""
    origin = get_origin(tp)
    if typing_extensions.is_typeddict(tp):
        return [] if tp in inside else _objects(_hints(tp), (*inside, tp))
    if inspect.isclass(tp) and issubclass(tp, pydantic.BaseModel):
        fields = {(f.alias or name): f.annotation for name, f in tp.model_fields.items()}
        return [] if tp in inside else _objects(fields, (*inside, tp))
    if hasattr(tp, "__value__"):  # a type alias
        return filled(tp.__value__, inside)
    if origin in (Annotated, typing_extensions.Required, typing_extensions.NotRequired):
        return filled(get_args(tp)[0], inside)
    if origin in (typing.Required, typing.NotRequired):
        return filled(get_args(tp)[0], inside)
    if origin in (Union, types.UnionType):
        return [each for part in get_args(tp) for each in filled(part, inside)]
    if origin is Literal:
        return [get_args(tp)[0]]
    if origin is dict or tp is dict:
        return [{"key": each} for each in filled((get_args(tp) or (str, str))[1], inside)[:1]]
    if origin is not None and _is_array(origin):
        return [filled(get_args(tp)[0], inside)]
    return _scalar(tp)


def _scalar(tp: Any) -> list[JSON]:
    if tp in (type(None), None):
        return []
    if tp is bool:
        return [True]
    if tp in (int, float):
        return [1]
    if tp is object or tp is Any:
        return [{"free": SLOT, "more": [SLOT]}]
    if tp in (date, datetime):
        return ["2026-01-01T00:00:00Z"]
    if tp is str or getattr(tp, "__supertype__", None) is str:
        return [SLOT]
    name = getattr(tp, "__name__", str(tp))
    if "Base64FileInput" in name or "PathLike" in str(tp) or "IO" in name or tp is bytes:
        return []  # a file that the client reads; it is sent as a string
    if _is_array(tp):
        return [[SLOT]]
    raise TypeError(f"no example for {tp!r}: teach this module the type")


def _is_array(origin: Any) -> bool:
    names = {"list", "Iterable", "Sequence", "SequenceNotStr", "tuple"}
    return getattr(origin, "__name__", "") in names


def _hints(tp: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(tp, include_extras=True)


def _objects(fields: dict[str, Any], inside: tuple[Any, ...]) -> list[JSON]:
    """As many objects as the field with the most alternatives needs."""
    examples = {name: found for name, tp in fields.items() if (found := filled(tp, inside))}
    count = max((len(found) for found in examples.values()), default=1)
    return [
        {name: found[min(i, len(found) - 1)] for name, found in examples.items()}
        for i in range(count)
    ]


# --- places in an object --------------------------------------------------------------------------

Path = tuple[str | int, ...]


def places(value: JSON, at: Path = ()) -> Iterator[tuple[Path, JSON]]:
    """Every place in a JSON value, outermost first."""
    yield at, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*at, index))


def named(path: Path) -> str:
    """A path as people write it: `messages[0].content`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def changed(value: JSON, change: Callable[[Path, JSON], JSON], at: Path = ()) -> JSON:
    """The value with every place changed, innermost first."""
    if isinstance(value, dict):
        value = {key: changed(item, change, (*at, key)) for key, item in value.items()}
    elif isinstance(value, list):
        value = [changed(item, change, (*at, index)) for index, item in enumerate(value)]
    return change(at, value)


class Marks:
    """Marks, each unlike all others, and where each was put. `words`: with a space in them."""

    def __init__(self, *, words: bool) -> None:
        self._numbers = itertools.count()
        self._form = "zq mark {:06} qz" if words else "zqmark{:06}qz"
        self.at: dict[str, str] = {}

    def new(self, path: Path) -> str:
        mark = self._form.format(next(self._numbers))
        self.at[mark] = named(path)
        return mark

    @staticmethod
    def found_in(text: str) -> list[str]:
        return re.findall(r"zq mark \d{6} qz|zqmark\d{6}qz", text)

    def in_slots(self, value: JSON) -> JSON:
        """Put a mark wherever a string of no fixed value stands."""
        return changed(value, lambda at, item: self.new(at) if item == SLOT else item)

    def in_new_fields(self, value: JSON) -> JSON:
        """Give every object a field of no known name, with a mark."""
        return changed(
            value,
            lambda at, item: (
                {**item, "zz_new": self.new((*at, "zz_new"))} if isinstance(item, dict) else item
            ),
        )
