"""The judge that answers exactly as a case is labelled.

With it a suite checks itself: what a case expects must follow from its own labels. It also is the
upper bound of every measurement, and drives tests of the whole eval path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from magistrate.evals.cases import Case
from magistrate.settings import Settings
from magistrate.verdicts import Finding, HighRiskAnswer, JudgeInfo, Usage, Verdict

LABELS = JudgeInfo("labels")


def labelled_verdict(case: Case) -> Verdict:
    """Return the verdict that the labels of a case spell out."""
    place = "request" if case.stage == "input" else "response"
    return Verdict(
        LABELS,
        tuple(
            Finding(clause, "certain", case.severity or "medium", case.stage, place)
            for clause in case.violated
        ),
        tuple(HighRiskAnswer(a.domain, a.kind, a.individual) for a in case.high_risk),
        case.discloses_ai,
        Usage(judge_calls=1),
        continues_declined=case.continues_declined,
    )


def for_case(settings: Settings, case: Case) -> Settings:
    """Return the settings a case is decided under: those given, with the profile of its app.

    A profile under which answers can be held needs no review store here: nothing is stored.
    """
    if case.app is None:
        return settings
    return settings.model_copy(update={"app": case.app})


def unexpected(cases: Iterable[Case], settings: Settings) -> Iterator[tuple[Case, str]]:
    """Yield cases whose expectation does not follow from their labels, and how.

    Where something is violated but no clause is named, nothing follows. A case that names no
    app says nothing of what the app of the settings must disclose.
    """
    for case in cases:
        if case.violates and not (case.violated or case.continues_declined):
            continue
        under = for_case(settings, case)
        offline = case.offline(under)
        decision = offline.decide([labelled_verdict(case)], LABELS)
        if decision.action != case.action:
            yield case, f"expects {case.action}, but its labels lead to {decision.action}"
        elif (case.app or not settings.app) and decision.disclosure != case.disclosure:
            expected, found = case.disclosure or "no disclosure", decision.disclosure or "none"
            yield case, f"expects {expected}, but the disclosure comes out as {found}"
