"""claude-agent-sdk, which starts the Claude Code that it brings: $ANTHROPIC_BASE_URL."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ResultMessage,
    StreamEvent,
    TextBlock,
    create_sdk_mcp_server,
    query,
    tool,
)
from tasks import Got, answer_tasks

SCHEMA = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}


def ask(url: str, said: str, got: Got, **more: Any) -> None:
    async def run(folder: str) -> None:
        options = ClaudeAgentOptions(
            cwd=folder,
            env={**os.environ, "HOME": folder, "ANTHROPIC_BASE_URL": url},
            setting_sources=[],
            **more,
        )
        async for message in query(prompt=said, options=options):
            if isinstance(message, StreamEvent):
                got.text += message.event.get("delta", {}).get("text", "")
            elif isinstance(message, AssistantMessage) and "include_partial_messages" not in more:
                texts = [each.text for each in message.content if isinstance(each, TextBlock)]
                got.text = "\n".join([got.text, *texts]).strip()
            elif isinstance(message, ResultMessage):
                got.stop = message.stop_reason or message.subtype
                got.value = message.structured_output
                if message.is_error:
                    got.error = f"{message.subtype}: {message.result or message.errors}"
                    got.status = message.api_error_status

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


def chat(url: str, said: str, got: Got) -> None:
    ask(url, said, got)


def stream(url: str, said: str, got: Got) -> None:
    ask(url, said, got, include_partial_messages=True)


def tools(url: str, said: str, got: Got) -> None:
    @tool("weather", "The weather in a city.", {"city": str})
    async def weather(args: dict[str, Any]) -> dict[str, Any]:
        got.calls.append(("weather", args))
        return {"content": [{"type": "text", "text": "Sunny."}]}

    server = create_sdk_mcp_server("here", tools=[weather])
    ask(
        url,
        said,
        got,
        tools=[],  # none of its own: beside those, others have to be searched for first
        mcp_servers={"here": server},
        allowed_tools=["mcp__here__weather"],
        max_turns=5,
    )


def structured(url: str, said: str, got: Got) -> None:
    ask(url, said, got, output_format={"type": "json_schema", "schema": SCHEMA})


answer_tasks(chat=chat, stream=stream, tools=tools, structured=structured)
