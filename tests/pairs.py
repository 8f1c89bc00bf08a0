"""Tests over products of values: the fast run tries all pairs, and the slow run every row.

What breaks for one value, or where two values meet, is found in the fast run: each value of one
axis meets each value of every other axis in at least one row. What takes three values together to
break is found in the slow run, which tries the rows that the fast run leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import Any

import pytest
from _pytest.mark import ParameterSet

Row = tuple[int, ...]  # for each axis, which of its values


def pairs(**axes: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize a test with the product of these axes; see above.

    A value may be a `pytest.param`. Rows with one that is marked as slow are for the slow run.
    """
    values = [[_param(value) for value in axis] for axis in axes.values()]
    fast = [
        [at for at, value in enumerate(axis) if not any(m.name == "slow" for m in value.marks)]
        for axis in values
    ]
    chosen = set(_covering(fast))
    rows: list[Any] = []
    for row in product(*(range(len(axis)) for axis in values)):
        taken = [axis[at] for axis, at in zip(values, row, strict=True)]
        rows.append(
            pytest.param(
                *(value for each in taken for value in each.values),
                id="-".join(_id(each, at) for each, at in zip(taken, row, strict=True)),
                marks=() if row in chosen else pytest.mark.slow,
            )
        )
    return pytest.mark.parametrize(tuple(axes), rows)


def _param(value: Any) -> ParameterSet:
    return value if isinstance(value, ParameterSet) else pytest.param(value)


def _id(value: ParameterSet, at: int) -> str:
    if value.id is not None:
        return str(value.id)
    (only,) = value.values
    plain = only is None or isinstance(only, str | int | float)
    return str(only) if plain else getattr(only, "__name__", str(at))


def _covering(axes: list[list[int]]) -> Iterator[Row]:
    """Rows in which every two values of different axes meet.

    The two longest axes need a row for each of their pairs. The others take in turn, in each of
    these rows, the values that have not met yet; what is left in the end has rows of its own.
    """
    by_length = sorted(range(len(axes)), key=lambda axis: -len(axes[axis]))
    long, others = sorted(by_length[:2]), sorted(by_length[2:])
    missing = {
        ((one, a), (other, b))
        for one, other in combinations(range(len(axes)), 2)
        for a, b in product(axes[one], axes[other])
    }
    rest = [*product(*(axes[axis] for axis in others))]
    for number, ends in enumerate(product(*(axes[axis] for axis in long))):
        turned = rest[number % len(rest) :] + rest[: number % len(rest)]
        rows = [_row(dict(zip((*long, *others), (*ends, *more), strict=True))) for more in turned]
        best = max(rows, key=lambda row: len(missing & _met(row)))
        missing -= _met(best)
        yield best
    while missing:
        best = max(product(*axes), key=lambda row: len(missing & _met(row)))
        missing -= _met(best)
        yield best


def _row(chosen: dict[int, int]) -> Row:
    return tuple(chosen[axis] for axis in sorted(chosen))


def _met(row: Row) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    return set(combinations(enumerate(row), 2))
