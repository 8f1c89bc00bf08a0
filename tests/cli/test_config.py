"""`magistrate validate` and `magistrate explain`: what a person or a program reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import magistrate.settings
from magistrate.cli.explain import explain
from magistrate.cli.summary import notes
from magistrate.cli.validate import validate
from magistrate.policy import builtin_policy
from magistrate.settings import Settings

DATA = Path(__file__).parents[1] / "data"
CLINIC = """\
app: {name: clinic, audience: consumer, interface: chatbot, high_risk: [healthcare]}
actions:
  misinformation: {output: warn}
  elections.campaigning: {input: allow, from_grade: certain}
review: {store: "sqlite:///var/r.db", reviewers: [{name: dr.lee, qualified_in: [healthcare]}]}
"""

app = typer.Typer()
app.command()(validate)
app.command()(explain)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in an empty directory, 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments)

    return invoke


def words(text: str) -> str:
    return " ".join(text.split())


def test_validate_says_what_is_wrong_where_and_exits_2(run: Any, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("on_block: rais\n" + "on_hold: " + "x" * 200)
    result = run("validate", "m.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second, _, count = result.stderr.splitlines()
    assert first == (
        "m.yaml:1:11: on_block: found rais; allowed: refuse, raise; did you mean 'raise'?"
    )
    assert second.startswith("m.yaml:2:10: on_hold: found xxx")
    assert count == "2 problems found."


def test_validate_reports_problems_as_json(run: Any, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("on_block: rais")
    result = run("validate", "m.yaml", "--json")
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["file"] == "m.yaml"
    assert (problem["line"], problem["column"], problem["path"]) == (1, 11, "on_block")
    assert result.stderr == ""


def test_validate_tells_in_plain_words_what_will_happen(run: Any, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(CLINIC)
    result = run("validate", "m.yaml")
    assert result.exit_code == 0, result.output
    said = words(result.stdout)
    for fact in (
        "m.yaml is valid.",
        "anthropic-usage-policy@2024-06-06 (68 prohibitions in 12 sections)",
        "clinic: a chatbot for consumers; high risk: healthcare",
        "claude-haiku-5-5, a screen first, then one call for each suspected group",
        "at most 8 s",
        "misinformation block warn likely, medium",
        ".campaigning allow block certain, medium",
        "child_safety block block likely, medium (floor: low)",
        "weapons_regulated_goods block block likely, medium psych",
        "low all of child_safety",
        '"You are talking to an AI assistant. AI helped to prepare this answer."',
        "Because of: customer_facing_chatbot, healthcare",
        "Answers can be held until a qualified person releases them.",
        "sqlite:///var/r.db for at most 30 days",
        "healthcare released by dr.lee",
        "the provider sees a request before its verdict",
        "Streams are released whole instead of in windows, because answers can be held.",
        "allow: encrypted",
    ):
        assert fact in said, fact


def test_validate_without_a_file_describes_the_defaults(run: Any) -> None:
    result = run("validate")
    assert result.exit_code == 0
    said = words(result.stdout)
    assert "There is no configuration file; the defaults are in force." in said
    assert "No answer is ever held." in said
    assert "Nothing is added to answers" in said
    assert "Without a declared profile nothing is disclosed" in said


def test_validate_gives_the_same_as_json(run: Any, tmp_path: Path) -> None:
    (tmp_path / "magistrate.yaml").write_text(CLINIC)
    found = json.loads(run("validate", "--json").stdout)
    assert found["ok"] is True
    assert found["file"] == "magistrate.yaml"
    assert found["settings_hash"] == Settings.load("magistrate.yaml").hash
    assert found["policy"]["hash"] == builtin_policy().hash
    assert found["release"] == "message"
    assert found["review"]["released_by"] == {"healthcare": ["dr.lee"]}
    row = next(row for row in found["actions"] if row["section"] == "misinformation")
    assert (row["input"], row["output"]) == ("block", "warn")


@pytest.mark.parametrize(
    "arguments", [["validate", "m.yaml"], ["explain"], ["explain", "elections"]]
)
def test_output_fits_into_80_columns(run: Any, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "m.yaml").write_text(CLINIC)
    lines = run(*arguments).stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert not any("…" in line for line in lines)
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("id", [*builtin_policy().clauses, "healthcare", "media", "serves_minors"])
def test_every_rule_can_be_explained_within_80_columns(run: Any, id: str) -> None:
    result = run("explain", id)
    assert result.exit_code == 0, result.output
    assert id in words(result.stdout)
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({}, "There is no `app:`."),
        ({"judge": {"on_failure": {"input": "allow"}}}, "requests are passed on unjudged"),
        ({"judge": {"backend": "local"}}, "not for real users"),
        ({"judge": {"screen": {"skip_clear": "local"}}}, "no model reads what"),
        ({"streaming": {"release": "shadow"}}, "Shadow mode enforces nothing but floors"),
        ({"audit": {"content": "all"}}, "Audit events quote content of all messages"),
        (
            {"actions": {"default": {"output": "warn"}}},
            "actions.default: 15 of its clauses have floors, which stay in force.",
        ),
        (
            {"actions": {"violence_hate": {"from_severity": "critical"}}},
            "actions.violence_hate: 2 of its clauses have floors",
        ),
        (
            {"actions": {"default": {"input": "block"}}},
            "does not change checks of third-party text",
        ),
        ({"actions": {"platform_abuse.ban_evasion": {"input": "block"}}}, "a warning at most"),
        (
            {"actions": {"integrity.third_party_instructions": {"output": "block"}}},
            "actions.integrity.third_party_instructions.output has no effect",
        ),
        (
            {"app": {"audience": "business", "interface": "api", "high_risk": ["healthcare"]}},
            "no answer of this app owes review: that takes `app.audience: consumer`, or "
            "`app.decides_about_individuals: true`",
        ),
        (
            {"app": {"audience": "consumer", "interface": "api", "high_risk": ["media"]}},
            "that takes `app.publishes_automatically: true`",
        ),
        (
            {
                "app": {
                    "audience": "internal",
                    "interface": "api",
                    "decides_about_individuals": True,
                }
            },
            "declares no `high_risk` domain",
        ),
        (
            {"app": {"audience": "internal", "interface": "api", "authorised": ["back_ofice"]}},
            "no exception of the policy asks for 'back_ofice'",
        ),
        (
            {
                "app": {
                    "audience": "internal",
                    "interface": "api",
                    "organisation": "law_enforcement",
                    "authorised": ["missing_persons"],
                }
            },
            "The exception criminal_justice_surveillance.missing_persons applies",
        ),
    ],
)
def test_what_a_reader_may_not_expect_is_noted(settings: dict[str, Any], note: str) -> None:
    found = list(notes(Settings.load(settings)))
    assert any(note in line for line in found), found


def test_a_file_without_surprises_has_no_notes() -> None:
    app = {"audience": "business", "interface": "agent"}
    assert list(notes(Settings.load({"app": app}))) == []


def test_explain_tells_what_a_clause_means_and_which_row_decides(run: Any, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(CLINIC)
    said = words(run("explain", "elections.campaigning", "--config", "m.yaml").stdout)
    clause = builtin_policy().clauses["elections.campaigning"]
    for fact in (
        clause.title,
        words(clause.rule),
        clause.counts[0],
        clause.does_not_count[0],
        "section 8, item 1",
        "requests allow decided by actions.elections.campaigning",
        "answers block decided by built-in default",
        "from_grade certain decided by actions.elections.campaigning",
        "from_severity medium decided by built-in default",
        "The conversation itself can show it.",
    ):
        assert fact in said, fact
    assert "Floor" not in said


@pytest.mark.parametrize(
    ("id", "facts"),
    [
        ("child_safety.csam", ["Floor: a finding that is at least likely and at least low is"]),
        ("platform_abuse.ban_evasion", ["a warning at most", "requests warn"]),
        (
            "integrity.third_party_instructions",
            ["requests warn decided by the policy", "It is not looked for in answers."],
        ),
        ("integrity", ["third_party_instructions warn -"]),
        ("child_safety", ["csam block block likely, medium low"]),
        ("criminal_justice_surveillance", ["Exceptions", ".missing_persons: Search"]),
        (
            "criminal_justice_surveillance.back_office",
            ["app.organisation: law_enforcement", "does not apply"],
        ),
        ("healthcare", ["reviews before release: advice", "Released by: dr.lee."]),
        ("finance", ["not declared in app.high_risk"]),
        ("media", ["Only if app.publishes_automatically: true."]),
        (
            "customer_facing_chatbot",
            ["app.interface: chatbot or agent", "You are talking to an AI"],
        ),
        ("serves_minors", ["app.serves_minors: true", "It does not apply."]),
    ],
)
def test_explain_tells_about_every_kind_of_rule(
    run: Any, tmp_path: Path, id: str, facts: list[str]
) -> None:
    (tmp_path / "magistrate.yaml").write_text(CLINIC)
    said = words(run("explain", id).stdout)
    for fact in facts:
        assert fact in said, said


def test_explain_works_for_a_policy_of_ones_own(run: Any, tmp_path: Path) -> None:
    (tmp_path / "magistrate.yaml").write_text(f"policy: {DATA / 'house-rules.yaml'}")
    assert "No answer disparages" in run("explain", "brand.competitors").stdout
    assert "brand.dealers" in run("explain").stdout


def test_explain_gives_the_same_as_json(run: Any) -> None:
    found = json.loads(run("explain", "child_safety.csam", "--json").stdout)
    assert found["kind"] == "clause"
    assert found["effective"]["floor"] == "low"
    assert found["effective"]["stages"]["input"] == {
        "action": "block",
        "decided_by": "built-in default",
    }
    for id, kind in [
        ("elections", "section"),
        ("criminal_justice_surveillance.back_office", "exception"),
        ("legal", "high-risk use"),
        ("serves_minors", "disclosure rule"),
    ]:
        found = json.loads(run("explain", id, "--json").stdout)
        assert (found["id"], found["kind"]) == (id, kind)


def test_explain_without_an_id_lists_all_of_them(run: Any) -> None:
    said = run("explain").stdout.split()
    policy = builtin_policy()
    ids = [*policy.clauses, *(use.id for use in policy.high_risk)]
    ids += [rule.id for rule in policy.disclosure]
    assert [id for id in ids if id not in said] == []
    found = json.loads(run("explain", "--json").stdout)
    assert len(found["sections"]) == 13
    assert len(found["high_risk"]) == 7


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("csam", "child_safety.csam"),
        ("election", "elections"),
        ("fraud_abuse.fake_review", "fraud_abuse.fake_reviews"),
        ("helthcare", "healthcare"),
    ],
)
def test_an_unknown_rule_is_answered_with_the_nearest(run: Any, word: str, near: str) -> None:
    result = run("explain", word)
    assert result.exit_code == 2
    assert f"There is no rule '{word}'" in result.stderr
    assert near in result.stderr.split()
    assert near in json.loads(run("explain", word, "--json").stdout)["nearest"]


def test_a_rule_like_none_is_answered_without_suggestions(run: Any) -> None:
    result = run("explain", "hiring")
    assert result.exit_code == 2
    assert "Nearest" not in result.stderr
    assert "`magistrate explain` lists all of them." in result.stderr


def test_explain_refuses_a_wrong_configuration(run: Any, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("on_block: rais")
    result = run("explain", "elections", "--config", "m.yaml")
    assert result.exit_code == 2
    assert "did you mean 'raise'?" in result.stderr


def test_markup_and_control_characters_of_a_file_are_printed_as_they_are(
    run: Any, tmp_path: Path
) -> None:
    (tmp_path / "m.yaml").write_text(
        'app: {name: "[red]x[/red] \\x9b2J \\u202e", audience: internal, interface: api}'
    )
    said = run("validate", "m.yaml").stdout
    assert "[red]x[/red] <U+009B>2J <U+202E>" in words(said)
    assert "\x1b" not in said


def test_configuration_commands_do_not_import_the_sdk() -> None:
    code = (
        "import sys, magistrate.cli.validate, magistrate.cli.explain\n"
        "import magistrate.settings as s\n"
        "s.Settings.load({})\n"
        "assert 'anthropic' not in sys.modules and 'httpx2' not in sys.modules"
    )
    source = str(Path(magistrate.settings.__file__).parents[1])
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
