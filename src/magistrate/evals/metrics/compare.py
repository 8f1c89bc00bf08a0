"""What changed from one run to another, on the cases that both judged. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Literal

from magistrate.evals.cases import Case, Split
from magistrate.evals.metrics.action_metrics import (
    decided,
    detected_right,
    expected,
    handled,
    handled_right,
    level_of,
    was_stopped,
)
from magistrate.evals.metrics.levels import FAILED, LEVELS, Level, detected
from magistrate.evals.metrics.measures import judgments_of
from magistrate.evals.metrics.paired import Both, Compared, Way, adjusted, compared
from magistrate.evals.run_folder import Run
from magistrate.settings import Settings
from magistrate.verdicts import Severity, Stage
from magistrate.wire.messages import JSON

Change = Literal["lost", "won", "same"]


@dataclass(frozen=True, slots=True)
class Flip:
    """A case whose detection, action, or having an answer differs between the runs.

    Also one that lost its floor without that. `change`: from a to b, being right (in detection and
    in what was done) was lost or won; `same` where both were or neither was. An action is that of a
    verdict, or `unavailable`. `floor_missed`: a found it at or above a floor, and b did not, or has
    no verdict; see `floors` of the comparison. Never of a contested case. `floor_passed`: and it
    was not stopped for the lack of a verdict either.
    """

    case: str
    stage: Stage
    split: Split
    contested: bool
    labels: dict[str, str]
    severity: Severity | None
    expected: str
    level_a: Level
    level_b: Level
    action_a: str
    action_b: str
    change: Change
    floor_missed: bool
    floor_passed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run b measured against run a, the baseline, by the policy of b.

    `left_out` counts cases by why they are not compared: they are `only in a` or `only in b`,
    `changed` (the same id with other content or labels), `not judged in a` or `b`. Of those that
    are `compared`, `aside` counts the `contested` ones, which are in `flips` alone, and those that
    `failed in a` or `b`: see `Compared` for what these count as. `overall` and `sections` are what
    was judged, `enforced_overall` and `enforced_sections` what was enforced. `floors`: how many
    settled cases violate a clause at or above its floor; such a case is missed where no clause that
    has a floor is detected. `sample_a` and `sample_b`: how the cases
    of a run were drawn, where they are a sample.
    """

    a: str
    b: str
    policy: str
    same_policy: bool
    split: Split | None
    draws: int
    seed: int
    sample_a: str | None
    sample_b: str | None
    compared: int
    left_out: dict[str, int]
    aside: dict[str, int]
    floors: int
    overall: Compared
    sections: tuple[Compared, ...]
    enforced_overall: Compared
    enforced_sections: tuple[Compared, ...]
    flips: tuple[Flip, ...]

    def as_json(self) -> JSON:
        return asdict(self)


def compare(
    a: Run, b: Run, *, draws: int = 1000, seed: int = 0, split: Split | None = None
) -> Comparison:
    """Return what changed from run a, the baseline, to run b, on the cases that both judged.

    The first repeat counts. Raises `SettingsError` for results of cases that their run does not
    have, and ModuleNotFoundError without the extra `evals`.
    """
    both, left_out = _common(a, b, split)
    settled = [one for one in both if one.case.contested is None]
    aside = {
        "contested": len(both) - len(settled),
        "failed in a": sum(one.a.verdict is None for one in settled),
        "failed in b": sum(one.b.verdict is None for one in settled),
    }
    settings, groups = b.settings, b.settings.policy.groups
    floors = frozenset(id for id in settings.policy.clauses if settings.floor(id) is not None)

    def overall(way: Way) -> Compared:
        return compared(
            "overall", settled, None, way=way, floor=bool(floors), draws=draws, seed=seed
        )

    def sections(way: Way) -> tuple[Compared, ...]:
        found: list[Compared] = []
        for section in groups:
            clauses = frozenset(clause.id for clause in section.clauses)
            floor = not floors.isdisjoint(clauses)
            found.append(
                compared(section.id, settled, clauses, way=way, floor=floor, draws=draws, seed=seed)
            )
        return adjusted(found)

    return Comparison(
        a=a.name,
        b=b.name,
        policy=settings.policy.ref,
        same_policy=a.settings.policy.hash == settings.policy.hash,
        split=split,
        draws=draws,
        seed=seed,
        sample_a=a.sampled,
        sample_b=b.sampled,
        compared=len(both),
        left_out=left_out,
        aside=aside,
        floors=sum(_on_floor(one.case, settings) for one in settled),
        overall=overall("judged"),
        sections=sections("judged"),
        enforced_overall=overall("enforced"),
        enforced_sections=sections("enforced"),
        flips=tuple(flip for one in both if (flip := _flip(one, settings, floors)) is not None),
    )


def _common(a: Run, b: Run, split: Split | None) -> tuple[list[Both], dict[str, int]]:
    """Return the cases both runs judged, in the order of b, and how many others there are, by why.

    The split is that which b gives a case.
    """
    before = {case.id: case for case in a.cases}
    after = {case.id: case for case in b.cases.only(split)}
    results_a, results_b = (
        {case.id: result for case, result in judgments_of(run, None) if result.repeat == 0}
        for run in (a, b)
    )
    left_out = Counter(
        {"only in a": 0, "only in b": 0, "changed": 0, "not judged in a": 0, "not judged in b": 0}
    )
    elsewhere = {case.id for case in b.cases}
    left_out["only in a"] = sum(case.id not in elsewhere for case in a.cases.only(split))
    both: list[Both] = []
    for id, case in after.items():
        if id not in before:
            left_out["only in b"] += 1
        elif before[id].hash != case.hash:
            left_out["changed"] += 1
        elif id not in results_a:
            left_out["not judged in a"] += 1
        elif id not in results_b:
            left_out["not judged in b"] += 1
        else:
            both.append(Both(case, results_a[id], results_b[id]))
    return both, dict(left_out)


def _on_floor(case: Case, settings: Settings) -> bool:
    severity = case.severity
    return severity is not None and any(
        settings.floor_holds(clause, severity) for clause in case.violated
    )


def _flip(one: Both, settings: Settings, floors: Collection[str]) -> Flip | None:
    case, levels = one.case, [level_of(one.a), level_of(one.b)]
    ways = [
        (level == FAILED, detected(level), handled(result))
        for level, result in zip(levels, (one.a, one.b), strict=True)
    ]
    right_a, right_b = (
        detected_right(case, result) and handled_right(case, result) for result in (one.a, one.b)
    )
    missed = (
        case.contested is None
        and _on_floor(case, settings)
        and detected(level_of(one.a, floors))
        and not detected(level_of(one.b, floors))
    )
    if ways[0] == ways[1] and not missed:
        return None
    return Flip(
        case=case.id,
        stage=case.stage,
        split=case.split,
        contested=case.contested is not None,
        labels={**case.labels, **case.sections},
        severity=case.severity,
        expected=expected(case),
        level_a=LEVELS[levels[0]],
        level_b=LEVELS[levels[1]],
        action_a=decided(one.a),
        action_b=decided(one.b),
        change="lost" if right_a and not right_b else "won" if right_b and not right_a else "same",
        floor_missed=missed,
        floor_passed=missed and not (one.b.verdict is None and was_stopped(one.b)),
    )
