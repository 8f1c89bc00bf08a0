"""`eval export --to inspect-ai`: the files say what our judge is asked, and the task runs."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from magistrate.cli.eval_data import export
from magistrate.config.diagnostics import SettingsError
from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.formats.exporting import export_inspect
from magistrate.evals.labels import for_case
from magistrate.judging.rubric import make_rubric
from magistrate.judging.templates import templates
from magistrate.settings import Settings
from magistrate.testing.prompt_parser import parse_prompt

SETTINGS = Settings()
REVIEWS, SPAM = "fraud_abuse.fake_reviews", "fraud_abuse.spam"
APP = {"name": "shop", "audience": "consumer", "interface": "chatbot"}


def case(id: str, **parts: Any) -> Case:
    base = {"id": id, "stage": "input", "messages": [{"user": f"Text of {id}."}], "labels": {}}
    return Case.model_validate(base | {"action": "allow", "split": "test"} | parts)


BAD = case("bad", labels={REVIEWS: "violated"}, action="block", severity="medium")
OUT = case(
    "out",
    stage="output",
    messages=[{"user": "q"}, {"assistant": "a"}, {"user": "\u200bq >>>\n{}"}],
    response="An answer.\nWith two lines.",
    system="Be kind.",
    app=APP,
    disclosure="added",
)
HERE = case("ok", split="dev", contested="A reason.")
UNNAMED = case("unnamed", overall="violated", action="block", severity="medium")
UNKNOWN = case("unknown", overall="unknown", labels={SPAM: "ok"})
IMAGE = case(
    "image",
    messages=[
        {
            "user": [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                },
                {"type": "text", "text": "What is this?"},
            ]
        }
    ],
)
ALL = Dataset((BAD, OUT, HERE, UNNAMED, UNKNOWN, IMAGE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export_inspect(ALL, SETTINGS, tmp_path / "task")
    return tmp_path / "task"


def samples(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "dataset.jsonl").read_text("utf-8").splitlines()
    return {sample["id"]: sample for sample in map(json.loads, lines)}


def test_every_case_that_can_be_measured_is_a_sample(tmp_path: Path) -> None:
    found = export_inspect(ALL, SETTINGS, tmp_path)
    written = samples(tmp_path)
    assert {id: sample["target"] for id, sample in written.items()} == {
        "bad": "violated",
        "out": "ok",
        "ok": "ok",
        "unnamed": "violated",
    }
    assert found.cases == 4
    assert found.left_out == {
        "nobody knows whether anything is violated": 1,
        "an attachment, which text cannot hold": 1,
    }
    about = written["bad"]["metadata"]
    assert about["labels"] == {REVIEWS: "violated"}
    assert (about["stage"], about["split"], about["contested"]) == ("input", "test", False)
    assert written["ok"]["metadata"]["contested"] is True
    assert about["case_hash"] == BAD.hash


@pytest.mark.parametrize("one", [BAD, OUT], ids=lambda one: one.id)
def test_a_sample_asks_what_our_judge_asks(folder: Path, one: Case) -> None:
    sample = samples(folder)[one.id]
    name = sample["metadata"]["rubric"]
    system = (folder / "rubrics" / f"{name}.md").read_text("utf-8")
    schema = json.loads((folder / "rubrics" / f"{name}.schema.json").read_text("utf-8"))
    under = for_case(SETTINGS, one)
    ours = make_rubric(under, one.stage, templates(), third_party=False)
    assert (system, schema) == (ours.system, ours.schema)
    # Read the prompt back: a block for every line of it, as the judge's own request has.
    opening, *lines = sample["input"].splitlines(keepends=True)
    cut = next(at for at, line in enumerate(lines) if not line.startswith(("{", "<<<")))
    blocks = [opening + lines[0], *lines[1:cut], "".join(lines[cut:])]
    body = {
        "system": [{"type": "text", "text": system}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": b} for b in blocks]}],
        "output_config": {"format": {"schema": schema}},
    }
    parsed = parse_prompt(body)
    subject = OfflineDecision.of(under, one.stage, one.request, one.answer).subject
    assert parsed is not None and subject is not None
    assert parsed.stage == one.stage
    assert [(p.text, p.role, p.judged) for p in parsed.parts] == [
        (p.text, p.role, p.judged) for p in subject.parts
    ]


def test_the_same_cases_make_the_same_files(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    export_inspect(ALL, SETTINGS, again)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert [(again / name).read_bytes() for name in files] == [
        (folder / name).read_bytes() for name in files
    ]


def test_no_code_around_a_subject_is_another_s(folder: Path) -> None:
    codes = [sample["input"].split("<<<")[1][:32] for sample in samples(folder).values()]
    assert len(set(codes)) == len(codes)
    assert all(code in sample["input"][:110] for code, sample in zip(
        codes, samples(folder).values(), strict=True
    ))  # fmt: skip


def test_what_was_exported_is_on_record(folder: Path) -> None:
    made = json.loads((folder / "made.json").read_text())
    assert made["policy"] == SETTINGS.policy.ref
    assert made["cases_hash"] == ALL.hash
    named = {sample["metadata"]["rubric"] for sample in samples(folder).values()}
    assert set(made["rubrics"]) == named


@pytest.mark.parametrize(
    ("cases", "there", "message"),
    [
        (ALL, True, "is a folder with things in it"),
        (Dataset((UNKNOWN,)), False, "would hold no case"),
    ],
)
def test_a_folder_that_cannot_be_made(
    tmp_path: Path, cases: Dataset, there: bool, message: str
) -> None:
    if there:
        (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SettingsError, match=message):
        export_inspect(cases, SETTINGS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"] * there


# --- the task -------------------------------------------------------------------------------------


@pytest.fixture
def report(folder: Path) -> Any:
    """The task's reader of replies, without inspect-ai: its function and the names it uses."""
    source = (folder / "task.py").read_text("utf-8")
    tree = ast.parse(source)
    wanted = ("DETECTED", "GRADES", "FENCED", "report")
    tree.body = [
        node
        for node in tree.body
        if (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in wanted)
        or (isinstance(node, ast.FunctionDef) and node.name in wanted)
        or (isinstance(node, ast.Import) and node.names[0].name in ("json", "re"))
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]
    names: dict[str, Any] = {}
    exec(compile(tree, "task.py", "exec"), names)
    return names["report"]


def reply(*found: tuple[str, str]) -> str:
    return json.dumps({"findings": [{"clause": clause, "grade": grade} for clause, grade in found]})


@pytest.mark.parametrize(
    ("said", "grades"),
    [
        (reply(), {}),
        (reply(("a.b", "likely")), {"a.b": "likely"}),
        (reply(("a.b", "possible"), ("a.b", "certain")), {"a.b": "certain"}),
        (reply(("a.b", "certain"), ("a.b", "possible")), {"a.b": "certain"}),
        (f"```json\n{reply()}\n```\n", {}),
        (f"```\n{reply(('a.b', 'none'))}\n```", {"a.b": "none"}),
        (reply(("c.d", "likely")), None),  # no clause that was on offer
        (reply(("a.b", "sure")), None),
        ('{"findings": [{"clause": "a.b"}]}', None),
        ('{"findings": 5}', None),
        ('{"findings": [["a.b"]]}', None),
        ("{}", None),
        ("[]", None),
        ("", None),
        (f"Here it is: {reply()}", None),
        (f"```json\n{reply()}\n```\nSo it is clear.", None),
    ],
)
def test_a_reply_is_a_report_or_it_is_not(report: Any, said: str, grades: Any) -> None:
    assert report(said, frozenset(["a.b"])) == grades


RUNNER = """
import json, sys
from pathlib import Path
from inspect_ai import eval
from inspect_ai.model import ModelOutput, ModelUsage, get_model
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from task import moderation
rows = {r["input"]: r for r in map(json.loads, (folder / "dataset.jsonl").open())}
def judge(kind):
    def answer(messages, tools, choice, config):
        rubric = rows[messages[-1].text]["metadata"]["rubric"]
        assert messages[0].text == (folder / "rubrics" / f"{rubric}.md").read_text("utf-8")
        labels = rows[messages[-1].text]["metadata"]["labels"]
        violated = [c for c, label in labels.items() if label == "violated"]
        found = {"right": violated, "silent": [], "loud": ["fraud_abuse.spam"]}.get(kind)
        said = "no" if found is None else json.dumps(
            {"findings": [{"clause": c, "grade": "likely"} for c in found]})
        output = ModelOutput.from_content("mockllm/model", said)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output
    return answer
found = {}
for kind in ("right", "silent", "loud", "prose"):
    model = get_model("mockllm/model", custom_outputs=judge(kind))
    log = eval(moderation(contested=True), model=model, log_dir=sys.argv[2], display="none")[0]
    assert log.status == "success", log.error
    metrics = {n: m.value for s in log.results.scores for n, m in s.metrics.items()}
    found[kind] = {n: None if v != v else v for n, v in metrics.items()}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_task_runs(folder: Path, tmp_path: Path) -> None:
    """With inspect-ai in this environment, or in that of the Python named by $INSPECT_PYTHON."""
    python = os.environ.get("INSPECT_PYTHON", sys.executable)
    if python == sys.executable and importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("inspect-ai is not installed")
    result = subprocess.run(
        [python, "-c", RUNNER, str(folder), str(tmp_path / "logs")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    names = ("accuracy", "recall", "false_positive_rate", "clause_recall", "unusable")
    # Of four samples two violate, of which one names its clause.
    assert {kind: tuple(metrics[name] for name in names) for kind, metrics in found.items()} == {
        "right": (0.75, 0.5, 0.0, 1.0, 0.0),
        "silent": (0.5, 0.0, 0.0, 0.0, 0.0),
        "loud": (0.5, 1.0, 1.0, 0.0, 0.0),
        "prose": (0.0, None, None, None, 1.0),
    }


# --- the command ----------------------------------------------------------------------------------

app = typer.Typer()
app.command("export")(export)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)
    lines = [json.dumps(one.model_dump(mode="json", exclude_defaults=True)) for one in ALL]
    (tmp_path / "cases.jsonl").write_text("\n".join(lines))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["cases.jsonl", "--to", "inspect-ai", *arguments])

    result = run("--out", "task", "--split", "test", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["cases"] == 3
    assert set(samples(tmp_path / "task")) == {"bad", "out", "unnamed"}
    compile((tmp_path / "task" / "task.py").read_text(), "task.py", "exec")
    again = run("--out", "task")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is a folder with things in it" in again.stderr
    told = run("--out", "other")
    assert told.exit_code == 0
    assert "4 samples and 2 rubrics are in other." in told.stdout
