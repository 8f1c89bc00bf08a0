"""Runs for the tests of the report: one small enough to count by hand, one hostile, one large."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from eval_runs import ABUSE, LOBBY, SCAM, SPAM, case, result, run
from magistrate.evals.cases import Case
from magistrate.evals.metrics.compare import compare
from magistrate.evals.metrics.measures import measure
from magistrate.evals.report.page import write_report
from magistrate.evals.results import Result
from magistrate.evals.run_folder import Run

DRAWS = 50

# Everything that ends an element, begins one, or runs when it is taken for HTML.
HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 2'>",
    "<svg onload='window.pwned = 3'></svg>",
    "--><!--<script>",
    "]]></style><iframe srcdoc='<script>parent.pwned = 4</script>'></iframe>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&amp;",
    "line\u2028and\u2029paragraph",
    "zero\u200bwidth, \u202eright to left, tag \U000e0041, \x00 nul, half \ud800",
    "javascript:window.pwned=5",
)
HIDDEN = ("U+200B", "U+202E", "U+E0041", "U+0000", "U+D800", "U+2028", "U+2029")


def small(name: str = "small") -> Run:
    """Four violating cases (two caught, one missed, one failed), four harmless (one flagged).

    Beside them a contested case, and one about abuse, which is sensitive and caught.
    """
    cases = [
        case("scam-1", [SCAM], text="a scam", pair="p1", tags=["lang:de"]),
        case("scam-2", ok=[SCAM], text="about scams", pair="p1", note="only asks"),
        case("spam-1", [SPAM], text="spam"),
        case("lobby-1", [LOBBY], text="lobbying"),
        case("abuse-1", [ABUSE], text="a guarded sentence", severity="critical"),
        case("plain-1", text="a cake"),
        case("plain-2", text="a poem", split="dev"),
        case("plain-3", text="a table"),
        case("odd-1", [SPAM], text="disputed", contested="two reviewers differ"),
    ]
    results = [
        result("scam-1", {SCAM: "certain"}),
        result("scam-2", {SCAM: "likely", SPAM: "possible"}),
        result("spam-1", {SPAM: "possible"}),
        result("lobby-1", failed="timeout"),
        result("abuse-1", {ABUSE: "likely"}),
        result("plain-1"),
        result("plain-2"),
        result("plain-3", {LOBBY: "unlikely"}),
        result("odd-1"),
    ]
    return run(cases, results, name)


def changed() -> Run:
    """The small run again, by a judge that loses scam-1, wins spam-1, and answers on lobby-1."""
    before = small("changed")
    new = {
        "scam-1": result("scam-1", {SCAM: "unlikely"}),
        "spam-1": result("spam-1", {SPAM: "certain"}),
        "lobby-1": result("lobby-1", {LOBBY: "likely"}),
    }
    return replace(before, results=tuple(new.get(r.case, r) for r in before.results))


def hostile() -> Run:
    """Every hostile text in every place where text of others can stand."""
    cases: list[Case] = []
    results: list[Result] = []
    for number, text in enumerate(HOSTILE):
        id = f"hostile-{number}"
        # What a person writes in a file is valid Unicode; a message may be anything.
        whole = text.replace("\ud800", "").replace("\x00", "")
        about = case(
            id,
            [SPAM],
            stage="output",
            messages=[{"user": text}, {"assistant": [{"type": text, "x": text}]}, {"user": text}],
            response=[{"type": "text", "text": text}],
            system=text,
            tools=[{"name": text}],
            note=whole,
            contested=whole if number % 2 else None,
            pair=whole,
        )
        cases.append(about)
        found = result(about, {SPAM: "likely"} if number % 3 else None)
        if found.verdict is not None:
            quoted = [
                replace(f, evidence=text, reason=text, path=text) for f in found.verdict.findings
            ]
            verdict = replace(found.verdict, findings=tuple(quoted), refusals=(text,))
            found = replace(found, outcome=verdict)
        results.append(found)
    failed = result("hostile-0", failed="refused", repeat=1)
    failed = replace(failed, outcome=replace(failed.outcome, detail=HOSTILE[0]))
    made = run(cases, [*results, failed], HOSTILE[1])
    manifest = made.manifest | {"started": HOSTILE[0], "judge": {"name": HOSTILE[1]}}
    return replace(made, manifest=manifest, folder=Path("x") / HOSTILE[1].replace("/", "⁄"))


def large(number: int, name: str = "large", seed: int = 0) -> Run:
    """So many cases: every fourth violating, each with its twin, the others ordinary."""
    random_ = random.Random(seed)
    clauses = (SCAM, SPAM, LOBBY, ABUSE)
    grades = ("none", "unlikely", "possible", "likely", "certain")

    def made() -> Iterator[tuple[Case, Result]]:
        for at in range(number):
            kind, clause = at % 4, clauses[at // 4 % 4]
            text = f"case number {at} of many, word{at % 97}"
            if kind == 0:
                one = case(f"bad-{at}", [clause], text=text, pair=f"pair-{at // 4}")
            elif kind == 1:
                one = case(f"near-{at}", ok=[clause], text=text, pair=f"pair-{at // 4}")
            else:
                one = case(f"plain-{at}", text=text)
            weights = (5, 5, 10, 40, 40) if kind == 0 else (80, 10, 6, 3, 1)
            grade = random_.choices(grades, weights)[0]
            yield one, result(one, {clause: grade} if grade != "none" else None)

    found = list(made())
    return run([one for one, _ in found], [each for _, each in found], name)


def report(file: Path, *runs: Run) -> Path:
    """The report of these runs, in `file`."""
    metrics = [measure(each, draws=DRAWS) for each in runs]
    comparison = compare(*runs, draws=DRAWS) if len(runs) == 2 else None
    write_report(runs, file, metrics=metrics, comparison=comparison)
    return file
