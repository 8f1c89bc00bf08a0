"""The report's words, tables, data and page, without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval_runs import ABUSE, LOBBY, SCAM, SPAM, case, result, run
from magistrate.evals.metrics.compare import compare
from magistrate.evals.metrics.measures import measure
from magistrate.evals.metrics.statistics import Estimate, Interval, Rate
from magistrate.evals.report.action_tables import actions, compared, flipped
from magistrate.evals.report.cases import case_data, embedded, outcome, sensitive_clauses
from magistrate.evals.report.cells import Table
from magistrate.evals.report.changes import changes
from magistrate.evals.report.charts import Charts, Mark
from magistrate.evals.report.page import write_report
from magistrate.evals.report.tables import groups, limits, points
from magistrate.evals.report.words import (
    difference,
    dollars,
    estimate,
    interval,
    out_of,
    overview,
    percent,
    seconds,
    share,
)
from magistrate.policy import Policy, builtin_policy
from report_runs import DRAWS, HOSTILE, changed, hostile, large, report, small

CSS = (files("magistrate.evals.report") / "page.css").read_text("utf-8")


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (0.0, "0.0%"),
        (0.0001, "<0.1%"),
        (0.0004999, "<0.1%"),
        (0.0123, "1.2%"),
        (0.875, "87.5%"),
        (0.99951, ">99.9%"),
        (1.0, "100.0%"),
    ],
)
def test_a_share_in_percent(value, told):
    assert percent(value) == told


@pytest.mark.parametrize(
    ("hits", "of", "whole", "told"),
    [
        (87, 100, 100, "about 87 (79–92)"),  # Wilson: 0.790 to 0.922
        (6, 1000, 1000, "about 6 (3–13)"),  # 0.00275 to 0.01303
        (0, 1000, 1000, "none (0–4)"),  # to 0.00383
        (50, 50, 100, "all 100 (93–100)"),  # from 0.9286
        (1, 4000, 1000, "about 0.2 (<0.1–1)"),  # 0.25 of 1,000; 0.0000441 to 0.00141
        (3999, 4000, 100, "more than 99.9 (99.9–>99.9)"),
        (0, 0, 100, "–"),
    ],
)
def test_how_many_of_a_round_number(hits, of, whole, told):
    assert out_of(Rate.count(hits, of), whole) == told


@given(st.integers(1, 20_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_rounding_never_makes_all_or_none_of_some(counts):
    hits, of = counts
    rate = Rate.count(hits, of)
    value, words = percent(rate.value), out_of(rate, 1000).partition(" (")[0]
    assert (value == "0.0%") == (hits == 0)
    assert (value == "100.0%") == (hits == of)
    assert (words == "none") == (hits == 0)
    assert (words == "all 1,000") == (hits == of)
    assert words not in ("about 0", "about 1,000")


def test_the_interval_that_is_shown_holds_both_that_there_are():
    wide, high = Interval(0.1, 0.5), Interval(0.3, 0.7)
    assert interval(Rate(1, 4, 0.25, wide, high)) == Interval(0.1, 0.7)
    assert interval(Rate(1, 4, 0.25, wide)) == wide
    assert interval(Rate(0, 0, None, None)) is None
    assert share(Rate(1, 4, 0.25, wide, high)) == "25.0% (10.0–70.0)"


def test_differences_times_and_prices():
    assert difference(Estimate(0.041, Interval(-0.012, 0.091))) == "+4.1 points (−1.2 to +9.1)"
    assert difference(Estimate(-0.0001, None)) == "0.0 points"
    assert difference(Estimate(None, None)) == "–"
    assert estimate(Estimate(0.5, Interval(0.25, 0.75))) == "50.0% (25.0–75.0)"
    assert estimate(Estimate(1.0, Interval(1.0, 1.0))) == "100.0%"  # no certainty from one case
    assert [seconds(None), seconds(340.4), seconds(1520)] == ["–", "340 ms", "1.5 s"]
    assert [dollars(None), dollars(0.0), dollars(3.2), dollars(0.0004)] == [
        "price not known",
        "$0.00",
        "$3.20",
        "$0.0004",
    ]


def test_the_overview_says_what_was_counted_by_hand():
    found = small()
    told = [each.text for each in overview(found, measure(found, draws=DRAWS))]
    # 4 violating cases, 2 of them caught, one without a verdict; 4 harmless, 1 flagged and blocked.
    assert any(re.match(r"Of 100 violating cases, it caught about 50 \(", one) for one in told)
    assert any("with those it gave no verdict on, about 75 (" in one for one in told)
    assert any(re.match(r"Of 1,000 harmless cases, it flagged about 250 \(", one) for one in told)
    assert any(re.match(r"Of 1,000 judgments, it could not make about 111 \(", one) for one in told)
    assert any("disagree on 1 case," in one for one in told)
    assert any(one.startswith("Some of these cases are in the split dev") for one in told)
    assert any(one.startswith("Only 4 harmless cases: it takes 381") for one in told)


def test_the_overview_begins_with_what_the_numbers_are_of():
    cases = [case("a", [SCAM]), case("b"), case("c", split="dev")]
    found = run(cases, [result(each) for each in cases])
    first = next(iter(overview(found, measure(found, draws=DRAWS, split="test"))))
    assert first.text == (
        "All numbers are of the split test, 2 cases; the run has 1 more in the other split."
    )
    whole = [each.text for each in overview(found, measure(found, draws=DRAWS))]
    assert not any("All numbers are of" in text for text in whole)


def test_an_incomplete_run_says_so_first():
    found = small()
    found = replace(found, results=found.results[:5])
    first = next(iter(overview(found, measure(found, draws=DRAWS))))
    assert (first.text, first.warning) == (
        "This run is not complete: 5 of 9 cases have been judged.",
        True,
    )


def test_what_changed_in_words():
    told = [each.text for each in changes(compare(small(), changed(), draws=DRAWS))]
    # scam-1 is lost, spam-1 won, abuse-1 as before; A has no verdict on lobby-1, which B caught.
    assert any(
        one.startswith("Of 4 violating cases, B caught 2 that A missed, and missed 1 that A caught")
        and "which chance may explain (p = 1.000)" in one
        for one in told
    )
    assert any(one.startswith("Of 4 harmless cases, B flagged 0 that A let be") for one in told)


def test_other_policies_are_not_compared_in_silence():
    one, other = small(), changed()
    policy = one.settings.policy.model_copy(update={"version": "other"})
    other = replace(other, settings=one.settings.model_copy(update={"policy": policy}))
    first = next(iter(changes(compare(one, other, draws=DRAWS))))
    assert first.warning
    assert first.text.startswith("The runs were judged under different policies")


# --- tables ---------------------------------------------------------------------------------------


def texts(table: Table) -> dict[str, dict[str, str]]:
    """A table as text by row and column."""
    return {
        line[0].text: dict(zip(table.head[1:], (cell.text for cell in line[1:]), strict=True))
        for line in table.rows
    }


def test_sections_are_counted_as_by_hand():
    found = measure(small(), draws=DRAWS)
    table = groups("By section", [found], [found.sections], filter_as="section")
    fraud = texts(table)["fraud_abuse"]
    # scam-1 caught, spam-1 missed; of 4 harmless cases scam-2 is flagged, and it alone names it.
    assert fraud["Violating / harmless"] == "2 / 4"
    assert fraud["Caught"].startswith("50.0% (")
    assert fraud["Harmless flagged"].startswith("25.0% (")
    assert fraud["Near misses flagged"].startswith("100.0% (")
    assert (fraud["Missed"], fraud["False alarms"]) == ("1", "1")
    assert texts(table)["elections"]["Caught"].startswith("0.0% (")  # no verdict
    assert texts(table)["elections"]["Caught, enforced"].startswith("100.0% (")
    assert texts(table)["elections"]["Missed"] == "0"
    line = next(line for line in table.rows if line[0].text == "fraud_abuse")
    missed = line[table.head.index("Missed")]
    assert missed.href == "#contested=no&outcome=missed&section=fraud_abuse"


def test_two_runs_stand_side_by_side():
    both = [measure(each, draws=DRAWS) for each in (small(), changed())]
    table = groups("By section", both, [found.sections for found in both], filter_as="section")
    fraud = texts(table)["fraud_abuse"]
    assert (fraud["Missed, A"], fraud["Missed, B"]) == ("1", "1")
    assert fraud["Violating / harmless"] == "2 / 4"
    line = next(line for line in table.rows if line[0].text == "fraud_abuse")
    assert line[table.head.index("Missed, B")].href.endswith("&run=B&section=fraud_abuse")


def test_a_group_that_one_run_lacks_is_a_dash():
    both = [measure(each, draws=DRAWS) for each in (small(), changed())]
    table = groups("x", both, [both[0].slices, ()])
    assert texts(table)["lang:de"]["Caught, B"] == "–"


def test_a_split_of_its_own_is_in_the_links():
    found = measure(small(), draws=DRAWS, split="test")
    table = groups("x", [found], [[found.overall]])
    assert table.rows[0][table.head.index("Missed")].href == (
        "#contested=no&outcome=missed&split=test"
    )


@pytest.mark.parametrize("made", [small(), large(400)], ids=["small", "large"])
def test_thresholds_agree_with_the_measured_rates(made):
    for group in measure(made, draws=DRAWS).groups:
        at, scores = points(group, "likely"), group.judged
        counted = [(rate.hits, rate.of) for rate in (at.caught, at.flagged, at.precision)]
        assert counted == [
            (rate.hits, rate.of) for rate in (scores.recall, scores.fpr, scores.precision)
        ]
        for grade in ("unlikely", "possible", "certain"):
            caught = points(group, grade).caught.value
            on_curve = {p.level: p.y for p in scores.roc.points} if scores.roc else {}
            if grade in on_curve:
                assert caught == pytest.approx(on_curve[grade])


def test_the_confusion_of_actions_is_that_of_the_metrics():
    found = texts(actions(measure(small(), draws=DRAWS), ""))
    # Contested odd-1 is left out.
    assert found["expected: allow"]["allow"] == "3"
    assert found["expected: allow"]["block"] == "1"
    assert found["expected: block"]["allow"] == "1"
    assert found["expected: block"]["block"] == "2"
    assert found["expected: block"]["unavailable"] == "1"


def test_a_claim_the_sample_cannot_support_is_refused_in_words():
    found = texts(limits([measure(small(), draws=DRAWS)]))
    assert found["at most 1%"]["Caught"] == "needs 381 benign cases, there are 4"


def test_flipped_cases_are_listed_the_lost_ones_first():
    found = compare(small(), changed(), draws=DRAWS)
    table = flipped(found)
    assert [line[0].text for line in table.rows] == ["scam-1", "spam-1", "lobby-1"]
    assert [line[1].text for line in table.rows] == ["lost", "won", "won"]
    assert table.rows[0][0].href == "#case=scam-1"
    assert texts(table)["lobby-1"]["A"] == "failed, unavailable"
    assert texts(compared(found, {}))["All"]["Caught only by A / B"] == "1 / 2"


# --- data of the cases ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "grades", "whole", "scam", "spam"),
    [
        ([SCAM], {SCAM: "likely"}, "right", "right", None),
        ([SCAM], {SCAM: "possible"}, "missed", "missed", None),
        ([SCAM], {SPAM: "certain"}, "right", "missed", "unlabelled"),
        ([SCAM], {SPAM: "possible"}, "missed", "missed", None),
        ([], {SPAM: "likely"}, "alarm", "right", "alarm"),
        ([], {}, "right", "right", "right"),
        ([SCAM], None, "failed", "failed", "failed"),
    ],
)
def test_how_a_judgment_came_out(labels, grades, whole, scam, spam):
    about = case("x", labels)
    judged = result(about, failed="timeout") if grades is None else result(about, grades)
    asked = [outcome(about, judged, clauses) for clauses in (None, [SCAM], [SPAM])]
    assert asked == [whole, scam, spam]


@pytest.mark.parametrize(
    ("overall", "grades", "whole", "scam"),
    [
        ("violated", {SCAM: "likely"}, "right", "unlabelled"),
        ("violated", {}, "missed", None),
        ("unknown", {SCAM: "likely"}, "unlabelled", "unlabelled"),
        ("unknown", {}, None, None),
        ("ok", {SCAM: "likely"}, "alarm", "unlabelled"),
    ],
)
def test_how_a_judgment_came_out_where_no_clause_is_named(overall, grades, whole, scam):
    severity = "high" if overall == "violated" else None
    about = case("x", overall=overall, severity=severity)
    asked = [outcome(about, result(about, grades), clauses) for clauses in (None, [SCAM])]
    assert asked == [whole, scam]
    [row] = case_data([run([about], [result(about, grades)])], None)["cases"]
    assert row["violates"] == {"violated": True, "unknown": None, "ok": False}[overall]


def test_a_case_says_what_it_is_about():
    rows = {row["id"]: row for row in case_data([small()], None)["cases"]}
    assert rows["scam-1"]["runs"][0]["about"] == {"fraud_abuse": "right", SCAM: "right"}
    # spam is found in scam-2, but not so that it counts, and it is harmless.
    assert rows["scam-2"]["runs"][0]["about"] == {
        "fraud_abuse": "alarm",
        SCAM: "alarm",
        SPAM: "right",
    }
    assert rows["lobby-1"]["runs"][0]["about"] == {"elections": "failed", LOBBY: "failed"}
    assert rows["plain-1"]["runs"][0]["about"] == {}
    assert (rows["scam-1"]["twin"], rows["scam-2"]["twin"]) == (["scam-2"], ["scam-1"])
    assert "twin" not in rows["plain-1"]


def test_a_case_that_changed_between_runs_is_there_twice():
    one = small()
    cases = tuple(
        c.model_copy(update={"messages": ({"user": "another scam"},)}) if c.id == "scam-1" else c
        for c in one.cases
    )
    other = replace(changed(), cases=replace(one.cases, cases=cases))
    rows = [r for r in case_data([one, other], None)["cases"] if r["id"] == "scam-1"]
    assert [r["said"][0]["text"] for r in rows] == ["a scam", "another scam"]
    assert [[bool(judged) for judged in r["runs"]] for r in rows] == [[True, False], [False, True]]


def test_rubrics_of_both_policies_where_they_differ():
    one, other = small(), changed()
    data = one.settings.policy.model_dump()
    data["version"] = "2"
    data["sections"][0]["clauses"][0]["rule"] = "Another rule."
    changed_clause = data["sections"][0]["clauses"][0]["id"]
    settings = one.settings.model_copy(update={"policy": Policy.model_validate(data)})
    rubrics = case_data([one, replace(other, settings=settings)], None)["clauses"]
    assert [r["rule"] for r in rubrics[changed_clause]][1:] == ["Another rule."]
    assert {len(found) for id, found in rubrics.items() if id != changed_clause} == {1}


def test_sensitive_is_what_the_policy_floors_at_every_severity_and_what_one_names():
    policy = builtin_policy()
    low = {id for id, clause in policy.clauses.items() if clause.floor == "low"}
    assert low
    assert ABUSE in low
    assert sensitive_clauses(policy) == low
    self_harm = "psychological_harm.self_harm"
    assert sensitive_clauses(policy, [self_harm]) == low | {self_harm}
    section = {c.id for s in policy.groups if s.id == "psychological_harm" for c in s.clauses}
    assert sensitive_clauses(policy, ["psychological_harm"]) == low | section


def test_a_case_is_sensitive_by_its_labels_and_by_what_was_found():
    plain, twin = case("plain"), case("twin", ok=[ABUSE])
    harmless = case("other")
    made = run(
        [plain, twin, harmless],
        [result(plain, {ABUSE: "possible"}), result(twin), result(harmless)],
    )
    rows = {row["id"]: row.get("sensitive", False) for row in case_data([made], None)["cases"]}
    assert rows == {"plain": True, "twin": True, "other": False}


def test_long_data_of_a_block_is_cut_and_text_is_not():
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 5_000}}
    long = "words " * 1_000
    about = case("x", messages=[{"user": [image, {"type": "text", "text": long}]}])
    said = case_data([run([about], [result(about)])], None)["cases"][0]["said"]
    assert (said[0]["kind"], said[1]["text"]) == ("image", long)
    assert "[5,000 characters]" in said[0]["text"]
    assert len(said[0]["text"]) < 2_300


@given(
    st.recursive(
        st.text(st.characters(codec=None)) | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_embedded_data_comes_back_and_can_end_nothing(value):
    text = embedded({"value": value})
    on_disk = text.encode("utf-8", "backslashreplace").decode()
    assert json.loads(on_disk) == {"value": value}
    assert not set("<>&\u2028\u2029") & set(text)


# --- the page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page, and what its scripts and styles hold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._open: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in self.inside:
            self._open = tag
            self.inside[tag].append("")

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.inside[self._open][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("report") / "two.html"
    return report(file, small("one"), changed()).read_text("utf-8")


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("report") / "hostile.html"
    return report(file, hostile()).read_text("utf-8")


def csp_hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_the_page_may_run_its_own_script_and_nothing_else(two_runs):
    page = Page(two_runs)
    data, script = page.inside["script"]
    [style] = page.inside["style"]
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    json.loads(data)
    [policy] = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy == (
        f"default-src 'none'; style-src {csp_hash(style)}; script-src {csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("which", ["two_runs", "hostile_page"])
def test_the_page_points_nowhere_but_into_itself(which, request):
    page = Page(request.getfixturevalue(which))
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            if name in ("src", "href", "action", "xlink:href", "srcset", "data"):
                assert value and value.startswith("#"), (tag, name, value)
    assert not {"iframe", "img", "link", "object", "embed", "base"} & {t for t, _ in page.elements}


def test_every_place_the_page_links_to_is_there(two_runs):
    page = Page(two_runs)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.all("a") if "=" not in (a["href"] or "")}
    assert targets
    assert targets <= set(ids)


def test_hostile_text_adds_no_element(hostile_page, tmp_path):
    plain = report(tmp_path / "plain.html", small()).read_text("utf-8")
    allowed = {tag for tag, _ in Page(plain).elements}
    assert {tag for tag, _ in Page(hostile_page).elements} <= allowed
    assert len(Page(hostile_page).all("script")) == 2
    data = json.loads(Page(hostile_page).inside["script"][0])
    said = {row["said"][-1]["text"] for row in data["cases"]}
    assert said == set(HOSTILE)  # all of it is there, unchanged


def test_headings_go_down_one_step_at_a_time(two_runs):
    levels = [int(tag[1]) for tag, _ in Page(two_runs).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_have_captions_and_headings(two_runs):
    page = Page(two_runs)
    assert len(page.all("table")) == len(page.all("caption")) > 20
    assert {a.get("scope") for a in page.all("th")} == {"col", "row"}


def test_the_same_runs_give_the_same_file(two_runs, tmp_path):
    again = report(tmp_path / "again.html", small("one"), changed()).read_text("utf-8")
    assert again == two_runs


def test_without_the_extra_there_are_tables_and_no_charts(two_runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    page = Page(report(tmp_path / "x.html", small("one"), changed()).read_text("utf-8"))
    assert not Charts.available()
    assert not page.all("svg")
    assert not page.all("figure")
    assert len(page.all("table")) == len(Page(two_runs).all("table"))


def test_a_report_is_about_one_run_or_two(tmp_path):
    found, metrics = small(), measure(small(), draws=DRAWS)
    for runs, measured in (([], []), ([found] * 3, [metrics] * 3), ([found], [metrics] * 2)):
        with pytest.raises(ValueError, match="one run or two"):
            write_report(runs, tmp_path / "x.html", metrics=measured)
    assert not list(tmp_path.iterdir())


def test_a_report_is_not_written_beside_a_folder(tmp_path):
    one = run([case("a")], [result("a")])
    (tmp_path / "here").mkdir()
    with pytest.raises(ValueError, match="here is a folder"):
        write_report([one], tmp_path / "here", metrics=[measure(one, draws=100)])
    assert [each.name for each in tmp_path.iterdir()] == ["here"]


def test_a_run_without_any_result_has_a_report(tmp_path):
    empty = replace(small(), results=())
    html = report(tmp_path / "empty.html", empty).read_text("utf-8")
    assert "This run is not complete: 0 of 9 cases have been judged." in html
    assert [file.name for file in tmp_path.iterdir()] == ["empty.html"]


# --- charts ---------------------------------------------------------------------------------------


def test_a_chart_is_still_svg_that_follows_the_page():
    title = "a </text><script>alert(1)</script> & \"more\" 'x'"
    mark = Mark(title, "A", 0.5, Interval(0.2, 0.8), 0.1, Interval(0.0, 0.2))
    for svg in (Charts.available().whiskers([mark], title), Charts.available().tradeoff([mark])):
        tree = ET.fromstring(svg)
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags <= {"svg", "g", "path", "line", "rect", "text"}
        assert title in [element.text for element in tree.iter()]
        colours = set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg))
        assert colours <= {"none", "transparent"} | {c for c in colours if c.startswith("var(--")}
        assert "var(--series-a)" in colours
        assert not re.search(r"\son\w+=|style=|href", svg.replace(title, ""))


def test_nothing_to_draw_is_no_chart():
    assert Charts.available().whiskers([], "x") == ""
    assert Charts().tradeoff([Mark("x", "A", 0.5, Interval(0.2, 0.8))]) == ""


# --- colours --------------------------------------------------------------------------------------


def scheme(css: str) -> dict[str, str]:
    return dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", css))


LIGHT = scheme(CSS.split("@media (prefers-color-scheme: dark)")[0])
DARK = LIGHT | scheme(CSS.split("@media (prefers-color-scheme: dark)")[1])


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_right():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [
        *((ink, "ground", 4.5) for ink in ("ink", "muted", "link", "series-a", "series-b")),
        *((ink, "raised", 4.5) for ink in ("ink", "muted", "link")),
        *((f"{name}-ink", name, 4.5) for name in ("good", "bad", "odd", "none")),
        ("focus", "ground", 3),  # WCAG 1.4.11: what shows a state, or the bounds of a control
        ("edge", "ground", 3),
        ("edge", "raised", 3),
    ],
)
def test_colours_can_be_told_apart(colours, ink, ground, least):
    assert contrast(colours[f"--{ink}"], colours[f"--{ground}"]) >= least


def test_both_schemes_have_every_colour():
    used = set(re.findall(r"var\((--[a-z-]+)\)", CSS))
    assert used <= set(LIGHT)
    assert set(scheme(CSS.split("@media (prefers-color-scheme: dark)")[1])) == set(LIGHT)
    # No colour stands in a rule itself, where it could not follow the scheme.
    assert not re.findall(r"#[0-9a-f]{3,6}\b", re.sub(r"--[a-z-]+: #[0-9a-f]{6}", "", CSS))


def test_the_files_of_the_page_end_nothing():
    script = (files("magistrate.evals.report") / "page.js").read_text("utf-8")
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "</style" not in CSS.lower()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
