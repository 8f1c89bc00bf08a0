"""Choose the judge that the settings ask for."""

from __future__ import annotations

from magistrate.judging.base import Judge
from magistrate.judging.claude import ClaudeJudge
from magistrate.settings import Settings


def judge_for(settings: Settings) -> Judge:
    """Return the judge that the settings name.

    Raises `SettingsError` if it cannot judge under them.
    """
    wants_local = settings.judge.backend == "local"
    if not wants_local and settings.judge.screen.skip_clear == "never":
        return ClaudeJudge()
    from magistrate.judging.local import LocalJudge  # imports numpy

    local = LocalJudge()
    local.check(settings.policy)
    return local if wants_local else ClaudeJudge(clear=local.clear, clear_by=local.model.hash)
