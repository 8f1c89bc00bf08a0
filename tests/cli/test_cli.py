"""The command line as people and scripts use it: what it prints, and the exit codes it promises."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import magistrate.testing
from command_line import ROOT, Ended, fork, run, start
from magistrate.cli.commands import Commands
from magistrate.cli.evals import EvalCommands
from magistrate.cli.lazy import LazyGroup, load
from magistrate.settings import AppProfile
from magistrate.testing import (
    JudgeScript,
    Simulator,
    error,
    fails_with,
    finds,
    high_risk,
    prose,
    refuses,
    when_judging,
)

BAD = "five-star reviews"
JUDGE = JudgeScript(
    when_judging(BAD, finds("fraud_abuse.fake_reviews", severity="medium")),
    when_judging("judge is down", fails_with(error(529, retry_after=0.01))),
    when_judging("judge chats", prose("I think it is safe.")),
    when_judging("judge declines", refuses("general_harms")),
    when_judging("key is wrong", fails_with(error(401))),
    when_judging("half a tablet", high_risk("healthcare"), stage="output"),
    when_judging("a miracle cure", finds("misinformation.medical_science")),
)


@pytest.fixture(scope="module")
def simulator() -> Iterator[tuple[Simulator, str]]:
    sim = Simulator(judge=JUDGE)
    with sim.serve() as url:
        yield sim, url


# --- demo -----------------------------------------------------------------------------------------


def test_the_demo_shows_every_outcome_and_all_are_as_expected() -> None:
    done = run("demo", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    outcomes = {scene["outcome"] for scene in report["scenes"]}
    assert outcomes >= {"allow", "warn", "hold", "block", "Blocked", "ModerationUnavailable"}
    assert len(report["scenes"]) >= 12
    by_how = {(scene["outcome"], "stream" in scene["how"]) for scene in report["scenes"]}
    assert by_how >= {(o, s) for o in ("allow", "hold", "block") for s in (True, False)}
    assert {scene["disclosure"] for scene in report["scenes"]} >= {"added", "present", None}


def test_the_demo_fails_when_an_outcome_is_not_as_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dataclasses import replace

    from typer.testing import CliRunner

    from magistrate.cli import app
    from magistrate.cli import demo_scenes as scenes

    wrong = replace(scenes.SCENES[0], action="block", title="wrong on purpose")
    monkeypatch.setattr(scenes, "SCENES", (wrong,))
    done = CliRunner().invoke(app, ["demo", "--only", "on purpose"])
    assert done.exit_code == 1
    assert "expected block, got allow" in done.output


def test_the_demo_keeps_ids_whole_in_80_columns() -> None:
    done = run("demo", "--only", "warned", variables={"COLUMNS": "80"})
    assert "misinformation.medical_science" in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []


def test_the_demo_says_that_it_is_a_simulation() -> None:
    done = run("demo", "--only", "request blocked")
    assert "simulation, no key needed" in done.stdout
    assert "2 of 2 conversations ended as expected" in done.stdout


# --- check ----------------------------------------------------------------------------------------

CHECKS: list[tuple[str, list[str], int, str]] = [
    ("an allowed text", ["What is the capital of France?"], 0, "ALLOW"),
    ("a blocked text", [f"Write {BAD}."], 1, "fraud_abuse.fake_reviews"),
    ("an answer", ["--stage", "output", f"Here are {BAD}."], 1, "BLOCK"),
    ("a judge that is overloaded", ["judge is down"], 3, "no judge was available: overloaded"),
    ("a judge that chats", ["judge chats"], 3, "no judge was available: unparseable"),
    ("a judge that declines", ["judge declines"], 3, "no judge was available: refused"),
    ("a wrong key", ["key is wrong"], 3, "HTTP 401"),
]


@pytest.mark.parametrize(("name", "words", "code", "says"), CHECKS, ids=[row[0] for row in CHECKS])
def test_check_judges_a_text(
    name: str, words: list[str], code: int, says: str, simulator: tuple[Simulator, str]
) -> None:
    done = run("check", *words, url=simulator[1])
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    assert says in done.stdout
    assert "sk-test-secret" not in done.stdout


def test_a_process_that_could_not_judge_prints_and_ends_the_same(
    simulator: tuple[Simulator, str],
) -> None:
    """Nothing else comes out of it: no warning, no log."""
    done = start("check", "judge is down", url=simulator[1])
    assert (done.returncode, done.stderr) == (3, "")
    assert "no judge was available: overloaded" in done.stdout


def test_check_reads_standard_input_and_prints_the_record_as_json(
    simulator: tuple[Simulator, str],
) -> None:
    done = fork("check", "--json", stdin=f"Write {BAD}, please.\n", url=simulator[1])
    record = json.loads(done.stdout)
    assert done.returncode == 1
    assert record["action"] == "block"
    assert record["findings"][0]["evidence"] == BAD
    assert record["usage"]["judge_calls"] == 2  # a screen, and a judgment
    assert record["latency_ms"] > 0


def test_check_exits_as_the_configuration_would_act_and_says_that_it_was_not_judged(
    simulator: tuple[Simulator, str], tmp_path: Path
) -> None:
    (tmp_path / "magistrate.yaml").write_text("judge: {on_failure: {input: warn}}\n")
    done = run("check", "judge is down", url=simulator[1], cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("WARN: allowed, with a warning on record\nno judge was available")


def test_check_prints_an_outage_as_one(simulator: tuple[Simulator, str]) -> None:
    done = run("check", "--json", "judge declines", url=simulator[1])
    record = json.loads(done.stdout)
    assert (done.returncode, record["action"], record["findings"]) == (3, "unavailable", [])
    assert [failure["reason"] for failure in record["judge_failures"]] == ["refused"]


def test_check_says_who_may_release_what_is_held(
    simulator: tuple[Simulator, str], tmp_path: Path
) -> None:
    (tmp_path / "magistrate.yaml").write_text(
        "app: {audience: consumer, interface: chatbot, high_risk: [healthcare]}\n"
        'review: {store: "sqlite:///r.db", reviewers: [{name: lee, qualified_in: [healthcare]}]}\n'
    )
    words = ["check", "--stage", "output", "Take half a tablet."]
    done = run(*words, url=simulator[1], cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "HOLD: held for review" in done.stdout
    assert "Releasing it takes a person qualified in healthcare." in done.stdout


def test_check_keeps_ids_whole_and_lines_short_of_spaces(simulator: tuple[Simulator, str]) -> None:
    words = ["check", "Sell a miracle cure to my whole neighbourhood."]
    done = run(*words, url=simulator[1], variables={"COLUMNS": "30"})
    lines = done.stdout.splitlines()
    assert "misinformation.medical_science  likely, high" in lines
    assert [line for line in lines if line != line.rstrip()] == []


def test_check_judges_an_answer_with_its_question(
    simulator: tuple[Simulator, str], tmp_path: Path
) -> None:
    sim, url = simulator
    file = tmp_path / "exchange.json"
    body = {"messages": [{"role": "user", "content": f"Is it fine to buy {BAD}?"}]}
    file.write_text(json.dumps({**body, "response": "No, it is not."}))
    done = run("check", "--stage", "output", "--request", str(file), url=url)
    assert done.returncode == 0, done.stdout
    asked = json.dumps(sim.judge_requests[-1].body)
    assert "Is it fine to buy" in asked
    assert "No, it is not." in asked


BAD_USE: list[tuple[str, list[str], str]] = [
    ("an empty text", [""], "the text is empty"),
    ("blanks", ["  \n"], "the text is empty"),
    ("a missing file", ["--request", "nowhere.json"], "No such file"),
    ("a directory", ["--request", "."], "directory"),
    ("no JSON", ["--request", "bad.json"], "not JSON"),
    ("no request", ["--request", "list.json"], "not a JSON object"),
    ("no messages", ["--request", "empty.json"], "`messages` must be a list"),
    ("a question without an answer", ["--question", "q", "text"], "goes with --stage output"),
    ("a missing configuration", ["--config", "nowhere.yaml", "text"], "nowhere.yaml"),
    ("an unknown stage", ["--stage", "both", "text"], "both"),
]


@pytest.mark.parametrize(("name", "words", "says"), BAD_USE, ids=[row[0] for row in BAD_USE])
def test_check_refuses_bad_use_before_anything_is_sent(
    name: str, words: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{nope")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty.json").write_text("{}")
    done = run("check", *words, cwd=tmp_path, url="http://127.0.0.1:9")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_check_without_a_key_says_what_to_do(tmp_path: Path) -> None:
    done = run("check", "hello", cwd=tmp_path)
    assert done.returncode == 2
    assert "ANTHROPIC_API_KEY" in done.stderr
    assert "magistrate demo" in done.stderr
    assert "`judge: {backend: local}` in magistrate.yaml" in done.stderr  # there is no --judge


def test_a_server_that_is_not_there_is_no_verdict() -> None:
    done = run("check", "hello", url="http://127.0.0.1:9")
    assert done.returncode == 3
    assert done.stdout.startswith("UNAVAILABLE: nothing would be released; this is not a verdict")


# --- what the system refuses ----------------------------------------------------------------------

SAYING = pytest.mark.parametrize(
    ("words", "unbuffered"),
    [(["explain"], ""), (["explain", "--json"], "1"), (["--help"], ""), (["--version"], "1")],
    ids=["a table", "JSON", "the help", "the version"],
)


@SAYING
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(words: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = start(*words, stdout=writer, variables={"PYTHONUNBUFFERED": unbuffered})
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")  # never 1, which `check` means as "blocked"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk always full")
@SAYING
def test_a_full_disk_is_reported(words: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = start(*words, stdout=full, variables={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 2
    assert done.stderr == "standard output: No space left on device\n"


def test_a_closed_output_changes_no_exit_code() -> None:
    command = f'"{sys.executable}" -m magistrate explain --json >&-'
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("encoding", "how"), [("ascii", start), ("latin-1", run), ("cp1252", run)])
def test_a_terminal_that_lacks_characters_shows_what_it_can(
    encoding: str, how: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "magistrate.yaml").write_text(
        "app: {name: Bücher 書店, audience: internal, interface: api}", encoding="utf-8"
    )
    done = how("validate", cwd=tmp_path, variables={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert "cher ??: an API" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_the_demo_runs_in_a_terminal_that_lacks_characters(encoding: str) -> None:
    # What comes back of a long answer is cut with an ellipsis.
    done = run("demo", "--only", "answer", variables={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr


def test_ctrl_c_while_the_commands_load_ends_quietly() -> None:
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from magistrate.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = ROOT / "evals" / "cases" / "ordinary_forms.yaml"
    done = run("eval", "run", str(cases), "--judge", "local", "--out", "file/x", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "file/x: Not a directory\n")


# --- all of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [Commands, EvalCommands])
def test_commands_are_listed_as_their_own_help_begins(group: type[LazyGroup]) -> None:
    listed = {name: source.summary for name, source in group.sources.items()}
    helps = {name: load(name, source).help for name, source in group.sources.items()}
    assert listed == {name: " ".join(h.split("\n\n")[0].split()) for name, h in helps.items()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek"], "No such command 'chek'. Did you mean 'check'?"),
        (["eval", "rum"], "No such command 'rum'. Did you mean 'run'?"),
        (["--chek"], "No such option: --chek"),
        (["eval"], "Usage: magistrate eval [OPTIONS] COMMAND"),
        (["reviews"], "Usage: magistrate reviews [OPTIONS] COMMAND"),
        ([], "Usage: magistrate [OPTIONS] COMMAND"),
    ],
)
def test_what_is_no_command_is_answered_with_what_there_is(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["demo"], "--only"),
        (["check"], "--stage"),
        (["coverage"], "--json"),
        (["eval", "run"], "--retry-failed"),
        (["eval", "compare"], "--gate"),
        (["reviews", "approve"], "--reviewer"),
    ],
)
def test_the_help_of_a_command_names_it_and_its_options(words: list[str], option: str) -> None:
    said = run(*words, "--help").stdout
    assert f"Usage: magistrate {' '.join(words)} " in said
    assert option in said


def test_the_version_is_printed() -> None:
    from magistrate import __version__

    assert start("--version").stdout == f"magistrate {__version__}\n"


def test_ci_runs_the_readme_commands_as_they_stand() -> None:
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert command in ci


def test_the_documented_examples_for_tests_and_streams_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = (ROOT / "docs" / "using.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", using, re.M | re.S)
    simulated = [block for block in blocks if "magistrate.testing" in block]
    assert len(simulated) == 2
    (streamed,) = [block for block in blocks if "messages.stream" in block]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"json": json, "model": "claude-sonnet-5-5"}
    names["messages"] = [{"role": "user", "content": "Say hello."}]
    for block in simulated:
        exec(block, names)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(streamed, names)
    assert said.getvalue() == "allow\n"
    names["client"].moderation.close()


def test_the_documentation_names_every_key_of_the_app() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    table = page[page.index("under `app`:") : page.index("## Floors")]
    assert [key for key in AppProfile.model_fields if f"`{key}`" not in table] == []


def test_the_documented_example_of_a_simulation_is_moderated() -> None:
    example = magistrate.testing.__doc__ or ""
    lines = [line.strip() for line in example.splitlines() if line.startswith("    ")]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    asked = [{"role": "user", "content": "Write a five-star review."}]
    message = names["client"].messages.create(model="m", max_tokens=9, messages=asked)
    assert message.moderation["action"] == "block"
    names["client"].moderation.close()


# --- demo --judge local ---------------------------------------------------------------------------


def test_ones_own_text_is_judged_without_a_key_line_by_line() -> None:
    lines = "How do I bake bread?\n? Take flour and water.\n\nnever read\n"
    done = run("demo", "--judge", "local", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert "ALLOW  You asked: How do I bake bread?" in done.stdout
    assert "ALLOW  (judged as an answer)" in done.stdout
    assert "never read" not in done.stdout


def test_ones_own_text_is_not_shown_as_json() -> None:
    done = run("demo", "--judge", "local", "--json", stdin="How do I bake bread?\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json goes with the scripted" in " ".join(done.stderr.split())


def test_check_can_use_the_local_judge_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "magistrate.yaml").write_text("version: 1\njudge: {backend: local}\n")
    done = run("check", "--json", stdin="How do I bake bread?", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["judge"]["name"] == "local"
    assert record["usage"]["cost_usd"] == 0
