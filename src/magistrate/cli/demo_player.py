"""The demo's conversations, held through drop-in clients and compared with what must come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from magistrate.cli.demo_scenes import Scene
    from magistrate.sdk.middleware import Moderation


_MODEL = "claude-sonnet-5-5"


@dataclass(slots=True)
class Result:
    """The outcome of a scene, and every difference from what was expected."""

    scene: Scene
    outcome: str
    received: str
    decision_id: str | None
    disclosure: str | None
    wrong: list[str]


@contextmanager
def moderations_by_app(store: str) -> Generator[dict[str, Moderation], None, None]:
    """Yield one `Moderation` per app, kept over the scenes, as an app keeps its client."""
    from magistrate.cli.demo_scenes import clinic
    from magistrate.sdk.middleware import Moderation

    made: dict[str, Moderation] = {"clinic": Moderation(clinic(store))}
    try:
        yield made
    finally:
        for moderation in made.values():
            moderation.close()


def _moderation(scene: Scene, made: dict[str, Moderation]) -> Moderation:
    from magistrate.sdk.middleware import Moderation

    if scene.config == "clinic":
        return made["clinic"]
    key = json.dumps(scene.config, sort_keys=True)
    if key not in made:
        made[key] = Moderation(scene.config)
    return made[key]


def play(scene: Scene, made: dict[str, Moderation], url: str, simulator: Any) -> Result:
    """Have one conversation through a drop-in client, and compare."""
    from magistrate.sdk.errors import ModerationError

    moderation = _moderation(scene, made)
    call: dict[str, Any] = {
        "model": _MODEL,
        "max_tokens": 400,
        "messages": [{"role": role, "content": words} for role, words in scene.turns],
    }
    if scene.tools:
        call["tools"] = scene.tools
    before = len(simulator.api_requests)
    try:
        message = _send(scene, moderation, url, call)
    except ModerationError as error:
        decision = error.decision
        received: JSON = {}
        outcome = type(error).__name__
        shown = f"raised {outcome}"
    else:
        received = message.to_dict()
        decision = moderation.decision(received["moderation"]["id"])
        outcome = decision.action
        shown = "".join(block.get("text", "") for block in received["content"])
    travelled = [request.body for request in simulator.api_requests[before:]]
    wrong = list(_differences(scene, outcome, received, decision, json.dumps(travelled)))
    return Result(
        scene,
        outcome,
        shown or f"(no text, stop_reason {received.get('stop_reason')})",
        decision.id if decision else None,
        decision.disclosure if decision else None,
        wrong,
    )


def _send(scene: Scene, moderation: Moderation, url: str, call: JSON) -> Any:
    """Make an application's call. A stream's message takes the id from the header."""
    from magistrate.sdk.clients import Anthropic, AsyncAnthropic

    def with_id(message: Any, headers: Any) -> Any:
        message.moderation = json.loads(headers["magistrate-decision"])
        return message

    api: Any
    if scene.how in ("JSON", "stream"):
        with Anthropic(api_key="demo", base_url=url, moderation=moderation) as api:
            if scene.how == "JSON":
                return api.messages.create(**call)
            with api.messages.stream(**call) as stream:
                return with_id(stream.get_final_message(), stream.response.headers)

    async def send() -> Any:
        api: Any
        async with AsyncAnthropic(api_key="demo", base_url=url, moderation=moderation) as api:
            if scene.how == "async JSON":
                return await api.messages.create(**call)
            async with api.messages.stream(**call) as stream:
                return with_id(await stream.get_final_message(), stream.response.headers)

    return asyncio.run(send())


def _differences(
    scene: Scene, outcome: str, received: JSON, decision: Any, travelled: str
) -> Iterator[str]:
    expected = scene.raises or scene.action
    if outcome != expected:
        yield f"expected {expected}, got {outcome}"
        return
    if decision.disclosure != scene.disclosure and scene.raises is None:
        yield f"disclosure {decision.disclosure}, expected {scene.disclosure}"
    if scene.raises is None and received["stop_reason"] != scene.stop_reason:
        yield f"stop_reason {received['stop_reason']}, expected {scene.stop_reason}"
    ours = "magistrate" in (received.get("stop_details") or {})
    if ours != (outcome == "block"):
        yield "a refusal of ours is not marked" if not ours else "a refusal is marked as ours"
    got = json.dumps(received)
    for words in scene.shows:
        if words not in got:
            yield f"{words!r} did not arrive"
    for words in scene.hides:
        if words in got:
            yield f"{words!r} leaked"
    if scene.upstream is not None and scene.upstream not in travelled:
        yield f"{scene.upstream!r} did not travel upstream"
    if scene.withheld is not None and scene.withheld in travelled:
        yield f"{scene.withheld!r} travelled upstream"


def release(clinic: Moderation, results: list[Result]) -> str:
    """Release the first held answer as its reviewer would, and fetch it as the app would."""
    assert clinic.reviews is not None
    waiting = clinic.reviews.pending()
    clinic.reviews.approve(waiting[0].id, reviewer="dr.lee", note="demo")
    released = clinic.reviews.get(waiting[0].id).released
    words = "".join(block.get("text", "") for block in (released or {}).get("content", []))
    if "half a tablet" not in words:
        results[0].wrong.append("the released answer is not the one that was held")
    return words
