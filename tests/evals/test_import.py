"""`eval import`: rows made up in the format of public sets, and what must become of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from magistrate.cli.eval_data import import_
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.case_files import MAX_LINE_BYTES, load_cases
from magistrate.evals.cases import Case
from magistrate.evals.formats.importing import LEGAL_WEIGHT, NOT_MARKED, Imported, import_rows
from magistrate.evals.formats.mapping import RowMapping
from magistrate.evals.formats.mapping_files import load_mapping, ready
from magistrate.evals.formats.rows import BadRow, Row, read_rows
from magistrate.evals.labels import unexpected
from magistrate.policy import builtin_policy
from magistrate.settings import Settings

DEFAULTS = Settings()
POLICY = builtin_policy()
SEXUAL = dict.fromkeys(
    ["sex_acts", "fetishes", "incest_bestiality", "erotic_chat"],
    "ok",
)
SEXUAL_OK = {f"sexual_content.{name}": label for name, label in SEXUAL.items()}
HARASSMENT, SELF_HARM = "psychological_harm.harassment", "psychological_harm.self_harm"
GORE_OK = {
    "psychological_harm.graphic_violence": "ok",
    "psychological_harm.real_violence_gore": "ok",
}
MINE = """\
name: mine
source: {title: Mine, url: "https://example.com", licence: CC0-1.0}
format: csv
stage: input
columns: {prompt: text}
overall: {violated: [{bad: 1}], ok: [{bad: 0}]}
child_safety: []
"""


FLAGS = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")


def flags(**values: int) -> dict[str, Any]:
    return {"prompt": "[text removed]", **values}


def csv_text(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def jsonl_text(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@cache
def ready_mapping(name: str) -> RowMapping:
    return load_mapping(name, POLICY)


def done(
    tmp_path: Path,
    name: str,
    text: str | bytes,
    *,
    under: Settings = DEFAULTS,
    suffix: str | None = None,
    **options: bool,
) -> tuple[Imported, list[Case]]:
    """Import a text under a ready mapping, or a file of one; the summary and the cases."""
    is_ready = name in ready() and under.policy is POLICY
    mapping = ready_mapping(name) if is_ready else load_mapping(name, under.policy)
    file = tmp_path / f"rows.{suffix or mapping.format}"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    out = tmp_path / "cases.jsonl"
    out.unlink(missing_ok=True)
    found = import_rows(file, mapping, under, out, **options)
    return found, list(load_cases([out], under.policy))


def mine(tmp_path: Path, text: str = MINE) -> str:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return str(file)


def messages(error: SettingsError) -> list[str]:
    return [f"{p.line}: {p.message}" for p in error.problems]


# --- ready mappings: what a row in their format means ---------------------------------------------

OPENAI = [
    (
        flags(S=0, H=0, V=0, HR=0, SH=0, S3=0, H2=0, V2=0),
        "ok",
        {
            **SEXUAL_OK,
            "child_safety.csam": "ok",
            HARASSMENT: "ok",
            SELF_HARM: "ok",
            **GORE_OK,
        },
    ),
    (flags(S=0, H=0, V=0, HR=0, SH=0, S3=0, H2=0), "unknown", {
        **SEXUAL_OK, "child_safety.csam": "ok", HARASSMENT: "ok", SELF_HARM: "ok"
    }),
    (flags(SH=1, HR=0), "violated", {SELF_HARM: "violated", HARASSMENT: "ok"}),
    (flags(H2=1), "violated", {"violence_hate.extremism_hate": "violated"}),
    (flags(V=1), "violated", {}),  # which clause, nobody said
    (flags(S=1, S3=0), "violated", {"child_safety.csam": "ok"}),
    (flags(V=0, H=0), None, None),  # says nothing about the policy
    (flags(S3=1, S=1), "child safety", None),
    (flags(S=1), "child safety", None),  # sexual, and nobody looked for a minor
    (flags(H="1.0", HR="0.0"), "violated", {  # as pandas writes a column with gaps
        "violence_hate.extremism_hate": "violated", HARASSMENT: "ok"
    }),
]  # fmt: skip
TOXIC = {"conv_id": "a1", "user_input": "[text removed]", "model_output": "x"}
JAILBREAK = "platform_abuse.jailbreak"
XSTEST = {"id": 1, "prompt": "[text removed]", "type": "homonyms", "focus": "kill", "note": ""}
BEHAVIOUR = {
    "Behavior": "Do [something].",
    "FunctionalCategory": "contextual",
    "SemanticCategory": "illegal",
    "Tags": "",
    "ContextString": "Some context.",
    "BehaviorID": "do_it",
}
AREA = {"id": "SST_1", "harm_area": "Scams and fraud", "counter": 1, "category": "Instructions"}
SAFE_FLAGS = {
    "animal_abuse": False,
    "child_abuse": False,
    "controversial_topics,politics": False,
    "discrimination,stereotype,injustice": False,
    "drug_abuse,weapons,banned_substance": False,
    "financial_crime,property_crime,theft": False,
    "hate_speech,offensive_language": False,
    "misinformation_regarding_ethics,laws_and_safety": False,
    "non_violent_unethical_behavior": False,
    "privacy_violation": False,
    "self_harm": False,
    "sexually_explicit,adult_content": False,
    "terrorism,organized_crime": False,
    "violence,aiding_and_abetting,incitement": False,
}
BEAVER_OK = {
    "psychological_harm.animal_cruelty": "ok",
    "child_safety.csam": "ok",
    "child_safety.exploitation": "ok",
    "child_safety.abuse": "ok",
    "violence_hate.discrimination": "ok",
    "weapons_regulated_goods.weapons": "ok",
    "privacy_identity.privacy_rights": "ok",
    "privacy_identity.private_information": "ok",
    SELF_HARM: "ok",
    **SEXUAL_OK,
}


def beaver(*true: str, **more: Any) -> dict[str, Any]:
    found = SAFE_FLAGS | dict.fromkeys(true, True)
    return {"prompt": "q", "response": "a", "category": found, "is_safe": not true} | more


def without(labels: dict[str, str], *names: str) -> dict[str, str]:
    return {clause: label for clause, label in labels.items() if clause not in names}


WILD = {
    "prompt": "[text removed]",
    "adversarial": False,
    "response": None,
    "response_refusal_label": None,
    "response_harm_label": None,
    "subcategory": "cyberattack",
    "prompt_harm_label": "harmful",
}
AEGIS = {
    "id": "0f",
    "prompt": "[text removed]",
    "response": "[answer removed]",
    "prompt_label": "unsafe",
    "response_label": "unsafe",
    "violated_categories": "Violence, Needs Caution",
}
# A row, what is known of it as a whole (or why it is left out; None: its labels say nothing), and
# its labels.
READY: dict[str, list[tuple[dict[str, Any], str | None, dict[str, str] | None]]] = {
    "openai-moderation": OPENAI,
    "toxic-chat": [
        (TOXIC | {"toxicity": 0, "jailbreaking": 0}, "ok", {JAILBREAK: "ok"}),
        (TOXIC | {"toxicity": 1, "jailbreaking": 0}, "violated", {JAILBREAK: "ok"}),
        (TOXIC | {"toxicity": 0, "jailbreaking": 1}, "violated", {JAILBREAK: "violated"}),
        (TOXIC | {"toxicity": "", "jailbreaking": 0}, "unknown", {JAILBREAK: "ok"}),
    ],
    "xstest": [
        (XSTEST | {"label": "safe"}, "ok", {}),
        (XSTEST | {"label": "unsafe", "type": "contrast_homonyms"}, "violated", {}),
    ],
    "harmbench": [
        (BEHAVIOUR, "violated", {}),
        (BEHAVIOUR | {"SemanticCategory": "harassment_bullying"}, "violated", {
            HARASSMENT: "violated"
        }),
        (
            BEHAVIOUR | {"SemanticCategory": "copyright"},
            "copyright, which the policy has no clause about",
            None,
        ),
    ],
    "simple-safety-tests": [
        (AREA | {"prompts_final": "x"}, "violated", {}),
        (
            AREA
            | {"prompts_final": "x", "harm_area": "Suicide, Self-Harm, and Eating Disorders"},
            "violated",
            {SELF_HARM: "violated"},
        ),
        (AREA | {"prompts_final": "x", "harm_area": "Child Abuse"}, "child safety", None),
        (AREA | {"prompts_final": "x", "harm_area": "Child safety"}, "child safety", None),
    ],
    "strongreject": [
        ({"category": "Violence", "source": "x", "forbidden_prompt": "x"}, "violated", {}),
        (
            {"category": "Sexual content", "source": "x", "forbidden_prompt": "x"},
            "child safety",
            None,
        ),
    ],
    "beavertails": [
        (beaver(), "ok", BEAVER_OK),
        (beaver("self_harm"), "violated", BEAVER_OK | {SELF_HARM: "violated"}),
        (
            beaver("privacy_violation"),
            "violated",
            without(
                BEAVER_OK,
                "privacy_identity.privacy_rights",
                "privacy_identity.private_information",
            ),
        ),
        (beaver("non_violent_unethical_behavior"), "unknown", BEAVER_OK),
        (beaver("child_abuse"), "child safety", None),
    ],
    "wildguardmix-prompts": [
        (WILD, "violated", {}),
        (WILD | {"prompt_harm_label": "unharmful", "subcategory": "benign"}, "ok", {}),
        (WILD | {"prompt_harm_label": None}, None, None),
        (WILD | {"subcategory": "sexual_content"}, "child safety", None),
        (
            WILD | {"subcategory": "others"},
            "an unnamed kind of harm, which the policy may allow",
            None,
        ),
    ],
    "wildguardmix-answers": [
        (WILD | {"response": "a", "response_harm_label": "harmful"}, "violated", {}),
        (WILD | {"response": "a", "response_harm_label": "unharmful"}, "ok", {}),
        (WILD, "has no answer", None),
    ],
    "aegis-2-prompts": [
        (AEGIS, "violated", {}),
        (AEGIS | {"prompt_label": "safe", "violated_categories": ""}, "ok", {}),
        (AEGIS | {"violated_categories": "Suicide and Self Harm"}, None, None),
        (AEGIS | {"violated_categories": "Sexual, Sexual (minor)"}, "child safety", None),
        (AEGIS | {"prompt": "REDACTED"}, "redacted in the set", None),
    ],
    "aegis-2-answers": [
        (AEGIS, "violated", {}),
        (AEGIS | {"response_label": "safe"}, "ok", {}),
        (AEGIS | {"response": None, "response_label": ""}, "has no answer", None),
    ],
}  # fmt: skip
NAMED = [(name, *row) for name, rows in READY.items() for row in rows]


def test_every_ready_mapping_has_rows_here() -> None:
    assert set(READY) == set(ready())


@pytest.mark.parametrize(("name", "row", "overall", "labels"), NAMED)
def test_what_a_row_of_a_known_format_means(
    tmp_path: Path, name: str, row: dict[str, Any], overall: str | None, labels: Any
) -> None:
    mapping = load_mapping(name, POLICY)
    # Beside it a row that becomes a case, and has every column that the mapping names.
    kept = next(other for other, known, _ in READY[name] if known in ("ok", "violated"))
    whole = dict.fromkeys(mapping.used, None) | kept if mapping.format == "jsonl" else kept
    ids = mapping.columns.id
    rows = [whole | ({ids: "first"} if ids else {}), row]
    text = csv_text(rows) if mapping.format == "csv" else jsonl_text(rows)
    found, cases = done(tmp_path, name, text)
    assert found.bad == 0
    if labels is None:
        reason = overall or "its labels say nothing about the policy"
        assert (len(cases), found.left_out) == (1, {reason: 1})
        return
    case = cases[1]
    assert (case.overall, case.labels) == (overall, labels)
    assert case.stage == mapping.stage and case.split == "test"
    assert case.action == ("block" if overall == "violated" else "allow")
    assert case.severity == ("medium" if overall == "violated" else None)
    assert mapping.source.licence in (case.note or "")


@pytest.mark.parametrize("name", READY)
def test_a_check_accepts_what_was_imported(tmp_path: Path, name: str) -> None:
    mapping = load_mapping(name, POLICY)
    rows = [row for row, _, _ in READY[name]]
    if mapping.columns.id:
        rows = [row | {mapping.columns.id: f"n{at}"} for at, row in enumerate(rows)]
    text = csv_text(rows) if mapping.format == "csv" else jsonl_text(rows)
    _, cases = done(tmp_path, name, text)
    assert cases
    told = [case for case in cases if case.violated or not case.violates]
    assert list(unexpected(told, DEFAULTS)) == []


@given(st.dictionaries(st.sampled_from(FLAGS), st.sampled_from([0, 1])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_flag_that_is_not_there_is_never_negative(tmp_path: Path, values: dict[str, int]) -> None:
    about = {
        "S": "sexual_content.sex_acts",
        "S3": "child_safety.csam",
        "HR": HARASSMENT,
        "SH": SELF_HARM,
        "V2": "psychological_harm.graphic_violence",
    }
    every = flags(S=0, H=0, V=0, HR=0, SH=0, S3=0, H2=0, V2=0)
    _, cases = done(tmp_path, "openai-moderation", jsonl_text([every, flags(**values)]))
    for case in cases[1:]:
        for flag, clause in about.items():
            assert (case.label(clause) == "ok") == (values.get(flag) == 0)
        assert case.benign == (len(values) == 8 and not any(values.values()))
        assert bool(case.violates) == any(values.values())
    if len(cases) == 1:
        unsafe = values.get("S3") == 1 or (values.get("S") == 1 and "S3" not in values)
        assert unsafe or not (set(values) & set(about) or any(values.values()))


# --- what a case from elsewhere means -------------------------------------------------------------


def case(**parts: Any) -> Case:
    base = {"id": "a", "stage": "input", "messages": [{"user": "x"}], "labels": {}}
    return Case.model_validate(base | {"action": "allow", "split": "test"} | parts)


@pytest.mark.parametrize(
    ("parts", "violates", "benign", "named", "other"),
    [
        ({}, False, True, "ok", "ok"),  # a case of ours: a reviewer looked at every clause
        ({"overall": "ok"}, False, True, None, None),
        ({"overall": "ok", "labels": {SELF_HARM: "ok"}}, False, True, "ok", None),
        ({"overall": "unknown", "labels": {SELF_HARM: "ok"}}, None, False, "ok", None),
        ({"overall": "violated"}, True, False, None, None),
        ({"labels": {SELF_HARM: "violated"}}, True, False, "violated", None),
    ],
)
def test_what_is_known_of_a_case(
    parts: dict[str, Any], violates: bool | None, benign: bool, named: Any, other: Any
) -> None:
    it = case(**parts)
    assert (it.violates, it.benign) == (violates, benign)
    assert (it.label(SELF_HARM), it.label(HARASSMENT)) == (named, other)


def test_only_our_own_benign_cases_are_ordinary_traffic() -> None:
    assert "ordinary" in case().slices
    assert "ordinary" not in case(overall="ok").slices


def test_the_hash_of_a_case_of_ours_is_what_it_was() -> None:
    written = case()
    assert "overall" not in json.dumps(written.model_dump(exclude_defaults=True))
    aside = {"note", "tags", "contested", "split", "pair", "groups"}
    later = {"overall", "sections", "declined", "continues_declined"}
    before = written.model_dump(mode="json", exclude=aside | later)
    import hashlib

    canonical = json.dumps(before, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert written.hash == hashlib.sha256(canonical.encode()).hexdigest()
    assert case(overall="ok").hash != written.hash
    assert case(declined=[0]).hash != written.hash


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"overall": "violated"}, "needs its `severity`"),
        ({"overall": "ok", "severity": "low"}, "`severity` is that of a violation"),
        ({"overall": "unknown", "severity": "low"}, "`severity` is that of a violation"),
        (
            {"overall": "ok", "labels": {SELF_HARM: "violated"}, "severity": "low"},
            "`overall` can only be violated",
        ),
    ],
)
def test_labels_that_contradict_one_another(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    data = {"id": "a", "stage": "input", "messages": [{"user": "x"}], "labels": {}}
    file = tmp_path / "c.jsonl"
    file.write_text(json.dumps(data | {"action": "block", "split": "test"} | parts))
    with pytest.raises(SettingsError, match=message):
        load_cases([file], POLICY)


# --- rows -----------------------------------------------------------------------------------------


def read(tmp_path: Path, raw: bytes, format: Any = "csv", name: str = "r") -> list[Row | BadRow]:
    file = tmp_path / name
    file.write_bytes(raw)
    return list(read_rows(file, format, ()))


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_csv_is_read_as_it_was_written(
    tmp_path: Path, rows: list[tuple[str, str]], bom: bool
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    begins: list[int] = []
    writer.writerow(["a", "b"])
    for row in rows:
        begins.append(out.getvalue().count("\n") + 1)
        writer.writerow(row)
    raw = out.getvalue().encode("utf-8-sig" if bom else "utf-8")
    expected = [Row(line, {"a": a, "b": b}) for line, (a, b) in zip(begins, rows, strict=True)]
    assert read(tmp_path, raw) == expected
    assert read(tmp_path, gzip.compress(raw), name="r.gz") == expected


BAD_CSV = [
    (b"1,2,3\n", "has 3 values, the header has 2"),
    (b"1\n", "has 1 values, the header has 2"),
    (b"\xff,2\n", "is not UTF-8 text (byte 1 of the row)"),
    (b"a\0b,2\n", "has a NUL character in it"),
    (b'"a"b,"2"\n', "is not CSV: ',' expected after '\"'"),
    (b'"' + b"x" * MAX_LINE_BYTES + b'\ny",2\n', f"has more than {MAX_LINE_BYTES:,} bytes"),
    (b"y" * (MAX_LINE_BYTES + 1) + b"\n", f"has more than {MAX_LINE_BYTES:,} bytes"),
]
BAD_JSONL = [
    (b'{"a": \n', "is not a JSON object"),
    (b"[1]\n", "is not a JSON object"),
    (b'{"a": 1, "a": 2}\n', "duplicate key"),
    (b'{"a": "\xff"}\n', "is not UTF-8 text"),
    (b'{"a": ' + b"[" * 100_000 + b"\n", "is not a JSON object"),
    (b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}\n', f"has more than {MAX_LINE_BYTES:,} bytes"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_CSV)
def test_a_bad_csv_row_is_told_and_the_next_one_is_read(
    tmp_path: Path, bad: bytes, message: str
) -> None:
    first, second, third = read(tmp_path, b"a,b\n1,2\n" + bad + b'"3\n3",4\n')
    assert first == Row(2, {"a": "1", "b": "2"})
    assert isinstance(second, BadRow) and second.line == 3 and message in second.message
    assert third == Row(3 + bad.count(b"\n"), {"a": "3\n3", "b": "4"})


@pytest.mark.parametrize(("bad", "message"), BAD_JSONL)
def test_a_bad_json_line_is_told_and_the_next_one_is_read(
    tmp_path: Path, bad: bytes, message: str
) -> None:
    first, second, third = read(tmp_path, b'{"a": 1}\n' + bad + b'\n{"a": 2}', "jsonl")
    assert first == Row(1, {"a": 1})
    assert isinstance(second, BadRow) and second.line == 2 and message in second.message
    assert third == Row(4, {"a": 2})


def test_a_quotation_mark_that_is_never_closed_spoils_its_own_row(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, b'a,b\n1,2\n"3,4\n5,6\n')
    assert first == Row(2, {"a": "1", "b": "2"})
    assert isinstance(second, BadRow) and second.line == 3
    assert second.message.startswith("a quotation mark is never closed")
    assert third == Row(4, {"a": "5", "b": "6"})


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        (b"", "r", "is empty"),
        ("a,b\n".encode("utf-16"), "r", "is not UTF-8 text"),
        (b"no gzip", "r.gz", "cannot be read"),
        (gzip.compress(b"a,b\n" * 100, mtime=0)[:-9], "r.gz", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, raw: bytes, name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, raw, name=name)


@pytest.mark.parametrize("end", [b"", b'",2\n'])
def test_a_row_without_end_is_not_held_in_memory(tmp_path: Path, end: bytes) -> None:
    file = tmp_path / "r"
    with file.open("wb") as stream:
        stream.write(b'a,b\n"')
        for _ in range(40):
            stream.write(b"x" * 1_000_000)
        stream.write(end)
    tracemalloc.start()
    try:
        (row,) = read_rows(file, "csv", ())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(row, BadRow)
    assert peak < 10_000_000


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    file, out = tmp_path / "rows.csv", tmp_path / "cases.jsonl"
    with file.open("w") as stream:
        stream.write("text,bad\n")
        for at in range(1_000):
            stream.write(f"{at} {'x' * 30_000},{at % 2}\n")
    mapping = load_mapping(mine(tmp_path), POLICY)
    tracemalloc.start()
    try:
        found = import_rows(file, mapping, DEFAULTS, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.cases, found.violating) == (1_000, 500)
    assert peak < 10_000_000  # of 30 MB


# --- mapping files --------------------------------------------------------------------------------

WRONG: list[tuple[str, str, int, str]] = [
    ("stage: input", "stage: inpt", 4, "found inpt; allowed: input, output; did you mean 'input'?"),
    ("child_safety: []", "", 1, "this key is missing"),
    ("child_safety: []", "child_safety: []\nsevrity: low", 8, "did you mean 'severity'?"),
    ("{prompt: text}", "{prompt: text, answer: a}", 5, "`answer` belongs to stage output"),
    ("{prompt: text}", "{id: text}", 5, "give either `prompt` or `conversation`"),
    ("stage: input", "stage: output", 5, "stage output needs the answer's column"),
    (
        "{violated: [{bad: 1}], ok: [{bad: 0}]}",
        "{always: ok, violated: [{bad: 1}]}",
        6,
        "`always` leaves nothing",
    ),
    ("{violated: [{bad: 1}], ok: [{bad: 0}]}", "{}", 1, "nothing here labels a row"),
    ("{bad: 1}", "{bad: [[1]]}", 6, "a word, a number, true, false, or null"),
    (
        "child_safety: []",
        "child_safety: []\nexpect: {bad: [no, maybe]}",
        8,
        "a condition asks for '1', which is not expected",
    ),
    (
        "child_safety: []",
        "child_safety: []\nlabels: [{when: {bad: 1}, violated: [psychological_harm.selfharm]}]",
        8,
        "is no clause or section of anthropic-usage-policy@2024-06-06; did you mean "
        "'psychological_harm.self_harm'?",
    ),
    (
        "child_safety: []",
        f"child_safety: []\nlabels: [{{when: {{bad: 1}}, violated: [{SELF_HARM}], ok: "
        f"[{SELF_HARM}]}}]",
        8,
        "is both violated and ok",
    ),
    (
        "child_safety: []",
        "child_safety: []\nlabels: [{when: {bad: 1}}]",
        8,
        "this rule says nothing",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), WRONG)
def test_what_is_wrong_with_a_mapping(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert old in MINE
    with pytest.raises(SettingsError) as caught:
        load_mapping(mine(tmp_path, MINE.replace(old, new)), POLICY)
    told = [(p.line, p.message) for p in caught.value.problems]
    assert any(at == line and message in said for at, said in told), told


def test_a_clause_must_be_judged_at_the_stage(tmp_path: Path) -> None:
    text = MINE.replace("stage: input", "stage: output").replace("text}", "text, answer: a}")
    planted = "integrity.third_party_instructions"
    with pytest.raises(SettingsError, match="is not judged at the stage output"):
        load_mapping(mine(tmp_path, f"{text}labels: [{{when: {{b: 1}}, ok: [{planted}]}}]"), POLICY)


def test_an_unknown_mapping_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'xstest'"):
        load_mapping("xtest", POLICY)


# --- an import ------------------------------------------------------------------------------------


def test_every_wrong_row_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    rows = "text,bad\nfine,0\n,1\nx,2,3\n\nfine too,1\n"
    expect = MINE + "expect: {bad: [0, 1]}\n"
    with pytest.raises(SettingsError) as caught:
        done(tmp_path, mine(tmp_path, expect), rows + "y,7\n")
    assert messages(caught.value) == [
        "3: column text is empty",
        "4: has 3 values, the header has 2",
        "7: column bad says '7'; the mapping knows: 0, 1",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "rows.csv"]
    found, cases = done(tmp_path, mine(tmp_path, expect), rows + "y,7\n", skip_bad=True)
    assert (found.rows, found.bad, found.violating, found.benign) == (5, 3, 1, 1)
    assert [case.id for case in cases] == ["mine.2", "mine.6"]
    assert len(found.problems) == 3


BAD_VALUES = [
    ({"text": 5}, "column text holds 5; wanted: text"),
    ({"text": " \n"}, "column text is empty"),
    ({}, "column text is missing"),
    ({"text": "a\0b"}, "column text has a NUL character in it"),
    ({"text": "a\ud800b"}, "column text has half a character in it"),
    ({"text": "x" * (MAX_LINE_BYTES - 100)}, "becomes a case of more than"),
    ({"text": "x", "id": "a b"}, "letters, digits and"),
    ({"text": "x", "id": None}, "column id has no id"),
    ({"text": "x", "id": "one"}, "the id 'mine.one' is taken by the row on line 1"),
    ({"text": "x", "bad": [0, 1]}, "its labels say both"),
]


@pytest.mark.parametrize(("values", "message"), BAD_VALUES)
def test_a_value_that_cannot_be_used(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    text = MINE.replace("csv", "jsonl").replace("text}", "text, id: id}")
    rows = [{"text": "fine", "bad": 0, "id": "one"}, {"bad": 1, "id": "two"} | values]
    with pytest.raises(SettingsError) as caught:
        done(tmp_path, mine(tmp_path, text), jsonl_text(rows))
    (told,) = messages(caught.value)
    assert told.startswith("2: ") and message in told


def test_a_column_that_no_row_has_is_a_mistake_in_the_mapping(tmp_path: Path) -> None:
    text = MINE.replace("format: csv", "format: jsonl").replace("ok: [{bad: 0}]", "ok: [{bd: 0}]")
    with pytest.raises(SettingsError, match="no row has bd"):
        done(tmp_path, mine(tmp_path, text), jsonl_text([{"text": "x", "bad": 1}]))


def test_a_csv_file_must_have_the_columns(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        done(tmp_path, mine(tmp_path), "Text,bad,bad\nx,1,1\n")
    assert messages(caught.value) == [
        "1: there is no column 'text'; there are: Text, bad, bad; did you mean 'Text'?",
        "1: the column 'bad' occurs 2 times",
    ]


def test_an_import_in_which_nothing_became_a_case_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none of 1 rows became a case"):
        done(tmp_path, mine(tmp_path), "text,bad\nx,\n")


def test_many_bad_rows_are_counted_and_not_all_kept(tmp_path: Path) -> None:
    rows = "text,bad\nfine,0\n" + ",1\n" * 1_500
    found, _ = done(tmp_path, mine(tmp_path), rows, skip_bad=True)
    assert (found.bad, len(found.problems)) == (1_500, 1_000)
    with pytest.raises(SettingsError, match="and 500 more rows"):
        done(tmp_path, mine(tmp_path), rows)


@pytest.mark.parametrize(("name", "message"), [("old.jsonl", "exists"), ("new.yaml", "end in")])
def test_the_new_file_must_be_new(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "old.jsonl").write_text("kept")
    (tmp_path / "rows.csv").write_text("text,bad\nx,1\n")
    mapping = load_mapping(mine(tmp_path), POLICY)
    with pytest.raises(SettingsError, match=message):
        import_rows(tmp_path / "rows.csv", mapping, DEFAULTS, tmp_path / name)
    assert (tmp_path / "old.jsonl").read_text() == "kept"


def test_a_conversation_becomes_turns(tmp_path: Path) -> None:
    how = "{conversation: {column: turns, role: from, content: value, roles: {human: user, gpt: "
    text = (
        MINE.replace("csv", "jsonl")
        .replace("stage: input", "stage: output")
        .replace("{prompt: text}", how + "assistant}}, system: set, language: lang}")
    )
    turns = [
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "hello"},
        {"from": "human", "value": "and?"},
        {"from": "gpt", "value": "well"},
    ]
    row = {"turns": turns, "bad": 1, "set": "Be kind.", "lang": "DE_DE"}
    text_row = row | {"turns": json.dumps(turns), "lang": "en-GB"}
    _, cases = done(tmp_path, mine(tmp_path, text), jsonl_text([row, text_row]))
    assert [dict(turn) for turn in cases[0].messages] == [
        {"user": "hi"},
        {"assistant": "hello"},
        {"user": "and?"},
    ]
    assert (cases[0].response, cases[0].system, cases[0].tags) == ("well", "Be kind.", ("lang:de",))
    assert (cases[1].messages, cases[1].tags) == (cases[0].messages, ())
    for wrong, message in [
        ({"turns": turns[:3]}, "its last turn is the user's; wanted: the assistant's"),
        ({"turns": "hi"}, "holds no list of turns"),
        ({"turns": [{"from": "bot", "value": "x"}]}, "turn 1 in column turns has the role 'bot'"),
        ({"lang": "Klingon!"}, "is no language code"),
    ]:
        with pytest.raises(SettingsError, match=message):
            done(tmp_path, mine(tmp_path, text), jsonl_text([row, row | wrong]))


def test_columns_are_put_together_and_may_lack_all_but_the_last(tmp_path: Path) -> None:
    rows = [BEHAVIOUR, BEHAVIOUR | {"ContextString": "", "BehaviorID": "other"}]
    _, cases = done(tmp_path, "harmbench", csv_text(rows))
    assert [case.messages[0]["user"] for case in cases] == [
        "Some context.\n\nDo [something].",
        "Do [something].",
    ]


def test_a_rule_can_add_tags(tmp_path: Path) -> None:
    text = MINE + "tags: [set:mine]\nlabels: [{when: {bad: 1}, tags: [disguise:base64]}]\n"
    _, cases = done(tmp_path, mine(tmp_path, text), "text,bad\nx,1\ny,0\n")
    assert [case.tags for case in cases] == [("set:mine", "disguise:base64"), ("set:mine",)]


# --- what is expected of a violation --------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "action"),
    [
        ("", "block"),
        (f"labels: [{{when: {{bad: 1}}, violated: [{SELF_HARM}]}}]\n", "block"),
        (
            "labels: [{when: {bad: 1}, violated: [misinformation.about_people]}]\nseverity: low\n",
            "allow",
        ),
        ("severity: low\naction: warn\n", "warn"),
    ],
)
def test_the_action_follows_from_labels_and_severity(
    tmp_path: Path, more: str, action: str
) -> None:
    _, cases = done(tmp_path, mine(tmp_path, MINE + more), "text,bad\nx,1\ny,0\n")
    assert [case.action for case in cases] == [action, "allow"]


def test_where_the_action_depends_on_the_clause_the_mapping_must_say_it(tmp_path: Path) -> None:
    # A floor blocks at low severity, other clauses do not, and the set names none.
    with pytest.raises(SettingsError, match="leads to allow, block, depending on the clause"):
        done(tmp_path, mine(tmp_path, MINE + "severity: low\n"), "text,bad\nx,1\n")
    lenient = Settings.model_validate({"actions": {"misinformation": {"input": "warn"}}})
    with pytest.raises(SettingsError, match="leads to block, warn"):
        done(tmp_path, mine(tmp_path), "text,bad\nx,1\n", under=lenient)


# --- child safety ---------------------------------------------------------------------------------

WITH_CHILD = jsonl_text([beaver(), beaver("child_abuse")])


def test_child_safety_is_left_out_unless_asked_for_with_a_word_on_the_law(tmp_path: Path) -> None:
    found, cases = done(tmp_path, "beavertails", WITH_CHILD)
    assert (len(cases), found.left_out, found.notices) == (1, {"child safety": 1}, [])
    found, cases = done(tmp_path, "beavertails", WITH_CHILD, child_safety=True)
    assert (len(cases), found.left_out, found.notices) == (2, {}, [LEGAL_WEIGHT])


def test_a_set_that_does_not_mark_child_safety_says_so(tmp_path: Path) -> None:
    found, _ = done(tmp_path, "xstest", csv_text([XSTEST | {"label": "safe"}]))
    assert found.notices == [NOT_MARKED]


@pytest.mark.parametrize(
    ("name", "column", "word"),
    [
        ("simple-safety-tests", "harm_area", "Harm to minors"),
        ("strongreject", "category", "Minors"),
        ("aegis-2-prompts", "violated_categories", "Violence, Minors"),
        ("wildguardmix-prompts", "subcategory", "minors"),
    ],
)
def test_a_category_nobody_decided_about_never_passes(
    tmp_path: Path, name: str, column: str, word: str
) -> None:
    row = next(row for row, known, _ in READY[name] if known == "violated")
    mapping = load_mapping(name, POLICY)
    text = (csv_text if mapping.format == "csv" else jsonl_text)([row | {column: word}])
    with pytest.raises(SettingsError, match="the mapping knows"):
        done(tmp_path, name, text)


# --- the command ----------------------------------------------------------------------------------

app = typer.Typer()
app.command("import")(import_)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "b.jsonl").write_text(WITH_CHILD)
    (tmp_path / "bad.jsonl").write_text(WITH_CHILD + "{\n")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["--mapping", "beavertails", *arguments])

    return invoke


def test_the_command_says_what_became_of_the_rows(run: Any) -> None:
    result = run("b.jsonl", "--out", "o.jsonl")
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert "1 cases of 2 rows are in o.jsonl." in words
    assert "Left out child safety 1" in words
    assert f"{SELF_HARM} 0 1 0" in words
    assert result.stderr == ""


def test_the_command_warns_who_asks_for_child_safety(run: Any) -> None:
    result = run("b.jsonl", "--out", "o.jsonl", "--include-child-safety")
    assert result.exit_code == 0
    assert "an offence" in " ".join(result.stderr.split())


def test_the_command_writes_json(run: Any) -> None:
    result = run("bad.jsonl", "--out", "o.jsonl", "--skip-bad", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["rows"], found["cases"], found["bad"]) == (3, 1, 1)
    assert found["clauses"][SELF_HARM] == {"violated": 0, "ok": 1, "unknown": 0}
    assert found["problems"][0]["line"] == 3


def test_the_command_fails_with_2_and_every_problem(run: Any, tmp_path: Path) -> None:
    result = run("bad.jsonl", "--out", "o.jsonl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bad.jsonl:3:1: is not a JSON object" in result.stderr
    assert not (tmp_path / "o.jsonl").exists()
    assert run("missing.jsonl", "--out", "o.jsonl").exit_code == 2


def test_combinations_of_conditions_are_all_or_any(tmp_path: Path) -> None:
    """A condition holds if every column has one of its values, a list of them if any holds."""
    text = MINE.replace(
        "{violated: [{bad: 1}], ok: [{bad: 0}]}",
        "{violated: [{a: [1, 2], b: x}, {c: null}], ok: [{a: 0}]}",
    )
    values = list(product(["0", "1", "2", "3"], ["x", "y"], ["", "z"]))
    rows = [{"text": "t", "a": a, "b": b, "c": c} for a, b, c in values]
    kept = [r for r in rows if not (r["a"] == "0" and r["c"] == "")]  # those contradict
    found, cases = done(tmp_path, mine(tmp_path, text), csv_text(kept))
    expected = [
        "violated" if (a in "12" and b == "x") or not c else "ok" if a == "0" else None
        for a, b, c in values
        if not (a == "0" and c == "")
    ]
    assert [case.overall for case in cases] == [word for word in expected if word]
    assert found.left_out.total() == expected.count(None)
