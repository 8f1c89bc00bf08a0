"""The best choice of one option for each section within a limit: an exact search. Pure.

A case is acted on if some chosen option acts on it. The most violating cases are to be acted on
while what that and acting on benign ones adds up to stays within the limit. Options of different
sections overlap, so this is a small integer programme; scipy solves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Generic, TypeVar

from magistrate.evals.metrics.statistics import library

Named = TypeVar("Named", covariant=True)
_LITTLE = 1e-3  # what all changes of rows together weigh against the cheapest case


@dataclass(frozen=True, slots=True)
class Option(Generic[Named]):
    """Something that can be chosen for a section, and the ids of the cases it acts on."""

    row: Named
    acts_on: frozenset[str]


@dataclass(frozen=True, slots=True)
class Weights:
    """Which cases violate and which are benign, what acting on one of each adds, and the limit."""

    violating: frozenset[str]
    benign: frozenset[str]
    a_violating: Fraction
    a_benign: Fraction
    limit: Fraction

    def cost(self, acted: frozenset[str]) -> Fraction:
        """Return the sum of acting on these cases."""
        return self.a_violating * len(acted & self.violating) + self.a_benign * len(
            acted & self.benign
        )


class OverLimit(Exception):
    """No choice is within the limit. `least` is what the cheapest one costs."""

    def __init__(self, least: Fraction) -> None:
        super().__init__(f"the cheapest choice costs {least}")
        self.least = least


def choose(
    options: Mapping[str, Sequence[Option[Named]]],
    always: frozenset[str],
    weights: Weights,
) -> dict[str, Named]:
    """Return the option for each section: of those within the limit the ones that catch most.

    Among equals those that cost least, and then those that choose the first option most often.
    `always` is acted on whatever is chosen. Raises `OverLimit` if no choice is within the limit.
    """
    search = _Search(options, always, weights)
    chosen = search.cheapest(0)
    assert chosen is not None
    caught, cost = search.outcome(chosen)
    if cost > weights.limit:
        raise OverLimit(cost)
    # The least that it costs to catch so many grows with their number.
    high = search.most
    while caught < high:
        middle = (caught + high + 1) // 2
        found = search.cheapest(middle)
        reached, cost = search.outcome(found) if found is not None else (0, weights.limit + 1)
        if found is not None and reached >= middle and cost <= weights.limit:
            chosen, caught = found, reached
        else:
            high = middle - 1
    return {section: options[section][index].row for section, index in chosen.items()}


class _Search:
    """The integer programme: one variable for each option, one for each kind of case.

    Cases that the same options act on are of one kind. Its variable is 1 exactly if one of those is
    chosen; with options at 0 or 1 the bounds leave it no other value.
    """

    def __init__(
        self,
        options: Mapping[str, Sequence[Option[Any]]],
        always: frozenset[str],
        weights: Weights,
    ) -> None:
        self._options, self._always, self._weights = options, always, weights
        self._names = [(section, i) for section in options for i in range(len(options[section]))]
        acted_by: dict[str, set[int]] = {}
        for number, (section, i) in enumerate(self._names):
            for case in options[section][i].acts_on:
                acted_by.setdefault(case, set()).add(number)
        sections = list(options)
        self._section_of = [sections.index(section) for section, _ in self._names]
        violating = weights.violating
        kinds = Counter(
            (frozenset(numbers), case in violating)
            for case, numbers in acted_by.items()
            if case not in always and case in violating | weights.benign
        )
        self._kinds = sorted(kinds.items(), key=lambda kind: (sorted(kind[0][0]), kind[0][1]))
        self._at_once = len(always & violating)
        self.most = self._at_once + sum(n for (_, bad), n in self._kinds if bad)

    def outcome(self, chosen: Mapping[str, int]) -> tuple[int, Fraction]:
        """Return how many violating cases a choice catches, and what it costs."""
        acted = self._always.union(*(self._options[s][i].acts_on for s, i in chosen.items()))
        return len(acted & self._weights.violating), self._weights.cost(acted)

    def cheapest(self, caught: int) -> dict[str, int] | None:
        """Return the cheapest options, by section, that catch at least so many violating cases.

        None: no options catch so many.
        """
        if not self._names:
            return {}
        np, optimize = library("numpy"), library("scipy.optimize")
        x, y = len(self._names), len(self._kinds)
        each = {True: self._weights.a_violating, False: self._weights.a_benign}
        unit = min(cost for cost in each.values() if cost)
        goal = [0.0 if i == 0 else _LITTLE / len(self._options) for _, i in self._names]
        goal += [float(each[bad] / unit) * n for (_, bad), n in self._kinds]
        rows: list[Any] = []
        low: list[float] = []

        def at_least(bound: float, entries: Mapping[int, float]) -> None:
            row = np.zeros(x + y)
            for column, value in entries.items():
                row[column] = value
            rows.append(row)
            low.append(bound)

        for section in range(len(self._options)):
            mine = [n for n in range(x) if self._section_of[n] == section]
            at_least(1, dict.fromkeys(mine, 1.0))
            at_least(-1, dict.fromkeys(mine, -1.0))
        for column, ((numbers, _), _) in enumerate(self._kinds, x):
            at_least(0, dict.fromkeys(numbers, 1.0) | {column: -1.0})
            for section in {self._section_of[n] for n in numbers}:
                mine = [n for n in numbers if self._section_of[n] == section]
                at_least(0, dict.fromkeys(mine, -1.0) | {column: 1.0})
        bad = {column: float(n) for column, ((_, b), n) in enumerate(self._kinds, x) if b}
        at_least(caught - self._at_once, bad)
        found = optimize.milp(
            np.asarray(goal),
            integrality=np.asarray([1] * x + [0] * y),
            bounds=optimize.Bounds(0, 1),
            constraints=optimize.LinearConstraint(np.asarray(rows), np.asarray(low), np.inf),
            options={"mip_rel_gap": 0},
        )
        if found.x is None:
            return None
        chosen = [n for n in range(x) if found.x[n] > 0.5]
        return {self._names[n][0]: self._names[n][1] for n in chosen}
