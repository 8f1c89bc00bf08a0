"""Rows of a file that is not quite CSV, and what else a set says about them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import command_line
from eval_runs import result, run
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Case
from magistrate.evals.formats.importing import Imported, import_rows
from magistrate.evals.formats.mapping_files import load_mapping
from magistrate.evals.formats.rows import DELIMITERS, BadRow, Row, read_rows
from magistrate.evals.gates.rules import parse
from magistrate.evals.metrics.measures import measure
from magistrate.settings import Settings

SETTINGS = Settings()
MAPPING = """
name: mine
source: {title: Mine, url: "https://example.com", licence: none}
format: FORMAT
stage: input
columns: {prompt: text}
expect: {label: [safe, unsafe]}
overall: {violated: [{label: unsafe}], ok: [{label: safe}]}
child_safety: []
"""


def imported(
    folder: Path, text: str, more: str = "", format: str = "csv", **options: Any
) -> tuple[Imported, list[Case]]:
    mapping = folder / "mine.yaml"
    mapping.write_text(MAPPING.replace("FORMAT", format) + more)
    file, out = folder / f"rows.{format}", folder / "cases.jsonl"
    file.write_text(text)
    out.unlink(missing_ok=True)
    found = import_rows(file, load_mapping(mapping, SETTINGS.policy), SETTINGS, out, **options)
    return found, list(load_cases([out], SETTINGS.policy))


def rows_of(text: str, delimiter: str | None = None) -> list[Row | BadRow]:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.csv"
        file.write_bytes(text.encode())
        return list(read_rows(file, "csv", ("id",), delimiter))


words = st.text("abc 5", min_size=1, max_size=6).map(lambda text: f"w{text}")
strays = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 2), st.sampled_from(["before", "within", "after"])),
    max_size=5,
)


@given(st.lists(st.tuples(words, words, words), min_size=8, max_size=8), strays)
def test_stray_quotation_marks_swallow_no_row_in_silence(
    table: list[tuple[str, str, str]], marks: list[tuple[int, int, str]]
):
    """Of every row without such a mark: it is read, or something is said about it."""
    cells = [list(row) for row in table]
    for row, column, where in marks:
        word = cells[row][column]
        cells[row][column] = {
            "before": f'"{word}',
            "within": f'{word[:1]}"{word[1:]}',
            "after": f'{word}"',
        }[where]
    lines = ["id,a,b", *(",".join(row) for row in cells)]
    found = rows_of("\n".join(lines) + "\n")
    read = {each.line: each for each in found if isinstance(each, Row)}
    told = [each for each in found if isinstance(each, BadRow) or each.doubtful]
    spoilt = {row for row, _, _ in marks}
    for at, row in enumerate(table):
        if at in spoilt:
            continue
        if at + 2 in read:
            assert read[at + 2].values == dict(zip(("id", "a", "b"), row, strict=True))
        else:
            assert any(each.line < at + 2 for each in told), f"line {at + 2} is gone"
    if all(where == "within" for _, _, where in marks):
        assert [row.line for row in found] == list(range(2, 10)), "inches are no quotation marks"
    if len(marks) == 1:
        assert {at + 2 for at in range(8)} - spoilt - read.keys() <= {marks[0][0] + 2}


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5), st.sampled_from(DELIMITERS))
def test_what_separates_values_is_seen_in_the_header(table: list[tuple[str, str]], delimiter: str):
    text = "".join(delimiter.join(row) + "\n" for row in [("id", "x"), *table])
    expected = [Row(line, {"id": one, "x": other}) for line, (one, other) in enumerate(table, 2)]
    assert rows_of(text) == rows_of(text, delimiter) == expected


def test_a_delimiter_can_be_given(tmp_path: Path):
    text = "text~label\nhello~safe\n"
    with pytest.raises(SettingsError, match="there is no column 'text'"):
        imported(tmp_path, text)
    assert imported(tmp_path, text, delimiter="~")[0].benign == 1
    (tmp_path / "rows.csv").write_text(text)

    def call(delimiter: str) -> command_line.Ended:
        words = ("rows.csv", "--mapping", "mine.yaml", "--out", "new.jsonl")
        return command_line.run("eval", "import", *words, "--delimiter", delimiter, cwd=tmp_path)

    for wrong in ("~~", '"', "", "é"):
        done = call(wrong)
        assert done.returncode == 2
        assert "one character" in done.stderr
    assert call("~").returncode == 0
    (tmp_path / "new.jsonl").unlink()
    (tmp_path / "rows.csv").write_text(text.replace("~", "\t"))
    assert call("tab").returncode == 0


def test_a_row_that_may_have_swallowed_others_is_said(tmp_path: Path):
    text = 'text,label,x\n"one,safe,1\ntwo,safe,2\nthree,safe,3",safe,4\nfour,safe,5\n'
    found, cases = imported(tmp_path, text)
    assert len(cases) == 2
    assert found.doubtful == 1
    assert any("the first on line 2" in notice for notice in found.notices)
    quiet, _ = imported(tmp_path, 'text,label,x\n"a poem,\nof two lines",safe,1\n')
    assert quiet.doubtful == 0


# --- groups ---------------------------------------------------------------------------------------


def test_columns_of_a_set_become_groups_of_the_report(tmp_path: Path):
    text = (
        "text,label,hazard,Harm Area\n"
        "one,unsafe,Violent Crimes,A\ntwo,safe,violent crimes,\nthree,unsafe,Privacy & Data,B\n"
    )
    found, cases = imported(tmp_path, text, "groups: [hazard, Harm Area, type]\n")
    assert [case.groups for case in cases] == [
        {"hazard": "Violent Crimes", "Harm Area": "A"},
        {"hazard": "violent crimes"},
        {"hazard": "Privacy & Data", "Harm Area": "B"},
    ]
    assert any("group column 'type'" in notice or "type" in notice for notice in found.notices)
    clause = "fraud_abuse.spam"
    results = [
        result(case, {clause: "certain"} if at < 2 else None) for at, case in enumerate(cases)
    ]
    by_name = {group.name: group for group in measure(run(cases, results), draws=5).slices}
    assert (
        by_name["hazard:violent-crimes"].violating,
        by_name["hazard:violent-crimes"].benign,
    ) == (1, 1)
    assert by_name["hazard:violent-crimes"].judged.recall.hits == 1
    assert by_name["hazard:privacy-data"].judged.recall.value == 0.0
    assert by_name["harm-area:a"].n == by_name["harm-area:b"].n == 1
    assert parse("slice hazard:violent-crimes recall >= 0.5").group == "slice hazard:violent-crimes"


def test_groups_are_not_what_a_case_is_measured_by():
    data: dict[str, Any] = {
        "id": "a",
        "stage": "input",
        "messages": [{"user": "x"}],
        "labels": {},
        "action": "allow",
        "split": "test",
    }
    bare, grouped = (Case.model_validate(data | more) for more in ({}, {"groups": {"type": "x"}}))
    assert bare.hash == grouped.hash
    assert bare.judged_hash == grouped.judged_hash


# --- labels of a whole section --------------------------------------------------------------------

BY_SECTION = """
labels:
  - {when: {area: fraud}, violated: [fraud_abuse]}
  - {when: {area: votes}, violated: [elections.lobbying]}
  - {when: {area: no fraud}, ok: [fraud_abuse]}
"""


def test_a_row_can_name_a_section_and_no_clause(tmp_path: Path):
    text = "text,label,area\none,unsafe,fraud\ntwo,unsafe,votes\nthree,safe,no fraud\nfour,safe,\n"
    found, cases = imported(tmp_path, text, BY_SECTION)
    fraud, votes, fine, plain = cases
    assert (fraud.labels, fraud.sections) == ({}, {"fraud_abuse": "violated"})
    assert fraud.violates is True
    assert (votes.sections, fine.sections, plain.sections) == ({}, {"fraud_abuse": "ok"}, {})
    assert found.as_json()["clauses"]["fraud_abuse"] == {"violated": 1, "ok": 1, "unknown": 2}
    results = [
        result(fraud, {"fraud_abuse.spam": "certain"}),
        result(votes, {"fraud_abuse.spam": "likely"}),
        result(fine),
        result(plain),
    ]
    numbers = measure(run(cases, results), draws=5)
    sections = {group.name: group for group in numbers.sections}
    assert (sections["fraud_abuse"].violating, sections["fraud_abuse"].benign) == (1, 1)
    assert sections["fraud_abuse"].judged.recall.value == 1.0
    assert (sections["elections"].violating, sections["elections"].benign) == (1, 0)
    assert numbers.attribution.clause.of == 1  # of what names a clause
    assert (numbers.attribution.section.hits, numbers.attribution.section.of) == (1, 2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("labels: [{when: {x: 1}, violated: [fraud_abus]}]", "no clause or section"),
        (
            "labels:\n  - {when: {x: 1}, ok: [fraud_abuse]}\n"
            "  - {when: {x: 1}, violated: [fraud_abuse.spam]}",
            "make fraud_abuse ok, and fraud_abuse.spam in it violated",
        ),
    ],
)
def test_what_cannot_be_meant_of_a_section_is_told(more: str, message: str, tmp_path: Path):
    with pytest.raises(SettingsError, match=message):
        imported(tmp_path, "text,label,x\none,unsafe,1\n", more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sections": {"fraud": "violated"}}, "is no section of"),
        ({"labels": {"fraud_abuse": "violated"}}, "labelled under `sections`"),
        (
            {"labels": {"fraud_abuse.spam": "violated"}, "sections": {"fraud_abuse": "ok"}},
            "cannot be ok",
        ),
        ({"sections": {"fraud_abuse": "violated"}, "severity": None}, "needs its `severity`"),
        ({"sections": {"fraud_abuse": "violated"}, "overall": "ok"}, "can only be violated"),
    ],
)
def test_section_labels_of_a_case_file_are_checked(
    change: dict[str, Any], message: str, tmp_path: Path
):
    data: dict[str, Any] = {
        "id": "a",
        "stage": "input",
        "messages": [{"user": "x"}],
        "labels": {},
        "severity": "medium",
        "action": "block",
        "split": "test",
    }
    file = tmp_path / "cases.jsonl"
    file.write_text(json.dumps(data | change) + "\n")
    with pytest.raises(SettingsError, match=message):
        load_cases([file], SETTINGS.policy)


# --- a turn that is no text -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "image"}], "a list"),
        (7, "7"),
        ({"a": 1}, "a mapping"),
        (None, "empty"),
        ("", "empty"),
    ],
)
def test_a_turn_without_text_is_named_by_its_place(content: Any, said: str, tmp_path: Path):
    """Not by the column that holds the conversation, nor by a column that no file has."""
    more = "columns: {conversation: {column: turns}}\n"
    text = MAPPING.replace("columns: {prompt: text}\n", more).replace("FORMAT", "jsonl")
    (tmp_path / "mine.yaml").write_text(text)
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "well?"},
    ]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"turns": turns, "label": "safe"}) + "\n")
    mapping = load_mapping(tmp_path / "mine.yaml", SETTINGS.policy)
    with pytest.raises(SettingsError) as caught:
        import_rows(tmp_path / "rows.jsonl", mapping, SETTINGS, tmp_path / "out.jsonl")
    message = caught.value.problems[0].message
    assert message.startswith("turn 2 in column turns, the assistant's: its key content ")
    assert said in message
