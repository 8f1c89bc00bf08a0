"""A file becomes plain data with positions, or one error that says where."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from magistrate.config.diagnostics import Problem, SettingsError, dotted, nearest, shown
from magistrate.config.yaml_document import MAX_BYTES, given, parse, read


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1", {"a": 1}),
        ("a: 1.5", {"a": 1.5}),
        ("a: -2e3", {"a": -2000.0}),
        ("a: true\nb: False", {"a": True, "b": False}),
        ("a: ~\nb:\nc: null", {"a": None, "b": None, "c": None}),
        ("a: [x, 'y', \"z\"]", {"a": ["x", "y", "z"]}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: &n {b: 1}\nc: *n", {"a": {"b": 1}, "c": {"b": 1}}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 100%\nb: |\n  %YAML 1.1\n", {"a": "100%", "b": "%YAML 1.1\n"}),
        ("", None),
        ("# only a comment\n", None),
        # Nothing is read as something that it does not plainly say.
        ("a: no\nb: yes\nc: on\nd: off", {"a": "no", "b": "yes", "c": "on", "d": "off"}),
        ("a: 012\nb: 1_000\nc: 0x1F\nd: 0o7", {"a": "012", "b": "1_000", "c": "0x1F", "d": "0o7"}),
        ("a: .nan\nb: .inf\nc: 1.5.2", {"a": ".nan", "b": ".inf", "c": "1.5.2"}),
        ("a: 2024-06-06", {"a": "2024-06-06"}),
        ("a: " + "9" * 5000, {"a": "9" * 5000}),
        ("012: x\ntrue: y\n~: z", {"012": "x", "true": "y", "~": "z"}),
        ("a: !!str 3", {"a": "3"}),
    ],
)
def test_yaml_is_read_as_plain_data(text: str, data: object) -> None:
    document = parse(text)
    assert document.data == data
    assert document.problems == ()


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (
            "a: b: c",
            (1, 5),
            "not allowed here; check the indentation and the colons",
        ),
        ("a: [1,\nb: 2", (2, 5), "while parsing a flow sequence"),
        ("a:\n\t- x", (2, 1), "indent with spaces, not tabs"),
        ("a:\n  b: 1\n\tc: 2", (3, 1), "indent with spaces, not tabs"),
        ("a: 'x", (1, 4), "the quote that opens here is never closed"),
        ('a: 1\nb: {c: "x, d: y}\ne: f\n', (2, 8), "the quote that opens here is never closed"),
        ('a: "x\n---\nb: 1', (1, 4), "the quote that opens here is never closed"),
        ("a: 1\n---\nb: 2", (2, 1), "expected a single document"),
        ("a: *nowhere", (1, 4), "undefined alias"),
        ("a: 1\nb: \x00", (2, 4), "control character"),
        ("a: 1\n- b", (2, 1), "the end of the block"),
        ("a: `x`", (1, 4), "cannot start any token"),
        ("# c\n%YAML 1.1\n---\na: no", (2, 1), "YAML 1.2"),
        ("%YAML 1.2\n---\na: 1", (1, 1), "directive"),
        ("\n%TAG ! x\n---\na: 1", (2, 1), "directive"),
        ("[" * 5000, None, "nested too deeply"),
        ("[" * 60 + "]" * 60, None, "nested too deeply"),
        ("&a [*a]", None, "refers to itself"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n"
                for i in range(8)
            ),
            None,
            "expands to more than 100,000 values",
        ),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(
    text: str, place: tuple[int, int] | None, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, "f.yaml")
    (problem,) = caught.value.problems
    assert ((problem.line, problem.column) if problem.line else None) == place
    assert problem.file == "f.yaml"
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "place", "path", "words"),
    [
        ("a: 1\na: 2", (2, 1), "a", "duplicate key 'a', first on line 1"),
        ("a: {b: 1, c: 2, b: 3}", (1, 17), "a.b", "duplicate key 'b'"),
        ("a: !!python/name:os x", (1, 4), "a", "tags are not allowed"),
        ("a: !thing {b: 1}", (1, 4), "a", "tags are not allowed"),
        ("a: !!binary aGk=", (1, 4), "a", "tags are not allowed"),
        ("a: !list [1]", (1, 4), "a", "found the tag !list"),
        ("a: 1\n<<: {b: 1}", (2, 1), "<<", "merge keys"),
        ("a: 1\n? [x]\n: 1", (2, 3), "", "keys must be text"),
    ],
)
def test_oddities_are_reported_beside_the_data(
    text: str, place: tuple[int, int], path: str, words: str
) -> None:
    document = parse(text, "f.yaml")
    (problem,) = document.problems
    assert (problem.line, problem.column, problem.path) == (*place, path)
    assert words in problem.message


def test_all_duplicate_keys_are_reported_at_once_and_the_first_counts() -> None:
    document = parse("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3")
    assert [problem.line for problem in document.problems] == [2, 3, 4]
    assert document.data == {"a": 1, "b": {"c": 1}}


def test_reused_anchors_are_no_warning() -> None:
    assert parse("a: &x 1\nb: &x 2\nc: *x").data == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize(
    ("where", "on_key", "place"),
    [
        (("a", "b"), False, (2, 6)),
        (("a", "b"), True, (2, 3)),
        (("c", 1, "d"), False, (5, 9)),
        (("c", 1), False, (5, 5)),
        (("a", "missing"), False, (1, 1)),  # at the key of the mapping that lacks it
        (("nothing", "at", "all"), False, (1, 1)),
        (("e",), False, (6, 1)),  # no value: the key is all there is to point at
    ],
)
def test_a_problem_points_at_the_value_its_key_or_what_is_around(
    where: tuple[str | int, ...], on_key: bool, place: tuple[int, int]
) -> None:
    document = parse("a:\n  b: 1\nc:\n  - 1\n  - {d: 2}\ne:\nf: 3", "f.yaml")
    problem = document.problem(where, "wrong", on_key=on_key)
    assert (problem.line, problem.column) == place


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: this file does not exist"):
        read(tmp_path / "none.yaml")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path)
    said = "this is a directory; give the path of a YAML file"
    assert str(caught.value) == f"{tmp_path}: {said}"


def test_a_path_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read("a\0b.yaml")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SettingsError, match="larger than 1,000,000 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("raw", "place"),
    [(b"a: \xff", (1, 4)), ("a: 1\nb: \u00e9".encode("latin-1"), (2, 4)), (b"\xff\xfea", (1, 1))],
)
def test_a_file_that_is_not_utf8_is_refused_with_its_place(
    tmp_path: Path, raw: bytes, place: tuple[int, int]
) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(raw)
    with pytest.raises(SettingsError, match="not UTF-8") as caught:
        read(path)
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == place


def test_a_python_mapping_becomes_plain_data_without_places() -> None:
    document = given({"a": ("x", ["y"]), "b": {"c": None}, 3: "lost"})
    assert document.data == {"a": ["x", ["y"]], "b": {"c": None}}
    (problem,) = document.problems
    assert str(problem) == "found the key 3; keys must be text"


def test_a_python_mapping_that_holds_itself_is_refused() -> None:
    data: dict[str, object] = {}
    data["self"] = [data, data]
    with pytest.raises(SettingsError, match=r"refers to itself|expands"):
        given(data)


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("f.yaml", 3, 4, "a.b", "found x"), "f.yaml:3:4: a.b: found x"),
        (Problem("f.yaml", None, None, "", "is empty"), "f.yaml: is empty"),
        (Problem(None, None, None, "a", "found x"), "a: found x"),
        (Problem(None, None, None, "", "found x"), "found x"),
    ],
)
def test_a_problem_reads_as_one_line(problem: Problem, line: str) -> None:
    assert str(problem) == line


def test_the_error_has_a_paragraph_for_each_problem_and_survives_pickling() -> None:
    error = SettingsError([Problem("f", 1, 2, "a", "x"), Problem("f", 2, 2, "b", "y")])
    assert str(error) == "f:1:2: a: x\n\nf:2:2: b: y"
    twin = pickle.loads(pickle.dumps(error))
    assert twin.problems == error.problems
    assert str(twin) == str(error)


def test_paths_words_and_suggestions_are_readable() -> None:
    assert dotted(("a", 0, "b.c", 1)) == "a[0].b.c[1]"
    assert shown("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert len(shown("x" * 100)) == 60
    assert nearest("Blcok", ["block", "warn"]) == "; did you mean 'block'?"
    assert nearest("zzz", ["block", "warn"]) == ""
