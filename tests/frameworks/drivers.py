"""One driver a framework: asks through what its recipe in docs/frameworks.md made.

Frameworks are imported when a driver is used: these modules are collected without them too. Each
driver has the ways to ask that its framework has, in a sync and an async form, and returns what
reached the application as a `Got`; exceptions are the framework's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
MODEL = "claude-sonnet-5-5"


class Answer(pydantic.BaseModel):
    """An answer."""

    said: str


def weather(city: str) -> str:
    """The weather in a city."""
    return "Sunny."


@dataclass
class Got:
    """What reached the application."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    value: Any = None
    refused: bool = False


def recipes() -> dict[str, str]:
    """The recipes of the page by the name in their first line."""
    found: dict[str, str] = {}
    language = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("```"):
            language = "" if language else line[3:]
            name = ""
        elif language == "python":
            name = name or line.removeprefix("# ")
            found[name] = found.get(name, "") + line + "\n"
    return found


class Driver:
    """Runs a recipe, then asks."""

    recipe: str
    ways = ("chat", "stream", "tools", "structured")
    flavours = ("sync", "async")
    settings: dict[str, Any] = {}  # noqa: RUF012
    tool_call = False  # structured answers are tool calls, not text
    raises = ""  # what the framework raises for a blocked structured answer

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        exec(recipes()[self.recipe], self.names)

    def ask(self, way: str, flavour: str, said: str) -> Got:
        """Ask `said` in one of the ways."""
        asked: Callable[[str], Any] = getattr(self, f"{way}_{flavour}")
        if flavour == "sync":
            return asked(said)

        async def run() -> Got:
            pending: Awaitable[Got] = asked(said)
            return await pending

        return asyncio.run(run())


class LangChain(Driver):
    recipe = "LangChain"
    raises = "ModelRefusalError"

    @property
    def chat(self) -> Any:
        return self.names["chat"]

    @staticmethod
    def got(message: Any) -> Got:
        calls = [(call["name"], call["args"]) for call in message.tool_calls]
        refused = message.response_metadata.get("stop_reason") == "refusal"
        return Got(str(message.text), calls, refused=refused)

    @staticmethod
    def added_up(chunks: list[Any]) -> Got:
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        return LangChain.got(whole)

    def structured(self) -> Any:
        return self.chat.with_structured_output(Answer, method="json_schema")

    def chat_sync(self, said: str) -> Got:
        return self.got(self.chat.invoke(said))

    async def chat_async(self, said: str) -> Got:
        return self.got(await self.chat.ainvoke(said))

    def stream_sync(self, said: str) -> Got:
        return self.added_up(list(self.chat.stream(said)))

    async def stream_async(self, said: str) -> Got:
        return self.added_up([chunk async for chunk in self.chat.astream(said)])

    def tools_sync(self, said: str) -> Got:
        return self.got(self.chat.bind_tools([weather]).invoke(said))

    async def tools_async(self, said: str) -> Got:
        return self.got(await self.chat.bind_tools([weather]).ainvoke(said))

    def structured_sync(self, said: str) -> Got:
        return Got(value=self.structured().invoke(said))

    async def structured_async(self, said: str) -> Got:
        return Got(value=await self.structured().ainvoke(said))


class PydanticAI(Driver):
    recipe = "pydantic-ai"
    raises = "ContentFilterError"

    @property
    def agent(self) -> Any:
        return self.names["agent"]

    @staticmethod
    def got(result: Any) -> Got:
        from pydantic_ai.messages import ModelResponse

        answers = [each for each in result.all_messages() if isinstance(each, ModelResponse)]
        calls = [
            (call.tool_name, call.args_as_dict()) for each in answers for call in each.tool_calls
        ]
        refused = answers[-1].finish_reason == "content_filter"
        if isinstance(result.output, str):
            return Got(result.output, calls, refused=refused)
        return Got(value=result.output, refused=refused)

    @staticmethod
    def tools() -> dict[str, Any]:
        from pydantic_ai import FunctionToolset

        return {"toolsets": [FunctionToolset([weather])]}

    @staticmethod
    def native() -> dict[str, Any]:
        from pydantic_ai import NativeOutput

        return {"output_type": NativeOutput(Answer)}

    def chat_sync(self, said: str) -> Got:
        return self.got(self.agent.run_sync(said))

    async def chat_async(self, said: str) -> Got:
        return self.got(await self.agent.run(said))

    def stream_sync(self, said: str) -> Got:
        return asyncio.run(self.stream_async(said))

    async def stream_async(self, said: str) -> Got:
        async with self.agent.run_stream(said) as stream:
            text = "".join([piece async for piece in stream.stream_text(delta=True)])
            return Got(text, refused=stream.response.finish_reason == "content_filter")

    def tools_sync(self, said: str) -> Got:
        return self.got(self.agent.run_sync(said, **self.tools()))

    async def tools_async(self, said: str) -> Got:
        return self.got(await self.agent.run(said, **self.tools()))

    def structured_sync(self, said: str) -> Got:
        return self.got(self.agent.run_sync(said, **self.native()))

    async def structured_async(self, said: str) -> Got:
        return self.got(await self.agent.run(said, **self.native()))


class Instructor(Driver):
    recipe = "instructor"
    raises = "InstructorRetryException"
    ways = ("chat", "stream", "structured")  # a structured answer is a tool call already
    settings = {"on_block": "raise", "on_hold": "raise"}  # noqa: RUF012
    tool_call = True

    @staticmethod
    def call(said: str, model: Any = Answer) -> dict[str, Any]:
        asked = [{"role": "user", "content": said}]
        return {"model": MODEL, "max_tokens": 99, "messages": asked, "response_model": model}

    @staticmethod
    def text(message: Any) -> Got:
        return Got("".join(block.text for block in message.content if block.type == "text"))

    def chat_sync(self, said: str) -> Got:
        return self.text(self.names["client"].create(**self.call(said, None)))

    async def chat_async(self, said: str) -> Got:
        return self.text(await self.names["async_client"].create(**self.call(said, None)))

    def stream_sync(self, said: str) -> Got:
        return Got(value=list(self.names["client"].create_partial(**self.call(said)))[-1])

    async def stream_async(self, said: str) -> Got:
        stream = self.names["async_client"].create_partial(**self.call(said))
        return Got(value=[each async for each in stream][-1])

    def structured_sync(self, said: str) -> Got:
        return Got(value=self.names["client"].create(**self.call(said)))

    async def structured_async(self, said: str) -> Got:
        return Got(value=await self.names["async_client"].create(**self.call(said)))


class InspectAI(Driver):
    recipe = "inspect-ai"
    flavours = ("async",)

    @staticmethod
    def got(output: Any) -> Got:
        calls = [(call.function, call.arguments) for call in output.message.tool_calls or []]
        return Got(output.completion, calls, refused=output.stop_reason == "content_filter")

    async def chat_async(self, said: str) -> Got:
        return self.got(await self.names["model"].generate(said))

    async def stream_async(self, said: str) -> Got:
        model = self.names["get_model"](
            f"anthropic/{MODEL}",
            middleware=[self.names["moderation"]],
            memoize=False,
            streaming=True,
        )
        return self.got(await model.generate(said))

    async def tools_async(self, said: str) -> Got:
        from inspect_ai.tool import ToolInfo, ToolParam, ToolParams

        parameters = ToolParams(
            properties={"city": ToolParam(type="string", description="Where.")}, required=["city"]
        )
        tool = ToolInfo(name="weather", description="The weather.", parameters=parameters)
        return self.got(await self.names["model"].generate(said, tools=[tool]))

    async def structured_async(self, said: str) -> Got:
        from inspect_ai.model import GenerateConfig, ResponseSchema
        from inspect_ai.util import json_schema

        schema = ResponseSchema(name="answer", json_schema=json_schema(Answer))
        config = GenerateConfig(response_schema=schema)
        got = self.got(await self.names["model"].generate(said, config=config))
        return Got(value=Answer(**json.loads(got.text)) if got.text else None, refused=got.refused)


class LlamaIndex(Driver):
    recipe = "LlamaIndex"
    raises = "ValueError"

    @property
    def llm(self) -> Any:
        return self.names["llm"]

    def got(self, answer: Any) -> Got:
        raw: Any = answer.raw
        stop = raw.get("stop_reason") if isinstance(raw, dict) else None
        return Got(answer.text, refused=stop == "refusal")

    def called(self, answer: Any) -> Got:
        calls = self.llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
        made = [(call.tool_name, call.tool_kwargs) for call in calls]
        refused = answer.raw["stop_reason"] == "refusal"
        return Got(answer.message.content or "", made, refused=refused)

    @staticmethod
    def tool() -> Any:
        from llama_index.core.tools import FunctionTool

        return FunctionTool.from_defaults(weather)

    def chat_sync(self, said: str) -> Got:
        return self.got(self.llm.complete(said))

    async def chat_async(self, said: str) -> Got:
        return self.got(await self.llm.acomplete(said))

    def stream_sync(self, said: str) -> Got:
        return Got("".join(piece.delta for piece in self.llm.stream_complete(said)))

    async def stream_async(self, said: str) -> Got:
        stream = await self.llm.astream_complete(said)
        return Got("".join([piece.delta async for piece in stream]))

    def tools_sync(self, said: str) -> Got:
        return self.called(self.llm.chat_with_tools([self.tool()], user_msg=said))

    async def tools_async(self, said: str) -> Got:
        return self.called(await self.llm.achat_with_tools([self.tool()], user_msg=said))

    def structured_sync(self, said: str) -> Got:
        return Got(value=self.llm.as_structured_llm(Answer).complete(said).raw)

    async def structured_async(self, said: str) -> Got:
        return Got(value=(await self.llm.as_structured_llm(Answer).acomplete(said)).raw)


DRIVERS: tuple[type[Driver], ...] = (LangChain, PydanticAI, Instructor, InspectAI, LlamaIndex)
