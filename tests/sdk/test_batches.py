"""Message batches: entries are judged before they are sent, results line by line as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections import Counter
from typing import Any

import anthropic
import httpx2
import pytest

from edges import CLAUSE, Edge, both, edge
from magistrate import Blocked, Finding, Moderation, ModerationUnavailable
from magistrate.testing import ScriptedJudge, Simulator
from magistrate.wire.messages import PLACEHOLDER
from server_side import Batches, connected, judge

BAD = "BADWORDS"
OMIT = {"version": 1, "batches": {"on_block": "omit"}}


def entry(name: str, *texts: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]
    return {"custom_id": name, "params": {"model": "m", "max_tokens": 9, "messages": turns, **more}}


def create(at: Edge, *entries: dict[str, Any], beta: bool = False) -> Any:
    messages = at.client.beta.messages if beta else at.client.messages
    return at.run(messages.batches.create(requests=list(entries)))


def results(at: Edge) -> list[Any]:
    return list(at.items(at.run(at.client.messages.batches.results("msgbatch_1"))))


@both
@pytest.mark.parametrize("beta", [False, True])
def test_an_allowed_batch_is_sent_as_it_came(flavour: str, beta: bool) -> None:
    server, judged = Batches(), judge(BAD)
    with connected(flavour, server, Moderation({"version": 1}, judge=judged)) as at:
        entries = [entry(f"e{i}", f"question {i}") for i in range(40)]
        batch = create(at, *entries, beta=beta)
        assert batch.id == "msgbatch_1"
        assert server.made == [{"requests": entries}]
        assert len(judged.subjects) == 40
        assert {d.upstream for d in at.decisions()} == {"completed"}


@both
def test_a_violating_entry_refuses_the_batch_and_is_named(flavour: str) -> None:
    server = Batches()
    with connected(flavour, server, Moderation({"version": 1}, judge=judge(BAD))) as at:
        with pytest.raises(Blocked, match="the-bad-one") as caught:
            create(at, entry("good", "hello"), entry("the-bad-one", BAD))
        assert list(caught.value.entries) == ["the-bad-one"]
        assert server.made == []
        assert [d.action for d in at.decisions()] == ["block", "allow"]


@both
@pytest.mark.parametrize("on_uninspected", ["block", "warn"])
def test_an_entry_that_continues_an_unseen_thread_is_uninspected(
    flavour: str, on_uninspected: str
) -> None:
    server = Batches()
    settings = {"version": 1, "on_uninspected": {"thread": on_uninspected}}
    thread = {"type": "continue", "previous_message_id": "msg_elsewhere"}
    entries = [
        entry("begins", "hello", thread={"type": "create"}),
        entry("goes-on", "yes, do that", thread=thread),
    ]
    with connected(flavour, server, Moderation(settings, judge=judge(BAD))) as at:
        if on_uninspected == "block":
            with pytest.raises(Blocked) as caught:
                create(at, *entries, beta=True)
            assert list(caught.value.entries) == ["goes-on"]
        else:
            create(at, *entries, beta=True)
        assert len(server.made) == (on_uninspected == "warn")
        assert at.moderation.uninspected == {"thread": 1}


UNREAD: dict[str, dict[str, Any]] = {
    "an object for a list": {"requests": {"0": entry("a", BAD)}},
    "a text for a list": {"requests": json.dumps([entry("a", BAD)])},
    "no requests": {"messages": [{"role": "user", "content": BAD}]},
    "a field of the batch": {"requests": [entry("a", "hello")], "system": BAD},
    "a field of an entry": {"requests": [entry("a", "hello"), {**entry("b", "hi"), "more": BAD}]},
}


@both
@pytest.mark.parametrize("on_block", ["refuse", "omit"])
@pytest.mark.parametrize("name", UNREAD)
def test_nothing_of_a_batch_goes_unread(name: str, on_block: str, flavour: str) -> None:
    """The server decides what it makes of it: what a judge finds, or cannot read, is not sent."""
    server = Batches()
    settings = {"version": 1, "batches": {"on_block": on_block}}
    with connected(flavour, server, Moderation(settings, judge=judge(BAD))) as at:
        asked = at.client.post
        url, cast_to = "/v1/messages/batches", anthropic.types.messages.MessageBatch
        with contextlib.suppress(Blocked):
            at.run(asked(url, body=UNREAD[name], cast_to=cast_to))
        assert BAD not in json.dumps(server.made)
        found = [decision.findings for decision in at.decisions() if decision.findings]
        assert found or at.moderation.uninspected["unknown_block"] >= 1


@both
@pytest.mark.parametrize("place", ["batch", "entry", "custom_id"])
def test_a_field_of_no_known_name_is_judged_and_passes(place: str, flavour: str) -> None:
    """So an addition to the API breaks nobody, and nothing hides in one."""
    server, asked = Batches(), judge(BAD)
    with connected(flavour, server, Moderation({"version": 1}, judge=asked)) as at:
        one = entry("two words" if place == "custom_id" else "a", "hello")
        if place == "entry":
            one["priority"] = "two words"
        more = {"priority": "two words"} if place == "batch" else {}
        kind = anthropic.types.messages.MessageBatch
        at.run(
            at.client.post("/v1/messages/batches", body={"requests": [one], **more}, cast_to=kind)
        )
        assert "two words" in json.dumps(server.made)
        assert any("two words" in part.text for subject in asked.subjects for part in subject.parts)
        assert [d.action for d in at.decisions()] == ["allow"]


def test_entries_of_a_batch_that_nobody_waited_for_are_not_on_record_as_allowed() -> None:
    """Not those that were being judged, nor those whose turn had not come."""
    moderation = Moderation({"version": 1}, judge=ScriptedJudge(delay_s=5.0))
    with connected("async", Batches(), moderation) as at:

        async def story() -> None:
            entries = [entry(f"e{i}", f"question {i}") for i in range(20)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await at.client.messages.batches.create(requests=entries)

        at.run(story())
        settled = at.decisions()
    assert [decision.action for decision in settled] == ["unavailable"] * 20


@both
def test_quotes_of_refused_entries_follow_the_audit(flavour: str) -> None:
    for content in ("none", "all"):
        settings = {"version": 1, "audit": {"content": content}}
        quoting = judge(BAD)
        with connected(flavour, Batches(), Moderation(settings, judge=quoting)) as at:
            with pytest.raises(Blocked) as caught:
                create(at, entry("bad", BAD))
            assert (BAD in repr(caught.value.entries)) is (content == "all")


@both
def test_an_omitted_entry_is_answered_with_a_refusal_later(flavour: str) -> None:
    server = Batches()
    with connected(flavour, server, Moderation(OMIT, judge=judge(BAD))) as at:
        batch = create(at, entry("a", "hello"), entry("bad", BAD), entry("c", "there"))
        assert [r["custom_id"] for r in server.made[0]["requests"]] == ["a", "c"]
        assert list(batch.moderation["omitted"]) == ["bad"]
        found = {line.custom_id: line.result for line in results(at)}
        assert list(found) == ["a", "c", "bad"]
        refused = found["bad"].message
        assert refused.stop_reason == "refusal"
        assert refused.stop_details.magistrate["decision_id"] == batch.moderation["omitted"]["bad"]


@both
def test_a_batch_with_nothing_left_is_refused_whatever_the_settings(flavour: str) -> None:
    server = Batches()
    with connected(flavour, server, Moderation(OMIT, judge=judge(BAD))) as at:
        with pytest.raises(Blocked):
            create(at, entry("bad", BAD))
        assert server.made == []


@both
def test_an_entry_nobody_could_judge_stops_the_batch_and_is_no_refusal(flavour: str) -> None:
    server = Batches()
    down = ScriptedJudge(lambda _: ScriptedJudge.unavailable("timeout"))
    open_ = {"version": 1, "judge": {"on_failure": {"input": "allow"}}, "batches": OMIT["batches"]}
    with connected(flavour, server, Moderation(open_, judge=down)) as at:
        with pytest.raises(ModerationUnavailable):
            create(at, entry("a", "hello"))
        assert server.made == []
        assert at.decision().action == "unavailable"


@both
@pytest.mark.parametrize("order", [1, -1])
def test_a_batch_with_an_outage_and_a_violation_is_not_sent_and_both_are_on_record(
    order: int, flavour: str
) -> None:
    """The outage is what the caller learns: of the other entries some may be fine."""

    def script(subject: Any) -> Any:
        (said,) = (part.text for part in subject.parts)
        if said == "down":
            return ScriptedJudge.unavailable("timeout")
        found = Finding(CLAUSE, "likely", "high", "input", "messages[0].content")
        return ScriptedJudge.verdict(*([found] if said == BAD else []))

    server = Batches()
    entries = [entry("bad", BAD), entry("down", "down"), entry("fine", "fine")][::order]
    with connected(flavour, server, Moderation(OMIT, judge=ScriptedJudge(script))) as at:
        with pytest.raises(ModerationUnavailable) as caught:
            create(at, *entries)
        assert server.made == []
        assert caught.value.decision is not None
        assert caught.value.decision.action == "unavailable"
        found = Counter(decision.action for decision in at.decisions())
        assert found == {"block": 1, "unavailable": 1, "allow": 1}


@both
def test_a_blocked_turn_in_an_entrys_history_is_redacted(flavour: str) -> None:
    server = Batches()
    with connected(flavour, server, Moderation({"version": 1}, judge=judge(BAD))) as at:
        with pytest.raises(Blocked):
            create(at, entry("a", BAD))
        create(at, entry("a", BAD, "I see.", "and then?"))
        turns = server.made[0]["requests"][0]["params"]["messages"]
        assert [turn["content"] for turn in turns] == [PLACEHOLDER, "I see.", "and then?"]


@both
def test_results_are_judged_line_by_line_with_their_question(flavour: str) -> None:
    other = {
        "errored": {"type": "error", "error": {"type": "api_error", "message": "m"}},
        "expired": None,
        "canceled": None,
    }
    answers: dict[str, Any] = {"bad": f"Here: {BAD}", "good": "fine answer"}
    for kind, error in other.items():
        answers[kind] = {"type": kind, **({"error": error} if error else {})}
    server, judged = Batches(answers), judge(BAD)
    with connected(flavour, server, Moderation({"version": 1}, judge=judged)) as at:
        create(at, entry("good", "question good"), entry("bad", "question bad"))
        found = {line.custom_id: line.result for line in results(at)}
        assert found["good"].message.content[0].text == "fine answer"
        assert found["good"].message.moderation["action"] == "allow"
        assert found["bad"].message.stop_reason == "refusal"
        assert BAD not in found["bad"].to_json()
        assert {kind: found[kind].type for kind in other} == {kind: kind for kind in other}
        judged = [s for s in judged.subjects if s.stage == "output"]
        assert [s.parts[0].text for s in judged] == ["question good", "question bad"]
        assert at.moderation.decision(found["bad"].message.moderation["id"]).action == "block"
    assert server.closed == 1


@both
def test_results_of_a_batch_another_process_made_are_judged_too(flavour: str) -> None:
    server = Batches({"x": BAD, "y": "fine"})
    with connected(flavour, server, Moderation({"version": 1}, judge=judge(BAD))) as at:
        found = {line.custom_id: line.result.message.stop_reason for line in results(at)}
        assert found == {"x": "refusal", "y": "end_turn"}


@both
def test_results_are_judged_wherever_the_batch_says_they_are(flavour: str) -> None:
    server = Batches({"x": BAD, "y": "fine"}, results_at="https://storage.example/x.jsonl?sig=1")
    with connected(flavour, server, Moderation({"version": 1}, judge=judge(BAD))) as at:
        found = {line.custom_id: line.result.message.stop_reason for line in results(at)}
        assert found == {"x": "refusal", "y": "end_turn"}


@both
def test_a_result_of_no_known_type_is_not_passed_on(flavour: str) -> None:
    odd = {"type": "brand_new", "message": {"content": BAD}}
    server = Batches({"odd": odd, "good": "fine"})
    with connected(flavour, server, Moderation({"version": 1}, judge=judge("nothing"))) as at:
        found = {line.custom_id: line for line in results(at)}
        assert found["odd"].result.message.stop_reason == "refusal"
        assert BAD not in found["odd"].to_json()
        assert found["good"].result.message.stop_reason == "end_turn"
        assert at.moderation.uninspected == {"unknown_block": 1}


@both
def test_a_result_of_no_known_type_is_judged_and_passes_where_the_settings_say_so(
    flavour: str,
) -> None:
    odd = {"type": "brand_new", "note": "hello"}
    settings = {"version": 1, "on_uninspected": {"unknown_block": "warn"}}
    for script, passes in ((judge("nothing"), True), (judge("hello"), False)):
        with connected(flavour, Batches({"odd": odd}), Moderation(settings, judge=script)) as at:
            [line] = results(at)
            assert (line.result.type == "brand_new") is passes


GOOD = b'{"custom_id": "a", "result": {"type": "succeeded", "message": {"content": []}}}'
ERRORED = b'{"custom_id": "b", "result": {"type": "errored", "error": {"type": "error"}}}'
HIDDEN = ERRORED.replace(b'"b"', b'"b", "more": "' + BAD.encode() + b'"')
FILES = {
    "cut in a line": GOOD + b"\n" + ERRORED[:40],
    "a page": b"<html>\n<body>bad gateway</body>\n",
    "null": b"null\n" + GOOD,
    "a list": b"[1]\n",
    "an error": b'{"type": "error", "error": {"type": "api_error", "message": "x"}}\n',
    "no name": GOOD.replace(b'"custom_id": "a", ', b"") + b"\n",
    "no message": b'{"custom_id": "a", "result": {"type": "succeeded"}}\n',
    "no content": b'{"custom_id": "a", "result": {"type": "succeeded", "message": {"x": "y"}}}\n',
    "too deep": GOOD + b"\n" + b"[" * 200_000 + b"\n",
    "a result that is a word": b'{"custom_id": "a", "result": "done"}\n',
}


def filed(data: bytes, flavour: str, script: ScriptedJudge | None = None) -> tuple[list[str], Any]:
    """The lines that arrive of a file of results, and the error that ends it, if any."""

    server = Batches()
    server.file = data
    got: list[str] = []
    moderation = Moderation({"version": 1}, judge=script or judge(BAD))
    with connected(flavour, server, moderation) as at:
        try:
            response = at.run(at.client.messages.batches.with_raw_response.results("msgbatch_1"))
            got += [line.to_json() for line in at.items(at.run(response.parse()))]
        except Exception as error:
            return got, error
    return got, None


@both
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_results_raises(name: str, flavour: str) -> None:
    """No entry is made up, and none after the damage is lost in silence."""
    got, error = filed(FILES[name], flavour)
    assert isinstance(error, json.JSONDecodeError | anthropic.APIResponseValidationError)
    assert got == []


@both
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_end_as_the_sdk_has_them_end(end: bytes, last: bool, flavour: str) -> None:
    got, error = filed(GOOD + end + end + ERRORED + end * last, flavour)
    assert error is None
    assert [json.loads(line)["custom_id"] for line in got] == ["a", "b"]


@both
def test_an_errored_entry_hides_nothing(flavour: str) -> None:
    got, error = filed(HIDDEN, flavour)
    assert error is None
    assert BAD not in got[0] and "refusal" in got[0]


@both
def test_entries_that_are_missing_at_the_end_are_missed(flavour: str) -> None:
    """This process made the batch, so it knows what the results must hold."""
    server = Batches()
    with connected(flavour, server, Moderation({"version": 1}, judge=judge(BAD))) as at:
        create(at, entry("a", "hello"), entry("b", "hello"))
        server.made[-1]["requests"].pop()
        with pytest.raises(anthropic.APIResponseValidationError, match="1 of the batch's 2"):
            results(at)


@both
def test_a_judge_that_fails_ends_the_results_with_its_own_error(flavour: str) -> None:
    server = Batches({"a": "fine", "b": "fine too", "c": BAD, "d": "fine"})

    def script(subject: Any) -> Any:
        bad = any(BAD in part.text for part in subject.parts)
        return ScriptedJudge.unavailable("timeout") if bad else ScriptedJudge.verdict()

    with connected(flavour, server, Moderation({"version": 1}, judge=ScriptedJudge(script))) as at:
        got: list[str] = []
        with pytest.raises(ModerationUnavailable):
            for line in at.items(at.run(at.client.messages.batches.results("msgbatch_1"))):
                got.append(line.to_json())
        # The SDK reads in pieces of 64 bytes, so the end of the last good line may stay with it.
        assert 1 <= len(got) <= 2
        assert BAD not in str(got)
        by_action = Counter(decision.action for decision in at.decisions())
        assert by_action["block"] == 0
        assert by_action["unavailable"] >= 1


@both
def test_upstream_errors_are_the_sdks_own(flavour: str) -> None:
    import anthropic

    server = Batches()
    server.error = 500
    moderation = Moderation({"version": 1}, judge=judge(BAD))
    with (
        connected(flavour, server, moderation) as at,
        pytest.raises(anthropic.InternalServerError),
    ):
        create(at, entry("a", "hello"))


@both
def test_results_left_half_way_close_upstream(flavour: str) -> None:
    server = Batches({f"e{i}": "fine " * 50 for i in range(200)}, chunk=4000)
    with connected(flavour, server, Moderation({"version": 1}, judge=judge(BAD))) as at:
        stream = at.run(at.client.messages.batches.results("msgbatch_1"))
        for count, _ in enumerate(at.items(stream)):
            if count == 3:
                break
        at.run(stream.close())
    assert server.closed == 1


@pytest.mark.slow
def test_results_are_read_in_constant_memory() -> None:
    """20,000 results (about 20 MB) with a peak of a few of them."""
    server = Batches({f"e{i}": "fine " * 180 for i in range(20_000)}, chunk=65_536)
    lines = server.results()
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    server.results = lambda: []  # type: ignore[method-assign]
    stream = server._chunks(data)

    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, stream=stream)
        return server(request)

    moderation = Moderation({"version": 1}, judge=ScriptedJudge(keep=False))
    with edge(
        "sync",
        Simulator(),
        moderation=moderation,
        http_client=httpx2.Client(transport=httpx2.MockTransport(serve)),
    ) as at:
        found = at.client.messages.batches.results("msgbatch_1")
        peak = 0
        tracemalloc.start()
        for count, line in enumerate(found):
            assert line.result.message.stop_reason == "end_turn"
            if count == 2_000:
                tracemalloc.reset_peak()
                base = tracemalloc.get_traced_memory()[0]
            if count == 2_500:
                peak = tracemalloc.get_traced_memory()[1] - base
                break
        tracemalloc.stop()
        found.close()
    assert peak < 8 * 1024 * 1024
