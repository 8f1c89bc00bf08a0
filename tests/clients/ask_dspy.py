"""dspy: `api_base` of its language model."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from tasks import MODEL, Got, answer_tasks

Question = dspy.Signature("question: str -> said: str")


def model(url: str, **more: Any) -> Any:
    more = {"num_retries": 0, **more}
    return dspy.LM(f"anthropic/{MODEL}", api_base=url, api_key="test", cache=False, **more)


def chat(url: str, said: str, got: Got) -> None:
    (got.text,) = model(url)(said)


def with_retries(url: str, said: str, got: Got) -> None:
    """With the default of 3 it asks again after a 529, whatever the answer says of that."""
    (got.text,) = model(url, num_retries=3)(said)


def other_engine(url: str, said: str, got: Got) -> None:
    (got.text,) = model(url, engine="litellm")(said)


def stream(url: str, said: str, got: Got) -> None:
    listener = dspy.streaming.StreamListener(signature_field_name="said")
    program = dspy.streamify(dspy.Predict(Question), stream_listeners=[listener])

    async def run() -> None:
        with dspy.context(lm=model(url)):
            async for piece in program(question=said):
                if isinstance(piece, dspy.streaming.StreamResponse):
                    got.text += piece.chunk

    asyncio.run(run())


def tools(url: str, said: str, got: Got) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        got.calls.append(("weather", {"city": city}))
        return "Sunny."

    with dspy.context(lm=model(url)):
        got.text = dspy.ReAct(Question, tools=[weather], max_iters=3)(question=said).said


def structured(url: str, said: str, got: Got) -> None:
    with dspy.context(lm=model(url), adapter=dspy.JSONAdapter()):
        got.value = dspy.Predict(Question)(question=said).toDict()


answer_tasks(
    chat=chat,
    with_retries=with_retries,
    other_engine=other_engine,
    stream=stream,
    tools=tools,
    structured=structured,
)
