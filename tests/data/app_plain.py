"""A small application, as one would write it against the SDK alone. `test_swap.py` runs it twice.

Only the import of the two clients differs between the runs. All that a user would see is printed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import anthropic
import httpx2
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

MODEL = "claude-haiku-5-5"
TOOLS: list[Any] = [
    {
        "name": "weather",
        "description": "The weather in a city.",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
]


class City(BaseModel):
    name: str
    people: int


def weather(city: str) -> str:
    return f"It is raining in {city}."


def chat(client: Anthropic) -> None:
    """A conversation that grows, answered in one piece and then as a stream."""
    history: list[Any] = []
    for said in ("Hello!", "Tell me a story."):
        history.append({"role": "user", "content": said})
        message = client.messages.create(model=MODEL, max_tokens=200, messages=history)
        history.append({"role": "assistant", "content": message.content})
        print("chat:", message.content[0].text, "|", message.stop_reason)
        print("usage:", message.usage.output_tokens)
    history.append({"role": "user", "content": "Another one."})
    with client.messages.stream(model=MODEL, max_tokens=200, messages=history) as stream:
        for piece in stream.text_stream:
            print(piece, end="")
        print()
        print("stream:", stream.get_final_message().stop_reason)


def raw_events(client: Anthropic) -> None:
    stream = client.messages.create(
        model=MODEL,
        max_tokens=200,
        messages=[{"role": "user", "content": "Count."}],
        stream=True,
    )
    text = ""
    kinds: list[str] = []
    for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
        elif event.type != "ping":
            kinds.append(event.type)
    print("events:", " ".join(kinds), "|", text)


def agent(client: Anthropic) -> None:
    """A tool loop by hand."""
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Bern?"}]
    while True:
        answer = client.messages.create(
            model=MODEL, max_tokens=200, tools=TOOLS, messages=messages, system="Be brief."
        )
        messages.append({"role": "assistant", "content": answer.content})
        if answer.stop_reason != "tool_use":
            break
        results = [
            {
                "type": "tool_result",
                "tool_use_id": block.id,
                "content": weather(**block.input),  # type: ignore[arg-type]
            }
            for block in answer.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})
    print("agent:", "".join(block.text for block in answer.content if block.type == "text"))


def structured(client: Anthropic) -> None:
    message = client.messages.parse(
        model=MODEL,
        max_tokens=200,
        messages=[{"role": "user", "content": "Which city?"}],
        output_format=City,
    )
    print("parsed:", message.parsed_output)


def errors(client: Anthropic) -> None:
    for said in ("overloaded", "forbidden", "gone"):
        try:
            client.with_options(max_retries=1).messages.create(
                model=MODEL, max_tokens=200, messages=[{"role": "user", "content": said}]
            )
        except anthropic.PermissionDeniedError as error:
            print("not allowed:", error.status_code, error.type)
        except anthropic.APIStatusError as error:
            print("status:", type(error).__name__, error.status_code)
        except anthropic.APIConnectionError as error:
            print("no connection:", type(error).__name__)


async def in_parallel(client: AsyncAnthropic) -> None:
    async def ask(said: str) -> str:
        message = await client.messages.create(
            model=MODEL, max_tokens=200, messages=[{"role": "user", "content": said}]
        )
        return message.content[0].text

    print("parallel:", await asyncio.gather(*(ask(f"Echo {n}") for n in range(5))))
    async with client.messages.stream(
        model=MODEL, max_tokens=200, messages=[{"role": "user", "content": "Tell me a story."}]
    ) as stream:
        async for piece in stream.text_stream:
            print(piece, end="")
        print()
    counted = await client.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "Count."}]
    )
    print("tokens:", counted.input_tokens > 0)
    try:
        await client.messages.create(
            model=MODEL, max_tokens=200, messages=[{"role": "user", "content": "forbidden"}]
        )
    except anthropic.APIStatusError as error:
        print("async status:", error.status_code, isinstance(error.response, httpx2.Response))


def main(base_url: str) -> None:
    with Anthropic(api_key="test", base_url=base_url, timeout=20) as client:
        chat(client)
        raw_events(client)
        agent(client)
        structured(client)
        errors(client)

    async def again() -> None:
        async with AsyncAnthropic(api_key="test", base_url=base_url, timeout=20) as client:
            await in_parallel(client)

    asyncio.run(again())
    print("isinstance:", isinstance(client, anthropic.Anthropic))


if __name__ == "__main__":
    main(sys.argv[1])
