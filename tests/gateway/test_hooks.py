"""Inference hooks at the gateway: every rule of the protocol, over a socket."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest

from edges import CLAUSE, FLOOR
from gateways import served
from hook_calls import KEY, OLD, SENT, VARIABLES, Hook, called, hook, prompt, said
from magistrate.config.diagnostics import SettingsError
from magistrate.core.hook_verdicts import UNAVAILABLE_TEXT
from magistrate.settings.schema import DEFAULT_BLOCK_TEXT, DEFAULT_HOLD_TEXT
from magistrate.storage.base import StoreError
from magistrate.testing import (
    JudgeScript,
    Simulator,
    continues_declined,
    error,
    fails_with,
    finds,
    nothing,
    refuses,
    slow,
    text,
    when_judging,
)

BAD = "the bad words"
ODD = "the odd words"


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


def simulator(*rules: Any) -> Simulator:
    found = rules or (when_judging(BAD, finds(CLAUSE)),)
    return Simulator(text("never asked"), judge=JudgeScript(*found))


# --- the verdict ----------------------------------------------------------------------------------


def test_allow_and_deny_have_the_protocols_form_and_ours_rides_along(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        verdict = at.ask(prompt("hello"))
        (decision,) = at.decisions
        assert verdict == {"action": "allow", "magistrate": decision.public}
        assert decision.action == "allow"

        verdict = at.ask(prompt(f"say {BAD}"))
        decision = at.decisions[-1]
        assert verdict == {
            "action": "deny",
            "deny_reason": DEFAULT_BLOCK_TEXT,
            "reference_id": decision.id,
            "magistrate": decision.public,
        }
        assert (decision.action, decision.stage) == ("block", "input")
        assert decision.upstream == "not_sent"
        assert re.fullmatch(r"[A-Za-z0-9._:/-]{1,50}", verdict["reference_id"])
        assert at.sim.api_requests == [], "no model is asked"


def test_a_long_reason_is_cut_as_the_protocol_would(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, {"texts": {"block": "No. " * 300}}) as at:
        assert len(at.ask(prompt(BAD))["deny_reason"]) == 500


def test_the_decision_can_be_looked_up(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        reference = at.ask(prompt(BAD))["reference_id"]
        found = at.http.get(f"/magistrate/decisions/{reference}").json()
        assert (found["id"], found["action"]) == (reference, "block")


# --- transport ------------------------------------------------------------------------------------


def test_headers_that_an_organisation_adds_change_nothing(tmp_path: Path) -> None:
    own = {f"X-Custom-{number}": "value" for number in range(16)}
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("hello"), headers=own) == "allow"
        assert at.action(prompt(BAD), headers=own) == "deny"


def test_a_verdict_is_never_encoded(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        answer = at.post(prompt("hello"), headers={"Accept-Encoding": "gzip, br"})
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-type"] == "application/json"


def test_there_is_no_redirect_and_nothing_goes_upstream(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        paths = (
            "/hooks",
            "/hooks/",
            "/hooks/inference/",
            "/hooks/inference/other",
            "/hooks/inference/app/more",
            "/Hooks/inference",
            "/x/../hooks/other",
        )
        for path in paths:
            assert at.post(prompt("hello"), path=path).status_code == 404, path
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            assert at.http.request(method, at.path).status_code == 405, method
        assert at.sim.requests == []


def padded(size: int) -> bytes:
    """A frame of exactly this many bytes, of a type that is not read."""
    frame = json.dumps({"type": "later", "request_id": "req_raw", "padding": ""}).encode()
    return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]


def test_a_body_may_have_64_mib_and_no_more(tmp_path: Path) -> None:
    most = 64 * 1024 * 1024
    with hook(simulator(), tmp_path) as at:
        assert at.action(padded(most)) == "allow"
        assert at.post(padded(most + 1)).status_code == 413


def test_a_body_of_ten_megabytes_is_judged_in_time(tmp_path: Path) -> None:
    sizes = {f"size_of_page_{number}": number for number in range(400)}  # large, and no words
    pages = [("user", [{"type": "text", "text": "hi", "layout": sizes}])] * 1000
    with hook(simulator(), tmp_path) as at:
        for words, action in (("hello", "allow"), (BAD, "deny")):
            frame = prompt(*pages, words)
            assert len(json.dumps(frame)) > 9_000_000
            began = time.monotonic()
            assert at.action(frame) == action
            assert time.monotonic() - began < 3.9


def test_a_new_transcript_that_is_too_long_to_judge_is_denied(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, on_error="allow") as at:
        assert at.action(prompt(*["a long page " * 4000] * 100)) == "deny"
        assert at.decisions[-1].judge_failures[0].reason == "too_long"


def test_half_a_character_is_text_like_any_other(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("\ud800 hello", "title\udfff")) == "allow"
        assert at.action(prompt("\ud800 hello", f"\ud800{BAD}\udc00")) == "deny"
        assert at.action(prompt("hello", type="\ud800")) == "allow"


# --- signatures -----------------------------------------------------------------------------------


def test_a_bad_signature_is_401_and_nothing_is_judged(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        frame = prompt("hello")
        body = json.dumps(frame).encode()
        unsigned = at.http.post(at.path, content=body, headers=SENT)
        answers = [
            unsigned,
            at.post(frame, b"another key of 24 bytes."),
            at.post(frame, off=-310),
            at.post(frame, off=310),
            at.post(frame, headers={"webhook-id": "req_other"}),
            at.post(frame, headers={"webhook-signature": ""}),
            at.post(b"not json", b"another key of 24 bytes."),
        ]
        for answer in answers:
            assert answer.status_code == 401, answer.text
            assert answer.json()["error"]["type"] == "authentication_error"
        assert at.decisions == []
        assert at.sim.requests == []


def test_names_of_headers_are_case_insensitive(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        frame = prompt("hello")
        request = at.post(frame).request
        own = {
            key.upper() if key.startswith("webhook") else key: value
            for key, value in request.headers.items()
        }
        answer = at.http.post(at.path, content=request.content, headers=own)
        assert answer.json()["action"] == "allow"


def test_while_a_secret_is_rotated_both_are_valid(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, secrets_env=["HOOK_SECRET", "HOOK_SECRET_OLD"]) as at:
        for keys in ((KEY,), (OLD,), (KEY, OLD), (b"x" * 24, OLD)):
            assert at.post(prompt("hello"), *keys).status_code == 200
        assert at.post(prompt("hello"), b"x" * 24).status_code == 401
    with hook(simulator(), tmp_path) as at:
        assert at.post(prompt("hello"), OLD).status_code == 401


def test_raw_bytes_are_signed_not_what_they_mean(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        frame = json.dumps(prompt("héllo"), indent=3, ensure_ascii=False).encode()
        assert at.action(b"\n " + frame + b"\r\n") == "allow"


def test_unsigned_frames_are_taken_only_where_the_app_says_so(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, allow_unsigned=True) as at:
        for words, action in (("hello", "allow"), (BAD, "deny")):
            answer = at.http.post(at.path, json=prompt(words), headers=SENT)
            assert answer.json()["action"] == action
        assert at.post(prompt("hello"), b"x" * 24).status_code == 401, "signed, but wrongly"
        assert at.post(prompt("hello")).status_code == 200


def test_a_delivery_that_comes_again_gets_the_same_verdict(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        frame = prompt(f"say {BAD}")
        first = at.ask(frame)
        asked = len(at.judged)
        assert at.ask(frame) == first
        assert (len(at.decisions), len(at.judged)) == (1, asked)
        other = at.ask({**prompt("hello"), "request_id": frame["request_id"]})
        assert other["action"] == "allow", "the same id with another body is another delivery"


# --- rule 1: what is unknown ----------------------------------------------------------------------

UNKNOWN: dict[str, dict[str, Any]] = {
    "top-level field": {"priority": "high", "attempt": 2},
    "metadata key": {"metadata": {"region": "somewhere"}},
    "application": {"source": {"application": "claude-tag-2"}},
    "field of the source": {"source": {"application": "cowork", "version": "1.2"}},
    "actor type": {"actor": {"type": "service_account", "id": "s1", "email_address": None}},
    "null everywhere": {
        "tenant_id": None,
        "session_id": None,
        "model": None,
        "actor": {"type": "user", "id": None, "email_address": None},
    },
    "missing everywhere": {"actor": None, "source": None, "metadata": None, "model": None},
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_no_error_and_loosens_nothing(name: str, tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("hello", **UNKNOWN[name])) == "allow"
        assert at.action(prompt(BAD, **UNKNOWN[name])) == "deny"


@pytest.mark.parametrize(
    "turn",
    [
        ("user", [{"type": "diagram", "caption": "%s", "id": 7}]),
        ("user", [{"type": "text", "text": "hi", "footnote": {"of": ["%s"]}}]),
        ("tool", [{"type": "text", "text": "%s"}]),
        ("user", [{"type": "tool_result", "content": "%s", "is_error": None, "took": 3}]),
        ("user", [{"type": "attachment", "file_name": "%s", "text": "x", "pages": 3}]),
        ("assistant", [{"type": "tool_use", "tool_name": "%s", "input": {}}]),
        ("assistant", [{"type": "tool_use", "tool_name": "t", "input": {"a": {"b": "%s"}}}]),
    ],
    ids=range(7),
)
def test_blocks_are_judged_where_they_have_text(turn: Any, tmp_path: Path) -> None:
    role, content = turn
    with hook(simulator(), tmp_path) as at:
        for words, action in (("fine", "allow"), (BAD, "deny")):
            filled = json.loads(json.dumps(content).replace("%s", words))
            assert at.action(prompt("hi", (role, filled), "go on")) == action


@pytest.mark.parametrize("kind", ["response", "prompt.v2", "PROMPT", "x" * 5000, "with words\n"])
def test_a_frame_of_an_unknown_type_is_allowed_and_counted(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "magistrate")
    with hook(simulator(), tmp_path) as at:
        verdict = at.ask(prompt(BAD, type=kind))
        assert verdict["action"] == "allow"
        assert verdict["magistrate"]["uninspected"] == "unknown_event"
        counters = at.gateway.gateway.apps.all[0].engine.counters
        assert counters.uninspected == {"unknown_event": 1}
        assert at.decisions == []
    assert "uninspected request" in caplog.text
    assert BAD not in caplog.text


# --- rules 2 and 3: our own failures, in time -----------------------------------------------------

OUTAGES = {
    "error": fails_with(error(500)),
    "overloaded": fails_with(error(529)),
    "forbidden": fails_with(error(401)),
    "hangs": slow(30),
}
PROVOKED = {"refused": refuses(), "unparseable": fails_with(text("so be it"))}


@pytest.mark.parametrize("frame", [prompt, called])
@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_ends_as_on_error_says_and_in_time(
    name: str, on_error: str, frame: Any, tmp_path: Path
) -> None:
    with hook(simulator(when_judging("", OUTAGES[name])), tmp_path, on_error=on_error) as at:
        began = time.monotonic()
        verdict = at.ask(frame("hello"))
        assert time.monotonic() - began < 3.9, "3.5 s, and what this machine takes"
        (decision,) = at.decisions
        assert verdict["action"] == on_error
        assert verdict["magistrate"]["action"] == decision.action == "unavailable"
        assert "failure" not in verdict["magistrate"], "the judge's own deadline came first"
        if on_error == "deny":
            assert verdict["deny_reason"] == UNAVAILABLE_TEXT
            assert verdict["reference_id"] == decision.id


@pytest.mark.parametrize("name", PROVOKED)
def test_what_the_content_can_cause_is_denied_whatever_on_error_says(
    name: str, tmp_path: Path
) -> None:
    with hook(simulator(when_judging("", PROVOKED[name])), tmp_path, on_error="allow") as at:
        assert at.action(prompt("hello")) == "deny"


def test_on_error_alone_decides_about_outages(tmp_path: Path) -> None:
    """What a prompt can do before it is answered is not seen: no other setting lets it pass."""
    settings = {"judge": {"on_failure": {"input": "allow"}}}
    with hook(simulator(when_judging("", fails_with(error(500)))), tmp_path, settings) as at:
        assert at.action(prompt("hello")) == "deny"


def test_a_verdict_that_failed_is_not_kept(tmp_path: Path) -> None:
    rule = when_judging("", fails_with(error(400)), times=1)
    with hook(simulator(rule), tmp_path) as at:
        frame = prompt("hello")
        assert at.action(frame) == "deny"
        assert at.action(frame) == "allow"


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize(
    ("failure", "name"),
    [(StoreError("the store is gone"), "state store"), (RuntimeError("gone"), "RuntimeError")],
)
def test_an_exception_of_ours_is_a_verdict_too(
    failure: Exception, name: str, on_error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hook(simulator(), tmp_path, on_error=on_error) as at:
        state = at.gateway.gateway.apps.all[0].engine.state

        def fails(*_: Any) -> None:
            raise failure

        monkeypatch.setattr(state, "known", fails)
        verdict = at.ask(prompt("hello"))
        assert verdict["action"] == on_error
        assert verdict["magistrate"]["failure"] == name
        assert "gone" not in json.dumps(verdict)
        assert at.decisions[-1].action == "unavailable"


@pytest.mark.parametrize("failure", [StoreError("gone"), RuntimeError("gone")])
@pytest.mark.parametrize("call", ["remember", "keep_decision"])
def test_what_was_found_counts_though_it_cannot_be_stored(
    call: str, failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hook(simulator(), tmp_path, on_error="allow") as at:
        state = at.gateway.gateway.apps.all[0].engine.state

        def fails(*_: Any) -> None:
            raise failure

        monkeypatch.setattr(state, call, fails)
        assert at.action(prompt("hello")) == "allow"
        assert at.action(prompt(BAD)) == "deny"
        assert at.action(called(BAD)) == "deny"


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_store_that_hangs_is_not_waited_for(
    on_error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hook(simulator(), tmp_path, on_error=on_error) as at:
        state = at.gateway.gateway.apps.all[0].engine.state
        known = state.known
        monkeypatch.setattr(type(state), "blocks", True)
        monkeypatch.setattr(state, "known", lambda keys: (time.sleep(4.2), known(keys))[1])
        began = time.monotonic()
        verdict = at.ask(prompt("hello"))
        assert time.monotonic() - began < 4.1
        assert verdict["action"] == on_error
        assert verdict["magistrate"]["failure"] == "deadline"


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"type": "prompt"}', b'"prompt"', b'{"type": 3}'])
def test_a_frame_that_lacks_what_every_frame_has_is_a_failure(
    body: bytes, on_error: str, tmp_path: Path
) -> None:
    with hook(simulator(), tmp_path, on_error=on_error) as at:
        assert at.action(body) == on_error


DEEP = b'{"a":' * 300 + b"1" + b"}" * 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"type": "later", "type": "prompt", "messages": []}',
        b'{"type": "prompt", "messages": [%s]}' % DEEP,
        b'{"type": "later", "messages": [%s]}' % DEEP,
        b"[" * 100_000,
    ],
    ids=range(7),
)
def test_what_is_no_json_is_denied_since_content_can_be_nested(body: bytes, tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, on_error="allow") as at:
        assert at.action(body) == "deny"


# --- rule 4: the new turn is judged, once ---------------------------------------------------------


def new_words(asked: str) -> set[str]:
    """Which of the test's words were to be judged in a question, not context."""
    return {word for word in ("one", "two", "three", "four") if f"({word})" in asked}


def test_the_new_turn_is_judged_and_earlier_ones_are_context(tmp_path: Path) -> None:
    seen: list[str] = []

    def judge(asked: Any) -> Any:
        seen.append(" ".join(part.text for part in asked.parts if part.judged))
        return nothing()

    with hook(Simulator(text(""), judge=judge), tmp_path) as at:
        frames = [
            prompt("(one)"),
            prompt("(one)", said("(two)"), "(three)"),
            prompt("(one)", said("(two)"), "(three)"),
            prompt("(one)", said("(two)"), "(three)", said("(four)"), "go on"),
        ]
        judged: list[set[str]] = []
        for frame in frames:
            seen.clear()
            assert at.action(frame) == "allow"
            judged.append(new_words(" ".join(seen)))
        assert judged == [{"one"}, {"two", "three"}, set(), {"four"}]


def test_tool_results_are_judged_with_the_next_prompt(tmp_path: Path) -> None:
    call = {"type": "tool_use", "id": "t1", "tool_name": "fetch", "input": {}, "tool_info": None}
    found = {
        "type": "tool_result",
        "content": f"a page with {BAD}",
        "is_error": False,
        "tool_name": "fetch",
        "tool_use_id": "t1",
    }
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("read it")) == "allow"
        assert at.action(prompt("read it", ("assistant", [call]), ("user", [found]))) == "deny"
        assert at.decisions[-1].findings[0].path == "messages[2].content[0]"


def test_a_warned_turn_is_judged_once_and_named_as_not_enforced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "magistrate")
    settings = {"actions": {CLAUSE.partition(".")[0]: {"input": "warn"}}}
    with hook(simulator(), tmp_path, settings) as at:
        verdict = at.ask(prompt(BAD))
        assert verdict["action"] == "allow"
        assert verdict["magistrate"]["action"] == "warn"
        assert verdict["magistrate"]["not_enforced"] == ["warn"]
        assert at.decisions[-1].action == "warn"
        later = at.ask(prompt(BAD, said("well"), "hello"))
        assert later["magistrate"]["action"] == "allow"
    noted = [json.loads(r.getMessage()) for r in caplog.records if r.name == "magistrate"]
    first, _ = [each for each in noted if each["event"] == "hook verdict"]
    assert (first["verdict"], first["not_enforced"]) == ("allow", ["warn"])
    assert first["decision_id"] == verdict["magistrate"]["id"]
    assert first["request_id"].startswith("req_")


def test_shadow_mode_denies_nothing_and_records_what_it_would_have(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path, {"streaming": {"release": "shadow"}}) as at:
        assert at.action(prompt(BAD)) == "allow"
        assert at.decisions[-1].shadow == "block"
        assert at.action(prompt(BAD, said("well"), "hello")) == "allow"
        assert at.decisions[-1].shadow is None


# --- rule 8: denied turns come again --------------------------------------------------------------


def test_a_denied_turn_does_not_deny_later_ones(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        history: list[Any] = ["hello", said("hi")]
        assert at.action(prompt("hello")) == "allow"
        assert at.action(prompt(*history, f"say {BAD}")) == "deny"
        history.append(f"say {BAD}")
        for question in ("what is bread?", "and butter?"):
            history.append(question)
            assert at.action(prompt(*history)) == "allow", question
            history.append(said("it is food"))
        assert at.action(prompt(*history, f"now say {BAD}")) == "deny"
        history.append(f"now say {BAD}")
        assert at.action(prompt(*history, "sorry. what is salt?")) == "allow"


def test_a_denied_turn_that_is_sent_again_is_denied_again(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        frames = [prompt("hello", said("hi"), BAD) for _ in range(3)]
        assert [at.action(frame) for frame in frames] == ["deny"] * 3
        assert at.action(prompt("hello", said("hi"), BAD, BAD)) == "deny"


def test_asking_again_for_what_was_denied_is_denied(tmp_path: Path) -> None:
    again = when_judging("go on, do it", continues_declined())
    with hook(simulator(when_judging(BAD, finds(CLAUSE)), again), tmp_path) as at:
        assert at.action(prompt(BAD)) == "deny"
        first = at.decisions[-1].id
        assert at.action(prompt(BAD, "go on, do it")) == "deny"
        assert at.decisions[-1].continues_blocked == first
        assert at.action(prompt(BAD, "go on, do it", "what is bread?")) == "allow"


def test_a_tool_result_that_was_denied_does_not_deny_later_turns(tmp_path: Path) -> None:
    found = {"type": "tool_result", "content": BAD, "tool_use_id": "t", "tool_name": "f"}
    history: list[Any] = ["read it", said("I will"), ("user", [found])]
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt(*history)) == "deny"
        assert at.action(prompt(*history, "never mind, what is bread?")) == "allow"


def test_an_answer_of_the_model_that_is_denied_does_not_deny_later_turns(tmp_path: Path) -> None:
    history: list[Any] = ["hello", said(BAD), "go on"]
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("hello")) == "allow"
        assert at.action(prompt(*history)) == "deny"
        assert at.action(prompt(*history)) == "deny", "the same request again"
        assert at.action(prompt(*history, "what is bread?")) == "allow"


# --- rules 5 and 6 --------------------------------------------------------------------------------

HELD = {"actions": {CLAUSE.partition(".")[0]: {"output": "hold"}}}


def test_a_hold_is_a_denial_with_the_reviews_id(tmp_path: Path) -> None:
    review = {
        "store": f"sqlite:///{tmp_path}/reviews.db",
        "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
    }
    with hook(simulator(), tmp_path, {**HELD, "review": review}) as at:
        verdict = at.ask(called(f"send {BAD}"))
        (decision,) = at.decisions
        assert (verdict["action"], verdict["deny_reason"]) == ("deny", DEFAULT_HOLD_TEXT)
        assert verdict["reference_id"] == decision.review_id
        assert decision.action == "hold"
        waiting = at.http.get(f"/magistrate/reviews/{decision.review_id}").json()
        assert waiting["status"] == "pending"
        store = at.gateway.gateway.apps.all[0].engine.reviews
        assert BAD in json.dumps(store.get(decision.review_id).message)


def test_a_hold_that_cannot_be_stored_is_denied_whatever_on_error_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = {
        "store": f"sqlite:///{tmp_path}/reviews.db",
        "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
    }
    with hook(simulator(), tmp_path, {**HELD, "review": review}, on_error="allow") as at:
        monkeypatch.setattr(at.gateway.gateway.apps.all[0].engine, "reviews", None)
        verdict = at.ask(called(f"send {BAD}"))
        assert verdict["action"] == "deny"
        assert verdict["reference_id"] == at.decisions[-1].id


def test_a_disclosure_is_owed_on_record(tmp_path: Path) -> None:
    chat = {"app": {"name": "app", "audience": "consumer", "interface": "chatbot"}}
    with hook(simulator(), tmp_path, chat) as at:
        verdict = at.ask(prompt("hello"))
        assert verdict["action"] == "allow"
        assert verdict["magistrate"]["not_enforced"] == ["disclose"]
        assert at.decisions[-1].disclosure == "owed"
        verdict = at.ask(prompt(BAD))
        assert "not_enforced" not in verdict["magistrate"], "a denied request has no answer"


def test_a_probe_is_a_frame_like_any_other(tmp_path: Path) -> None:
    probe = {"source": {"application": "config-test"}}
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("Connection test", **probe)) == "allow"
        assert at.action(prompt(BAD, **probe)) == "deny", "the field is advisory"
        assert at.action({**called(BAD), **probe}) == "deny"
        assert at.action(prompt(**probe)) == "allow", "nothing to judge"


# --- tool calls -----------------------------------------------------------------------------------

INFO = [
    {"type": "platform", "tool_type": "web_search"},
    {"type": "application", "toolset_name": "files"},
    {
        "type": "third_party",
        "toolset_name": "crm",
        "origin": "crm.example",
        "verified_origin": True,
    },
    {"type": "client"},
    {"type": "of the future", "more": ["x"]},
    None,
]


@pytest.mark.parametrize("info", INFO, ids=range(len(INFO)))
def test_calls_are_judged_together_as_an_answer(info: Any, tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        assert at.action(called("fine", info=info)) == "allow"
        verdict = at.ask(called("fine", f"send {BAD}", info=info))
        assert verdict["action"] == "deny"
        decision = at.decisions[-1]
        assert decision.stage == "output"
        assert decision.findings[0].path == "response.content[1]"


def test_only_the_last_message_of_a_tool_call_frame_is_read(tmp_path: Path) -> None:
    fine = called("fine")["messages"]
    bad = called(BAD)["messages"]
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt(type="tool_call", messages=[*bad, *fine])) == "allow"
        assert at.action(prompt(type="tool_call", messages=[*fine, *bad])) == "deny"


def test_a_denied_call_does_not_deny_the_session(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("hello")) == "allow"
        assert at.action(called(BAD)) == "deny"
        assert at.action(called("fine")) == "allow"
        assert at.action(prompt("hello", said("I could not"), "never mind")) == "allow"


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "action"), [("block", "deny"), ("warn", "allow")])
def test_an_attachment_without_text_is_as_the_settings_say(
    setting: str, action: str, tmp_path: Path
) -> None:
    image = {"type": "attachment", "file_name": "a.png", "size_bytes": 9, "text": ""}
    with hook(simulator(), tmp_path, {"on_uninspected": {"media": setting}}) as at:
        assert at.action(prompt(("user", [image]))) == action
        assert [item.reason for item in at.decisions[-1].uninspected] == ["media"]


# --- apps, credentials, settings ------------------------------------------------------------------


def test_the_judge_asks_with_the_gateways_key(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        at.ask(prompt("hello"), headers={"x-api-key": "not this", "authorization": "Bearer no"})
        assert at.sim.judge_requests
        for request in at.sim.judge_requests:
            assert request.headers["x-api-key"] == "the-key-for-upstream"
            assert "authorization" not in request.headers
            assert "webhook-id" not in request.headers


def test_an_app_may_have_a_key_for_its_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGES_KEY", "the-key-of-the-judge")
    with hook(simulator(), tmp_path, upstream_key_env="JUDGES_KEY") as at:
        at.ask(prompt("hello"))
        assert at.sim.judge_requests[0].headers["x-api-key"] == "the-key-of-the-judge"


def gateway(*apps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"upstream_key_env": "HOOK_UPSTREAM_KEY", "apps": list(apps), **more}


def test_each_app_has_its_own_hook(tmp_path: Path) -> None:
    apps = gateway(
        {"name": "Shop", "config": "shop.yaml", "hooks": {"secrets_env": ["HOOK_SECRET"]}},
        {"name": "clinic", "hooks": {"secrets_env": ["HOOK_SECRET_OLD"]}},
        {"name": "none"},
    )
    files = {"shop.yaml": {"texts": {"block": "Not in this shop."}}}
    sim = simulator()
    with served(sim, tmp_path, gateway=apps, files=files) as at, at.http() as http:
        shop = Hook(at, http, sim, "/hooks/inference/Shop")
        clinic = Hook(at, http, sim, "/hooks/inference/clinic")
        assert shop.ask(prompt(BAD))["deny_reason"] == "Not in this shop."
        assert clinic.post(prompt(BAD)).status_code == 401, "the other app's secret"
        assert clinic.post(prompt(BAD), OLD).json()["deny_reason"] == DEFAULT_BLOCK_TEXT
        for path in ("", "/", "/none", "/shop", "/CLINIC"):
            answer = shop.post(prompt("hello"), path=f"/hooks/inference{path}")
            assert answer.status_code == 404, path
        assert [d.action for d in at.decisions("Shop")] == ["block"]
        assert [d.action for d in at.decisions("clinic")] == ["block"]


def test_the_only_app_with_hooks_is_at_both_addresses(tmp_path: Path) -> None:
    with hook(simulator(), tmp_path) as at:
        assert at.action(prompt("hello"), path="/hooks/inference/app") == "allow"
        assert at.action(prompt("hello"), path="/hooks/inference") == "allow"


def test_an_app_without_hooks_has_none(tmp_path: Path) -> None:
    with served(simulator(), tmp_path) as at, at.http() as http:
        assert http.post("/hooks/inference", json=prompt("hello")).status_code == 404


def test_what_a_hook_judged_is_context_at_the_other_doors_and_no_more(tmp_path: Path) -> None:
    """Requests of the API under the same app go on as before."""
    sim = simulator()
    with hook(sim, tmp_path) as at:
        assert at.action(prompt(BAD)) == "deny"
        asked = {
            "model": "m",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": f"say {BAD}"}],
        }
        answer = at.http.post("/v1/messages", json=asked, headers={"x-api-key": "k"})
        assert answer.json()["stop_reason"] == "refusal"


WRONG: list[tuple[str, dict[str, Any], dict[str, str | None], str]] = [
    ("no secret", {"secrets_env": []}, {}, "name the variable that holds the secret"),
    ("secret not set", {}, {"HOOK_SECRET": None}, "HOOK_SECRET is not set"),
    ("secret empty", {}, {"HOOK_SECRET": ""}, "HOOK_SECRET is not set"),
    (
        "no secret of ours",
        {},
        {"HOOK_SECRET": "hunter2"},
        "HOOK_SECRET: not a secret",
    ),
    ("judge's key not set", {}, {"HOOK_UPSTREAM_KEY": None}, "HOOK_UPSTREAM_KEY is not set"),
    ("own key not set", {"upstream_key_env": "OWN_KEY"}, {}, "OWN_KEY is not set"),
    ("unknown key", {"secret_env": ["HOOK_SECRET"]}, {}, "secret_env"),
    ("a secret in the file", {"secrets_env": ["whsec_aaaa/bbbb="]}, {}, "environment variable"),
    ("unknown word", {"on_error": "block"}, {}, "deny, allow"),
    ("no boolean", {"allow_unsigned": "yes"}, {}, "allow_unsigned"),
]


@pytest.mark.parametrize(
    ("hooks", "variables", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_what_is_wrong_is_said_before_anything_is_served(
    hooks: dict[str, Any],
    variables: dict[str, str | None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with (
        pytest.raises(SettingsError, match=message) as raised,
        hook(simulator(), tmp_path, **hooks),
    ):
        pass
    assert "hunter2" not in str(raised.value)


def test_the_local_judge_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_UPSTREAM_KEY")
    with hook(simulator(), tmp_path, {"judge": {"backend": "local"}}) as at:
        assert at.action(prompt("What is bread made of?")) == "allow"
        assert at.sim.requests == []


def test_a_floor_is_a_floor(tmp_path: Path) -> None:
    settings = {"streaming": {"release": "shadow"}}
    with hook(simulator(when_judging(ODD, finds(FLOOR))), tmp_path, settings) as at:
        assert at.action(prompt(ODD)) == "deny"
