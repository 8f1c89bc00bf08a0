"""LlamaIndex: `base_url` of its Anthropic model."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.anthropic import Anthropic
from tasks import MODEL, Got, answer_tasks


class Answer(pydantic.BaseModel):
    """An answer."""

    said: str


def model(url: str) -> Any:
    return Anthropic(model=MODEL, base_url=url, api_key="test")


def chat(url: str, said: str, got: Got) -> None:
    answer = model(url).complete(said)
    got.text, got.stop = answer.text, answer.raw.get("stop_reason")


def stream(url: str, said: str, got: Got) -> None:
    for piece in model(url).stream_complete(said):
        got.text += piece.delta or ""


def tools(url: str, said: str, got: Got) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        got.calls.append(("weather", {"city": city}))
        return "Sunny."

    async def run() -> str:
        agent = FunctionAgent(tools=[weather], llm=model(url))
        return str(await agent.run(said))

    got.text = asyncio.run(run())


def structured(url: str, said: str, got: Got) -> None:
    got.value = model(url).as_structured_llm(Answer).complete(said).raw.model_dump()


answer_tasks(chat=chat, stream=stream, tools=tools, structured=structured)
