"""`${NAME}` in the settings file: replaced in values, by what the environment says and no more."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from magistrate.cli.explain import explain
from magistrate.cli.validate import validate
from magistrate.settings import Settings, SettingsError

STORE = 'review: {store: "sqlite:///%s", reviewers: [{name: lee, qualified_in: [legal]}]}'


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    (folder / "m.yaml").write_text(text, "utf-8")
    return Settings.load("m.yaml", environ=environ or {}, cwd=folder)


def refused(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The problems of a file, without the folder."""
    with pytest.raises(SettingsError) as caught:
        load(folder, text, environ)
    error = caught.value
    assert error.__context__ is None or error.__suppress_context__  # nothing else is printed
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


# What is replaced


def test_a_store_in_a_folder_that_the_environment_names(tmp_path: Path) -> None:
    found = load(tmp_path, STORE % "${DATA_DIR}/r.db", {"DATA_DIR": "/var/data"})
    assert found.review is not None
    assert found.review.store == "sqlite:////var/data/r.db"


@pytest.mark.parametrize(
    ("written", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("<${A}-${B}>", {"A": "x", "B": "y"}, "<x-y>"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),  # as in a shell
        ("${A:-d}", {"A": "x"}, "x"),
        ("a${A:-}b", {}, "ab"),
        ("${A:-a b: #{c}", {}, "a b: #{c"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$${A} ${A}", {"A": "x"}, "${A} x"),
        ("$${", {}, "${"),
        ("${A}", {"A": "${B}", "B": "x"}, "${B}"),
        ("${A}", {"A": "$${B}"}, "$${B}"),
        ("${A}${B}", {"A": "${", "B": "A}"}, "${A}"),
        ("${A}", {"A": "7"}, "7"),
        ("${A}", {"A": "true"}, "true"),
        ("${A}", {"A": "~"}, "~"),
        # A text for people says what it says.
        ("That costs $5", {}, "That costs $5"),
        ("$USD 5 or ~5", {}, "$USD 5 or ~5"),
        ("100%(of it)s, os.environ/HOME", {}, "100%(of it)s, os.environ/HOME"),
        ("{{ name }} $", {}, "{{ name }} $"),
    ],
)
@pytest.mark.parametrize("form", ["texts: {block: %s}", "texts:\n  block: |-\n    %s"])
def test_a_text_after_its_variables_are_replaced(
    tmp_path: Path, form: str, written: str, environ: dict[str, str], value: str
) -> None:
    said = json.dumps(written) if form.startswith("texts: {") else written
    assert load(tmp_path, form % said, environ).texts.block == value


ANY_VALUE = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cc"]),
        st.sampled_from(list("\"'\n\t:#{}[]$&*!|>%@`,?-~\\ ")),
    ),
    min_size=1,
)
TRICKY = st.lists(
    st.sampled_from(
        [
            "${X}",
            "$${",
            "${",
            "}",
            ": ",
            " #",
            "\n",
            "'",
            '"',
            "- ",
            "x",
            "\\n",
            "{{ env.X }}",
            "$X",
        ]
    ),
    min_size=1,
).map("".join)
# Each puts the variable where YAML treats a scalar in another way.
FORMS = [
    "texts:\n  block: ${X}\n  hold: h",
    'texts: {block: "${X}", hold: h}',
    "texts: {block: '${X}', hold: h}",
    "texts:\n  block: |-\n    ${X}\n  hold: h",
    "texts:\n  block: >-\n    ${X}\n  hold: h",
    "texts:\n  block: &a ${X}\n  hold: h\ndisclosure:\n  chat: *a",
]


@settings(max_examples=150)
@given(value=ANY_VALUE | TRICKY, form=st.sampled_from(FORMS))
@example(value='"\nhold: changed\n', form=FORMS[0])
@example(value="x, hold: changed}", form=FORMS[1])
@example(value="${X}", form=FORMS[0])
@example(value="a: b # c", form=FORMS[3])
def test_any_value_arrives_as_it_is_and_changes_nothing_else(value: str, form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not value.strip():
            (problem,) = refused(Path(folder), form, {"X": value})[:1]
            assert "text that is not blank" in problem
            return
        found = load(Path(folder), form, {"X": value})
    assert (found.texts.block, found.texts.hold) == (value, "h")
    assert found.disclosure.chat in (value, "You are talking to an AI assistant.")
    assert (found.judge, found.app, found.actions) == (Settings().judge, None, {})


@pytest.mark.parametrize(
    ("text", "value", "path", "expected"),
    [
        ("judge: {deadline_s: '${X}'}", "9", "judge.deadline_s", 9.0),
        ("judge:\n  deadline_s: ${X}", "2.5", "judge.deadline_s", 2.5),
        ("judge: {max_tokens: '${X}'}", "512", "judge.max_tokens", 512),
        ("judge: {explain: '${X}'}", "true", "judge.explain", True),
        ("judge: {explain: '${X:-true}'}", "", "judge.explain", True),
        ("judge: {model: '${X}'}", "7", "judge.model", "7"),
        ("judge: {effort: '${X}'}", "low", "judge.effort", "low"),
        ("version: ${X}", "1", "version", 1),
        ("on_block: ${X}", "raise", "on_block", "raise"),
        ("on_block: r${X}", "aise", "on_block", "raise"),
    ],
)
def test_a_whole_value_is_read_as_the_type_that_the_file_wants(
    tmp_path: Path, text: str, value: str, path: str, expected: object
) -> None:
    found: Any = load(tmp_path, text, {"X": value} if value else {})
    for name in path.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    "text",
    [
        "judge: {deadline_s: '1${X}'}",  # a part of a value is text
        "judge: {explain: '${X}'}",
        "judge: {max_tokens: '${Y}'}",
        "judge: {deadline_s: '${Z}'}",
        "app: ${X}",
        "actions: {default: '${M}'}",
        "review: {store: 'sqlite:///r.db', reviewers: '${L}'}",
        "${M}",
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path: Path, text: str) -> None:
    environ = {"X": "1", "Y": "1.5", "Z": "012", "M": "{input: warn}", "L": "[lee]"}
    (problem,) = refused(tmp_path, text, environ)
    assert problem.startswith("m.yaml:1:")
    assert "${" in problem


def test_keys_are_never_replaced(tmp_path: Path) -> None:
    said = refused(tmp_path, 'actions: {"${X}": {output: warn}}\n"${X}": 1', {"X": "default"})
    assert said[0].startswith("m.yaml:1:11: actions.${X}: found the section '${X}'")
    assert "unknown key '${X}'" in said[1]


def test_the_text_of_a_policy_is_not_touched_but_its_path_is(tmp_path: Path) -> None:
    data = (Path(__file__).parents[1] / "data" / "house-rules.yaml").read_text()
    line = next(line for line in data.splitlines() if line.startswith("title:"))
    (tmp_path / "p.yaml").write_text(data.replace(line, "title: ${HOME} {{ env.X }}"))
    found = load(tmp_path, "policy: ${P}.yaml", {"P": "p", "HOME": "x"})
    assert found.policy.title == "${HOME} {{ env.X }}"


def test_the_settings_hash_follows_the_values(tmp_path: Path) -> None:
    text = "texts:\n  block: ${X}"
    one, other = (load(tmp_path, text, {"X": value}).hash for value in ("a", "b"))
    assert one != other
    assert one == load(tmp_path, "texts: {block: a}").hash


# What is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "on_block: raise\n" + STORE % "${DATA_DIR}/r.db",
            "m.yaml:2:17: review.store: the environment variable DATA_DIR is not set; "
            "set it, or write ${DATA_DIR:-a default}",
        ),
        ("judge: {deadline_s: '${T}'}", "m.yaml:1:21: judge.deadline_s: the environment variable"),
        ("app: {audience: '${T}', interface: api}", "m.yaml:1:17: app.audience: the environment"),
        ("version: ${T}", "m.yaml:1:10: version: the environment variable T is not set"),
        ("policy: ${T}", "m.yaml:1:9: policy: the environment variable T is not set"),
        ("texts: {block: '${A b}'}", "m.yaml:1:16: texts.block: found '${A b}'; allowed: ${NAME}"),
        ("texts: {block: '${A'}", "found '${A'; allowed: ${NAME} or ${NAME:-default}"),
        ("texts: {block: '${}'}", "found '${}'; allowed: ${NAME}"),
        ("texts: {block: '${A-b}'}", "found '${A-b}'; allowed: ${NAME}"),
        ("texts: {block: '${A:-${B}}'}", "without others inside; for the characters ${ write $${"),
        ("judge: {deadline_s: ${T}}", "between { } or [ ], write a variable in quotes"),
        (STORE % "$DATA_DIR/r.db", "m.yaml:1:17: review.store: found 'sqlite:///$DATA_DIR/r.db': "
         "$DATA_DIR is not replaced; write ${DATA_DIR}"),
        (STORE % "/var/$data/r.db", "$data is not replaced; write ${data}"),
        (STORE % "/var/r-$ENV.db", "$ENV is not replaced; write ${ENV}"),
        (STORE % "~/r.db", "~ is not replaced; write ${HOME}, or ./~ for"),
        (STORE % "~lee/r.db", "~ is not replaced"),
        (STORE % "os.environ/DATA/r.db", "os.environ/DATA is not replaced; write ${DATA}"),
        (STORE % "%(data)s/r.db", "%(data)s is not replaced; write ${data}"),
        (STORE % "{{ env.DATA }}/r.db", "{{ env.DATA }} is not replaced; write ${NAME}"),
        ("policy: ~/p.yaml", "m.yaml:1:9: policy: found '~/p.yaml': ~ is not replaced"),
        ("policy: $POLICY", "$POLICY is not replaced; write ${POLICY}"),
        ("app: {name: $APP, audience: internal, interface: api}", "m.yaml:1:13: app.name: found"),
        ("judge: {model: os.environ/MODEL}", "os.environ/MODEL is not replaced; write ${MODEL}"),
        ("on_block: $MODE", "$MODE is not replaced; write ${MODE}"),
        ("texts: {block: $BLOCK_TEXT}", "$BLOCK_TEXT is not replaced; write ${BLOCK_TEXT}"),
        ("texts: {block: '%(TEXT)s'}", "%(TEXT)s is not replaced; write ${TEXT}"),
        ("texts: {block: 'Ask {{env.TEAM}}.'}", "{{env.TEAM}} is not replaced; write ${NAME}"),
        ("digest_key_env: ${KEY}", "this key takes the name of a variable; write KEY"),
        ("digest_key_env: $KEY", "this key takes the name of a variable; write KEY"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_problem_with_its_place_and_a_remedy(
    tmp_path: Path, text: str, said: str
) -> None:
    (problem,) = refused(tmp_path, text, {"KEY": "s3cret"})
    assert problem.startswith("m.yaml:")
    assert said in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    "text",
    [
        STORE % "./~archive/r.db",
        STORE % "data~1/r$prod.db",
        STORE % "100%25/r.db",
        "app: {name: 'A$AP ~5%', audience: internal, interface: api}",
        "app: {name: 'cost$', audience: internal, interface: api}",
    ],
)
def test_names_that_only_look_alike_are_allowed(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_a_path_that_the_environment_begins_with_a_tilde_is_refused(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, STORE % "${D}/r.db", {"D": "~/s3cret"})
    assert "~ is not replaced" in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize("code", [code for code in range(32) if chr(code) not in "\n\t"])
def test_control_characters_in_a_text_are_refused_with_their_place(
    tmp_path: Path, code: int
) -> None:
    said = "text without control characters; only tabs and line feeds"
    (problem,) = refused(tmp_path, f'version: 1\ntexts: {{block: "a\\x{code:02x}b"}}')
    assert problem.startswith("m.yaml:2:16: texts.block: found ")
    assert said in problem
    (problem,) = refused(tmp_path, "texts:\n  block: ${X}", {"X": f"a{chr(code)}b"})
    assert problem == f"m.yaml:2:10: texts.block: found ${{X}}; allowed: {said}"
    with pytest.raises(SettingsError, match=f"texts.block: .*{said}"):
        Settings.load({"texts": {"block": f"a{chr(code)}b"}})


def test_tabs_and_line_feeds_are_text(tmp_path: Path) -> None:
    assert load(tmp_path, 'texts: {block: "a\\tb\\nc"}').texts.block == "a\tb\nc"


# A mapping


def test_a_mapping_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "x")
    assert Settings.load({"texts": {"block": "${X} $${X}"}}).texts.block == "${X} $${X}"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"judge": {"model": "${MODEL}"}}, "judge.model"),
        ({"judge": {"model": "${MODEL:-x}"}}, "judge.model"),
        ({"judge": {"model": "$MODEL"}}, "judge.model"),
        ({"policy": "~/p.yaml"}, "policy"),
        ({"policy": "${P}.yaml"}, "policy"),
        ({"judge": {"deadline_s": "${T}"}}, "judge.deadline_s"),
    ],
)
def test_a_variable_in_a_mapping_is_never_taken_literally_in_silence(
    data: dict[str, Any], path: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(data)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert problem.message.endswith(": a Python mapping is taken as it is; use os.environ")


# Nothing from the environment is told

SECRET = "s3cret-hunter2"
EVERYWHERE = """\
app: {name: "${N}", audience: consumer, interface: chatbot, high_risk: [healthcare],
  organisation: "${W}", authorised: ["${W}"]}
judge: {model: "${N}", second_model: "${N}", screen: {model: "${N}"}}
texts: {block: "Stopped. ${N}", hold: "${N}"}
disclosure: {chat: "${N}", high_risk: "${N}"}
review:
  store: "sqlite:///${N}/r.db"
  reviewers: [{name: "${N}", qualified_in: [healthcare]}]
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate",),
        ("validate", "--json"),
        ("explain", "healthcare"),
        ("explain", "healthcare", "--json"),
        ("explain", "chatbot", "--json"),
        ("explain", "fraud_abuse.spam"),
    ],
)
def test_validate_and_explain_show_names_paths_and_texts_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    app = typer.Typer()
    app.command()(validate)
    app.command()(explain)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("N", SECRET)
    monkeypatch.setenv("W", "secretword")
    (tmp_path / "magistrate.yaml").write_text(EVERYWHERE)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    ran = CliRunner().invoke(app, list(arguments))
    assert ran.exit_code in (0, 2), ran.output
    assert SECRET not in ran.output
    assert "secretword" not in ran.output
    if arguments[0] == "validate":
        assert ran.exit_code == 0, ran.output
        for shown in ("${N}", "sqlite:///${N}/r.db", "${N} ${N}"):
            assert shown in " ".join(ran.output.split())
        assert Settings.load().hash in ran.output or "--json" not in arguments


KEYS_OF_VALUES = [
    "version: ${N}",
    "policy: ${N}",
    "policy: ${N}/p.yaml",
    "policy: ${N}.yaml",
    'app: {name: "${N}\\0", audience: "${N}", interface: "${N}", serves_minors: "${N}", '
    'high_risk: ["${N}"], organisation: "${N}", authorised: ["${N}"]}',
    'app: {audience: internal, interface: api, high_risk: ["${N}"]}',
    'judge: {backend: "${N}", strategy: "${N}", deadline_s: "${N}", on_failure: "${N}", '
    'effort: "${N}", max_tokens: "${N}", explain: "${N}"}',
    "input_check: ${N}",
    'actions: {default: {input: "${N}", from_grade: "${N}"}, elections: "${N}"}',
    'review: {store: "${N}", retain_days: "${N}", reviewers: "${N}"}',
    'review: {store: "sqlite:///r", reviewers: [{name: "${N}", qualified_in: ["${N}"]}, '
    '{name: "${N}", qualified_in: ["${N}"]}]}',
    'streaming: {release: "${N}"}',
    'on_uninspected: {file: "${N}", surfaces: {skills: "${N}"}}',
    "audit: ${N}",
    "digest_key_env: x${N}",
    '"a": "${N}"',
]


@pytest.mark.parametrize("text", KEYS_OF_VALUES)
@pytest.mark.parametrize("value", [SECRET, "~/" + SECRET, SECRET + "\x01"])
def test_no_problem_tells_a_value(tmp_path: Path, text: str, value: str) -> None:
    for problem in refused(tmp_path, text, {"N": value}):
        assert "s3cret" not in problem
        assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on_block: ${N}", "rais"),  # what was meant would tell the value
        ("judge: {explain: '${N}'}", "yes"),
        ("judge: {on_failure: '${N}'}", "warn"),
        ("actions: {child_safety.csam: {output: '${N}'}}", "warn"),
        ("actions: {child_safety.csam: {from_grade: '${N}'}}", "certain"),
        ("actions: {elections: {input: '${N}'}}", "hold"),
        ("app: {audience: consumer, interface: chatbot, high_risk: ['${N}']}", "healthcare"),
        ("app: {audience: internal, interface: chatbot, high_risk: ['${N}']}", "helthcare"),
        (
            "app: {audience: consumer, interface: chatbot, high_risk: [legal]}\n"
            + STORE % "r.db" + "\nstreaming: {release: '${N}'}",
            "window",
        ),
    ],
)  # fmt: skip
def test_a_wrong_word_is_shown_as_it_is_written(tmp_path: Path, text: str, value: str) -> None:
    (problem,) = refused(tmp_path, text, {"N": value})
    assert "${N}" in problem
    said = problem.partition("${N}")[2].partition("; allowed")
    assert value not in problem.partition("; allowed")[0]
    assert "did you mean" not in said[2]
