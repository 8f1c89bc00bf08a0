"""Two runs against each other, and the rules a run must pass."""

from __future__ import annotations

import gc
import json
import random
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eval_runs import ABUSE, LOBBY, SCAM, SPAM, case, result, run
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.cases import Case
from magistrate.evals.gates.checks import Gate, check
from magistrate.evals.gates.rules import (
    RATES,
    LostRule,
    NewRule,
    RateRule,
    SignificanceRule,
    parse,
    read_rules,
)
from magistrate.evals.metrics.compare import Comparison, compare
from magistrate.evals.metrics.measures import Metrics, measure
from magistrate.evals.metrics.paired import Compared, Paired
from magistrate.evals.metrics.statistics import Estimate, Interval, needed_discordant
from magistrate.evals.report.comparison import as_markdown
from magistrate.evals.results import Result
from magistrate.evals.run_folder import Run
from magistrate.verdicts import GRADES

MARK = "✂"


def both(cases: list[Case], a: list[Result], b: list[Result], **more: Any) -> Comparison:
    return compare(run(cases, a, "a"), run(cases, b, "b"), **{"draws": 30} | more)


def section(found: Comparison, name: str) -> Compared:
    return next(row for row in found.sections if row.name == name)


def four(row: Paired) -> tuple[int, int, int, int]:
    return row.both, row.only_a, row.only_b, row.neither


def graded(cases: list[Case], grades: list[str], clause: str = SCAM) -> list[Result]:
    return [result(one, {clause: grade}) for one, grade in zip(cases, grades, strict=True)]


# --- what is compared -----------------------------------------------------------------------------


def test_a_comparison_by_hand():
    cases = [case(f"v{at}", [SCAM]) for at in range(5)] + [case(f"b{at}") for at in range(5)]
    a = graded(
        cases, ["likely", "likely", "certain", "none", "none", *["none"] * 3, *["likely"] * 2]
    )
    b = graded(cases, ["certain", "none", "none", "likely", "none", "likely", *["none"] * 4])
    found = both(cases, a, b)
    for row in (found.overall, section(found, "fraud_abuse")):
        assert four(row.recall) == (1, 2, 1, 1)
        assert four(row.false_positives) == (0, 2, 1, 2)
        assert four(row.correct) == (3, 3, 3, 1)
        assert row.recall.p == 1.0
        assert row.recall_difference.value == pytest.approx(-1 / 5)
        assert row.fpr_difference.value == pytest.approx(-1 / 5)
        # a: 3 found, 2 wrong, 2 missed; b: 2 found, 1 wrong, 3 missed.
        assert row.f1_difference.value == pytest.approx(4 / 8 - 6 / 10)
    assert {flip.case: flip.change for flip in found.flips} == {
        "v1": "lost",
        "v2": "lost",
        "v3": "won",
        "b0": "lost",
        "b3": "won",
        "b4": "won",
    }
    lost = next(flip for flip in found.flips if flip.case == "v1")
    assert (lost.level_a, lost.level_b, lost.action_a, lost.action_b) == (
        "likely",
        "none",
        "block",
        "allow",
    )
    assert lost.labels == {SCAM: "violated"}
    assert lost.expected == "block"


def test_what_only_one_run_has_or_judged_is_left_out_by_reason():
    same, gone, new = case("same"), case("gone"), case("new")
    old, changed = case("changed", text="before"), case("changed", text="after")
    relabelled, other = case("label"), case("label", [SCAM])
    skipped_a, skipped_b = case("skipped_a"), case("skipped_b")
    a = run(
        [same, gone, old, relabelled, skipped_a, skipped_b],
        [result(one) for one in (same, gone, old, relabelled, skipped_b)],
        "a",
    )
    b = run(
        [same, new, changed, other, skipped_a, skipped_b],
        [
            *(result(one) for one in (same, new, changed, other, skipped_a)),
            result(skipped_b, repeat=1),
        ],
        "b",
    )
    found = compare(a, b, draws=10)
    assert found.compared == 1
    assert found.left_out == {
        "only in a": 1,
        "only in b": 1,
        "changed": 2,
        "not judged in a": 1,
        "not judged in b": 1,
    }
    assert found.overall.n == 1


def test_notes_tags_and_pairs_may_change():
    before = case("one", note="old", tags=["lang:de"])
    after = case("one", note="new")
    found = compare(run([before], [result(before)]), run([after], [result(after)]), draws=10)
    assert found.compared == 1


def test_contested_and_failed_cases_are_flips_only():
    open_ = case("open", contested="fiction?")
    fails, recovers, always = case("fails"), case("recovers"), case("always")
    cases = [open_, fails, recovers, always]
    found = both(
        cases,
        [
            result(open_),
            result(fails),
            result(recovers, failed="error"),
            result(always, failed="error"),
        ],
        [
            result(open_, {SCAM: "certain"}),
            result(fails, failed="timeout"),
            result(recovers),
            result(always, failed="timeout"),
        ],
    )
    assert found.aside == {"contested": 1, "failed in a": 2, "failed in b": 2}
    assert found.overall.n == 0
    changes = {flip.case: (flip.change, flip.level_b, flip.action_b) for flip in found.flips}
    assert changes == {
        "open": ("lost", "certain", "block"),
        "fails": ("lost", "failed", "unavailable"),
        "recovers": ("won", "none", "allow"),
    }


def test_another_action_alone_is_a_flip():
    one = case("one", [SCAM])
    found = both(
        [one], [result(one, {SCAM: "likely"}, action="warn")], [result(one, {SCAM: "likely"})]
    )
    assert [(flip.action_a, flip.action_b, flip.change) for flip in found.flips] == [
        ("warn", "block", "won")
    ]
    assert four(found.overall.correct) == (1, 0, 0, 0)


def test_labels_that_know_nothing_overall_count_in_their_section_only():
    one = case("one", [], [SCAM], overall="unknown")
    other = case("other", overall="violated", severity="high", action="block")
    found = both(
        [one, other], graded([one, other], ["likely"] * 2), graded([one, other], ["none"] * 2)
    )
    assert four(found.overall.recall) == (0, 1, 0, 0)
    assert found.overall.false_positives.n == 0
    assert section(found, "fraud_abuse").n == 0


def test_one_split():
    dev, test = case("dev", split="dev"), case("test")
    found = both([dev, test], graded([dev, test], ["none"] * 2), [result(test)], split="test")
    assert (found.compared, found.left_out["not judged in b"]) == (1, 0)


# --- floors ---------------------------------------------------------------------------------------


def floored(grades_a: dict[str, str], grades_b: dict[str, str], **more: Any) -> Comparison:
    one = case("one", [ABUSE], **more)
    return both([one], [result(one, grades_a)], [result(one, grades_b)])


def test_a_miss_under_a_floor_is_marked():
    found = floored({ABUSE: "likely"}, {ABUSE: "possible"})
    assert (found.floors, found.flips[0].floor_missed, found.flips[0].change) == (1, True, "lost")


def test_being_found_under_another_clause_does_not_keep_a_floor_but_another_floor_does():
    found = floored({ABUSE: "likely"}, {SCAM: "likely"})
    assert [(flip.floor_missed, flip.change) for flip in found.flips] == [(True, "same")]
    assert not floored({ABUSE: "likely"}, {"child_safety.grooming": "likely"}).flips


def test_a_floor_is_not_missed_by_what_a_missed_too_or_what_is_contested():
    assert not floored({SCAM: "likely"}, {}).flips[0].floor_missed
    contested = floored({ABUSE: "likely"}, {}, contested="unclear")
    assert (contested.floors, contested.flips[0].floor_missed) == (0, False)


def test_a_floor_holds_from_its_severity():
    weapons = "weapons_regulated_goods.weapons"  # a floor from high on
    for severity, floors in (("medium", 0), ("high", 1)):
        one = case("one", [weapons], severity=severity)
        found = both([one], [result(one, {weapons: "likely"})], [result(one)])
        assert found.floors == floors
        assert found.flips[0].floor_missed == bool(floors)
    assert section(found, "weapons_regulated_goods").floor
    assert not section(found, "fraud_abuse").floor


# --- against other ways to work it out ------------------------------------------------------------


def at_random(seed: int, n: int = 120) -> tuple[list[Case], list[Result], list[Result]]:
    draw = random.Random(seed)
    cases: list[Case] = []
    runs: tuple[list[Result], list[Result]] = ([], [])
    for at in range(n):
        clause = draw.choice([SCAM, LOBBY, ABUSE])
        bad = draw.random() < 0.5
        cases.append(case(f"c{at}", [clause] if bad else (), pair=f"p{at // 2}"))
        for results in runs:
            weights = (5, 5, 10, 40, 40) if bad else (60, 20, 10, 8, 2)
            if draw.random() < 0.03:
                results.append(result(cases[-1], failed="timeout"))
            else:
                results.append(result(cases[-1], {clause: draw.choices(GRADES, weights)[0]}))
    return cases, *runs


@pytest.mark.parametrize("seed", range(6))
def test_swapping_the_runs_swaps_everything(seed: int):
    cases, a, b = at_random(seed)
    one, other = both(cases, a, b), both(cases, b, a)
    turned = {"lost": "won", "won": "lost", "same": "same"}
    assert [(f.case, turned[f.change]) for f in one.flips] == [
        (f.case, f.change) for f in other.flips
    ]
    for row, back in zip(
        (one.overall, *one.sections), (other.overall, *other.sections), strict=True
    ):
        for test in ("correct", "recall", "false_positives"):
            here, there = getattr(row, test), getattr(back, test)
            assert four(here) == (there.both, there.only_b, there.only_a, there.neither)
            assert (here.p, here.adjusted) == (there.p, there.adjusted)
        for name in ("recall_difference", "fpr_difference", "f1_difference"):
            here, there = getattr(row, name), getattr(back, name)
            assert here.value is None or here.value == pytest.approx(-there.value)


def test_a_run_against_itself_differs_in_nothing():
    cases, a, _ = at_random(1)
    found = both(cases, a, a)
    assert found.flips == ()
    assert found.overall.recall.p == 1
    assert found.overall.f1_difference == Estimate(0, Interval(0, 0))


@given(st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=8, deadline=None)
def test_the_order_of_results_does_not_matter(shuffler: random.Random):
    cases, a, b = at_random(2, 40)
    before = both(cases, a, b).as_json()
    for results in (a, b):
        shuffler.shuffle(results)
    assert both(cases, a, b).as_json() == before


@pytest.mark.parametrize("seed", range(3))
def test_p_values_are_those_of_statsmodels(seed: int):
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests

    found = both(*at_random(seed, 200))
    for test in ("correct", "recall", "false_positives"):
        rows = [getattr(row, test) for row in found.sections]
        rows = [row for row in rows if row.n]
        for row in rows:
            table = [[row.both, row.only_a], [row.only_b, row.neither]]
            assert row.p == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-9)
            assert row.tests == len(rows)
        with patch.object(gc, "collect"):  # which statsmodels calls every time
            expected = multipletests([row.p for row in rows], method="holm")[1]
        assert [row.adjusted for row in rows] == pytest.approx(list(expected), abs=1e-9)
    assert found.overall.recall.adjusted is None


@pytest.mark.parametrize("seed", range(3))
def test_intervals_of_differences_are_those_of_resampling_pairs_by_number(seed: int):
    cases, a, b = at_random(seed, 200)
    found = both(cases, a, b, draws=6_000).overall
    flagged = [
        [r.grade([SCAM, LOBBY, ABUSE]) in ("likely", "certain") for r in results]
        for results in (a, b)
    ]
    answered = [x.verdict is not None and y.verdict is not None for x, y in zip(a, b, strict=True)]
    table = np.zeros((100, 2, 3))  # by pair: benign or violating; how many, found by a, found by b
    for at, one in enumerate(cases):
        if answered[at] or not one.benign:
            table[at // 2, int(not one.benign)] += [1, flagged[0][at], flagged[1][at]]
    table = table[table.sum((1, 2)) > 0]
    draws = np.random.default_rng(seed).integers(0, len(table), (6_000, len(table)))
    sums = table[draws].sum(1)
    for estimate, side in ((found.recall_difference, 1), (found.fpr_difference, 0)):
        difference = (sums[:, side, 2] - sums[:, side, 1]) / sums[:, side, 0]
        assert estimate.interval is not None
        assert (estimate.interval.low, estimate.interval.high) == pytest.approx(
            tuple(np.quantile(difference, [0.025, 0.975])), abs=0.012
        )


# --- in words -------------------------------------------------------------------------------------


def test_markdown_says_what_changed():
    cases = [case(f"v{at}", [SCAM]) for at in range(12)] + [case("plain")]
    a = graded(cases, ["likely"] * 12 + ["none"])
    b = graded(cases, ["none"] * 12 + ["none"])
    text = as_markdown(both(cases, a, b))
    assert "### `b` against `a`" in text
    assert "13 cases compared" in text
    assert "12 lost, 0 won" in text
    assert "| fraud_abuse | 13 | 12 → 0 of 12; -100.0 [-100.0, -100.0] | <0.001* |" in text
    assert f"| `v3` | {SCAM} | block | likely, block | none, allow | lost |" in text


def test_markdown_is_cut_and_says_so():
    cases = [case(f"b{at}") for at in range(9)]
    text = as_markdown(both(cases, graded(cases, ["none"] * 9), graded(cases, ["likely"] * 9)), 4)
    assert text.count("| `b") == 4
    assert "| and 5 more |" in text


def test_markdown_quotes_no_case_and_a_name_cannot_break_it():
    one = case("one", [SCAM], text=f"secret {MARK}", note=MARK)
    a, b = (
        run([one], [result(one, grades)], name)
        for grades, name in (({SCAM: "likely"}, "x|`\n# y"), ({}, "b"))
    )
    text = as_markdown(compare(a, b, draws=10))
    assert MARK not in text
    assert "### `b` against `x/' # y`" in text


def test_every_table_row_has_the_columns_of_its_head():
    found = both(*at_random(3))
    widths = [line.count("|") for line in as_markdown(found).splitlines() if line.startswith("|")]
    assert set(widths) == {8, 7}


def test_a_comparison_is_json():
    found = both(*at_random(4, 20))
    data = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert data["sections"][0]["recall"]["tests"] >= 1


# --- the grammar of rules -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("fpr <= 0.02", RateRule("fpr <= 0.02", "overall", False, "fpr", 0.02)),
        ("recall>=80%", RateRule("recall >= 80%", "overall", False, "recall", 0.8)),
        (
            "  Section fraud_abuse   RECALL >= .7 ",
            RateRule(
                "section fraud_abuse recall >= .7", "section fraud_abuse", False, "recall", 0.7
            ),
        ),
        (
            "slice lang:de enforced fpr <= 0.05",
            RateRule("slice lang:de enforced fpr <= 0.05", "slice lang:de", True, "fpr", 0.05),
        ),
        (
            "flip_rate <= 0.01",
            RateRule("flip_rate <= 0.01", "overall", False, "flip_rate", 0.01),
        ),
        ("lost cases <= 3", LostRule("lost cases <= 3", 3)),
        ("no new misses", NewRule("no new misses", True, False, None)),
        (
            "no new misses in floor clauses",
            NewRule("no new misses in floor clauses", True, True, None),
        ),
        (
            "no new false positives in section elections",
            NewRule("no new false positives in section elections", False, False, "elections"),
        ),
        (
            "no significant recall loss in any floor section",
            SignificanceRule(
                "no significant recall loss in any floor section", True, "any floor section", None
            ),
        ),
        (
            "no significant fpr rise in any section",
            SignificanceRule("no significant fpr rise in any section", False, "any section", None),
        ),
        (
            "no significant fpr rise in section elections",
            SignificanceRule(
                "no significant fpr rise in section elections", False, "section", "elections"
            ),
        ),
        (
            "no significant recall loss",
            SignificanceRule("no significant recall loss", True, "overall", None),
        ),
    ],
)
def test_rules_that_can_be_read(text: str, rule: object):
    assert parse(text) == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recal >= 0.8", "'recal' is no rate; allowed: recall, .*did you mean 'recall'"),
        ("recall <= 0.8", "recall is bounded by >=, as in 'recall >= 0.8'"),
        ("fpr >= 2%", "fpr is bounded by <=, as in 'fpr <= 2%'"),
        ("fpr <= 0", "no sample can show <= 0"),
        ("recall >= 1", "no sample can show >= 1"),
        ("fpr <= 2", "no sample can show"),
        ("fpr <= 1..2", "'1..2' is no number"),
        ("section x failures <= 0.1", "leave out 'section x'"),
        ("enforced flip_rate <= 0.1", "leave out 'enforced'"),
        ("no new mises", "did you mean 'no new misses'"),
        ("no new false positives in floor clauses", "is no rule"),
        ("no significant recall los in any section", "did you mean 'no significant recall loss"),
        ("lost cases <= -1", "is no rule"),
        ("lost cases <= 1.5", "is no rule"),
        ("lost cases <= ٣", "is no rule"),
        ("fpr", "is no rule"),
        ("", "is no rule"),
    ],
)
def test_rules_that_cannot_be_read_say_what_is_allowed(text: str, says: str):
    with pytest.raises(ValueError, match=says):
        parse(text)


WORDS = (
    "no new misses section elections in <= >= 0.1 5% lost cases any floor significant recall loss "
    "enforced 3 ٣ 1e5 nan"
)
words = st.sampled_from([*RATES, *WORDS.split()])


@given(st.lists(words, max_size=9).map(" ".join) | st.text(max_size=60))
def test_any_text_is_a_rule_or_a_value_error(text: str):
    try:
        rule = parse(text)
    except ValueError as error:
        assert "allowed" in str(error) or "bounded" in str(error) or "leave out" in str(error)
    else:
        assert parse(rule.text) == rule
        if isinstance(rule, RateRule):
            assert 0 < rule.limit < 1


def test_all_wrong_rules_are_named_at_once(tmp_path: Path):
    file = tmp_path / "gates.yaml"
    file.write_text("gates:\n  - fpr <= 0.02\n  - fpr <= 2\n  - nonsense\n")
    with pytest.raises(SettingsError) as caught:
        read_rules(["recall >= 7", "recall >= 0.7"], file)
    problems = caught.value.problems
    assert [(problem.line, problem.path) for problem in problems] == [
        (None, "recall >= 7"),
        (3, "gates[1]"),
        (4, "gates[2]"),
    ]


def test_rules_of_a_file_follow_those_that_were_given(tmp_path: Path):
    file = tmp_path / "gates.yaml"
    file.write_text("gates:\n  - lost cases <= 3\n")
    assert [rule.text for rule in read_rules(["fpr <= 0.1"], file)] == [
        "fpr <= 0.1",
        "lost cases <= 3",
    ]


@pytest.mark.parametrize("text", ["", "gates: 3\n", "rules:\n  - fpr <= 0.1\n", "gates:\n  - 3\n"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError):
        read_rules(file=file)


# --- gates ----------------------------------------------------------------------------------------


def many(violating: int, benign: int) -> list[Case]:
    return [case(f"v{at}", [SCAM]) for at in range(violating)] + [
        case(f"b{at}") for at in range(benign)
    ]


def judged(cases: list[Case], missed: int = 0, flagged: int = 0, failed: int = 0) -> Run:
    """Of the violating cases so many are missed, of the benign ones flagged, and failed."""
    bad = [one for one in cases if not one.benign]
    fine = [one for one in cases if one.benign]
    results = [
        result(one, {SCAM: "none" if at < missed else "likely"}) for at, one in enumerate(bad)
    ]
    for at, one in enumerate(fine):
        if at < flagged:
            results.append(result(one, {SCAM: "certain"}))
        elif at < flagged + failed:
            results.append(result(one, failed="refused"))
        else:
            results.append(result(one))
    return run(cases, results)


def gate(rule: str, found: Run, baseline: Run | None = None) -> Gate:
    comparison = compare(baseline, found, draws=10) if baseline is not None else None
    return check(read_rules([rule]), measure(found, draws=10), comparison)[0]


@cache
def against_none_wrong(missed: int, flagged: int, failed: int) -> tuple[Metrics, Comparison]:
    """The numbers of a run with these mistakes, and how it compares with one that has none."""
    cases = many(40, 200)
    found = judged(cases, missed, flagged, failed)
    return measure(found, draws=10), compare(judged(cases), found, draws=10)


@pytest.mark.parametrize(
    ("rule", "missed", "flagged", "failed", "passed"),
    [
        ("fpr <= 0.02", 0, 4, 0, True),
        ("fpr <= 0.02", 0, 5, 0, False),
        ("fpr <= 0.02", 0, 4, 1, False),  # 4 of 199 are more than 2 %
        ("enforced fpr <= 0.02", 0, 3, 1, True),
        ("enforced fpr <= 0.02", 0, 3, 2, False),
        ("recall >= 0.8", 8, 0, 0, True),
        ("recall >= 0.8", 9, 0, 0, False),
        ("section fraud_abuse recall >= 0.7", 12, 0, 0, True),
        ("section fraud_abuse recall >= 0.7", 13, 0, 0, False),
        ("precision >= 0.9", 0, 4, 0, True),
        ("precision >= 0.9", 0, 5, 0, False),
        ("f1 >= 0.8", 10, 5, 0, True),
        ("f1 >= 0.8", 13, 5, 0, False),
        ("ordinary <= 0.03", 0, 6, 0, True),
        ("over_blocked <= 0.03", 0, 7, 0, False),
        ("enforced over_blocked <= 0.03", 0, 3, 4, False),
        ("failures <= 0.02", 0, 0, 4, True),
        ("failures <= 0.02", 0, 0, 5, False),
    ],
)
def test_gates_on_rates(rule: str, missed: int, flagged: int, failed: int, passed: bool):
    found = gate(rule, judged(many(40, 200), missed, flagged, failed))
    assert (found.passed, found.rule) == (passed, rule)
    assert " of " in found.because


@pytest.mark.parametrize(
    ("rule", "because"),
    [
        ("fpr <= 0.005", "needs 765 benign cases, there are 200"),
        ("recall >= 0.99", "needs 381 violating cases, there are 40"),
        ("flip_rate <= 0.01", "needs 381 cases judged more than once, there are 0"),
        ("failures <= 0.01", "needs 381 judgments, there are 240"),
        ("near_misses <= 0.5", "needs 4 near misses, there are 0"),
        ("section elections recall >= 0.5", "needs 4 violating cases, there are 0"),
        (f"clause {SPAM} recall >= 0.5", "needs 20 cases that name the clause, there are 0"),
    ],
)
def test_a_perfect_run_does_not_pass_what_its_cases_cannot_show(rule: str, because: str):
    assert gate(rule, judged(many(40, 200))) == Gate(rule, False, because)


def test_f1_needs_cases_like_the_recall_it_implies():
    # With n of n found, Wilson's lower end is n / (n + z²) = r, and F1 then 2r / (1 + r).
    n = next(n for n in range(1, 500) if (r := n / (n + 1.959964**2)) and 2 * r / (1 + r) >= 0.95)
    assert gate("f1 >= 0.95", judged(many(n, 5))).passed
    assert "needs" in gate("f1 >= 0.95", judged(many(n - 1, 5))).because


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("section fraud recall >= 0.5", "'fraud' is no section of this run; .*'fraud_abuse'"),
        ("slice lang:xx recall >= 0.5", "'lang:xx' is no slice of this run"),
        ("clause fraud_abuse.nothing recall >= 0.5", "is no clause of this run"),
        ("lost cases <= 3", "needs a baseline"),
        ("no new misses", "needs a baseline"),
    ],
)
def test_gates_about_what_the_run_does_not_have_are_refused(rule: str, says: str):
    with pytest.raises(SettingsError, match=says):
        gate(rule, judged(many(5, 5)))


def test_gates_on_another_section_of_the_baseline_are_refused():
    cases = many(5, 5)
    with pytest.raises(SettingsError, match="did you mean 'elections'"):
        gate("no new misses in section election", judged(cases), judged(cases))


@pytest.mark.parametrize(
    ("rule", "missed", "flagged", "failed", "passed"),
    [
        ("lost cases <= 3", 2, 1, 0, True),
        ("lost cases <= 3", 2, 1, 1, False),
        ("no new misses", 0, 9, 0, True),
        ("no new misses", 1, 0, 0, False),
        ("no new misses in section fraud_abuse", 1, 0, 0, False),
        ("no new misses in section elections", 1, 0, 0, False),  # it has no case to show it
        ("no new false positives", 9, 0, 0, True),
        ("no new false positives", 0, 1, 0, False),
        ("no new false positives in section elections", 0, 1, 0, True),
        ("no significant recall loss", 5, 0, 0, True),
        ("no significant recall loss", 6, 0, 0, False),
        ("no significant recall loss in section fraud_abuse", 6, 0, 0, False),
        ("no significant fpr rise", 0, 5, 0, True),
        ("no significant fpr rise", 0, 6, 0, False),
        ("no significant fpr rise in any section", 0, 6, 0, True),  # adjusted for all sections
        ("no significant fpr rise in any section", 0, 10, 0, False),
        ("no significant recall loss in any floor section", 0, 0, 0, False),  # has no case
    ],
)
def test_gates_against_a_baseline(rule: str, missed: int, flagged: int, failed: int, passed: bool):
    (held,) = check(read_rules([rule]), *against_none_wrong(missed, flagged, failed))
    assert held.passed is passed


def test_a_gain_is_no_loss():
    cases = many(40, 200)
    better, worse = judged(cases), judged(cases, missed=20, flagged=50)
    for rule in ("no significant recall loss in any section", "no significant fpr rise"):
        assert gate(rule, better, worse).passed
        assert not gate(rule, worse, better).passed


def test_too_few_cases_to_see_a_loss_do_not_pass():
    few = needed_discordant(1) - 1
    found = gate("no significant recall loss", judged(many(few, 3)), judged(many(few, 3)))
    assert not found.passed
    assert found.because == f"overall needs {few + 1} violating cases, there are {few}"


def test_floor_gates():
    cases = [case("abuse", [ABUSE]), *many(3, 3)]
    hit, miss = (
        run(cases, [result(cases[0], grades), *map(result, cases[1:])])
        for grades in ({ABUSE: "certain"}, {ABUSE: "possible"})
    )
    rule = "no new misses in floor clauses"
    assert gate(rule, hit, hit).passed
    assert gate(rule, hit, miss).passed
    missed = gate(rule, miss, hit)
    assert (missed.passed, missed.because) == (
        False,
        "1 newly missed of 1 cases at or above a floor: abuse",
    )
    none = many(3, 3)
    assert "no case at or above a floor" in gate(rule, judged(none), judged(none)).because


def test_what_was_not_compared_is_said():
    cases = many(10, 10)
    fewer = run(cases[:-3], judged(cases[:-3], failed=2).results)
    found = gate("lost cases <= 3", fewer, judged(cases))
    assert found.passed
    assert found.because.endswith("(not compared: 3 only in a) (without a verdict: 2 in b)")


def test_runs_without_a_common_case_do_not_pass():
    a, b = judged(many(3, 3)), run([case("other")], [result("other")])
    for rule in ("lost cases <= 3", "no new misses", "no significant fpr rise"):
        assert not gate(rule, b, a).passed


def test_several_sections_need_more_cases_each_than_one():
    other = [case(f"l{at}", [LOBBY]) for at in range(20)]
    cases = [*many(6, 3), *other]
    found = run(cases, [result(one, dict.fromkeys(one.violated, "likely")) for one in cases])
    assert gate("no significant recall loss in section fraud_abuse", found, found).passed
    assert gate("no significant recall loss in any section", found, found).because == (
        "fraud_abuse needs 7 violating cases, there are 6"  # 2 sections: 2 * 2 * 0.5**7 < 0.05
    )


def test_a_contested_case_is_not_lost():
    one = case("one", [SCAM], contested="unsure")
    cases = [one, *many(1, 1)]
    before = run(cases, [result(one, {SCAM: "likely"}), *judged(cases[1:]).results])
    after = run(cases, [result(one), *judged(cases[1:]).results])
    assert compare(before, after, draws=10).flips[0].change == "lost"
    assert gate("lost cases <= 0", after, before).passed


def test_markdown_shows_adjusted_p_of_sections_and_plain_p_overall():
    cases = [*many(7, 3), *(case(f"l{at}", [LOBBY]) for at in range(20))]
    found = run(cases, [result(one, dict.fromkeys(one.violated, "likely")) for one in cases])
    worse = run(cases, [result(cases[at]) for at in range(7)] + list(found.results[7:]))
    rows = as_markdown(compare(found, worse, draws=10)).splitlines()
    shown = {row.split(" | ")[0]: row.split(" | ")[3] for row in rows if row.startswith("| ")}
    assert shown["| **overall**"] == "0.016*"
    assert shown["| fraud_abuse"] == "0.031*"
    assert shown["| elections"] == "1.000"
