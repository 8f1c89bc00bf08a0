"""From verdicts and settings to what happens: effect tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.core.decide import StageDecision, decide, is_blocking, stricter, strictest
from magistrate.core.decision_record import Decision, JudgeFailure
from magistrate.core.disclosure import Duty, disclosure_duty
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.settings import Settings
from magistrate.verdicts import (
    ACTIONS,
    ANSWER_KINDS,
    DECISION_ACTIONS,
    FAILURES,
    GRADES,
    SEVERITIES,
    STAGES,
    Action,
    AnswerKind,
    DecisionAction,
    Failure,
    Finding,
    Grade,
    HighRiskAnswer,
    JudgeInfo,
    Severity,
    Stage,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.digests import Digests
from magistrate.wire.parts import Reason, Uninspected

JSON = dict[str, Any]
HOUSE_RULES = Path(__file__).parents[1] / "data" / "house-rules.yaml"
JUDGE = JudgeInfo("claude", "m", "hash")
PLAIN = "fraud_abuse.fake_reviews"  # no floor
ALWAYS = "child_safety.csam"  # a floor from low severity on
FROM_HIGH = "weapons_regulated_goods.weapons"  # a floor from high severity on
ACCOUNT = "platform_abuse.multi_account"  # no text can prove it
PLANTED = "integrity.third_party_instructions"
REVIEW: JSON = {
    "store": "sqlite:///var/reviews.db",
    "reviewers": [
        {
            "name": "dr.lee",
            "qualified_in": [
                "healthcare",
                "legal",
                "finance",
                "insurance",
                "employment_housing",
                "academic_testing",
                "media",
                "fraud_abuse",
                "psychological_harm",
            ],
        }
    ],
}


def load(**fields: Any) -> Settings:
    return Settings.load({"version": 1, **fields})


DEFAULTS = load()


def finding(
    clause: str = PLAIN,
    grade: Grade = "likely",
    severity: Severity = "medium",
    stage: Stage = "input",
    evidence: str | None = None,
) -> Finding:
    return Finding(clause, grade, severity, stage, "messages[0].content", evidence)


def verdict(*findings: Finding, high_risk: tuple[HighRiskAnswer, ...] = ()) -> Verdict:
    return Verdict(JUDGE, findings, high_risk)


def missing(reason: Failure = "timeout") -> Unavailable:
    return Unavailable(reason, JUDGE)


def action(settings: Settings, *findings: Finding, stage: Stage = "input") -> DecisionAction:
    return decide(settings, stage, [verdict(*findings)]).action


# --- findings -------------------------------------------------------------------------------------


def test_nothing_found_is_allowed():
    for stage in STAGES:
        assert decide(DEFAULTS, stage, [verdict()]) == StageDecision(stage)
        assert decide(DEFAULTS, stage, []) == StageDecision(stage)


@pytest.mark.parametrize("grade", GRADES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_by_default_a_likely_finding_of_medium_severity_blocks(grade: Grade, severity: Severity):
    blocks = grade in ("likely", "certain") and severity != "low"
    for stage in STAGES:
        expected = "block" if blocks else "allow"
        assert action(DEFAULTS, finding(PLAIN, grade, severity, stage), stage=stage) == expected


THRESHOLDS: list[tuple[JSON, Grade, Severity, Action]] = [
    ({"from_grade": "possible"}, "possible", "medium", "block"),
    ({"from_grade": "possible"}, "unlikely", "critical", "allow"),
    ({"from_grade": "unlikely"}, "unlikely", "medium", "block"),
    ({"from_grade": "unlikely"}, "none", "critical", "allow"),
    ({"from_grade": "certain"}, "likely", "critical", "allow"),
    ({"from_grade": "certain"}, "certain", "medium", "block"),
    ({"from_severity": "low"}, "likely", "low", "block"),
    ({"from_severity": "critical"}, "certain", "high", "allow"),
    ({"from_severity": "critical"}, "likely", "critical", "block"),
    ({"input": "warn"}, "likely", "medium", "warn"),
    ({"input": "warn"}, "possible", "medium", "allow"),
    ({"input": "allow"}, "certain", "critical", "allow"),
    (
        {"input": "warn", "from_grade": "unlikely", "from_severity": "low"},
        "unlikely",
        "low",
        "warn",
    ),
]


@pytest.mark.parametrize(("row", "grade", "severity", "expected"), THRESHOLDS)
@pytest.mark.parametrize("key", ["default", "fraud_abuse", PLAIN])
def test_a_row_of_actions_sets_what_follows_and_from_where(
    key: str, row: JSON, grade: Grade, severity: Severity, expected: Action
):
    assert action(load(actions={key: row}), finding(PLAIN, grade, severity)) == expected


def test_the_most_specific_row_wins_field_by_field():
    rows = {
        "default": {"input": "warn", "from_grade": "certain"},
        "fraud_abuse": {"input": "allow"},
        PLAIN: {"from_severity": "critical"},
    }
    found = load(actions=rows).clause_action(PLAIN, "input")
    assert (found.action, found.from_grade, found.from_severity) == ("allow", "certain", "critical")


def test_stages_have_actions_of_their_own():
    mixed = load(actions={"default": {"input": "allow", "output": "warn"}})
    assert action(mixed, finding()) == "allow"
    assert action(mixed, finding(stage="output"), stage="output") == "warn"


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    ("clause", "from_severity"), [(ALWAYS, "low"), (FROM_HIGH, "high"), (PLAIN, None)]
)
@pytest.mark.parametrize("grade", GRADES)
def test_a_floor_blocks_whatever_the_settings_say(
    grade: Grade, clause: str, from_severity: Severity | None, severity: Severity
):
    loosest = load(
        actions={
            "default": {
                "input": "allow",
                "output": "allow",
                "from_grade": "certain",
                "from_severity": "critical",
            }
        },
        judge={"on_failure": {"input": "allow"}},
        on_uninspected={"media": "warn"},
        streaming={"release": "shadow"},
    )
    on_floor = (
        from_severity is not None
        and SEVERITIES.index(severity) >= SEVERITIES.index(from_severity)
        and grade in ("likely", "certain")
    )
    for stage in STAGES:
        found = decide(loosest, stage, [verdict(finding(clause, grade, severity, stage))])
        assert (found.action, found.floor) == (("block", True) if on_floor else ("allow", False))


def test_below_its_floor_a_clause_follows_the_settings():
    assert action(DEFAULTS, finding(FROM_HIGH, "likely", "medium")) == "block"
    assert action(load(actions={"default": {"input": "warn"}}), finding(FROM_HIGH)) == "warn"
    strict = load(actions={ALWAYS: {"from_grade": "unlikely"}})
    assert action(strict, finding(ALWAYS, "unlikely")) == "block"
    assert not decide(strict, "input", [verdict(finding(ALWAYS, "unlikely"))]).floor


@pytest.mark.parametrize("grade", GRADES)
@pytest.mark.parametrize("asked", ["allow", "warn", "block", None])
def test_what_no_text_can_prove_is_a_warning_at_most(grade: Grade, asked: str | None):
    row = {"input": asked, "from_grade": "unlikely"} if asked else {"from_grade": "unlikely"}
    found = finding(ACCOUNT, grade, "critical")
    warned = grade in ("likely", "certain") and asked != "allow"
    assert action(load(actions={ACCOUNT: row}), found) == ("warn" if warned else "allow")


def test_evidence_inside_an_app_is_no_proof_either():
    house = load(policy=str(HOUSE_RULES))
    assert action(house, finding("brand.resale", "certain", "critical")) == "warn"


def test_instructions_in_third_party_text_warn_unless_asked_for_more():
    found = finding(PLANTED, "certain", "critical")
    assert action(DEFAULTS, found) == "warn"
    assert action(load(actions={"default": {"input": "block"}}), found) == "warn"
    assert action(load(actions={"integrity": {"input": "block"}}), found) == "block"
    assert action(load(actions={PLANTED: {"input": "allow"}}), found) == "allow"


def test_a_clause_can_ask_for_review():
    held = load(actions={"psychological_harm": {"output": "hold"}}, review=REVIEW)
    clause = "psychological_harm.body_image"
    found = decide(held, "output", [verdict(finding(clause, stage="output"))])
    assert (found.action, found.domains) == ("hold", ("psychological_harm",))


def test_the_strictest_finding_decides():
    mixed = load(
        actions={
            "default": {"output": "warn"},
            "elections": {"output": "hold"},
            PLAIN: {"output": "block"},
        },
        review=REVIEW | {"reviewers": [{"name": "lee", "qualified_in": ["elections"]}]},
    )
    warned = finding("misinformation.conspiracy", stage="output")
    held = finding("elections.lobbying", stage="output")
    blocked = finding(PLAIN, stage="output")
    assert action(mixed, warned, stage="output") == "warn"
    assert action(mixed, held, warned, stage="output") == "hold"
    assert action(mixed, warned, blocked, held, stage="output") == "block"
    outcomes = [verdict(warned), verdict(held), verdict()]
    assert decide(mixed, "output", outcomes).action == "hold"


# --- judges that are missing, content nobody can read ---------------------------------------------

OUTAGES = ("timeout", "overloaded", "error")


@pytest.mark.parametrize("reason", FAILURES)
@pytest.mark.parametrize("asked", ["allow", "warn", "block"])
@pytest.mark.parametrize("can_act", [True, False])
def test_only_an_outage_fails_open_and_only_where_nothing_can_happen_meanwhile(
    reason: Failure, asked: Action, can_act: bool
):
    opened = load(judge={"on_failure": {"input": asked}})
    found = decide(opened, "input", [missing(reason)], can_act=can_act)
    passes = reason in OUTAGES and asked != "block" and not can_act
    expected = StageDecision("input", asked) if passes else StageDecision("input", "unavailable")
    assert found == expected


@pytest.mark.parametrize("asked", ["allow", "warn"])
@pytest.mark.parametrize("reason", OUTAGES)
def test_a_judge_lost_after_it_suspected_a_floor_never_fails_open(reason: Failure, asked: Action):
    opened = load(judge={"on_failure": {"input": asked}})
    suspected = replace(missing(reason), floor=True)
    assert decide(opened, "input", [suspected]) == StageDecision("input", "unavailable")


@pytest.mark.parametrize("reason", FAILURES)
def test_by_default_and_for_answers_a_missing_judge_always_fails_closed(reason: Failure):
    closed = StageDecision("input", "unavailable")
    assert decide(DEFAULTS, "input", [missing(reason)]) == closed
    opened = load(judge={"on_failure": {"input": "allow"}})
    assert decide(opened, "output", [missing(reason)]) == replace(closed, stage="output")


@pytest.mark.parametrize("order", [1, -1])
def test_a_verdict_that_blocks_says_more_than_a_missing_judge(order: int):
    outcomes = [missing(), verdict(finding())][::order]
    assert decide(DEFAULTS, "input", outcomes) == StageDecision("input", "block")
    outcomes = [missing(), verdict(finding(ALWAYS))][::order]
    assert decide(DEFAULTS, "input", outcomes) == StageDecision("input", "block", floor=True)
    outcomes = [missing(), verdict()][::order]
    assert decide(DEFAULTS, "input", outcomes) == StageDecision("input", "unavailable")


@pytest.mark.parametrize("order", [1, -1])
def test_a_missing_judge_says_more_than_a_verdict_that_holds(order: int):
    """What a judge that is missing would have said may be that it must not be given out at all."""
    held = verdict(high_risk=(HighRiskAnswer("healthcare", "advice", True),))
    chosen = profile(**DECLARED)
    assert decide(chosen, "output", [held]).action == "hold"
    assert decide(chosen, "output", [held, missing()][::order]).action == "unavailable"


def test_a_missing_judge_does_not_hide_a_warning_where_it_fails_open():
    opened = load(judge={"on_failure": {"input": "allow"}}, actions={PLAIN: {"input": "warn"}})
    assert decide(opened, "input", [missing(), verdict(finding())]).action == "warn"
    half = replace(missing(), findings=(finding(),))  # what else the same judgment came to
    assert decide(opened, "input", [half]).action == "warn"
    assert decide(DEFAULTS, "input", [half]) == StageDecision("input", "block")


OPEN: JSON = {"encrypted": "allow", "remote_tools": "allow"}
BY_DEFAULT = dict.fromkeys(get_args(Reason), "block") | OPEN


@pytest.mark.parametrize("reason", get_args(Reason))
def test_what_nobody_can_read_follows_a_table(reason: Reason):
    for stage in STAGES:
        found = [Uninspected("messages[0]", reason)]
        assert decide(DEFAULTS, stage, [], found).action == BY_DEFAULT[reason]
        warned = load(on_uninspected={reason: "warn"})
        assert decide(warned, stage, [verdict()], found).action == "warn"
        assert decide(DEFAULTS, stage, [missing()], found).action == (
            "block" if BY_DEFAULT[reason] == "block" else "unavailable"
        )


def test_the_strictest_of_what_nobody_can_read_decides():
    found = [Uninspected("a", "encrypted"), Uninspected("b", "media"), Uninspected("c", "file")]
    assert decide(load(on_uninspected={"media": "warn"}), "input", [], found[:2]).action == "warn"
    assert decide(load(on_uninspected={"media": "warn"}), "input", [], found).action == "block"


def test_an_outcome_is_fatal_where_it_blocks_alone():
    assert is_blocking(DEFAULTS, "input", verdict(finding()))
    assert is_blocking(DEFAULTS, "input", missing())
    assert not is_blocking(DEFAULTS, "input", verdict(finding(grade="possible")))
    assert not is_blocking(load(judge={"on_failure": {"input": "warn"}}), "input", missing())


# --- shadow ---------------------------------------------------------------------------------------

SHADOW = load(streaming={"release": "shadow"})


@pytest.mark.parametrize(
    ("outcomes", "unread", "expected"),
    [
        ([verdict(finding())], [], StageDecision("output", "allow", shadowed="block")),
        ([verdict(finding(ACCOUNT))], [], StageDecision("output", "warn")),
        (
            [verdict(finding(ACCOUNT), finding())],
            [],
            StageDecision("output", "warn", shadowed="block"),
        ),
        ([verdict(finding(ALWAYS))], [], StageDecision("output", "block", floor=True)),
        (
            [verdict(finding(ALWAYS), finding())],
            [],
            StageDecision("output", "block", floor=True, shadowed="block"),
        ),
        ([verdict(finding(FROM_HIGH))], [], StageDecision("output", "allow", shadowed="block")),
        ([missing()], [], StageDecision("output", "unavailable")),
        ([missing("refused")], [], StageDecision("output", "unavailable")),
        ([], [Uninspected("a", "media")], StageDecision("output", "allow", shadowed="block")),
        ([verdict()], [], StageDecision("output")),
    ],
)
def test_shadow_lets_pass_what_would_be_stopped_but_for_floors_and_missing_judges(
    outcomes: list[Any], unread: list[Uninspected], expected: StageDecision
):
    assert decide(SHADOW, "output", outcomes, unread) == expected


def test_shadow_records_what_would_have_been_held():
    held = load(
        streaming={"release": "shadow"},
        actions={"default": {"output": "warn"}, "fraud_abuse": {"output": "hold"}},
        review=REVIEW,
    )
    found = decide(held, "output", [verdict(finding(stage="output"))])
    assert (found.action, found.shadowed) == ("allow", "hold")


RULINGS = st.builds(
    StageDecision,
    stage=st.sampled_from(STAGES),
    action=st.sampled_from(DECISION_ACTIONS),
    floor=st.booleans(),
    shadowed=st.none() | st.sampled_from(ACTIONS[1:]),
)


@settings(deadline=None)
@given(RULINGS, RULINGS)
def test_of_two_stages_the_stricter_decides_and_what_was_suppressed_stays(
    earlier: StageDecision, later: StageDecision
):
    found = stricter(earlier, later)
    actions = [DECISION_ACTIONS.index(each.action) for each in (earlier, later)]
    assert DECISION_ACTIONS.index(found.action) == max(actions)
    assert found.stage == (later if actions[1] >= actions[0] else earlier).stage
    suppressed = [each.shadowed for each in (earlier, later) if each.shadowed]
    assert found.shadowed == max(suppressed, key=ACTIONS.index, default=None)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            finding,
            st.sampled_from((PLAIN, ALWAYS, FROM_HIGH, ACCOUNT, PLANTED)),
            st.sampled_from(GRADES),
            st.sampled_from(SEVERITIES),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_more_findings_never_loosen(findings: list[Finding], shadow: bool):
    chosen = SHADOW if shadow else DEFAULTS
    for fewer, more in pairwise([findings[:i] for i in range(len(findings) + 1)]):
        before, after = (decide(chosen, "input", [verdict(*each)]) for each in (fewer, more))
        assert DECISION_ACTIONS.index(before.action) <= DECISION_ACTIONS.index(after.action)
        assert before.floor <= after.floor


@settings(deadline=None)
@given(
    st.sampled_from((PLAIN, ALWAYS, FROM_HIGH, ACCOUNT, PLANTED)),
    st.sampled_from(SEVERITIES),
    st.booleans(),
)
def test_a_surer_judge_never_loosens(clause: str, severity: Severity, shadow: bool):
    chosen = SHADOW if shadow else DEFAULTS
    found = [action(chosen, finding(clause, grade, severity)) for grade in GRADES]
    actions = [DECISION_ACTIONS.index(each) for each in found]
    assert actions == sorted(actions)


# --- high-risk answers ----------------------------------------------------------------------------


def profile(**fields: Any) -> Settings:
    app = {"name": "a", "audience": "consumer", "interface": "chatbot", **fields}
    return load(app=app, review=REVIEW)


def on_answer(
    settings: Settings, domain: str, kind: AnswerKind, individual: bool
) -> tuple[Action, tuple[str, ...]]:
    answer = HighRiskAnswer(domain, kind, individual)
    found = decide(settings, "output", [verdict(high_risk=(answer,))])
    return found.action, found.domains


DECLARED = {"high_risk": ["healthcare"]}
HOLDS: list[tuple[str, JSON, AnswerKind, bool, Action]] = [
    ("consumer", DECLARED, "general", True, "allow"),
    ("consumer", DECLARED, "general", False, "allow"),
    ("consumer", DECLARED, "advice", True, "hold"),
    ("consumer", DECLARED, "advice", False, "allow"),
    ("consumer", DECLARED, "recommendation", True, "hold"),
    ("consumer", DECLARED, "recommendation", False, "hold"),
    ("consumer", DECLARED, "decision", True, "hold"),
    ("consumer", DECLARED, "decision", False, "hold"),
    ("consumer", DECLARED, "publication", True, "allow"),
    ("consumer", {}, "advice", True, "warn"),
    ("consumer", {}, "advice", False, "allow"),
    ("consumer", {}, "recommendation", False, "warn"),
    ("consumer", {}, "decision", True, "warn"),
    ("consumer", {}, "general", True, "allow"),
    ("consumer", {"high_risk": ["legal"]}, "advice", True, "warn"),
    ("business", DECLARED, "advice", True, "warn"),
    ("business", DECLARED, "advice", False, "allow"),
    ("business", DECLARED, "decision", True, "warn"),
    ("internal", DECLARED, "decision", True, "warn"),
    ("business", DECLARED | {"decides_about_individuals": True}, "decision", True, "hold"),
    ("business", DECLARED | {"decides_about_individuals": True}, "recommendation", True, "hold"),
    ("internal", DECLARED | {"decides_about_individuals": True}, "decision", True, "hold"),
    ("internal", DECLARED | {"decides_about_individuals": True}, "advice", True, "hold"),
    ("internal", DECLARED | {"decides_about_individuals": True}, "decision", False, "warn"),
    ("internal", DECLARED | {"decides_about_individuals": True}, "general", True, "allow"),
    ("business", {"decides_about_individuals": True}, "decision", True, "warn"),
]


@pytest.mark.parametrize(("audience", "declared", "kind", "individual", "expected"), HOLDS)
def test_an_answer_waits_for_a_person_where_the_profile_owes_it(
    audience: str, declared: JSON, kind: AnswerKind, individual: bool, expected: Action
):
    found = on_answer(profile(audience=audience, **declared), "healthcare", kind, individual)
    assert found == (expected, ("healthcare",) if expected == "hold" else ())


MEDIA: list[tuple[JSON, AnswerKind, Action]] = [
    ({"high_risk": ["media"], "publishes_automatically": True}, "publication", "hold"),
    ({"high_risk": ["media"], "publishes_automatically": True}, "advice", "allow"),
    ({"high_risk": ["media"], "publishes_automatically": False}, "publication", "allow"),
    ({"high_risk": [], "publishes_automatically": True}, "publication", "warn"),
    ({"high_risk": [], "publishes_automatically": False}, "publication", "allow"),
]


@pytest.mark.parametrize(("declared", "kind", "expected"), MEDIA)
@pytest.mark.parametrize("audience", ["consumer", "business", "internal"])
def test_what_is_published_by_itself_waits_for_an_editor(
    audience: str, declared: JSON, kind: AnswerKind, expected: Action
):
    chosen = profile(audience=audience, interface="batch", **declared)
    assert on_answer(chosen, "media", kind, False)[0] == expected


@pytest.mark.parametrize("kind", ANSWER_KINDS)
def test_without_a_profile_or_for_a_domain_nobody_knows_nothing_follows(kind: AnswerKind):
    assert on_answer(DEFAULTS, "healthcare", kind, True) == ("allow", ())
    assert on_answer(profile(**DECLARED), "astrology", kind, True) == ("allow", ())


def test_a_request_is_never_held():
    answer = HighRiskAnswer("healthcare", "advice", True)
    found = decide(profile(**DECLARED), "input", [verdict(high_risk=(answer,))])
    assert found == StageDecision("input")


def test_a_reviewer_must_be_qualified_in_every_domain_of_the_answer():
    both = profile(high_risk=["healthcare", "legal"])
    answers = tuple(
        HighRiskAnswer(domain, "advice", True)
        for domain in ("legal", "healthcare", "legal", "finance")
    )
    found = decide(both, "output", [verdict(high_risk=answers)])
    assert (found.action, found.domains) == ("hold", ("legal", "healthcare"))


def test_a_block_goes_before_a_hold():
    answer = HighRiskAnswer("healthcare", "advice", True)
    outcomes = [verdict(finding(stage="output"), high_risk=(answer,))]
    assert decide(profile(**DECLARED), "output", outcomes).action == "block"


# --- disclosure -----------------------------------------------------------------------------------

CHAT = "You are talking to an AI assistant."
INFORMED = "AI helped to prepare this answer."
DUTIES: list[tuple[JSON | None, Duty]] = [
    (None, Duty(owed=False)),
    ({"audience": "consumer", "interface": "chatbot"}, Duty(True, CHAT)),
    ({"audience": "business", "interface": "chatbot"}, Duty(True, CHAT)),
    ({"audience": "business", "interface": "agent"}, Duty(True, CHAT)),
    ({"audience": "internal", "interface": "chatbot"}, Duty(owed=False)),
    ({"audience": "internal", "interface": "agent"}, Duty(owed=False)),
    ({"audience": "consumer", "interface": "api"}, Duty(owed=False)),
    ({"audience": "consumer", "interface": "batch"}, Duty(owed=False)),
    ({"audience": "consumer", "interface": "api", "serves_minors": True}, Duty(True)),
    ({"audience": "internal", "interface": "chatbot", "serves_minors": True}, Duty(True, CHAT)),
    ({"audience": "consumer", "interface": "api", "high_risk": ["legal"]}, Duty(True)),
    (
        {"audience": "consumer", "interface": "chatbot", "high_risk": ["legal"]},
        Duty(True, f"{CHAT} {INFORMED}", own_words=False),
    ),
    (
        {"audience": "internal", "interface": "agent", "high_risk": ["legal"]},
        Duty(True, INFORMED, own_words=False),
    ),
]


@pytest.mark.parametrize(("app", "duty"), DUTIES)
def test_disclosure_is_owed_by_profile(app: JSON | None, duty: Duty):
    chosen = load(app={"name": "a", **app}, review=REVIEW) if app else DEFAULTS
    assert disclosure_duty(chosen) == duty


def test_the_words_of_a_disclosure_are_the_teams():
    app = {"audience": "consumer", "interface": "chatbot", "high_risk": ["legal"]}
    words = {"chat": "I am a machine.", "high_risk": "A machine wrote this."}
    chosen = load(app=app, review=REVIEW, disclosure=words)
    assert disclosure_duty(chosen).text == "I am a machine. A machine wrote this."


# --- the record -----------------------------------------------------------------------------------

DECISION = Decision(
    id="dec_1",
    action="block",
    disclosure="added",
    stage="output",
    policy="p@1",
    policy_hash="ph",
    settings_hash="sh",
    app="acme",
    judge=JUDGE,
    findings=(finding(evidence="SECRET"), finding(ALWAYS)),
    review_id="rev_1",
    uninspected=(Uninspected("messages[0]", "media"),),
    judge_failures=(JudgeFailure("input", "timeout", "after 8 s"),),
    upstream="cancelled",
    usage=Usage(1, 2, 3, 4, 5, 0.5),
    latency_ms=12.5,
    shadow="hold",
)


def test_the_record_has_exactly_the_documented_keys():
    found = DECISION.as_json(evidence=False)
    keys = (
        "id action disclosure stage policy policy_hash settings_hash app judge findings review_id "
        "domains "
        "uninspected judge_failures upstream usage latency_ms shadow platform"
        " continues_blocked"
    )
    assert list(found) == keys.split()
    assert list(found["judge"]) == ["name", "model", "prompt_hash"]
    assert [list(each) for each in found["findings"]] == [
        ["clause", "grade", "severity", "stage", "path"]
    ] * 2
    assert found["uninspected"] == [{"path": "messages[0]", "reason": "media"}]
    assert found["judge_failures"] == [
        {"stage": "input", "reason": "timeout", "detail": "after 8 s"}
    ]
    assert found["usage"] == {
        "judge_calls": 1,
        "input_tokens": 2,
        "output_tokens": 3,
        "cache_write_tokens": 4,
        "cache_read_tokens": 5,
        "cost_usd": 0.5,
    }
    assert {key: found[key] for key in ("id", "action", "disclosure", "app", "review_id")} == {
        "id": "dec_1",
        "action": "block",
        "disclosure": "added",
        "app": "acme",
        "review_id": "rev_1",
    }
    assert (found["upstream"], found["latency_ms"], found["shadow"]) == ("cancelled", 12.5, "hold")


def test_quotes_are_in_the_record_only_where_they_are_asked_for():
    assert "SECRET" not in str(DECISION.as_json(evidence=False))
    with_quotes = DECISION.as_json(evidence=True)
    assert [each.get("evidence") for each in with_quotes["findings"]] == ["SECRET", None]


REFUSED = {"stop_reason": "refusal", "category": "bio"}


@pytest.mark.parametrize("evidence", [True, False])
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (None, None),
        (REFUSED, REFUSED),
        ({"safeguard_results": ["SECRET"]}, {"safeguard_results": "present"}),
        (
            {**REFUSED, "safeguard_results": {"SECRET": 1}},
            {**REFUSED, "safeguard_results": "present"},
        ),
    ],
)
def test_what_the_platform_said_is_on_record_and_may_quote_only_where_quotes_are_asked_for(
    said: JSON | None, shown: JSON | None, evidence: bool
):
    found = replace(DECISION, platform=said)
    assert found.as_json(evidence=evidence)["platform"] == (said if evidence else shown)
    assert "platform" not in found.public


def test_what_may_reach_a_browser_says_nothing_of_clauses_or_content():
    assert DECISION.public == {
        "id": "dec_1",
        "action": "block",
        "disclosure": "added",
        "review_id": "rev_1",
    }


@pytest.mark.parametrize(
    ("one", "other", "cost"),
    [
        (Usage(1, cost_usd=0.5), Usage(1, cost_usd=0.25), 0.75),
        (Usage(1, cost_usd=0.5), Usage(1), None),
        (Usage(1), Usage(1, cost_usd=0.5), None),
        (Usage(), Usage(1, cost_usd=0.5), 0.5),
        (Usage(1, cost_usd=0.5), Usage(), 0.5),
        (Usage(), Usage(1), None),
        (Usage(), Usage(), None),
    ],
)
def test_an_unknown_price_is_never_counted_as_zero(one: Usage, other: Usage, cost: float | None):
    assert (one + other).cost_usd == cost


def test_usage_adds_up():
    assert Usage(1, 2, 3, 4, 5) + Usage(10, 20, 30, 40, 50) == Usage(11, 22, 33, 44, 55)


# --- one exchange ---------------------------------------------------------------------------------

DIGESTS = Digests(b"k", "s")


def exchange(settings: Settings = DEFAULTS, **body: Any) -> Exchange:
    whole = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    return Exchange("dec_1", whole, settings, DIGESTS, JUDGE, stream=False)


_findings = st.builds(
    finding,
    st.sampled_from((PLAIN, ALWAYS, FROM_HIGH, ACCOUNT, PLANTED)),
    st.sampled_from(GRADES),
    st.sampled_from(SEVERITIES),
    st.just("output"),
)
_domains = st.builds(
    HighRiskAnswer,
    st.sampled_from(("legal", "healthcare")),
    st.sampled_from(ANSWER_KINDS),
    st.booleans(),
)
_outcomes = st.builds(
    lambda found, high_risk: verdict(*found, high_risk=tuple(high_risk)),
    st.lists(_findings, max_size=2),
    st.lists(_domains, max_size=2),
) | st.builds(
    lambda reason, floor, found: Unavailable(reason, JUDGE, floor=floor, findings=tuple(found)),
    st.sampled_from(FAILURES),
    st.booleans(),
    st.lists(_findings, max_size=1),
)
_unread = st.builds(
    Uninspected, st.sampled_from(("a", "b", "c")), st.sampled_from(("encrypted", "unknown_event"))
)
_events = st.lists(_outcomes | _unread | st.none(), max_size=10)  # None: it is ruled
_APP: JSON = {"name": "a", "audience": "consumer", "interface": "chatbot"}
RULED = (
    DEFAULTS,
    load(actions={"default": {"output": "warn"}}, judge={"on_failure": {"input": "warn"}}),
    load(
        app={**_APP, "high_risk": ["legal", "healthcare"]},
        actions={"fraud_abuse": {"output": "hold"}},
        review=REVIEW,
    ),
    load(streaming={"release": "shadow"}, on_uninspected={"encrypted": "warn"}),
)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(RULED), st.sampled_from(STAGES), _events, st.booleans())
def test_a_stage_that_is_ruled_again_and_again_comes_to_what_it_comes_to_at_once(
    chosen: Settings, stage: Stage, events: list[Any], can_act: bool
):
    now, once = exchange(chosen), exchange(chosen)
    for each in events:
        if each is None:
            now.decide(stage, can_act=can_act)
            continue
        for state in (getattr(now, stage), getattr(once, stage)):
            if isinstance(each, Uninspected):
                state.note([each])
            else:
                state.outcomes.append(each)
    at_once = getattr(once, stage)
    whole = decide(chosen, stage, at_once.outcomes, at_once.uninspected, can_act=can_act)
    assert getattr(now, stage).decide(chosen, stage, can_act=can_act) == whole
    assert now.decide(stage, can_act=can_act) == once.decide(stage, can_act=can_act)
    assert now.decision().action == once.decision().action


@settings(deadline=None)
@given(st.sampled_from(RULED), st.sampled_from(STAGES), st.lists(_outcomes, max_size=6), st.data())
def test_rulings_of_parts_come_to_the_ruling_of_the_whole(
    chosen: Settings, stage: Stage, outcomes: list[Any], data: st.DataObject
):
    ends = sorted(data.draw(st.lists(st.integers(0, len(outcomes)), max_size=3)))
    parts = [outcomes[a:b] for a, b in pairwise((0, *ends, len(outcomes)))]
    found = [decide(chosen, stage, part) for part in parts]
    assert strictest(stage, found) == decide(chosen, stage, outcomes)


def test_what_nobody_could_read_is_noted_once():
    now = exchange().output
    now.note([Uninspected("a", "media"), Uninspected("b", "media")])
    now.note([Uninspected("a", "media"), Uninspected("a", "file")])
    assert [(item.path, item.reason) for item in now.uninspected] == [
        ("a", "media"),
        ("b", "media"),
        ("a", "file"),
    ]


def test_an_exchange_has_a_record_from_its_beginning():
    found = exchange().decision()
    assert (found.action, found.stage, found.upstream) == ("allow", "input", "not_sent")
    assert (found.judge, found.findings, found.usage) == (JUDGE, (), Usage())
    assert (found.policy, found.app) == ("anthropic-usage-policy@2024-06-06", None)
    assert found.policy_hash == DEFAULTS.policy.hash
    assert found.settings_hash == DEFAULTS.hash


def test_the_record_of_an_exchange_gathers_both_stages():
    now = exchange(load(app={"name": "acme", "audience": "internal", "interface": "api"}))
    twice = finding(grade="possible")
    first = Unavailable("timeout", JUDGE, "late", Usage(1, 2))
    now.input.outcomes += [first, verdict(twice), verdict(twice)]
    now.input.note([Uninspected("messages[0]", "encrypted")])
    other = JudgeInfo("another")
    now.output.outcomes.append(Verdict(other, (finding(stage="output"),), usage=Usage(1, 3)))
    assert now.decide("output").action == "block"
    found = now.decision()
    assert found.findings == (twice, finding(stage="output"))
    assert (found.stage, found.action, found.app) == ("output", "block", "acme")
    assert found.judge_failures == (JudgeFailure("input", "timeout", "late"),)
    assert (found.judge, found.usage) == (other, Usage(2, 5))
    assert found.uninspected == (Uninspected("messages[0]", "encrypted"),)
    assert not now.input.judged_in_full
    assert now.output.judged_in_full


def test_a_later_stage_does_not_loosen_an_earlier_one_or_forget_what_shadow_passed():
    now = exchange(SHADOW)
    now.input.outcomes.append(verdict(finding()))
    assert now.decide("input").action == "allow"
    now.output.outcomes.append(verdict(finding(ACCOUNT, stage="output")))
    now.decide("output")
    assert (now.decision().action, now.decision().shadow) == ("warn", "block")
    now.output.outcomes[:] = [verdict()]
    now.decide("output")
    assert (now.decision().action, now.decision().stage) == ("warn", "output")


CONSUMER = {"audience": "consumer", "interface": "chatbot"}


@pytest.mark.parametrize(
    ("app", "history", "said", "discloses", "due", "noted"),
    [
        (None, [], "Hello.", False, None, None),
        (CONSUMER, [], "Hello.", False, CHAT, None),
        (CONSUMER, [], f"{CHAT} Hello.", False, None, "present"),
        (CONSUMER, [], "I am an AI.", True, None, "present"),
        (CONSUMER, [f"{CHAT}\n\nHello."], "And?", False, None, "present"),
        (CONSUMER, ["Hello."], "And?", False, CHAT, None),
        (CONSUMER | {"interface": "api", "serves_minors": True}, [], "Hello.", False, None, "owed"),
        (
            CONSUMER | {"high_risk": ["legal"]},
            [],
            "I am an AI.",
            True,
            f"{CHAT} {INFORMED}",
            None,
        ),
    ],
)
def test_a_disclosure_is_due_once_and_not_where_it_was_made(
    app: JSON | None, history: list[str], said: str, discloses: bool, due: str | None, noted: Any
):
    turns = [{"role": "assistant", "content": each} for each in history]
    chosen = load(app=app, review=REVIEW) if app else DEFAULTS
    now = exchange(chosen, messages=[*turns, {"role": "user", "content": "hi"}])
    now.output.outcomes.append(Verdict(JUDGE, discloses_ai=discloses))
    history = RequestHistory.of(now.body, DIGESTS, redact=True)
    answer = {"content": [{"type": "text", "text": said}]}
    assert now.disclosure_due(history, answer) == due
    assert now.disclosed == noted


STRUCTURED = {"output_config": {"format": {"type": "json_schema"}}}
SAID_BEFORE = {"messages": [{"role": "assistant", "content": f"{CHAT}\n\nHello."}]}


@pytest.mark.parametrize(
    ("app", "body", "text", "noted"),
    [
        (CONSUMER, {}, CHAT, "added"),
        (CONSUMER, STRUCTURED, None, "owed"),
        (CONSUMER, SAID_BEFORE, None, "present"),
        (CONSUMER | {"interface": "api", "serves_minors": True}, {}, None, "owed"),
        (CONSUMER | {"audience": "internal"}, {}, None, None),
    ],
)
def test_a_notice_of_ours_discloses_too_unless_it_would_be_parsed(
    app: JSON, body: JSON, text: str | None, noted: str | None
):
    now = exchange(load(app=app), **body)
    now.output.outcomes.append(Verdict(JUDGE, discloses_ai=True))  # of an answer nobody will see
    history = RequestHistory.of(now.body, DIGESTS, redact=True)
    assert now.disclose_in_notice(history) == text
    assert now.disclosed == noted


@pytest.mark.parametrize(
    ("settings", "body", "structured", "whole"),
    [
        (DEFAULTS, {}, False, False),
        (DEFAULTS, {"output_format": {"type": "json_schema"}}, True, True),
        (load(streaming={"release": "message"}), {}, False, True),
        (profile(**DECLARED), {}, False, True),
        (SHADOW, {}, False, False),
    ],
)
def test_an_answer_is_held_whole_where_it_could_be_held_or_is_parsed(
    settings: Settings, body: JSON, structured: bool, whole: bool
):
    now = exchange(settings, **body)
    assert (now.structured, now.held_whole, now.model) == (structured, whole, "m")
