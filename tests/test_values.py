"""Values: what the classes that are made for every request or event do as data."""

from __future__ import annotations

from dataclasses import field, replace

import pytest

from magistrate.values import value


@value
class Point:
    """A value of the tests."""

    x: int
    y: int = 0
    names: tuple[str, ...] = field(default=())


def test_values_are_equal_and_hash_alike_where_their_fields_are() -> None:
    assert Point(1, 2) == Point(1, 2) != Point(2, 1)
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2
    assert replace(Point(1), y=2) == Point(1, 2)
    assert repr(Point(1)) == "Point(x=1, y=0, names=())"


def test_a_value_has_its_fields_and_no_others() -> None:
    """That they are not set again is for the type checker to say: see `typing/values.py`."""
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]
    assert not hasattr(Point(1), "__dict__")
