"""Requests with `compaction`: they are answered with a summary, and with nothing else. Pure."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from magistrate.testing.replies import JSON, ErrorReply, MessageReply, compaction, error

_SHAPE_A_REPLY = ("context_management", "stop_sequences", "output_format")


def refused(fields: JSON) -> ErrorReply | None:
    """Return the API's error for a wrong compaction request, or None."""
    if fields.get("compaction") is None:
        return None
    asked: Any = fields["compaction"]
    if not isinstance(asked, dict) or cast(JSON, asked).get("type") != "summarize":
        return error(400, message="compaction.type: Input should be 'summarize'")
    for name in _SHAPE_A_REPLY:
        if fields.get(name) is not None:
            return error(400, message=f"{name}: cannot be combined with compaction")
    config: JSON = fields.get("output_config") or {}
    choice: JSON = fields.get("tool_choice") or {}
    if config.get("format") is not None:
        return error(400, message="output_config.format: cannot be combined with compaction")
    if choice.get("type") in ("any", "tool"):
        return error(400, message="tool_choice: cannot force a tool with compaction")
    if not any(turn["role"] in ("user", "assistant") for turn in fields["messages"]):
        said = "messages: nothing to summarize"
        return error(400, message=said, code="compaction_nothing_to_summarize")
    return None


def reply(fields: JSON) -> MessageReply | None:
    """Return the answer to a compaction request; None if `fields` are none."""
    if fields.get("compaction") is None:
        return None
    summary = f"A summary of {len(fields['messages'])} messages."
    return compaction(summary, signature=hashlib.sha256(summary.encode()).hexdigest())
