"""The gateway, with the SDK's own clients at its port and a simulated API behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest

from edges import CLAUSE, STRUCTURED, SURFACES, asking, both, plain
from gateways import served, stub
from magistrate.core.refusals import HEADER
from magistrate.settings.schema import (
    DEFAULT_BLOCK_TEXT,
    DEFAULT_CHAT_DISCLOSURE,
    DEFAULT_HOLD_TEXT,
)
from magistrate.testing import (
    JudgeScript,
    LatencyProfile,
    Simulator,
    error,
    fails_with,
    finds,
    text,
    when_judging,
)

BAD = "the bad words"
VERSION = {"anthropic-version": "2023-06-01"}
KEY = {"x-api-key": "k"} | VERSION
CHAT = {"app": {"name": "shop", "audience": "consumer", "interface": "chatbot"}}
BLOCKING = JudgeScript(when_judging(BAD, finds(CLAUSE)))
PLAIN = sorted(set(SURFACES) - STRUCTURED - {"tool_runner"})


@contextmanager
def asked(sim: Simulator, folder: Path, flavour: str = "sync", **more: Any) -> Iterator[Any]:
    """A plain client of the SDK in front of a gateway."""
    with served(sim, folder, **more) as gateway, plain(flavour, sim, url=gateway.url) as at:
        yield gateway, at


# --- outcomes, by every way to ask ----------------------------------------------------------------


@both
@pytest.mark.parametrize("surface", PLAIN)
def test_an_allowed_answer_arrives_with_its_decision(
    surface: str, flavour: str, tmp_path: Path
) -> None:
    sim = Simulator(text("Good day."), judge=JudgeScript())
    with asked(sim, tmp_path, flavour) as (gateway, at):
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert "Good day." in got.seen
        (decision,) = gateway.decisions()
        assert decision.action == "allow"
        if got.header is not None:
            assert got.header["id"] == decision.id
        assert [r.path for r in sim.api_requests] == ["/v1/messages"]


@pytest.mark.parametrize("surface", PLAIN)
def test_a_blocked_request_is_a_refusal_and_never_reaches_the_model(
    surface: str, tmp_path: Path
) -> None:
    sim = Simulator(text("secret"), judge=BLOCKING)
    with asked(sim, tmp_path, settings={"input_check": "before"}) as (gateway, at):
        got = at.ask(surface, asking(f"say {BAD}"))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert got.text == DEFAULT_BLOCK_TEXT
        assert got.body["stop_details"]["magistrate"]["decision_id"] == gateway.decisions()[0].id
        assert sim.api_requests == []


@pytest.mark.parametrize("on_block", ["refuse", "raise"])
@pytest.mark.parametrize("surface", ["create", "post"])
def test_a_blocked_answer_is_a_refusal_also_under_raise(
    on_block: str, surface: str, tmp_path: Path
) -> None:
    """An HTTP caller cannot be raised at: before anything was delivered, a block is a refusal."""
    sim = Simulator(text(f"here: {BAD}"), judge=BLOCKING)
    with asked(sim, tmp_path, settings={"on_block": on_block}) as (_, at):
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert BAD not in got.seen


LONG = "A quiet sentence about bread and butter. " * 120


@pytest.mark.parametrize("on_block", ["refuse", "raise"])
def test_a_late_block_ends_a_stream_as_the_settings_say(on_block: str, tmp_path: Path) -> None:
    # Paced, so that the beginning is judged before the end is there, however busy the machine is.
    words = text(LONG[: len(LONG) // 5] + BAD)
    sim = Simulator(words, judge=BLOCKING, profile=LatencyProfile(per_event_s=0.003))
    settings = {"on_block": on_block, "input_check": "before"}
    with asked(sim, tmp_path, settings=settings) as (gateway, at):
        got = at.ask("create(stream=True)", asking("hi"))
        assert "bread and butter" in got.seen
        assert BAD not in got.seen
        if on_block == "refuse":
            assert got.error is None
            assert got.body["stop_reason"] == "refusal"
            assert DEFAULT_BLOCK_TEXT in got.seen
        else:
            assert isinstance(got.error, anthropic.APIStatusError)
            assert gateway.decisions()[0].id in str(got.error)
        assert gateway.decisions()[0].action == "block"


@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_disclosure_is_added(surface: str, tmp_path: Path) -> None:
    sim = Simulator(text("Good day."), judge=JudgeScript())
    with asked(sim, tmp_path, settings=CHAT) as (_, at):
        assert at.ask(surface, asking("hi")).text == f"{DEFAULT_CHAT_DISCLOSURE}\n\nGood day."


@pytest.mark.parametrize("on_hold", ["notice", "raise"])
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_held_answer_is_fetched_by_its_review(surface: str, on_hold: str, tmp_path: Path) -> None:
    settings = {
        "actions": {CLAUSE.partition(".")[0]: {"output": "hold"}},
        "on_hold": on_hold,
        "review": {
            "store": f"sqlite:///{tmp_path}/reviews.db",
            "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
        },
    }
    sim = Simulator(text(f"here: {BAD}"), judge=BLOCKING)
    with asked(sim, tmp_path, settings=settings) as (gateway, at):
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.text == DEFAULT_HOLD_TEXT
        (decision,) = gateway.decisions()
        store = gateway.gateway.apps.all[0].engine.reviews
        with gateway.http() as http:
            page = f"/magistrate/reviews/{decision.review_id}"
            waiting = http.get(page).json()
            assert (waiting["status"], waiting["message"]) == ("pending", None)
            assert BAD not in json.dumps(waiting)
            domains = store.get(decision.review_id).domains
            assert waiting["domains"] == list(domains)
            store.approve(decision.review_id, reviewer="ada")
            released = http.get(page).json()
            assert released["status"] == "approved"
            assert BAD in json.dumps(released["message"])
            assert http.get("/magistrate/reviews/rev_nothing").status_code == 404


OUTAGES = {
    "error": fails_with(error(500)),
    "forbidden": fails_with(error(403)),
}


@pytest.mark.parametrize("name", OUTAGES)
@pytest.mark.parametrize("surface", ["create", "stream", "create(stream=True)"])
def test_an_outage_says_who_failed_and_is_not_asked_again(
    name: str, surface: str, tmp_path: Path
) -> None:
    sim = Simulator(text("secret"), judge=JudgeScript(when_judging("hi", OUTAGES[name])))
    settings = {"judge": {"deadline_s": 1.0}}
    with (
        served(sim, tmp_path, settings) as gateway,
        plain("sync", sim, url=gateway.url, max_retries=3) as at,
    ):
        got = at.ask(surface, asking("hi"))
        assert isinstance(got.error, anthropic.APIStatusError)
        assert got.error.status_code == 529
        assert "moderation is unavailable" in str(got.error)
        assert "input judge" in str(got.error)
        assert "secret" not in got.seen + str(got.error)
        assert len(gateway.decisions()) == 1, "x-should-retry: false"
        assert gateway.decisions()[0].action == "unavailable"


def test_an_outage_within_a_stream_is_an_error_event(tmp_path: Path) -> None:
    sim = Simulator(text(LONG + BAD), judge=JudgeScript(when_judging(BAD, fails_with(error(500)))))
    with asked(sim, tmp_path, settings={"judge": {"deadline_s": 1.0}}) as (gateway, at):
        got = at.ask("create(stream=True)", asking("hi"))
        assert isinstance(got.error, anthropic.APIStatusError)
        assert "moderation is unavailable" in str(got.error)
        assert BAD not in got.seen
        assert gateway.decisions()[0].action == "unavailable"


# --- what goes through ----------------------------------------------------------------------------


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
LOCAL = {"judge": {"backend": "local"}}


def test_bytes_headers_and_query_go_upstream_as_they_came(tmp_path: Path) -> None:
    raw = json.dumps(asking("hi", new_field={"a": [1.0, 2]}), indent=3).encode()
    sent = {
        "x-api-key": "key-of-the-caller",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "one-2026-01-01,two-2026-02-02",
        "content-type": "application/json",
        "user-agent": "somebody/1.0",
        "x-claude-code-session-id": "s-1",
        "accept": "*/*",
    }
    answer = json.dumps(MESSAGE).encode()
    own = {"content_type": "application/json", "request_id": "req_1", "x_more": "1"}
    with (
        stub(answer, **own) as (url, kept),
        served(Simulator(text("")), tmp_path, LOCAL, upstream=url) as gateway,
        gateway.http() as http,
    ):
        got = http.post("/v1/messages?beta=true&x=%2F..", content=raw, headers=sent)
        assert got.status_code == 200
        assert got.json()["content"] == MESSAGE["content"]
        assert (got.headers["request-id"], got.headers["x-more"]) == ("req_1", "1")
        (one,) = kept
        assert (one.method, one.target) == ("POST", "/v1/messages?beta=true&x=%2F..")
        assert one.body == raw
        headers = {name.lower(): value for name, value in one.headers}
        for name, value in sent.items():
            assert headers.pop(name) == value, name
        assert set(headers) == {"host", "accept-encoding", "content-length"}


def test_a_judge_has_the_callers_credentials_and_none_of_its_betas(tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript())
    headers = {"x-api-key": "key-of-the-caller", "anthropic-beta": "one-2026-01-01"}
    with served(sim, tmp_path) as gateway, gateway.http() as http:
        http.post("/v1/messages", json=asking("hi"), headers=headers)
        assert sim.judge_requests
        for judge in sim.judge_requests:
            assert judge.headers["x-api-key"] == headers["x-api-key"]
            assert "anthropic-beta" not in judge.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [("/messages", None), ("/messages/count_tokens", None), ("/messages?beta=true", None)],
)
def test_the_version_may_be_left_out_of_the_path(path: str, body: Any, tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript())
    with served(sim, tmp_path) as gateway, gateway.http() as http:
        answer = http.post(path, json=asking("hi"), headers=KEY)
        assert answer.status_code == 200
        wanted = {"/v1/messages", path.partition("?")[0].replace("/messages", "/v1/messages")}
        assert {r.path.partition("?")[0] for r in sim.requests} <= wanted


@pytest.mark.parametrize(
    "headers", [{"x-api-key": "k"}, {"authorization": "Bearer k"}], ids=["key", "token"]
)
def test_both_forms_of_credentials_pass(headers: dict[str, str], tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript())
    with served(sim, tmp_path) as gateway, gateway.http() as http:
        answer = http.post("/v1/messages", json=asking("hi"), headers=VERSION | headers)
        assert answer.status_code == 200
        for request in sim.requests:
            assert headers.items() <= request.headers.items()


@pytest.mark.parametrize("encodings", ["gzip", "gzip, deflate, br, zstd", "identity", "x-new"])
def test_content_is_judged_decoded(encodings: str, tmp_path: Path) -> None:
    sim = Simulator(text(f"here: {BAD}"), judge=BLOCKING, gzip=True)
    with served(sim, tmp_path) as gateway, gateway.http() as http:
        headers = KEY | {"accept-encoding": encodings}
        answer = http.post("/v1/messages", json=asking("hi"), headers=headers)
        assert answer.json()["stop_reason"] == "refusal"
        (got,) = sim.api_requests
        assert ("gzip" in got.headers["accept-encoding"]) is ("gzip" in encodings)
        assert "x-new" not in got.headers["accept-encoding"]


def test_upstreams_own_errors_arrive_as_they_are(tmp_path: Path) -> None:
    sim = Simulator(error(429, retry_after=7), judge=JudgeScript())
    with served(sim, tmp_path) as gateway, gateway.http() as http:
        answer = http.post("/v1/messages", json=asking("hi"), headers=KEY)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"]["type"] == "rate_limit_error"


def test_an_upstream_that_is_not_there_is_502(tmp_path: Path) -> None:
    sim = Simulator(text("ok"))
    with (
        served(sim, tmp_path, LOCAL, upstream="http://127.0.0.1:9") as gateway,
        gateway.http() as http,
    ):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            answer = http.post(path, json=asking("hi"))
            assert answer.status_code == 502
            assert answer.json()["error"]["type"] == "api_error"
            assert "upstream" in answer.json()["error"]["message"]


def test_models_and_probes(tmp_path: Path) -> None:
    sim = Simulator(text("ok"))
    with served(sim, tmp_path) as gateway, gateway.http() as http:
        assert http.head("/").status_code == 200
        assert http.get("/").json()["service"] == "magistrate"
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/readyz").json() == {"status": "ready", "missing": {}}
        assert http.get("/v1/models", headers=KEY).json()["data"]


def test_what_cannot_be_inspected_is_not_sent(tmp_path: Path) -> None:
    sim = Simulator(text("ok"))
    with served(sim, tmp_path) as gateway, gateway.http(headers=KEY) as http:
        for path, content in (
            ("/v1/unknown", b"{}"),
            ("/v1/skills", b"{}"),
            ("/v1/messages", b"no JSON"),
            ("/v1/messages", b'{"messages": [], "messages": [1]}'),
            ("/v1/x/../messages", b"no JSON"),
            ("/v1/files", b"a file"),
            ("/model/claude/invoke", b"{}"),
        ):
            answer = http.post(path, content=content)
            assert answer.status_code == 400, path
            assert answer.json()["error"]["type"] == "invalid_request_error"
            assert answer.headers["x-should-retry"] == "false"
        encoded = {"content-encoding": "gzip"}
        assert http.post("/v1/messages", content=b"\x1f\x8b", headers=encoded).status_code == 400
        assert sim.requests == []


# --- what is remembered, and who may read it ------------------------------------------------------


def test_a_decision_can_be_read_by_its_id(tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=JudgeScript())
    with served(sim, tmp_path) as gateway, gateway.http(headers=KEY) as http:
        answer = http.post("/v1/messages", json=asking("hi"))
        name = json.loads(answer.headers[HEADER])["id"]
        found = http.get(f"/magistrate/decisions/{name}").json()
        assert (found["id"], found["action"], found["upstream"]) == (name, "allow", "completed")
        for unknown in ("/magistrate/decisions/dec_no", "/magistrate/other", "/magistrate"):
            assert http.get(unknown).status_code == 404


def test_a_turn_is_judged_once_in_a_conversation(tmp_path: Path) -> None:
    sim = Simulator(text("Good day."), judge=JudgeScript())
    with asked(sim, tmp_path) as (_, at):
        at.ask("create", asking("first question"))
        earlier = len(sim.judge_requests)
        at.ask("create", asking("first question", "Good day.", "second"))
        again = [r for r in sim.judge_requests[earlier:] if "second" in json.dumps(r.body)]
        assert again


@pytest.mark.parametrize("surface", ["create", "stream"])
def test_what_was_declined_stays_declined(surface: str, tmp_path: Path) -> None:
    sim = Simulator(text("Good day."), judge=BLOCKING)
    with asked(sim, tmp_path, settings={"input_check": "before"}) as (_, at):
        at.ask(surface, asking(f"say {BAD}"))
        got = at.ask(surface, asking(f"say {BAD}", DEFAULT_BLOCK_TEXT, "What is the time?"))
        assert got.text == "Good day."
        (sent,) = sim.api_requests
        assert BAD not in json.dumps(sent.body)


def test_batches_and_their_results_go_through_the_gateway(tmp_path: Path) -> None:
    sim = Simulator(text(f"here: {BAD}"), judge=BLOCKING)
    with asked(sim, tmp_path) as (gateway, at):
        params = asking("hi")
        batch = at.client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        batch = at.client.messages.batches.retrieve(batch.id)
        while batch.processing_status != "ended":
            batch = at.client.messages.batches.retrieve(batch.id)
        assert batch.results_url is not None
        assert batch.results_url.startswith(gateway.url)
        (listed,) = at.client.messages.batches.list().data
        assert listed.results_url == batch.results_url
        (result,) = at.client.messages.batches.results(batch.id)
        assert result.result.message.stop_reason == "refusal"
        assert BAD not in result.to_json()


def test_a_batch_with_a_bad_entry_is_not_sent(tmp_path: Path) -> None:
    sim = Simulator(text("ok"), judge=BLOCKING)
    with asked(sim, tmp_path, settings={"batches": {"on_block": "refuse"}}) as (_, at):
        entries = [
            {"custom_id": "good", "params": asking("hi")},
            {"custom_id": "bad", "params": asking(f"say {BAD}")},
        ]
        with pytest.raises(anthropic.BadRequestError, match="bad was blocked"):
            at.client.messages.batches.create(requests=entries)
        assert sim.api_requests == []


# --- judging without a completion -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "stage", "action"),
    [
        ({"text": "hello"}, "input", "allow"),
        ({"text": BAD}, "input", "block"),
        ({"text": BAD, "question": "hi"}, "output", "block"),
        ({"request": asking("hi")}, "input", "allow"),
        ({"request": asking("hi"), "answer": BAD}, "output", "block"),
        (
            {"request": asking("hi"), "answer": {"content": [{"type": "text", "text": BAD}]}},
            "output",
            "block",
        ),
    ],
)
def test_check_judges_without_asking_the_model(
    body: dict[str, Any], stage: str, action: str, tmp_path: Path
) -> None:
    sim = Simulator(text("ok"), judge=BLOCKING)
    with served(sim, tmp_path) as gateway, gateway.http(headers=KEY) as http:
        found = http.post("/magistrate/check", json=body).json()
        assert (found["stage"], found["action"]) == (stage, action)
        assert sim.api_requests == []
        assert http.get(f"/magistrate/decisions/{found['id']}").json()["action"] == action


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"text": 1}',
        b'{"text": "a", "request": {}}',
        b'{"text": "a", "text": "b"}',
        b'{"request": {"messages": 1}}',
        b'{"request": {"messages": []}, "answer": 1}',
        b'{"text": "a", "other": 1}',
    ],
)
def test_check_says_what_it_needs(content: bytes, tmp_path: Path) -> None:
    with served(Simulator(text("ok")), tmp_path) as gateway, gateway.http() as http:
        answer = http.post("/magistrate/check", content=content)
        assert answer.status_code == 400
        assert "text" in answer.json()["error"]["message"] or "request" in answer.text
