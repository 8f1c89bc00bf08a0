"""Cases for other eval frameworks. `inspect-ai`: a dataset and a task that asks our question.

The task puts the same rubric and the same fenced subject to a model as our judge does with the
strategy `bundled`: one call with all rules. What differs is that no schema holds the model to the
form of its reply, so the schema is in the rubric's folder for those who can set one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from magistrate._version import __version__
from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import for_case
from magistrate.judging.prompt import make_prompt
from magistrate.judging.rubric import Rubric, has_third_party, make_rubric
from magistrate.judging.templates import templates
from magistrate.settings import Settings
from magistrate.wire.digests import sha256
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject

DATASET, TASK, RUBRICS = "dataset.jsonl", "task.py", "rubrics"

NOTHING_KNOWN = "nobody knows whether anything is violated"
NO_TEXT = "there is no text to judge"
ATTACHMENT = "an attachment, which text cannot hold"


@dataclass(slots=True)
class Exported:
    """What was written, and which cases were left out for what reason."""

    cases: int = 0
    rubrics: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])

    def as_json(self) -> JSON:
        return {"cases": self.cases, "rubrics": self.rubrics, "left_out": dict(self.left_out)}


def export_inspect(cases: Dataset, settings: Settings, folder: Path) -> Exported:
    """Write a folder that `inspect eval FOLDER/task.py` runs.

    Raises `SettingsError` if the folder holds something, cannot be written, or would hold no case.
    """
    found = Exported()
    rubrics: dict[str, Rubric] = {}
    code = sha256([cases.hash])  # unknown to whoever writes a case
    samples = [
        sample
        for case in cases
        if (sample := _sample(case, settings, rubrics, code, found.left_out)) is not None
    ]
    found.cases, found.rubrics = len(samples), len(rubrics)
    if not samples:
        raise _problem(folder, "would hold no case")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise _problem(folder, "is a folder with things in it; give one that is new or empty")
        _write(folder, cases, settings, samples, rubrics.values())
    except OSError as error:
        raise _problem(folder, str(error.strerror)) from None
    return found


def _problem(folder: Path, message: str) -> SettingsError:
    return SettingsError([Problem(str(folder), None, None, "", message)])


def _sample(
    case: Case,
    settings: Settings,
    rubrics: dict[str, Rubric],
    code: str,
    left_out: Counter[str],
) -> JSON | None:
    """Return one line of the dataset; None for a case that is left out."""
    under = for_case(settings, case)
    subject = case.offline(under).subject
    reason = (
        NOTHING_KNOWN
        if case.violates is None
        else NO_TEXT
        if subject is None
        else ATTACHMENT
        if any(part.attachment is not None for part in subject.parts)
        else None
    )
    if reason is not None or subject is None:
        left_out[str(reason)] += 1
        return None
    third_party = has_third_party(subject)
    rubric = make_rubric(under, case.stage, templates(), third_party=third_party, floors=None)
    rubrics.setdefault(rubric.hash, rubric)
    return {
        "id": case.id,
        "input": _user_turn(rubric, subject, sha256([code, case.id])[:32]),
        "target": "violated" if case.violates else "ok",
        "metadata": {
            "rubric": _name(rubric),
            "stage": case.stage,
            "labels": case.labels | case.sections,
            "action": case.action,
            "severity": case.severity,
            "tags": list(case.tags),
            "pair": case.pair,
            "split": case.split,
            "contested": case.contested is not None,
            "case_hash": case.hash,
        },
    }


def _user_turn(rubric: Rubric, subject: Subject, nonce: str) -> str:
    """Return what a judge reads of a case, as one text."""
    prompt = make_prompt(rubric, subject, nonce=nonce, model="", max_tokens=0, effort=None)
    return "".join(str(block["text"]) for block in prompt["messages"][0]["content"])


def _name(rubric: Rubric) -> str:
    return f"{rubric.stage}-{rubric.hash.rpartition(':')[2][:12]}"


def _write(
    folder: Path,
    cases: Dataset,
    settings: Settings,
    samples: Iterable[JSON],
    rubrics: Iterable[Rubric],
) -> None:
    (folder / RUBRICS).mkdir(parents=True)
    for rubric in rubrics:
        stem = folder / RUBRICS / _name(rubric)
        stem.with_suffix(".md").write_text(rubric.system, "utf-8")
        schema = json.dumps(rubric.schema, indent=2, ensure_ascii=False)
        stem.with_suffix(".schema.json").write_text(schema + "\n", "utf-8")
    with (folder / DATASET).open("w", encoding="utf-8", newline="\n") as stream:
        for sample in samples:
            stream.write(json.dumps(sample, ensure_ascii=True) + "\n")
    made = {
        "magistrate": __version__,
        "policy": settings.policy.ref,
        "policy_hash": settings.policy.hash,
        "settings_hash": settings.hash,
        "cases_hash": cases.hash,
        "rubrics": {_name(rubric): rubric.hash for rubric in rubrics},
    }
    (folder / "made.json").write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    task = files("magistrate.evals.formats") / "inspect_task.py.txt"
    (folder / TASK).write_text(task.read_text("utf-8"), "utf-8")
