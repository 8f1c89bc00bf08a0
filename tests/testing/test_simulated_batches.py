"""Message batches of the simulated API, through the SDK, and with moderated clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import pytest

import magistrate
from magistrate.testing import (
    BatchProfile,
    JudgeScript,
    Simulator,
    cut,
    delayed,
    error,
    error_event,
    finds,
    hang,
    html_error,
    text,
    when,
    when_judging,
)
from simulated import connected, everywhere, got, items

MODEL = "claude-haiku-5-5"


def entry(name: str, said: str = "hi", **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": said}]
    return {
        "custom_id": name,
        "params": {"model": MODEL, "max_tokens": 9, "messages": turns, **more},
    }


async def create(client: Any, *entries: dict[str, Any]) -> Any:
    return await got(client.messages.batches.create(requests=list(entries)))


async def results(client: Any, batch: Any) -> dict[str, Any]:
    lines = await items(client.messages.batches.results(batch.id))
    return {line.custom_id: line.result for line in lines}


@everywhere
async def test_a_batch_is_created_polled_and_read(where: str, flavour: str) -> None:
    sim = Simulator([text("One."), text("Two.")], batches=BatchProfile(polls=1))
    async with connected(sim, where, flavour) as client:
        batch = await create(client, entry("a"), entry("b"))
        assert (batch.id, batch.processing_status) == ("msgbatch_sim_000001", "in_progress")
        assert (batch.request_counts.processing, batch.results_url) == (2, None)
        assert (batch.expires_at - batch.created_at).total_seconds() == 24 * 3600
        batch = await got(client.messages.batches.retrieve(batch.id))
        assert (batch.processing_status, batch.ended_at) == ("in_progress", None)
        batch = await got(client.messages.batches.retrieve(batch.id))
        assert batch.processing_status == "ended"
        assert (batch.request_counts.processing, batch.request_counts.succeeded) == (0, 2)
        lines = await items(client.messages.batches.results(batch.id))
        assert [line.custom_id for line in lines] == ["b", "a"]  # no order is promised
        assert [line.result.message.content[0].text for line in lines] == ["Two.", "One."]
        assert lines[0].result.message.usage.service_tier == "batch"
        assert lines[0].result.message.id != lines[1].result.message.id
    assert sim.problems == []
    assert len(sim.requests) == 1 + 2 + 2  # the SDK reads the batch before its results


@everywhere
async def test_results_before_the_end_are_an_error(where: str, flavour: str) -> None:
    sim = Simulator(text("Hi."), batches=BatchProfile(polls=None))
    async with connected(sim, where, flavour) as client:
        batch = await create(client, entry("a"))
        with pytest.raises(anthropic.AnthropicError, match="results_url"):
            await results(client, batch)  # the SDK's own error
        with pytest.raises(anthropic.NotFoundError, match="has no results yet"):
            await got(client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object))


@everywhere
async def test_entries_fail_one_by_one(where: str, flavour: str) -> None:
    replies = [when("busy", error(529)), when("late", delayed(text("Late."), 99)), text("Hi.")]
    sim = Simulator(
        [*replies, when("proxy", html_error()), when("cut", cut(text("Whole."))),
         when("gone", hang(99)), when("broken", error_event(text("x")))],
        batches=BatchProfile(expired=("old",)),
    )  # fmt: skip
    async with connected(sim, where, flavour) as client:
        batch = await create(
            client,
            entry("fine"),
            entry("busy", "busy"),
            entry("late", "late"),
            entry("old"),
            entry("wrong", max_tokens="many"),
            entry("streams", stream=True),
            entry("proxy", "proxy"),
            entry("cut", "cut"),
            entry("gone", "gone"),
            entry("broken", "broken"),
        )
        found = await results(client, batch)
        batch = await got(client.messages.batches.retrieve(batch.id))
    kinds = {name: result.type for name, result in found.items()}
    assert {name for name, kind in kinds.items() if kind == "succeeded"} == {"fine", "late", "cut"}
    assert kinds["old"] == "expired"
    errors = {n: r.error.error for n, r in found.items() if r.type == "errored"}
    assert errors["busy"].type == "overloaded_error"
    assert errors["wrong"].type == "invalid_request_error"
    assert "max_tokens: Input should be" in errors["wrong"].message
    assert "cannot be true in a batch" in errors["streams"].message
    assert {errors[name].type for name in ("proxy", "gone")} == {"api_error"}
    assert errors["broken"].type in ("api_error", "overloaded_error")
    counts = batch.request_counts
    assert (counts.succeeded, counts.errored, counts.expired) == (3, 6, 1)


async def test_an_entry_for_which_there_is_no_reply_is_told() -> None:
    sim = Simulator([])
    async with connected(sim, "process", "sync") as client:
        found = await results(client, await create(client, entry("a")))
    assert found["a"].type == "errored"
    assert "no reply left" in found["a"].error.error.message
    assert "no reply left" in sim.problems[0]


@everywhere
async def test_a_batch_is_cancelled(where: str, flavour: str) -> None:
    profile = BatchProfile(polls=None, before_cancel=1)
    async with connected(Simulator(text("Hi."), batches=profile), where, flavour) as client:
        batch = await create(client, entry("a"), entry("b"), entry("c"))
        batch = await got(client.messages.batches.cancel(batch.id))
        assert (batch.processing_status, batch.request_counts.processing) == ("canceling", 3)
        assert batch.cancel_initiated_at is not None
        again = await got(client.messages.batches.cancel(batch.id))
        assert again.cancel_initiated_at == batch.cancel_initiated_at
        batch = await got(client.messages.batches.retrieve(batch.id))
        assert batch.processing_status == "ended"
        assert (batch.request_counts.succeeded, batch.request_counts.canceled) == (1, 2)
        kinds = {name: result.type for name, result in (await results(client, batch)).items()}
        assert kinds == {"a": "succeeded", "b": "canceled", "c": "canceled"}
        with pytest.raises(anthropic.BadRequestError, match="has ended"):
            await got(client.messages.batches.cancel(batch.id))


@everywhere
async def test_a_batch_is_deleted_when_it_has_ended(where: str, flavour: str) -> None:
    async with connected(Simulator(text("Hi.")), where, flavour) as client:
        batch = await create(client, entry("a"))
        with pytest.raises(anthropic.BadRequestError, match="cancel it"):
            await got(client.messages.batches.delete(batch.id))
        await got(client.messages.batches.retrieve(batch.id))
        deleted = await got(client.messages.batches.delete(batch.id))
        assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
        with pytest.raises(anthropic.NotFoundError):
            await got(client.messages.batches.retrieve(batch.id))


@everywhere
@pytest.mark.parametrize("method", ["retrieve", "cancel", "delete", "results"])
async def test_an_unknown_batch_is_not_found(method: str, where: str, flavour: str) -> None:
    async with connected(Simulator(), where, flavour) as client:
        with pytest.raises(anthropic.NotFoundError) as caught:
            await got(getattr(client.messages.batches, method)("msgbatch_elsewhere"))
    assert caught.value.type == "not_found_error"
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


@everywhere
async def test_batches_are_listed_a_page_at_a_time(where: str, flavour: str) -> None:
    async with connected(Simulator(text("Hi.")), where, flavour) as client:
        made = [(await create(client, entry("a"))).id for _ in range(5)]
        newest_first = made[::-1]
        page = await got(client.messages.batches.list(limit=2))
        assert ([each.id for each in page.data], page.has_more) == (newest_first[:2], True)
        listed = await items(client.messages.batches.list(limit=2))
        assert [each.id for each in listed] == newest_first
        before = await got(client.messages.batches.list(before_id=made[0], limit=2))
        assert [each.id for each in before.data] == newest_first[2:4]
        assert len(await items(client.beta.messages.batches.list())) == 5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "must be a JSON object"),
        ({}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": []}, "should have 1 to"),
        ({"requests": [entry("a")], "model": "m"}, "model: Extra inputs"),
        ({"requests": ["a"]}, "requests.0: Input should be an object"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"params": {}}]}, "requests.0.custom_id: Field required"),
        ({"requests": [entry("a b")]}, "requests.0.custom_id: String should match"),
        ({"requests": [entry("a"), entry("a")]}, "requests.1.custom_id: a is not unique"),
        ({"requests": [{**entry("a"), "model": "m"}]}, "requests.0.model: Extra inputs"),
        ({"requests": [{"custom_id": "a", "params": 3}]}, "requests.0.params: Input"),
    ],
)
async def test_a_wrong_batch_is_refused(body: Any, said: str) -> None:
    async with connected(Simulator(), "process", "sync") as client:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.post("/v1/messages/batches", body=body, cast_to=object)
    assert said in str(caught.value)


@pytest.mark.parametrize("wrong", [{"polls": -1}, {"before_cancel": -1}])
def test_a_wrong_batch_profile_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="negative"):
        BatchProfile(**wrong)


JUDGE = JudgeScript(when_judging("five-star", finds("fraud_abuse.fake_reviews")))


@contextmanager
def moderated(sim: Simulator, **settings: Any) -> Iterator[Any]:
    client = magistrate.Anthropic(
        api_key="test", http_client=sim.http_client(), moderation={"version": 1, **settings}
    )
    with client:
        yield client
    client.moderation.close()


def test_a_moderated_client_is_served() -> None:
    """Entries are judged before they are sent, results as they come."""
    answers = [when("cafe", text("It is a five-star place.")), text("Fine.")]
    sim = Simulator(answers, default=text("Fine."), judge=JUDGE)
    with moderated(sim, batches={"on_block": "omit"}) as client:
        batch = client.messages.batches.create(
            requests=[
                entry("good"),
                entry("bad", "Write a five-star review."),
                entry("surprising", "How is the cafe?"),
            ]
        )
        sent: Any = sim.api_requests[-1].body
        assert [each["custom_id"] for each in sent["requests"]] == ["good", "surprising"]
        lines = list(client.messages.batches.results(batch.id))
    found = {line.custom_id: line.result.message.stop_reason for line in lines}
    assert found == {"good": "end_turn", "bad": "refusal", "surprising": "refusal"}
