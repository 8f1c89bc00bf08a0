"""What a run shows: `measure(run)`.

Which case counts in which group, and how often what happened. The numbers of one group are in
`curves`, what was done to people in `action_metrics`. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from magistrate.evals.cases import Case, Label, Split
from magistrate.evals.metrics.action_metrics import (
    ActionMetrics,
    Cost,
    Flips,
    Judged,
    Judgments,
    Latency,
    action_metrics,
    cost,
    flips,
    judgments,
    latency,
    let_pass,
    level_of,
)
from magistrate.evals.metrics.attribution import Attribution, attribution
from magistrate.evals.metrics.curves import Group, Kind, Tally, group
from magistrate.evals.metrics.levels import RULE
from magistrate.evals.run_folder import RESULTS, Run, wrong
from magistrate.policy import Policy
from magistrate.verdicts import STAGES
from magistrate.wire.messages import JSON

MIN_NAMED = 20  # cases that name a clause in their labels, below which it has no group of its own


@dataclass(frozen=True, slots=True)
class Metrics:
    """All numbers of a run.

    `overall` asks of each case whether it violates anything, and whether the judge detected
    anything. A section or a clause asks about itself alone: a benign case of ours counts
    everywhere, any other only where its labels say something. A case of which it is unknown
    whether it violates anything counts nowhere else. `attribution` says under which
    clauses violating cases were found. It, groups and `action_metrics` are about the first repeat
    and leave contested cases out, which are in `contested`; `flips`, which also leaves them out, is
    about all repeats; `judgments`, `latency` and `cost` are about all judgments.
    `split` None: of both splits. `cases` of them, of which `judged` have a first judgment,
    contested ones among them. `too_few`: clauses that fewer than `MIN_NAMED` cases name, and how
    many do; they have no group.
    """

    run: str
    policy: str
    detection: str
    split: Split | None
    prevalence: float | None
    draws: int
    seed: int
    cases: int
    judged: int
    overall: Group
    sections: tuple[Group, ...]
    stages: tuple[Group, ...]
    slices: tuple[Group, ...]
    splits: tuple[Group, ...]
    clauses: tuple[Group, ...]
    too_few: dict[str, int]
    contested: Group
    attribution: Attribution
    action_metrics: ActionMetrics
    flips: Flips
    judgments: Judgments
    latency: Latency
    cost: Cost

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups, the overall one first and contested cases last."""
        return (
            self.overall,
            *self.sections,
            *self.stages,
            *self.slices,
            *self.splits,
            *self.clauses,
            self.contested,
        )

    def as_json(self) -> JSON:
        """Return all numbers as JSON; `action_metrics` is written as `conduct`, its first name."""
        renamed = {"action_metrics": "conduct"}
        return {renamed.get(name, name): value for name, value in asdict(self).items()}


def measure(
    run: Run,
    *,
    prevalence: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    split: Split | None = None,
) -> Metrics:
    """Return all numbers of a run, or of one split of it.

    `prevalence`: the share of violating traffic at which the worth of an alarm is wanted, between
    0 and 1. `draws` of every bootstrap. The same run and arguments give the same numbers, in
    whatever order results came in. Raises ValueError for another prevalence, `SettingsError` for
    results of cases that the run does not have, and ModuleNotFoundError without the extra `evals`.
    """
    judged = judgments_of(run, split)
    every = [result for _, result in judged]
    firsts = [(case, result) for case, result in judged if result.repeat == 0]
    settled = [(case, result) for case, result in firsts if case.contested is None]
    policy = run.settings.policy
    tallies, too_few = _tallies(firsts, policy)

    def groups(kind: Kind, names: Iterable[str]) -> tuple[Group, ...]:
        return tuple(
            group(kind, name, tallies[kind, name], prevalence=prevalence, draws=draws, seed=seed)
            for name in names
        )

    return Metrics(
        run=run.name,
        policy=policy.ref,
        detection=RULE,
        split=split,
        prevalence=prevalence,
        draws=draws,
        seed=seed,
        cases=len(run.cases.only(split)),
        judged=len(firsts),
        overall=groups("overall", ["overall"])[0],
        sections=groups("section", [section.id for section in policy.groups]),
        stages=groups("stage", STAGES),
        slices=groups("slice", sorted(name for kind, name in tallies if kind == "slice")),
        splits=groups("split", sorted(name for kind, name in tallies if kind == "split")),
        clauses=groups("clause", [name for name in policy.clauses if name not in too_few]),
        too_few=too_few,
        contested=groups("contested", ["contested"])[0],
        attribution=attribution(settled, policy),
        action_metrics=action_metrics([one for one in settled if one[0].violates is not None]),
        flips=flips(result for case, result in judged if case.contested is None),
        judgments=judgments(every),
        latency=latency(every),
        cost=cost(every),
    )


def judgments_of(run: Run, split: Split | None) -> list[Judged]:
    """Return every result of a run, or of one split of it, with its case.

    Raises `SettingsError` for a result of a case that the run does not have.
    """
    cases = {case.id: case for case in run.cases}
    for result in run.results:
        if result.case not in cases:
            wrong(run.folder / RESULTS, f"is about '{result.case}', which is no case of the run")
    found = ((cases[result.case], result) for result in run.results)
    return [(case, result) for case, result in found if split in (None, case.split)]


def label_of(case: Case, clauses: Collection[str], section: str | None = None) -> Label | None:
    """Return what is known about these clauses together: ok only where all of them are.

    `section`: the one that they are all clauses of, which a case may be labelled with as a whole.
    """
    whole = case.sections.get(section) if section is not None else None
    known = {case.label(clause) for clause in clauses}
    if "violated" in known or whole == "violated":
        return "violated"
    return "ok" if whole == "ok" or known == {"ok"} else None


def _tallies(
    judged: Sequence[Judged], policy: Policy
) -> tuple[defaultdict[tuple[Kind, str], Tally], dict[str, int]]:
    """Return which case counts where; and the clauses that too few cases name."""
    settled = [case for case, _ in judged if case.contested is None]
    named = Counter(clause for case in settled for clause in case.labels)
    too_few = {clause: named[clause] for clause in policy.clauses if named[clause] < MIN_NAMED}
    questions: list[tuple[Kind, str, frozenset[str]]] = []
    for section in policy.groups:
        questions.append(("section", section.id, frozenset(c.id for c in section.clauses)))
    for clause in policy.clauses:
        if clause not in too_few:
            questions.append(("clause", clause, frozenset([clause])))
    tallies: defaultdict[tuple[Kind, str], Tally] = defaultdict(Tally)
    for case, result in judged:
        level, violates = level_of(result), case.violates
        if violates is not None:
            for key in _places(case):
                named = bool(case.labels or case.sections) and case.overall is None
                tallies[key].add(
                    case.cluster,
                    level,
                    violating=violates,
                    named=named,
                    ordinary="ordinary" in case.slices,
                    passed=let_pass(result),
                )
        if case.contested is not None:
            continue
        everywhere_ok = case.benign and case.overall is None
        for kind, name, clauses in questions:
            of = name if kind == "section" else None
            label = "ok" if everywhere_ok else label_of(case, clauses, of)
            if label is None and kind == "clause":
                label = _of_section(case, policy.section_of(name).id)
            if label is not None:
                tallies[kind, name].add(
                    case.cluster,
                    level_of(result, clauses),
                    violating=label == "violated",
                    named=case.overall is None
                    and (not clauses.isdisjoint(case.labels) or of in case.sections),
                    ordinary="ordinary" in case.slices,
                    passed=let_pass(result),
                )
    return tallies, too_few


def _of_section(case: Case, section: str) -> Label | None:
    """Return what the label of a whole section says about each of its clauses."""
    return "ok" if case.sections.get(section) == "ok" else None


def _places(case: Case) -> Iterator[tuple[Kind, str]]:
    """Yield the groups in which a case is asked about as a whole."""
    if case.contested is not None:
        yield "contested", "contested"
        return
    yield "overall", "overall"
    yield "stage", case.stage
    yield "split", case.split
    for name in case.slices:
        yield "slice", name
