"""From a judge's reply to a verdict, or to the reason why there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.judging.reply import read_reply, read_usage
from magistrate.judging.rubric import Rubric, Templates
from magistrate.verdicts import (
    Finding,
    HighRiskAnswer,
    JudgeInfo,
    Outcome,
    Screened,
    Stage,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.parts import Part
from strategies import any_text, json_values

JSON = dict[str, Any]
JUDGE = JudgeInfo("claude", "asked-model", "hash")
CLAUSES = ("fraud.scams", "fraud.spam")
DOMAINS = ("healthcare",)
PARTS = {
    "p1": Part("messages[0].content", "user", "text", "the SECRET words"),
    "p2": Part("tools[0]", "app", "definition", "{}"),
}
FINDING: JSON = {
    "clause": "fraud.scams",
    "grade": "likely",
    "severity": "high",
    "part": "p1",
    "quote": "SECRET",
}
ANSWER: JSON = {"domain": "healthcare", "kind": "advice", "individual": True}
REPORT: JSON = {"findings": [], "high_risk": [], "discloses_ai": False}
ONE: JSON = {**REPORT, "findings": [FINDING]}


def message(*texts: str, **fields: Any) -> JSON:
    content = [{"type": "text", "text": text} for text in texts]
    usage = {"input_tokens": 9, "output_tokens": 2}
    return {"content": content, "stop_reason": "end_turn", "usage": usage, **fields}


def rubric(stage: Stage = "input", **fields: Any) -> Rubric:
    shape: JSON = {
        "system": "",
        "schema": {},
        "groups": (),
        "clauses": CLAUSES,
        "domains": DOMAINS,
        "answers": True,
        "explain": False,
        "templates": Templates("", "", "", ""),
        "hash": "",
    }
    return Rubric(stage, **(shape | fields))


def read(reply: JSON, told: Rubric | None = None) -> Outcome:
    found = read_reply(reply, JUDGE, told or rubric(), PARTS)
    assert not isinstance(found, Screened)
    return found


def test_a_report_becomes_a_verdict():
    report = {"findings": [FINDING], "high_risk": [ANSWER], "discloses_ai": True}
    found = read(message(json.dumps(report), model="answering-model"))
    assert found == Verdict(
        JudgeInfo("claude", "answering-model", "hash"),
        (Finding("fraud.scams", "likely", "high", "input", "messages[0].content", "SECRET"),),
        (HighRiskAnswer("healthcare", "advice", True),),
        True,
        Usage(1, 9, 2),
    )


GOOD: list[tuple[str, JSON, int]] = [
    ("nothing found", message(json.dumps(REPORT)), 0),
    ("white space around it", message(f"\n {json.dumps(REPORT)} \n"), 0),
    ("indented", message(json.dumps(ONE, indent=2)), 1),
    ("in two text blocks", message(json.dumps(ONE)[:9], json.dumps(ONE)[9:]), 1),
    (
        "after thinking",
        message()
        | {
            "content": [
                {"type": "thinking", "thinking": "{}"},
                {"type": "text", "text": json.dumps(ONE)},
            ]
        },
        1,
    ),
    ("as a plain string", message() | {"content": json.dumps(ONE)}, 1),
    ("other stop reason", message(json.dumps(ONE), stop_reason="stop_sequence"), 1),
    ("no stop reason", message(json.dumps(ONE), stop_reason=None), 1),
    ("no usage", message(json.dumps(ONE), usage=None), 1),
    ("two findings", message(json.dumps({**REPORT, "findings": [FINDING, FINDING]})), 2),
    (
        "grade none",
        message(json.dumps({**REPORT, "findings": [{**FINDING, "grade": "none"}, FINDING]})),
        1,
    ),
]


@pytest.mark.parametrize(("reply", "count"), [row[1:] for row in GOOD], ids=[r[0] for r in GOOD])
def test_a_report_may_come_in_many_forms(reply: JSON, count: int):
    found = read(reply)
    assert isinstance(found, Verdict)
    assert len(found.findings) == count


@pytest.mark.parametrize(
    "report",
    [
        {**REPORT, "findings": [{**FINDING, "clause": "none", "grade": "none"}]},
        {**REPORT, "findings": [{**FINDING, "clause": "none", "quote": ""}]},
        {**REPORT, "high_risk": [{**ANSWER, "domain": "none"}]},
    ],
)
def test_where_nothing_is_on_offer_its_word_for_nothing_is_no_finding(report: JSON):
    """The schema must offer some word, and a judge that is held to it may write it."""
    found = read(message(json.dumps(report)), rubric(clauses=(), domains=()))
    assert isinstance(found, Verdict)
    assert (found.findings, found.high_risk, found.dropped_quotes) == ((), (), 0)
    assert isinstance(read(message(json.dumps(report))), Unavailable), "there, it is on offer"


def with_finding(**fields: Any) -> str:
    return json.dumps({**REPORT, "findings": [{**FINDING, **fields}]})


def with_answer(**fields: Any) -> str:
    return json.dumps({**REPORT, "high_risk": [{**ANSWER, **fields}]})


def without(name: str, report: JSON) -> str:
    return json.dumps({key: value for key, value in report.items() if key != name})


BAD: list[tuple[str, JSON, str]] = [
    ("no content", message(), "unparseable"),
    ("no content at all", {}, "unparseable"),
    ("content of no known shape", message() | {"content": 7}, "unparseable"),
    ("empty text", message(""), "unparseable"),
    ("only thinking", message() | {"content": [{"type": "thinking"}]}, "unparseable"),
    ("prose", message("I think the SECRET is safe."), "unparseable"),
    ("prose before", message("Sure: " + json.dumps(REPORT)), "unparseable"),
    ("prose after", message(json.dumps(REPORT) + " SECRET"), "unparseable"),
    ("code fence", message(f"```json\n{json.dumps(REPORT)}\n```"), "unparseable"),
    ("two reports", message(json.dumps(REPORT), json.dumps(REPORT)), "unparseable"),
    ("half a report", message(json.dumps(ONE)[:40]), "unparseable"),
    ("an array", message("[]"), "unparseable"),
    ("null", message("null"), "unparseable"),
    ("extra field", message(json.dumps({**REPORT, "SECRET": 1})), "unparseable"),
    ("extra field in a finding", message(with_finding(SECRET="x")), "unparseable"),
    ("no findings", message(without("findings", REPORT)), "unparseable"),
    ("no high_risk", message(without("high_risk", REPORT)), "unparseable"),
    ("no discloses_ai", message(without("discloses_ai", REPORT)), "unparseable"),
    (
        "finding without a quote",
        message(json.dumps({**REPORT, "findings": [json.loads(without("quote", FINDING))]})),
        "unparseable",
    ),
    ("findings null", message(json.dumps({**REPORT, "findings": None})), "unparseable"),
    ("findings an object", message(json.dumps({**REPORT, "findings": FINDING})), "unparseable"),
    ("boolean as word", message(json.dumps({**REPORT, "discloses_ai": "no"})), "unparseable"),
    ("boolean as number", message(json.dumps({**REPORT, "discloses_ai": 0})), "unparseable"),
    ("unknown clause", message(with_finding(clause="fraud.SECRET")), "unparseable"),
    ("empty clause", message(with_finding(clause="")), "unparseable"),
    ("unknown grade", message(with_finding(grade="SECRET")), "unparseable"),
    ("grade in capitals", message(with_finding(grade="Likely")), "unparseable"),
    ("grade as number", message(with_finding(grade=3)), "unparseable"),
    ("unknown severity", message(with_finding(severity="SECRET")), "unparseable"),
    ("severity null", message(with_finding(severity=None)), "unparseable"),
    ("quote null", message(with_finding(quote=None)), "unparseable"),
    ("part as number", message(with_finding(part=1)), "unparseable"),
    ("unknown domain", message(with_answer(domain="SECRET")), "unparseable"),
    ("unknown kind", message(with_answer(kind="SECRET")), "unparseable"),
    ("individual as word", message(with_answer(individual="true")), "unparseable"),
    (
        "NaN",
        message(json.dumps(REPORT).replace("false", "NaN")),
        "unparseable",
    ),
    (
        "the same key twice",
        message(json.dumps(ONE)[:-1] + ', "findings": []}'),
        "unparseable",
    ),
    (
        "the same key twice in a finding",
        message(json.dumps(ONE).replace('"grade"', '"grade": "none", "grade"')),
        "unparseable",
    ),
    ("deep", message("[" * 100_000), "unparseable"),
    ("half a character", message(with_finding(quote="\ud800")), "unparseable"),
    ("half a character, raw", message('"\ud800'), "unparseable"),
    ("refusal", message(json.dumps(ONE), stop_reason="refusal"), "refused"),
    (
        "refusal with details",
        message(stop_reason="refusal", stop_details={"category": "bio", "explanation": "SECRET"}),
        "refused",
    ),
    ("cut short", message(json.dumps(ONE)[:40], stop_reason="max_tokens"), "truncated"),
    ("cut at its end", message(json.dumps(ONE), stop_reason="max_tokens"), "truncated"),
    (
        "too long",
        message(json.dumps(ONE), stop_reason="model_context_window_exceeded"),
        "too_long",
    ),
]


@pytest.mark.parametrize(("reply", "reason"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_anything_else_is_a_reason_and_never_a_verdict(reply: JSON, reason: str):
    found = read(reply)
    assert isinstance(found, Unavailable)
    assert found.reason == reason
    assert found.judge.name == "claude"


@pytest.mark.parametrize("reply", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_the_detail_of_a_failure_holds_nothing_of_what_was_judged(reply: JSON):
    found = read(reply)
    assert isinstance(found, Unavailable)
    assert "SECRET" not in found.detail


@settings(deadline=None)
@given(any_text)
def test_the_detail_of_any_unusable_reply_is_one_of_few_words(said: str):
    found = read(message(json.dumps(said), said))
    assert isinstance(found, Unavailable)
    assert found.detail in ("json_invalid", "model_type", "string_unicode")


def test_what_a_useless_reply_cost_is_counted():
    found = read(message("prose"))
    assert isinstance(found, Unavailable)
    assert found.usage == Usage(1, 9, 2)


def test_why_the_platform_refused_is_kept():
    found = read(message(stop_reason="refusal", stop_details={"category": "bio"}))
    assert isinstance(found, Unavailable)
    assert found.detail == "category bio"


@pytest.mark.parametrize(
    ("label", "quote", "path", "evidence"),
    [
        ("p1", "SECRET", "messages[0].content", "SECRET"),
        ("p1", "the SECRET words", "messages[0].content", "the SECRET words"),
        ("p1", "", "messages[0].content", None),
        ("p1", "invented", "messages[0].content", None),
        ("p1", "secret", "messages[0].content", None),
        ("p2", "SECRET", "tools[0]", None),
        ("p9", "SECRET", "request", None),
        ("", "", "request", None),
        ("messages[0].content", "SECRET", "request", None),
    ],
)
def test_a_quote_that_is_not_in_its_part_is_dropped_and_the_finding_stays(
    label: str, quote: str, path: str, evidence: str | None
):
    found = read(message(with_finding(part=label, quote=quote)))
    assert isinstance(found, Verdict)
    [finding] = found.findings
    assert (finding.path, finding.evidence) == (path, evidence)


def test_a_finding_about_no_part_of_an_answer_is_about_the_answer():
    found = read(message(with_finding(part="p9")), rubric("output"))
    assert isinstance(found, Verdict)
    assert [(each.path, each.stage) for each in found.findings] == [("response", "output")]


@settings(deadline=None, max_examples=200)
@given(json_values, st.sampled_from(("content", "usage", "model", "stop_reason", "stop_details")))
def test_any_message_is_a_verdict_or_a_reason(value: Any, name: str):
    reply = message(json.dumps(ONE)) | {name: value}
    assert isinstance(read(reply), Verdict | Unavailable)


@settings(deadline=None, max_examples=200)
@given(json_values, st.sampled_from(sorted(REPORT)))
def test_any_report_is_a_verdict_or_a_reason(value: Any, name: str):
    assert isinstance(read(message(json.dumps(ONE | {name: value}))), Verdict | Unavailable)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, Usage(1)),
        ("x", Usage(1)),
        ({}, Usage(1)),
        ({"input_tokens": None, "output_tokens": "many"}, Usage(1)),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(1, 3, 4)),
        (
            {
                "input_tokens": 3,
                "output_tokens": 4,
                "cache_creation_input_tokens": 5,
                "cache_read_input_tokens": 6,
            },
            Usage(1, 3, 4, 5, 6),
        ),
    ],
)
def test_tokens_are_counted_as_the_api_counted_them_and_no_price_is_made_up(
    usage: Any, counted: Usage
):
    assert read_usage({"usage": usage}, "a-model-of-no-known-price") == counted
    assert counted.cost_usd is None


def test_the_model_that_answered_is_the_one_on_record():
    for model, recorded in (("other", "other"), (None, "asked-model"), ("", "asked-model")):
        found = read(message(json.dumps(REPORT), model=model))
        assert found.judge == replace(JUDGE, model=recorded)


# --- the other tasks ------------------------------------------------------------------------------


def test_a_screen_names_groups_in_the_order_of_the_policy():
    told = rubric(groups=("weapons", "fraud", "answer"), clauses=(), domains=())
    said = {"suspected": ["fraud", "weapons", "fraud"], "discloses_ai": True}
    found = read_reply(message(json.dumps(said)), JUDGE, told, PARTS)
    assert isinstance(found, Screened)
    assert (found.suspected, found.discloses_ai) == (("weapons", "fraud"), True)
    assert found.usage.judge_calls == 1


@pytest.mark.parametrize(
    "said",
    [
        {"suspected": ["unheard_of"], "discloses_ai": False},
        {"suspected": [], "discloses_ai": False, "more": 1},
        {"suspected": []},
        {"discloses_ai": False},
        {"suspected": "fraud", "discloses_ai": False},
        {"suspected": [None], "discloses_ai": False},
        REPORT,
    ],
)
def test_a_screen_that_cannot_be_read_is_no_screen(said: JSON):
    told = rubric(groups=("fraud",), clauses=(), domains=())
    found = read_reply(message(json.dumps(said)), JUDGE, told, PARTS)
    assert isinstance(found, Unavailable)
    assert found.reason == "unparseable"


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "model_context_window_exceeded"])
def test_a_screen_that_was_cut_short_is_no_screen(reason: str):
    told = rubric(groups=("fraud",))
    said = message(json.dumps({"suspected": [], "discloses_ai": False})) | {"stop_reason": reason}
    assert isinstance(read_reply(said, JUDGE, told, PARTS), Unavailable)


def test_a_judgment_of_one_group_says_findings_and_nothing_else():
    told = rubric(answers=False, domains=())
    found = read(message(json.dumps({"findings": [FINDING]})), told)
    assert isinstance(found, Verdict)
    assert len(found.findings) == 1
    assert isinstance(read(message(json.dumps(ONE)), told), Unavailable)


def test_a_reason_is_kept_where_one_was_asked_for():
    said = json.dumps({"findings": [FINDING | {"reason": "It asks for it."}]})
    found = read(message(said), rubric(answers=False, explain=True))
    assert isinstance(found, Verdict)
    assert found.findings[0].reason == "It asks for it."
    assert isinstance(read(message(said), rubric(answers=False)), Unavailable)


@pytest.mark.parametrize(
    ("quote", "kept", "dropped"),
    [("SECRET", "SECRET", 0), ("", None, 0), ("never said", None, 1), ("secret", None, 1)],
)
def test_a_quote_that_does_not_occur_is_dropped_and_counted(
    quote: str, kept: str | None, dropped: int
):
    found = read(message(with_finding(quote=quote)))
    assert isinstance(found, Verdict)
    assert (found.findings[0].evidence, found.dropped_quotes) == (kept, dropped)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        # 1,000 in, 200 out, 3,000 written, 40,000 read, per million, by hand from the table.
        ("claude-haiku-5-5", (1_000 * 0.10 + 200 * 0.50 + 3_000 * 0.125 + 40_000 * 0.01) / 1e6),
        ("claude-haiku-5-5-20261002", 0.000975),
        ("claude-sonnet-5-5", (2_000 + 2_000 + 7_500 + 4_000) / 1e6),
        ("us.anthropic.claude-haiku-5-5-v1:0", None),
        ("claude-haiku-5-5@20261002", None),
        ("claude-haiku-9", None),
        (None, None),
    ],
)
def test_a_call_costs_what_the_table_says_and_an_unknown_model_an_unknown_sum(
    model: str | None, dollars: float | None
):
    usage = {
        "input_tokens": 1_000,
        "output_tokens": 200,
        "cache_creation_input_tokens": 3_000,
        "cache_read_input_tokens": 40_000,
    }
    cost = read_usage({"usage": usage}, model).cost_usd
    assert cost == (None if dollars is None else pytest.approx(dollars))


def test_a_very_long_prompt_has_the_rates_of_one():
    usage = {"input_tokens": 60_000, "cache_read_input_tokens": 40_001, "output_tokens": 0}
    cost = read_usage({"usage": usage}, "claude-haiku-5-5").cost_usd
    assert cost == pytest.approx((60_000 * 0.50 + 40_001 * 0.05) / 1e6)
