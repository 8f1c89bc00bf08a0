"""Cases, results and runs for the tests of eval statistics, made by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from magistrate.evals.cases import Case, Dataset
from magistrate.evals.results import Result
from magistrate.evals.run_folder import Run
from magistrate.settings import Settings
from magistrate.verdicts import Finding, JudgeInfo, Outcome, Unavailable, Usage, Verdict

JUDGE = JudgeInfo("test")
USED = Usage(judge_calls=1, input_tokens=10, output_tokens=2, cost_usd=0.001)
SCAM = "fraud_abuse.scams_phishing_malware"
SPAM = "fraud_abuse.spam"
LOBBY = "elections.lobbying"
ABUSE = "child_safety.abuse"  # has a floor


@cache
def settings() -> Settings:
    return Settings()


def case(
    id: str, violated: Iterable[str] = (), ok: Iterable[str] = (), text: str = "a text", **more: Any
) -> Case:
    """A case; one that violates something is expected to be blocked unless `more` says else."""
    bad = tuple(violated)
    data = {
        "id": id,
        "stage": "input",
        "messages": [{"user": text}],
        "labels": dict.fromkeys(bad, "violated") | dict.fromkeys(ok, "ok"),
        "action": "block" if bad else "allow",
        "severity": "high" if bad else None,
        "split": "test",
    }
    if more.get("stage") == "output":
        data["response"] = "an answer"
    return Case.model_validate(data | more)


def result(
    about: Case | str,
    grades: Mapping[str, str] | None = None,
    *,
    repeat: int = 0,
    action: str | None = None,
    disclosure: str | None = None,
    failed: str | None = None,
    severity: str = "high",
    latency_ms: float = 100.0,
    usage: Usage = USED,
    **verdict: Any,
) -> Result:
    """A judgment. Without an `action`, a likely or certain finding blocks."""
    outcome: Outcome
    if failed is not None:
        outcome = Unavailable(failed, JUDGE, usage=usage)
    else:
        findings = tuple(
            Finding(clause, grade, severity, "input", "messages[0].content")
            for clause, grade in (grades or {}).items()
        )
        outcome = Verdict(JUDGE, findings, usage=usage, **verdict)
    bad = any(g in ("likely", "certain") for g in (grades or {}).values())
    decision = {
        "action": action or ("unavailable" if failed else "block" if bad else "allow"),
        "disclosure": disclosure,
        "usage": {name: getattr(usage, name) for name in usage.__dataclass_fields__},
    }
    name = about if isinstance(about, str) else about.id
    return Result(name, repeat, outcome, decision, latency_ms)


def run(cases: Iterable[Case], results: Iterable[Result], name: str = "run") -> Run:
    manifest = {"format": 1, "repeat": 1}
    return Run(Path(name), manifest, settings(), Dataset(tuple(cases)), tuple(results))
