"""A simulated Messages API and scripted judges, for tests of applications that use magistrate.

    from magistrate import Anthropic
    from magistrate.testing import JudgeScript, Simulator, finds, text, when_judging

    judge = JudgeScript(when_judging("five-star", finds("fraud_abuse.fake_reviews")))
    sim = Simulator(text("Hello."), judge=judge)
    client = Anthropic(api_key="test", http_client=sim.http_client(), moderation={"version": 1})

Message batches, threads and the list of models are simulated too.

Importing this package does not import `anthropic`.
"""

from __future__ import annotations

from magistrate.testing.batches import BatchProfile
from magistrate.testing.faults import (
    cut,
    delayed,
    drop,
    error_event,
    hang,
    html_error,
    not_json,
    stall,
)
from magistrate.testing.judge_script import (
    Judgement,
    JudgeReply,
    JudgeScript,
    ParsedPrompt,
    continues_declined,
    discloses,
    empty,
    fails_with,
    finds,
    garbage,
    high_risk,
    nothing,
    prose,
    refuses,
    says,
    slow,
    truncated,
    when_judging,
    wrong_clause,
)
from magistrate.testing.judges import ScriptedJudge
from magistrate.testing.latency import LatencyProfile
from magistrate.testing.replies import (
    Reply,
    citations,
    compaction,
    error,
    raw_blocks,
    redacted_thinking,
    refusal,
    server_tool,
    structured,
    text,
    thinking,
    tool_use,
    when,
)
from magistrate.testing.simulator import Recorded, Simulator

__all__ = [
    "BatchProfile",
    "JudgeReply",
    "JudgeScript",
    "Judgement",
    "LatencyProfile",
    "ParsedPrompt",
    "Recorded",
    "Reply",
    "ScriptedJudge",
    "Simulator",
    "citations",
    "compaction",
    "continues_declined",
    "cut",
    "delayed",
    "discloses",
    "drop",
    "empty",
    "error",
    "error_event",
    "fails_with",
    "finds",
    "garbage",
    "hang",
    "high_risk",
    "html_error",
    "not_json",
    "nothing",
    "prose",
    "raw_blocks",
    "redacted_thinking",
    "refusal",
    "refuses",
    "says",
    "server_tool",
    "slow",
    "stall",
    "structured",
    "text",
    "thinking",
    "tool_use",
    "truncated",
    "when",
    "when_judging",
    "wrong_clause",
]
