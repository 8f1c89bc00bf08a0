"""Conversations that the provider holds: each turn is judged in the whole of its conversation."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from edges import Edge, both
from magistrate import Moderation
from magistrate.testing import ScriptedJudge
from server_side import Threads, connected, judge

BAD = "BADWORDS"
SETTINGS = {"version": 1}


def send(at: Edge, words: str, thread: dict[str, Any], *, stream: bool = False, **more: Any) -> Any:
    call = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": words}],
        "thread": thread,
        "betas": ["message-threads-2026-08-12"],
        **more,
    }
    if not stream:
        return at.run(at.client.beta.messages.create(**call))
    with at.opened(at.client.beta.messages.stream(**call)) as opened:
        for _ in at.items(opened):
            pass
        return at.run(opened.get_final_message())


def after(message: Any) -> dict[str, Any]:
    return {"type": "continue", "previous_message_id": message.id}


CREATE = {"type": "create"}


@both
@pytest.mark.parametrize("stream", [False, True])
def test_a_later_turn_is_judged_with_the_turns_the_provider_holds(
    flavour: str, stream: bool
) -> None:
    server, judged = Threads(), judge(BAD)
    with connected(flavour, server, Moderation(SETTINGS, judge=judged)) as at:
        first = send(at, "one", CREATE, stream=stream, system="be brief")
        second = send(at, "two", after(first), stream=stream)
        send(at, "three", after(second), stream=stream)
        assert [len(body["messages"]) for body in server.sent] == [1, 1, 1]
        asked = [s for s in judged.subjects if s.stage == "input"][-1]
        assert [(p.text, p.judged) for p in asked.parts] == [
            ("be brief", False),
            ("one", False),
            ("fine", False),
            ("two", False),
            ("fine", False),
            ("three", True),
        ]


@both
def test_a_violation_that_needs_the_earlier_turns_is_seen(flavour: str) -> None:
    """The judge gets the whole conversation, so words split over turns come together."""
    server = Threads()

    def script(subject: Any) -> Any:
        said = "".join(part.text for part in subject.parts if part.role == "user")
        if "BADWORDS" in said:
            return ScriptedJudge.finding("WORDS", "fraud_abuse.spam")(subject)
        return ScriptedJudge.verdict()

    with connected(flavour, server, Moderation(SETTINGS, judge=ScriptedJudge(script))) as at:
        first = send(at, "BAD", CREATE)
        second = send(at, "WORDS", after(first))
        assert second.stop_reason == "refusal"
        assert len(server.sent) == 1  # judged first: a thread keeps what it is sent


@both
def test_an_unknown_thread_is_declined_as_the_api_declines_a_lost_one(flavour: str) -> None:
    server = Threads()
    with connected(flavour, server, Moderation(SETTINGS, judge=judge(BAD))) as at:
        with pytest.raises(anthropic.NotFoundError) as caught:
            send(at, "go on", {"type": "continue", "previous_message_id": "msg_elsewhere"})
        assert caught.value.body["error"]["details"] == {"error_code": "thread_not_found"}  # type: ignore[index]
        assert server.sent == []
        assert at.decision().uninspected[0].reason == "thread"


@both
def test_what_a_continuing_turn_sets_anew_is_judged(flavour: str) -> None:
    """The provider gets it as it came, so the values of the turns before must not stand for it."""
    server, judged = Threads(), judge(BAD)
    with connected(flavour, server, Moderation(SETTINGS, judge=judged)) as at:
        tool = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}
        first = send(at, "one", CREATE, system="be kind", tools=[tool])
        assert send(at, "two", after(first), system=BAD).stop_reason == "refusal"
        tool["description"] = BAD
        assert send(at, "two", after(first), tools=[tool]).stop_reason == "refusal"
        assert len(server.sent) == 1
        again = send(at, "two", after(first), system=None)
        assert again.stop_reason == "end_turn"
        asked = [s for s in judged.subjects if s.stage == "input"][-1]
        assert asked.parts[0].text == "be kind"


@both
def test_an_unknown_thread_passes_where_the_settings_only_warn(flavour: str) -> None:
    server = Threads()
    server.held["msg_elsewhere"] = []
    warns = Moderation({**SETTINGS, "on_uninspected": {"thread": "warn"}}, judge=judge(BAD))
    with connected(flavour, server, warns) as at:
        answer = send(at, "go on", {"type": "continue", "previous_message_id": "msg_elsewhere"})
        assert answer.moderation["action"] == "warn"


@both
@pytest.mark.parametrize("stream", [False, True])
def test_the_sdks_own_thread_goes_on_after_a_blocked_answer(flavour: str, stream: bool) -> None:
    """The provider holds the blocked answer; nothing continues from it."""
    server = Threads(lambda body: BAD if "bad please" in str(body["messages"][-1]) else "fine")
    with connected(flavour, server, Moderation(SETTINGS, judge=judge(BAD))) as at:
        thread = at.client.beta.messages.thread(model="m", max_tokens=9)

        def say(words: str) -> Any:
            turn = {"role": "user", "content": words}
            if not stream:
                return at.run(thread.send(turn))
            with at.opened(thread.stream(turn)) as opened:
                for _ in at.items(opened):
                    pass
                return at.run(opened.get_final_message())

        assert say("hello").stop_reason == "end_turn"
        assert say("bad please").stop_reason == "refusal"
        assert say("and now?").stop_reason == "end_turn"
        assert server.sent[-1]["thread"] == CREATE
        assert BAD not in str(server.sent[-1]["messages"])


@both
def test_a_pending_notice_is_never_continued_from(flavour: str, tmp_path: Any) -> None:
    from magistrate.verdicts import HighRiskAnswer, JudgeInfo, Verdict

    config = {
        "version": 1,
        "app": {"audience": "consumer", "interface": "chatbot", "high_risk": ["healthcare"]},
        "review": {
            "store": f"sqlite:///{tmp_path}/r.db",
            "reviewers": [{"name": "dr.lee", "qualified_in": ["healthcare"]}],
        },
    }
    server = Threads(lambda body: "take half" if "tablets" in str(body["messages"][-1]) else "ok")

    def script(subject: Any) -> Any:
        held = any(p.judged and "take half" in p.text for p in subject.parts)
        found = (HighRiskAnswer("healthcare", "advice", True),) if held else ()
        return Verdict(JudgeInfo("scripted"), high_risk=found)

    with connected(flavour, server, Moderation(config, judge=ScriptedJudge(script))) as at:
        thread = at.client.beta.messages.thread(model="m", max_tokens=9)
        held = at.run(thread.send({"role": "user", "content": "my tablets?"}))
        assert held.moderation["action"] == "hold"
        answer = at.run(thread.send({"role": "user", "content": "thanks"}))
        assert "ok" in answer.content[0].text
        # The SDK was told that the thread is lost, and sent the conversation it knows: the notice.
        assert server.sent[-1]["thread"] == CREATE
        assert "take half" not in str(server.sent[-1]["messages"])


@both
def test_the_tool_runner_works_on_threads_by_default(flavour: str) -> None:
    ran: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        return "done"

    server = Threads(answer)

    def reply(request: httpx2.Request) -> httpx2.Response:
        response = server(request)
        if len(server.sent) == 1:
            body = response.json()
            body["content"] = [{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]
            body["stop_reason"] = "tool_use"
            return httpx2.Response(200, json=body)
        return response

    judged = judge(BAD)
    moderation = Moderation(SETTINGS, judge=judged)
    with connected(flavour, reply, moderation) as at:
        if flavour == "sync":

            @anthropic.beta_tool
            def add(a: int) -> str:
                """Add one."""
                ran.append(a)
                return str(a + 1)

            tool: Any = add
        else:

            @anthropic.beta_async_tool
            async def add_async(a: int) -> str:
                """Add one."""
                ran.append(a)
                return str(a + 1)

            tool = add_async
            tool.name = "add"
        runner = at.client.beta.messages.tool_runner(
            model="m",
            max_tokens=9,
            tools=[tool],
            messages=[{"role": "user", "content": "add one"}],
        )
        last = at.run(runner.until_done())
        assert last.content[0].text == "done"
        assert ran == [1]
        assert [b["thread"]["type"] for b in server.sent] == ["create", "continue"]
        asked = [s for s in judged.subjects if s.stage == "input"][-1]
        assert [(p.kind, p.judged) for p in asked.parts] == [
            ("definition", False),
            ("text", False),
            ("tool_use", False),
            ("third_party", True),
        ]


@both
def test_what_is_kept_of_threads_is_bounded(flavour: str) -> None:
    moderation = Moderation(SETTINGS, judge=judge(BAD))
    from magistrate.storage.memory import BoundedStore

    moderation.engine.state.threads = BoundedStore(most_bytes=2_000)
    server = Threads()
    with connected(flavour, server, moderation) as at:
        first = send(at, "one " * 200, CREATE)
        second = send(at, "two " * 200, CREATE)
        send(at, "go on", after(second))
        with pytest.raises(anthropic.NotFoundError):
            send(at, "go on", after(first))
