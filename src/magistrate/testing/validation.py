"""What the Messages API says to a request it cannot take.

Pure: a body in, the complaint of a 400 out, or None. Checked is what the API's documentation and
types state and what an application between client and API could get wrong; the words are ours,
close to the API's, which may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from magistrate.testing.models import SAMPLING, sampling_complaints
from magistrate.testing.replies import JSON
from magistrate.testing.threads import Held

REQUIRED = ("model", "max_tokens", "messages")
FIELDS = frozenset(
    {
        "billing_policy",
        "cache_control",
        "compaction",
        "container",
        "context_management",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "thread",
        "tool_choice",
        "tools",
        "user_profile_id",
        "workspace_id",
    }
)
EFFORTS = ("low", "medium", "high", "xhigh", "max")
KEPT = (None, "never", "next_user_message")  # how long the text of a system turn is shown
ROLES = ("user", "assistant", "system")


def complaint(body: Any, *, counting: bool = False, before: Held | None = None) -> str | None:
    """Why the API refuses `body`, or None.

    `counting`: a request that only counts tokens. `before`: what of its conversation is held.
    """
    return next(_complaints(body, counting, before), None)


def _complaints(body: Any, counting: bool, before: Held | None) -> Iterator[str]:
    if not isinstance(body, dict):
        yield "The request body must be a JSON object."
        return
    fields = cast(JSON, body)
    for name in REQUIRED:
        if name not in fields and not (counting and name == "max_tokens"):
            yield f"{name}: Field required"
    for name in fields:
        if name not in FIELDS and name not in SAMPLING:
            yield f"{name}: Extra inputs are not permitted"
    if not isinstance(fields["model"], str) or not fields["model"]:
        yield "model: Input should be a valid string"
    yield from sampling_complaints(fields)
    if not counting and (type(fields["max_tokens"]) is not int or fields["max_tokens"] < 0):
        yield "max_tokens: Input should be an integer greater than or equal to 0"
    if not isinstance(fields["messages"], list):
        yield "messages: Input should be a valid list"
        return
    yield from _messages(fields, before)


def _messages(fields: JSON, before: Held | None) -> Iterator[str]:
    turns = cast(list[Any], fields["messages"])
    if not turns:
        if before is None or not before.paused:
            yield "messages: at least one message is required"
        return
    for at, turn in enumerate(turns):
        if not isinstance(turn, dict):
            yield f"messages.{at}: Input should be an object"
            return
        turn = cast(JSON, turn)
        if turn.get("role") not in ROLES:
            yield f"messages.{at}.role: Input should be 'user', 'assistant' or 'system'"
        yield from _system_turn(at, turn)
        if turn["role"] == "system" and not turn.get("content"):
            continue
        if "content" not in turn:
            yield f"messages.{at}.content: Field required"
        for name in turn:
            if name not in ("role", "content") and turn["role"] != "system":
                yield f"messages.{at}.{name}: Extra inputs are not permitted"
        blocks = _blocks(turn["content"])
        final_prefill = at == len(turns) - 1 and turn["role"] == "assistant"
        if blocks is None:
            yield f"messages.{at}.content: Input should be a string or a list of content blocks"
            return
        if not blocks and not final_prefill:
            yield (
                f"messages.{at}: all messages must have non-empty content"
                " except for the optional final assistant message"
            )
        for place, block in enumerate(blocks):
            if not isinstance(block.get("type"), str):
                yield f"messages.{at}.content.{place}.type: Field required"
            if block["type"] == "text" and not _text(block):
                yield "messages: text content blocks must be non-empty"
        if final_prefill and blocks and _text(blocks[-1]) != _text(blocks[-1]).rstrip():
            yield "messages: final assistant content cannot end with trailing whitespace"
    held = list(before.turns) if before else []
    yield from _unpaired([*held, *cast(list[JSON], turns)], skipped=len(held))
    for block in _blocks(fields.get("system") or "") or []:
        if block.get("type") == "text" and not _text(block):
            yield "system: text content blocks must be non-empty"


def _system_turn(at: int, turn: JSON) -> Iterator[str]:
    """Complain about what only a turn of the role `system` may have; other turns pass."""
    if turn["role"] != "system":
        return
    for name in turn:
        if name not in ("role", "content", "output_config", "clear_at"):
            yield f"messages.{at}.{name}: Extra inputs are not permitted"
    config: Any = turn.get("output_config")
    if config is not None and not isinstance(config, dict):
        yield f"messages.{at}.output_config: Input should be an object"
    config = cast(JSON, config or {})
    for name in config:
        if name != "effort":
            yield f"messages.{at}.output_config.{name}: Extra inputs are not permitted"
    if config.get("effort") not in (None, *EFFORTS):
        yield f"messages.{at}.output_config.effort: Input should be one of {EFFORTS}"
    if turn.get("clear_at") not in KEPT:
        yield f"messages.{at}.clear_at: Input should be 'next_user_message' or 'never'"
    if not turn.get("content") and not config:
        yield f"messages.{at}: a system message needs content or output_config fields"


def _unpaired(turns: list[JSON], *, skipped: int) -> Iterator[str]:
    """Tool calls without results, and results without calls; turns of one role count as one.

    `skipped`: how many of the turns are not in the request, and not counted in its places.
    """
    called: set[str] = set()
    open_calls: set[str] = set()
    before = ""
    for at, turn in enumerate(turns):
        blocks = _blocks(turn.get("content") or "") or []
        if turn["role"] == "assistant":
            if before != "assistant":
                called = set()
            made = {str(each.get("id")) for each in blocks if each["type"] == "tool_use"}
            called |= made
            open_calls |= made
        for place, block in enumerate(blocks):
            call = str(block.get("tool_use_id"))
            if block["type"] == "tool_result" and call not in called:
                yield (
                    f"messages.{at - skipped}.content.{place}: unexpected `tool_use_id` found in"
                    f" `tool_result` blocks: {call}. Each `tool_result` block must have a"
                    " corresponding `tool_use` block in the previous message."
                )
            open_calls.discard(call)
        following = turns[at + 1]["role"] if at + 1 < len(turns) else ""
        if turn["role"] == "user" and open_calls and following != "user":
            yield (
                f"messages.{at - skipped}: `tool_use` ids were found without `tool_result` blocks"
                f" immediately after: {', '.join(sorted(open_calls))}. Each `tool_use` block must"
                " have a corresponding `tool_result` block in the next message."
            )
        before = turn["role"]


def _blocks(content: Any) -> list[JSON] | None:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if isinstance(content, list) and all(
        isinstance(each, dict) for each in cast(list[Any], content)
    ):
        return cast(list[JSON], content)
    return None


def _text(block: JSON) -> str:
    said = block.get("text")
    return said if isinstance(said, str) else ""


def last_user_text(body: JSON) -> str:
    """Return the text of the last user turn and its tool results; empty if there is none."""
    for turn in reversed(cast(list[JSON], body.get("messages") or [])):
        if turn.get("role") == "user":
            return "\n".join(_texts(turn.get("content")))
    return ""


def _texts(content: Any) -> Iterator[str]:
    for block in _blocks(content) or []:
        if block.get("type") == "text":
            yield _text(block)
        elif block.get("type") == "tool_result":
            yield from _texts(block.get("content"))
