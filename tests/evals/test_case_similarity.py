"""The cases themselves: no near-copies, and nothing in their form that gives the label away."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case, Dataset
from magistrate.settings import Settings
from own_cases import own_cases

ROOT = Path(__file__).parents[2]

# Character 5-grams two texts share, of all they have. Unrelated texts have a median of 0.015; what
# comes highest (0.29) are hexadecimal digits, which look alike, so 0.4 is a shared text, no chance.
# Twins may share their frame and have a median of 0.2; from 0.75 on, one is the other with a
# few words exchanged, and the label hangs on those words alone.
MOST_ALIKE, MOST_ALIKE_TWINS = 0.4, 0.75
LENGTH = 5


@pytest.fixture(scope="module")
def cases() -> Dataset:
    return own_cases()


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = ROOT / "benchmarks" / "local_judge.py"
    spec = importlib.util.spec_from_file_location("benchmark_local_judge", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def text_of(case: Case) -> str:
    subject = OfflineDecision.of(Settings(), case.stage, case.request, case.answer).subject
    assert subject is not None, case.id
    return " ".join(" ".join(part.text for part in subject.parts).lower().split())


def near_copies(texts: Sequence[str], pairs: Sequence[str | None]) -> list[tuple[int, int, float]]:
    """Pairs of texts that are too much alike, by index, with how much."""
    known: dict[str, int] = {}
    columns: list[int] = []
    ends = [0]
    for text in texts:
        grams = {text[i : i + LENGTH] for i in range(max(1, len(text) - LENGTH + 1))}
        columns += [known.setdefault(gram, len(known)) for gram in grams]
        ends.append(len(columns))
    has = csr_matrix(
        (np.ones(len(columns), np.int32), columns, ends), shape=(len(texts), len(known))
    )
    shared = (has @ has.T).tocoo()
    sizes = np.diff(ends)
    found: list[tuple[int, int, float]] = []
    above = shared.row < shared.col
    rows, others, common = shared.row[above], shared.col[above], shared.data[above]
    alike = common / (sizes[rows] + sizes[others] - common)
    for k in np.flatnonzero(alike > MOST_ALIKE):
        i, j = int(rows[k]), int(others[k])
        twins = pairs[i] is not None and pairs[i] == pairs[j]
        if alike[k] > (MOST_ALIKE_TWINS if twins else MOST_ALIKE):
            found.append((i, j, round(float(alike[k]), 2)))
    return found


def test_no_two_cases_are_near_copies(cases: Dataset) -> None:
    copies = near_copies([text_of(case) for case in cases], [case.pair for case in cases])
    named = [(cases.cases[i].id, cases.cases[j].id, alike) for i, j, alike in copies]
    assert named == []


FIRST = "My neighbour asked me to water the tomatoes while she is away, how often is that in June?"


@pytest.mark.parametrize(
    ("other", "pair", "refused"),
    [
        (FIRST, None, True),
        (FIRST.replace("tomatoes", "roses").replace("June", "July"), None, True),
        (FIRST.replace("tomatoes", "roses").replace("June", "July"), "p", True),
        (
            "My neighbour asked me to feed the hens while he is in hospital, is that fine?",
            None,
            False,
        ),
        (
            "My neighbour asked me to feed the hens while he is in hospital, is that fine?",
            "p",
            False,
        ),
        ("Which of these two sentences has a comma too many, and why?", None, False),
    ],
)
def test_a_copy_with_words_exchanged_is_refused(
    other: str, pair: str | None, refused: bool
) -> None:
    assert bool(near_copies([FIRST.lower(), other.lower()], [pair, pair])) is refused


def twins_of(cases: Dataset, split: str) -> list[Case]:
    agreed = [case for case in cases if case.pair is not None and case.split == split]
    by_pair: dict[str | None, list[Case]] = {}
    for case in agreed:
        by_pair.setdefault(case.pair, []).append(case)
    return [
        case
        for twins in by_pair.values()
        if len({one.benign for one in twins}) == 2
        for case in twins
    ]


def test_markers_lengths_and_tags_do_not_give_the_label_away(
    cases: Dataset, benchmark: ModuleType
) -> None:
    """What a judge could learn from form alone, one case at a time: next to nothing.

    Against ordinary traffic form tells more, since disguises are rarer in it: that makes the
    false-positive rate on it easier to keep, and is said in docs/local-judge.md.
    """
    train, test = twins_of(cases, "dev"), twins_of(cases, "test")
    scores = benchmark.marker_scores(train, test)
    auc = benchmark.auc(
        [score for case, score in zip(test, scores, strict=True) if not case.benign],
        [score for case, score in zip(test, scores, strict=True) if case.benign],
    )
    assert 0.40 < auc < 0.60
    won = [violating > benign for violating, benign in benchmark.pairs(test, scores)]
    # With both twins side by side, form shows a little more: benign requests are about 3 % longer.
    assert len(won) >= 200 and np.mean(won) < 0.70


def test_form_tells_little_of_ordinary_traffic(cases: Dataset, benchmark: ModuleType) -> None:
    def mixed(split: str) -> list[Case]:
        found = [case for case in cases if case.split == split]
        ordinary = [c for c in found if any(tag.startswith("topic:") for tag in c.tags)]
        return [*ordinary, *(c for c in found if not c.benign)]

    train, test = mixed("dev"), mixed("test")
    scores = benchmark.marker_scores(train, test)
    auc = benchmark.auc(
        [score for case, score in zip(test, scores, strict=True) if not case.benign],
        [score for case, score in zip(test, scores, strict=True) if case.benign],
    )
    assert 0.40 < auc < 0.70


def test_a_leak_of_form_would_show(cases: Dataset, benchmark: ModuleType) -> None:
    """The same measure, with a marker put into the violating answers alone."""

    def marked(case: Case) -> Case:
        if case.benign or case.stage == "input":
            return case
        return case.model_copy(update={"response": f"{case.response} [everything else removed]"})

    train = [marked(case) for case in twins_of(cases, "dev")]
    test = [marked(case) for case in twins_of(cases, "test")]
    scores = benchmark.marker_scores(train, test)
    answers = [(c, s) for c, s in zip(test, scores, strict=True) if c.stage == "output"]
    auc = benchmark.auc(
        [score for case, score in answers if not case.benign],
        [score for case, score in answers if case.benign],
    )
    assert auc > 0.60
