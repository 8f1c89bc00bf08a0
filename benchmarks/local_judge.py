"""The local judge on the test split, beside two baselines, with Wilson intervals.

    python benchmarks/local_judge.py            # the tables of docs/local-judge.md, and its speed
    python benchmarks/local_judge.py --write    # the same, into that file

`markers` sees no word: elision markers, lengths, turns, tags. `keywords` counts words of the
policy's rules. Both learn from dev, as the judge did; nothing is chosen on test. Contested cases
are left out. Needs the extra `evals`.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np

from magistrate.core.offline import OfflineDecision
from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import for_case
from magistrate.evals.metrics.statistics import wilson
from magistrate.judging.local import LocalJudge
from magistrate.judging.local_model import pieces, said, worst
from magistrate.policy import Policy, builtin_policy
from magistrate.settings import Settings
from magistrate.testing import ScriptedJudge
from magistrate.verdicts import GRADES, Verdict, at_least
from magistrate.wire.parts import Subject

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "docs" / "local-judge.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
ORDINARY_SHARE = 0.01  # of ordinary dev cases that a detection may reach, for judge and baselines


@dataclass(frozen=True)
class Judged:
    """A case, and what the local judge made of it."""

    case: Case
    score: float
    verdict: Verdict
    clear: bool

    @property
    def detected(self) -> bool:
        return any(at_least(found.grade, "likely", GRADES) for found in self.verdict.findings)


Group = Callable[[Judged], bool]


def violating(one: Judged) -> bool:
    return not one.case.benign


def ordinary(one: Judged) -> bool:
    return "ordinary" in one.case.slices


def near_miss(one: Judged) -> bool:
    return one.case.benign and not ordinary(one)


# --- judging and the baselines --------------------------------------------------------------------


def subject_of(case: Case) -> tuple[Subject, Settings]:
    settings = for_case(Settings(), case)
    subject = OfflineDecision.of(settings, case.stage, case.request, case.answer).subject
    assert subject is not None, case.id
    return subject, settings


def judged(cases: Iterable[Case], judge: LocalJudge) -> list[Judged]:
    found: list[Judged] = []
    for case in cases:
        subject, settings = subject_of(case)
        verdict = judge.judge(subject, settings, None, 60.0)
        assert isinstance(verdict, Verdict), (case.id, verdict)
        score = worst(map(judge.model.scored, pieces(said(subject)))).any
        found.append(Judged(case, score, verdict, judge.clear(subject)))
    return found


def form(case: Case) -> list[float]:
    """What can be seen of a case without reading a word of it."""
    answer = str(case.response or "")
    asked = [str(text) for turn in case.messages for text in turn.values()]
    brackets = len(re.findall(r"\[[^\]\n]{6,80}\]", answer))
    kinds = ("lang", "disguise")
    return [
        case.stage == "output",
        brackets,
        case.elided,
        log(1 + len(answer)),
        log(1 + sum(map(len, asked))),
        log(1 + len(asked[-1])),
        len(asked),
        case.system is not None,
        case.tools is not None,
        case.app is not None,
        "\n" in answer + asked[-1],
        *(sum(tag.startswith(kind) for tag in case.tags) for kind in kinds),
    ]


def marker_scores(train: Sequence[Case], test: Sequence[Case]) -> list[float]:
    """Scores of a model that learnt from `form` alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.array([form(case) for case in train], float), [not c.benign for c in train])
    return model.decision_function(np.array([form(case) for case in test], float)).tolist()


def keyword_scores(policy: Policy, cases: Sequence[Case]) -> list[float]:
    """How many different words of the policy's rules a text has, and not of its exceptions."""
    bad: set[str] = set()
    good: set[str] = set()
    for clause in policy.clauses.values():
        bad |= _words(" ".join((clause.title, clause.rule, *clause.counts)))
        good |= _words(" ".join(clause.does_not_count))
    return [float(len(_words(said(subject_of(case)[0])) & (bad - good))) for case in cases]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w{5,}", text.lower()))


# --- numbers --------------------------------------------------------------------------------------


def rate(hits: int, of: int) -> str:
    """`37.5 % [30.1, 45.5] 60/160`."""
    interval = wilson(hits, of)
    if interval is None:
        return "-"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * hits / of:.1f} % [{low:.1f}, {high:.1f}] {hits}/{of}"


def share(judgments: Iterable[Judged], hit: Group) -> str:
    hits = [hit(one) for one in judgments]
    return rate(sum(hits), len(hits))


def threshold(ordinary_scores: Sequence[float]) -> float:
    """The least score that at most `ORDINARY_SHARE` of these lie above."""
    return sorted(ordinary_scores, reverse=True)[int(ORDINARY_SHARE * len(ordinary_scores))]


def pairs(cases: Sequence[Case], scores: Sequence[float]) -> list[tuple[float, float]]:
    """The scores of each violating case and its benign twin."""
    by_pair: dict[str, dict[bool, float]] = {}
    for case, score in zip(cases, scores, strict=True):
        if case.pair is not None:
            by_pair.setdefault(case.pair, {})[case.benign] = score
    return [(twins[False], twins[True]) for twins in by_pair.values() if len(twins) == 2]


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How often a positive scores above a negative; a tie counts half."""
    from sklearn.metrics import roc_auc_score

    truth = [True] * len(positive) + [False] * len(negative)
    return float(roc_auc_score(truth, [*positive, *negative]))


def overall(
    test: list[Judged], columns: dict[str, list[float]], limits: dict[str, float]
) -> list[str]:
    """One row a measure, one column a judge. `limits`: the detection threshold chosen on dev."""
    rows: dict[str, list[str]] = {}
    for name, scores in columns.items():

        def of(group: Group, scores: list[float] = scores) -> list[float]:
            return [s for one, s in zip(test, scores, strict=True) if group(one)]

        def above(group: Group, limit: float, of: Callable[[Group], list[float]] = of) -> str:
            return rate(sum(s > limit for s in of(group)), len(of(group)))

        limit = limits[name]
        twins = pairs([one.case for one in test], scores)
        for measure, value in {
            "recall": above(violating, limit),
            "false positives, ordinary": above(ordinary, limit),
            "false positives, near misses": above(near_miss, limit),
            "recall at 1 % FPR on ordinary": above(violating, threshold(of(ordinary))),
            "pairs won": rate(sum(v > o for v, o in twins), len(twins)),
            "AUC, against ordinary": f"{auc(of(violating), of(ordinary)):.3f}",
            "AUC, against twins": f"{auc([v for v, _ in twins], [o for _, o in twins]):.3f}",
        }.items():
            rows.setdefault(measure, []).append(value)
    return table(["", *columns], [[measure, *values] for measure, values in rows.items()])


def by_section(test: list[Judged], policy: Policy) -> list[str]:
    """Recall by section of the label: detected at all, and with that section's name on it."""
    rows: list[list[str]] = []
    for section in policy.groups:
        ids = {clause.id for clause in section.clauses}
        hit = [one for one in test if ids & set(one.case.violated)]
        near = [one for one in test if near_miss(one) and ids & set(one.case.labels)]

        def named(one: Judged, ids: set[str] = ids) -> bool:
            return one.detected and any(found.clause in ids for found in one.verdict.findings)

        detected, right = share(hit, lambda one: one.detected), share(hit, named)
        rows.append([section.id, detected, right, share(near, lambda one: one.detected)])
    return table(["section", "recall", "named right", "false positives, near misses"], rows)


def by_slice(test: list[Judged]) -> list[str]:
    def has(name: str) -> Group:
        return lambda one: name in one.case.slices

    groups: dict[str, Group] = {
        "requests": lambda one: one.case.stage == "input",
        "answers": lambda one: one.case.stage == "output",
        "plain English": lambda one: not {"language", "disguise"} & set(one.case.slices),
        "other languages": has("language"),
        "disguised": has("disguise"),
        "several turns": has("multi_turn"),
        "elided answers": has("elided"),
    }
    rows = [
        [
            name,
            *(
                share([one for one in test if group(one) and kind(one)], lambda one: one.detected)
                for kind in (violating, near_miss, ordinary)
            ),
        ]
        for name, group in groups.items()
    ]
    heads = ["slice", "recall", "false positives, near misses", "false positives, ordinary"]
    return table(heads, rows)


def cleared(test: list[Judged]) -> list[str]:
    kinds = {"violating": violating, "near misses": near_miss, "ordinary": ordinary}
    return table(
        ["cases", "clear, so nobody is asked"],
        [
            [name, share([one for one in test if kind(one)], lambda one: one.clear)]
            for name, kind in kinds.items()
        ],
    )


def rules(test: list[Judged]) -> list[str]:
    """What the rules make of answers: high-risk uses and disclosure."""
    answers = [one for one in test if one.case.stage == "output"]
    weighty = [
        one for one in answers if any(label.kind != "general" for label in one.case.high_risk)
    ]
    idle = [
        one for one in answers if one.case.app and one.case.app.high_risk and one not in weighty
    ]

    def serious(one: Judged) -> bool:
        return any(found.kind != "general" for found in one.verdict.high_risk)

    def discloses(one: Judged) -> bool:
        return one.verdict.discloses_ai

    said_so = [one for one in answers if one.case.discloses_ai]
    silent = [one for one in answers if not one.case.discloses_ai]
    return table(
        ["rule", "found where it should be", "found where it should not be"],
        [
            ["high-risk use, not general", share(weighty, serious), share(idle, serious)],
            ["discloses an AI", share(said_so, discloses), share(silent, discloses)],
        ],
    )


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    line = ["|".join(["", *("---" for _ in heads), ""])]
    return [f"| {' | '.join(heads)} |", *line, *(f"| {' | '.join(row)} |" for row in rows)]


def card() -> str:
    """The measured part of the model card."""
    policy = builtin_policy()
    cases = load_cases([ROOT / "evals" / "cases"], policy)
    # As in training: a word says nothing about whether a turn asks for the same again.
    plain = [case for case in cases if case.contested is None and not case.declined]
    agreed = Dataset(tuple(plain))
    dev, unseen = agreed.only("dev").cases, agreed.only("test")
    judge = LocalJudge()
    test = judged(unseen, judge)
    idle = [case for case in dev if "ordinary" in case.slices]
    columns = {
        "local": [one.score for one in test],
        "keywords": keyword_scores(policy, unseen.cases),
        "markers": marker_scores(dev, unseen.cases),
    }
    limits = {
        # What reaches a threshold is detected, what lies above a limit is.
        "local": float(np.nextafter(judge.model.thresholds["likely"], -np.inf)),
        "keywords": threshold(keyword_scores(policy, idle)),
        "markers": threshold(marker_scores(dev, idle)),
    }
    return "\n".join(
        [
            f"{len(unseen):,} test cases (hash `{unseen.hash[:16]}`), model `{judge.model.name}`.",
            "",
            *overall(test, columns, limits),
            "",
            *cleared(test),
            "",
            *by_section(test, policy),
            "",
            *by_slice(test),
            "",
            *rules(test),
        ]
    )


def speed() -> str:
    """Milliseconds of CPU a text, and the ratio to a judge that finds nothing; best of 5 rounds."""
    cases = load_cases([ROOT / "evals" / "cases"], builtin_policy()).only("dev")
    work = [subject_of(case) for case in cases]
    local, null = LocalJudge(), ScriptedJudge(keep=False)

    def best(judge: LocalJudge | ScriptedJudge) -> float:
        rounds: list[float] = []
        for _ in range(5):
            began = time.process_time()
            for subject, settings in work:
                judge.judge(subject, settings, lambda body, timeout_s: None, 60.0)  # type: ignore
            rounds.append((time.process_time() - began) / len(work) * 1000)
        return min(rounds)

    ours, theirs = best(local), best(null)
    return f"{ours:.2f} ms a text, {ours / theirs:,.0f} times a judge that finds nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the model card")
    found = card()
    if parser.parse_args().write:
        before, _, rest = CARD.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        CARD.write_text(f"{before}{BEGIN}\n{found}\n{END}{after}", "utf-8")
    print(found, speed(), sep="\n\n")


if __name__ == "__main__":
    main()
