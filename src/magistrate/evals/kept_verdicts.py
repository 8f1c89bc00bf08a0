"""Verdicts that a run has, by what was judged: they hold whatever a case is called or labelled.

A verdict depends on the text, its stage and its app, on the judge and on the settings. So after an
edit of labels, notes or ids it is used again, and only what is new or was rewritten has to be
judged. What no case of a run needs any more is put aside in

    RUN/put_aside.jsonl   {"judged": hash of what was judged, "result": a line of results}

and comes back with the case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import for_case
from magistrate.evals.results import Result, result_of
from magistrate.evals.run_folder import (
    CASES,
    RESULTS,
    Writer,
    json_lines,
    read_cases,
    read_results,
    write_cases,
    write_lines,
    wrong,
)
from magistrate.settings import Settings
from magistrate.wire.messages import is_object

PUT_ASIDE = "put_aside.jsonl"

_Judged = tuple[str, int]  # what was judged, and which repeat


def decided_again(settings: Settings, case: Case, result: Result) -> Result:
    """Return the same outcome, decided under these settings, as the result of this case."""
    offline = case.offline(for_case(settings, case))
    decision = offline.decide([result.outcome], result.outcome.judge)
    return result_of(case, result.repeat, result.outcome, decision, result.latency_ms)


@dataclass(slots=True)
class Kept:
    """Results by what was judged. `new`: cases without one; `unused`: results without a case."""

    results: list[Result] = field(default_factory=list[Result])
    new: list[Case] = field(default_factory=list[Case])
    unused: list[tuple[str, Result]] = field(default_factory=list[tuple[str, Result]])


def kept(
    settings: Settings,
    before: Iterable[Case],
    results: Iterable[Result],
    now: Iterable[Case],
    aside: Iterable[tuple[str, Result]] = (),
) -> Kept:
    """Give each case of `now` the results of what it asks to be judged.

    A case has those of its own id first. Results of a case that is gone or was rewritten go to
    another with the same text, each to one only: several cases with one text are judged each by
    itself. `aside`: more results, with what was judged.
    """
    hashes = {case.id: case.judged_hash for case in before}
    known = [(hashes[result.case], result) for result in results]
    own = {(result.case, hash, result.repeat): result for hash, result in known}
    cases = list(now)
    ids = {(case.id, case.judged_hash) for case in cases}
    spare: defaultdict[_Judged, list[Result]] = defaultdict(list)
    for hash, result in [*known, *aside]:
        if (result.case, hash) not in ids or own.get((result.case, hash, result.repeat)) != result:
            spare[hash, result.repeat].append(result)
    repeats = sorted({result.repeat for _, result in known} | {key[1] for key in spare})
    found = Kept()
    for case in cases:
        has = False
        for repeat in repeats:
            result = own.get((case.id, case.judged_hash, repeat))
            if result is None and (others := spare[case.judged_hash, repeat]):
                same = next((each for each in others if each.case == case.id), others[0])
                others.remove(same)
                result = decided_again(settings, case, same)
            if result is not None:
                found.results.append(result)
                has = True
        if not has:
            found.new.append(case)
    found.unused = [(key[0], result) for key, left in spare.items() for result in left]
    return found


def take_over(
    folder: Path, writer: Writer, settings: Settings, now: Dataset
) -> tuple[list[Result], int]:
    """Make the results of a run those of other cases; return them, and how many are put aside.

    A kill at any moment loses nothing: what is put aside is on disk before it is taken from the
    results, and what comes back is in the results before it is taken from there. Raises
    `SettingsError` where nothing that was judged is among the new cases: that is another run.
    """
    results, aside = read_results(folder / RESULTS), read_aside(folder / PUT_ASIDE)
    before = {case.id: case for case in (*now, *read_cases(folder / CASES))}
    for result in results:
        if result.case not in before:
            wrong(folder / RESULTS, f"is about '{result.case}', which is no case of the run")
    found = kept(settings, before.values(), results, now, aside)
    if results and not found.results:
        wrong(folder, "no case of this run is in what was given; begin a new run")
    _write_aside(folder, [*aside, *found.unused])
    writer.replace(found.results)
    write_cases(folder / CASES, now)
    _write_aside(folder, found.unused)
    return found.results, len(found.unused)


def _write_aside(folder: Path, found: Iterable[tuple[str, Result]]) -> None:
    lines = [{"judged": hash, "result": result.as_json()} for hash, result in found]
    if lines or (folder / PUT_ASIDE).exists():
        write_lines(folder / PUT_ASIDE, lines)


def read_aside(file: Path) -> list[tuple[str, Result]]:
    """Return the results that were put aside, with what was judged; none without a file."""
    found: list[tuple[str, Result]] = []
    for number, line in json_lines(file):
        try:
            inner = line["result"]
            if not is_object(inner) or not isinstance(line["judged"], str):
                raise TypeError
            found.append((line["judged"], Result.of_json(inner)))
        except (KeyError, TypeError, ValueError):
            wrong(file, "is no result that was put aside; the file was changed", number)
    return found
