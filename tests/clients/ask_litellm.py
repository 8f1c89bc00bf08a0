"""litellm: `api_base`, or $ANTHROPIC_API_BASE."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pydantic
from tasks import MODEL, Got, answer_tasks

litellm.suppress_debug_info = True


class Answer(pydantic.BaseModel):
    """An answer."""

    said: str


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def ask(url: str, said: str | list[Any], **more: Any) -> Any:
    messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
    model = f"anthropic/{MODEL}"
    return litellm.completion(model, messages, api_base=url, api_key="test", **more)


def take(answer: Any, got: Got) -> None:
    got.text = answer.choices[0].message.content or ""
    got.stop = answer.choices[0].finish_reason


def chat(url: str, said: str, got: Got) -> None:
    take(ask(url, said), got)


def stream(url: str, said: str, got: Got) -> None:
    for piece in ask(url, said, stream=True):
        got.text += piece.choices[0].delta.content or ""
        got.stop = piece.choices[0].finish_reason or got.stop


def tools(url: str, said: str, got: Got) -> None:
    turns: list[Any] = [{"role": "user", "content": said}]
    for _ in range(5):
        answer = ask(url, turns, tools=[WEATHER])
        take(answer, got)
        message = answer.choices[0].message
        if not message.tool_calls:
            return
        turns.append(message)
        for call in message.tool_calls:
            got.calls.append((call.function.name, json.loads(call.function.arguments)))
            turns.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny."})


def structured(url: str, said: str, got: Got) -> None:
    take(ask(url, said, response_format=Answer), got)
    got.value = Answer.model_validate_json(got.text).model_dump()


answer_tasks(chat=chat, stream=stream, tools=tools, structured=structured)
