"""A random part of the cases that is the same whenever it is drawn again. Pure.

Twins stay together, and every group of cases has its share: the sections of the policy, ordinary
traffic, and what is about answers alone. Which of a group are drawn depends on the seed and their
ids, not on their order or on the other cases.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from magistrate.evals.cases import Case, Dataset
from magistrate.policy import Policy
from magistrate.wire.messages import JSON


@dataclass(frozen=True, slots=True)
class Sample:
    """What was drawn: at most `size` of `of` cases. `missing`: groups there was no room for."""

    size: int
    seed: int
    of: int
    missing: tuple[str, ...] = ()

    def as_json(self) -> JSON:
        return {
            "size": self.size,
            "seed": self.seed,
            "of": self.of,
            "missing": list(self.missing),
        }


def draw(cases: Dataset, policy: Policy, size: int, seed: int) -> tuple[Dataset, Sample]:
    """Return at most `size` of the cases, in their order, and what to say about them.

    It is one less than `size` where only a pair is left to take. Raises ValueError for a size below
    1.
    """
    if size < 1:
        raise ValueError("a sample has at least one case")
    pairs: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        pairs[case.cluster].append(case)
    groups: defaultdict[str, list[list[Case]]] = defaultdict(list)
    for _, pair in sorted(pairs.items(), key=lambda item: _chance(seed, item[0])):
        groups[_group(pair, policy)].append(pair)
    whole = {name: sum(map(len, group)) for name, group in groups.items()}
    taken = dict.fromkeys(groups, 0)
    drawn = set[str]()
    room = min(size, len(cases))
    while room:
        fits = {
            name: at
            for name, group in groups.items()
            if (at := next((i for i, pair in enumerate(group) if len(pair) <= room), None))
            is not None
        }
        if not fits:
            break
        # Groups of which there is nothing yet come first, then the one that is furthest behind.
        name = max(
            fits,
            key=lambda name: (
                not taken[name],
                size * whole[name] / len(cases) - taken[name],
                _chance(seed, name),
            ),
        )
        pair = groups[name].pop(fits[name])
        drawn.update(case.id for case in pair)
        taken[name] += len(pair)
        room -= len(pair)
    kept = tuple(case for case in cases if case.id in drawn)
    missing = tuple(sorted(name for name, number in taken.items() if not number))
    return Dataset(kept, cases.files), Sample(size, seed, len(cases), missing)


def _chance(seed: int, name: str) -> str:
    """Return a place in a random order. By a hash, for it is to be the same under any Python."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _group(pair: list[Case], policy: Policy) -> str:
    """Return the section that a case or its twin violates, else the one it is near."""
    for named in (
        [policy.section_of(clause).id for case in pair for clause in case.violated],
        [section for case in pair for section in case.violated_sections],
        [policy.section_of(clause).id for case in pair for clause in case.labels],
        [section for case in pair for section in case.sections],
    ):
        if named:
            return named[0]
    return "ordinary" if "ordinary" in pair[0].slices else "other"
