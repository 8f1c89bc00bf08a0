"""The settings of an app: schema, checks, loader."""

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.policy.app_profile import AppProfile, Audience, Interface
from magistrate.settings.loader import Settings
from magistrate.settings.model import ClauseAction
from magistrate.settings.schema import (
    DEFAULT_BLOCK_TEXT,
    DEFAULT_CHAT_DISCLOSURE,
    DEFAULT_HIGH_RISK_DISCLOSURE,
    DEFAULT_HOLD_TEXT,
    DEFAULT_JUDGE_MODEL,
    ActionRow,
    AuditSettings,
    DisclosureTexts,
    JudgeSettings,
    OnFailure,
    OnUninspected,
    Reviewer,
    ReviewSettings,
    StreamingSettings,
    Texts,
)

__all__ = [
    "DEFAULT_BLOCK_TEXT",
    "DEFAULT_CHAT_DISCLOSURE",
    "DEFAULT_HIGH_RISK_DISCLOSURE",
    "DEFAULT_HOLD_TEXT",
    "DEFAULT_JUDGE_MODEL",
    "ActionRow",
    "AppProfile",
    "Audience",
    "AuditSettings",
    "ClauseAction",
    "DisclosureTexts",
    "Interface",
    "JudgeSettings",
    "OnFailure",
    "OnUninspected",
    "Problem",
    "ReviewSettings",
    "Reviewer",
    "Settings",
    "SettingsError",
    "StreamingSettings",
    "Texts",
]
