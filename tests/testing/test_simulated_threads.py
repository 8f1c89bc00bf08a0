"""Threads of the simulated API, through the SDK's own threads and tool runner; system turns."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from magistrate.testing import (
    Simulator,
    compaction,
    error,
    raw_blocks,
    refusal,
    text,
    tool_use,
)
from simulated import connected, everywhere, got

MODEL = "claude-haiku-5-5"
CREATE = {"type": "create"}


def user(said: Any) -> dict[str, Any]:
    return {"role": "user", "content": said}


def after(message: Any) -> dict[str, Any]:
    return {"type": "continue", "previous_message_id": message.id}


async def send(client: Any, *turns: dict[str, Any], **more: Any) -> Any:
    call = {"model": MODEL, "max_tokens": 64, "betas": ["message-threads-2026-08-12"], **more}
    return await got(client.beta.messages.create(messages=list(turns), **call))


@everywhere
async def test_a_later_turn_sends_only_what_is_new(where: str, flavour: str) -> None:
    sim = Simulator([text("One."), text("Two.")])
    async with connected(sim, where, flavour) as client:
        thread = client.beta.messages.thread(model=MODEL, max_tokens=64, system="Be brief.")
        assert (await got(thread.send(user("a")))).content[0].text == "One."
        assert (await got(thread.send(user("b")))).content[0].text == "Two."
    bodies: Any = [each.body for each in sim.requests]
    assert [len(body["messages"]) for body in bodies] == [1, 1]
    assert bodies[1]["thread"]["previous_message_id"] == "msg_sim_000001"
    assert "system" not in bodies[1]


@everywhere
async def test_a_paused_turn_is_resumed_with_no_messages(where: str, flavour: str) -> None:
    sim = Simulator([text("Let me", stop_reason="pause_turn"), text(" see.")])

    def sync_clock() -> str:
        """The time."""
        return "noon"

    async def async_clock() -> str:
        """The time."""
        return "noon"

    tool: Any = (
        anthropic.beta_tool(sync_clock)
        if flavour == "sync"
        else anthropic.beta_async_tool(async_clock)
    )
    async with connected(sim, where, flavour) as client:
        runner = client.beta.messages.tool_runner(
            model=MODEL, max_tokens=64, tools=[tool], messages=[user("hi")]
        )
        last = await got(runner.until_done())
    assert last.content[0].text == " see."
    bodies: Any = [each.body for each in sim.requests]
    assert (bodies[1]["messages"], bodies[1]["thread"]["type"]) == ([], "continue")
    assert sim.problems == []


@everywhere
async def test_the_tool_runner_compacts_and_goes_on(where: str, flavour: str) -> None:
    sim = Simulator([tool_use("clock"), text("It is noon.")])

    def sync_clock() -> str:
        """The time."""
        return "noon"

    async def async_clock() -> str:
        """The time."""
        return "noon"

    tool: Any = (
        anthropic.beta_tool(sync_clock, name="clock")
        if flavour == "sync"
        else anthropic.beta_async_tool(async_clock, name="clock")
    )
    stops: list[Any] = []
    async with connected(sim, where, flavour) as client:
        runner = client.beta.messages.tool_runner(
            model=MODEL, max_tokens=64, tools=[tool], messages=[user("hi")]
        )
        if flavour == "sync":
            for message in runner:
                if not stops:
                    runner.compact_before_next_turn()
                stops.append(message.stop_reason)
        else:
            async for message in runner:
                if not stops:
                    runner.compact_before_next_turn()
                stops.append(message.stop_reason)
    assert stops == ["tool_use", "compaction", "end_turn"]
    bodies: Any = [each.body for each in sim.requests]
    assert bodies[1]["compaction"] == {"type": "summarize"}
    assert bodies[2]["messages"][0]["content"][0]["type"] == "compaction"


async def test_what_an_edit_compacts_can_pause_too() -> None:
    sim = Simulator([compaction("So far, so good."), text("On.")])
    async with connected(sim, "process", "sync") as client:
        first = await send(client, user("hi"), thread=CREATE)
        assert (first.stop_reason, first.content[0].content) == ("compaction", "So far, so good.")
        assert (await send(client, thread=after(first))).content[0].text == "On."


@everywhere
@pytest.mark.parametrize("summary", ["So far, so good.", None])
async def test_a_streamed_compaction_adds_up(summary: str | None, where: str, flavour: str) -> None:
    sim = Simulator(compaction(summary, signature="signed"))
    call = {"model": MODEL, "max_tokens": 64, "messages": [user("hi")]}
    async with connected(sim, where, flavour) as client:
        whole = await got(client.beta.messages.create(**call))
        if flavour == "sync":
            with client.beta.messages.stream(**call) as stream:
                added_up = stream.get_final_message()
        else:
            async with client.beta.messages.stream(**call) as stream:
                added_up = await stream.get_final_message()
    assert added_up.content[0].to_dict() == whole.content[0].to_dict()
    assert (whole.content[0].content, whole.content[0].signature) == (summary, "signed")


@everywhere
async def test_an_unknown_thread_is_not_found(where: str, flavour: str) -> None:
    async with connected(Simulator(text("Hi.")), where, flavour) as client:
        with pytest.raises(anthropic.NotFoundError) as caught:
            thread = {"type": "continue", "previous_message_id": "msg_elsewhere"}
            await send(client, user("hi"), thread=thread)
    assert type(caught.value).__name__ == "ThreadNotFoundError"
    assert caught.value.error_code == "thread_not_found"


async def test_an_answer_is_continued_once_even_after_an_error() -> None:
    sim = Simulator([text("One."), error(529), refusal("cyber"), text("Never.")])
    async with connected(sim, "process", "sync") as client:
        first = await send(client, user("a"), thread=CREATE)
        with pytest.raises(anthropic.APIStatusError) as overloaded:
            await send(client, user("b"), thread=after(first))
        assert overloaded.value.status_code == 529
        assert (await send(client, user("b"), thread=after(first))).stop_reason == "refusal"
        with pytest.raises(anthropic.BadRequestError) as caught:
            await send(client, user("c"), thread=after(first))
        assert caught.value.error_code == "thread_already_continued"


async def test_the_calls_of_earlier_turns_are_known() -> None:
    sim = Simulator([tool_use("clock", id="toolu_1"), text("Noon.")])
    tools = [{"name": "clock", "input_schema": {"type": "object"}}]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"}
    async with connected(sim, "process", "sync") as client:
        first = await send(client, user("When?"), thread=CREATE, tools=tools)
        with pytest.raises(anthropic.BadRequestError, match="without `tool_result`"):
            await send(client, user("Well?"), thread=after(first))
        wrong = {**result, "tool_use_id": "toolu_2"}
        with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0: unexpected"):
            await send(client, user([wrong]), thread=after(first))
        last = await send(client, user([result]), thread=after(first))
        assert last.content[0].text == "Noon."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"thread": {"type": "begin"}}, "thread.type"),
        ({"thread": "create"}, "thread.type"),
        ({"thread": {"type": "continue"}}, "previous_message_id: Field required"),
        ({"thread": "after", "system": "Be kind."}, "system: cannot be set"),
        ({"thread": "after", "tools": []}, "tools: cannot be set"),
        ({"thread": "after", "messages": []}, "at least one message is required"),
        ({"compaction": {"type": "shorten"}}, "compaction.type"),
        ({"compaction": {"type": "summarize"}, "stop_sequences": ["x"]}, "stop_sequences"),
        ({"compaction": {"type": "summarize"}, "context_management": {}}, "context_management"),
        (
            {
                "compaction": {"type": "summarize"},
                "output_config": {"format": {"type": "json_schema", "schema": {}}},
            },
            "output_config.format",
        ),
        ({"compaction": {"type": "summarize"}, "tool_choice": {"type": "any"}}, "tool_choice"),
    ],
)
async def test_a_wrong_thread_or_compaction_is_refused(more: dict[str, Any], said: str) -> None:
    sim = Simulator(text("Hi."))
    async with connected(sim, "process", "sync") as client:
        first = await send(client, user("hi"), thread=CREATE)
        if more.get("thread") == "after":
            more = {**more, "thread": after(first)}
        with pytest.raises(anthropic.BadRequestError, match=said):
            await send(client, user("on"), extra_body=more)


async def test_nothing_but_instructions_cannot_be_compacted() -> None:
    async with connected(Simulator(), "process", "sync") as client:
        with pytest.raises(anthropic.BadRequestError) as caught:
            turn = {"role": "system", "content": "Be kind."}
            await send(client, turn, compaction={"type": "summarize"})
    assert caught.value.error_code == "compaction_nothing_to_summarize"


async def test_a_callable_answers_a_compaction_itself() -> None:
    sim = Simulator(lambda body: raw_blocks([{"type": "compaction", "content": "mine"}]))
    async with connected(sim, "process", "sync") as client:
        message = await send(client, user("hi"), compaction={"type": "summarize"})
    assert message.content[0].content == "mine"


SYSTEM_TURNS: list[tuple[dict[str, Any], str | None]] = [
    ({"content": "Be brief."}, None),
    ({"content": "Be brief.", "output_config": {"effort": "low"}}, None),
    ({"content": "Be brief.", "output_config": {}}, None),
    ({"content": "Be brief.", "output_config": None, "clear_at": "next_user_message"}, None),
    ({"output_config": {"effort": "max"}}, None),
    ({"content": None, "output_config": {"effort": "max"}}, None),
    ({"content": [{"type": "tool_removal", "tool": {"name": "clock"}}]}, None),
    ({}, "needs content or output_config fields"),
    ({"output_config": {}}, "needs content or output_config fields"),
    ({"content": "x", "output_config": {"effort": "huge"}}, "output_config.effort"),
    ({"content": "x", "output_config": {"format": {}}}, "output_config.format: Extra inputs"),
    ({"content": "x", "output_config": "low"}, "output_config: Input should be an object"),
    ({"content": "x", "clear_at": "noon"}, "clear_at"),
    ({"content": "x", "name": "bob"}, "name: Extra inputs"),
]


@pytest.mark.parametrize(("turn", "said"), SYSTEM_TURNS)
async def test_a_system_turn_may_set_the_effort(turn: dict[str, Any], said: str | None) -> None:
    async with connected(Simulator(text("Hi.")), "process", "sync") as client:
        turns = [user("hi"), {"role": "assistant", "content": "Hello."}]
        turns += [{"role": "system", **turn}, user("on")]
        if said is None:
            assert (await send(client, *turns)).content[0].text == "Hi."
        else:
            with pytest.raises(anthropic.BadRequestError, match=said):
                await send(client, *turns)


async def test_only_a_system_turn_may_set_the_effort() -> None:
    async with connected(Simulator(text("Hi.")), "process", "sync") as client:
        with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.output_config: Extra"):
            await send(client, {**user("hi"), "output_config": {"effort": "low"}})
