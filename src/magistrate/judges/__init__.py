"""Judges: who answers the question "does this violate the policy?". One file a judge."""

from __future__ import annotations

from magistrate.judges.base import AskModel, AskModelAsync, Judge, ModelReply
from magistrate.judges.claude import ClaudeJudge

__all__ = ["AskModel", "AskModelAsync", "ClaudeJudge", "Judge", "ModelReply"]
