"""LLM-judge moderation for the Claude API.

    from magistrate import Anthropic  # instead of: from anthropic import Anthropic

Names are loaded on first use: `import magistrate` does not import the SDK, which takes seconds,
until a client is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from magistrate._version import __version__

if TYPE_CHECKING:
    from magistrate.core.decision_record import Decision
    from magistrate.judging.base import Judge
    from magistrate.policy import Policy
    from magistrate.sdk.clients import Anthropic, AsyncAnthropic
    from magistrate.sdk.errors import Blocked, HeldForReview, ModerationError, ModerationUnavailable
    from magistrate.sdk.middleware import Moderation
    from magistrate.sdk.platform_clients import (
        AnthropicAWS,
        AnthropicBedrock,
        AnthropicBedrockMantle,
        AnthropicFoundry,
        AnthropicGoogleCloud,
        AnthropicVertex,
        AsyncAnthropicAWS,
        AsyncAnthropicBedrock,
        AsyncAnthropicBedrockMantle,
        AsyncAnthropicFoundry,
        AsyncAnthropicGoogleCloud,
        AsyncAnthropicVertex,
    )
    from magistrate.settings import Settings, SettingsError
    from magistrate.verdicts import Finding, Verdict

_HOME = {
    "Anthropic": "sdk.clients",
    "AnthropicAWS": "sdk.platform_clients",
    "AnthropicBedrock": "sdk.platform_clients",
    "AnthropicBedrockMantle": "sdk.platform_clients",
    "AnthropicFoundry": "sdk.platform_clients",
    "AnthropicGoogleCloud": "sdk.platform_clients",
    "AnthropicVertex": "sdk.platform_clients",
    "AsyncAnthropic": "sdk.clients",
    "AsyncAnthropicAWS": "sdk.platform_clients",
    "AsyncAnthropicBedrock": "sdk.platform_clients",
    "AsyncAnthropicBedrockMantle": "sdk.platform_clients",
    "AsyncAnthropicFoundry": "sdk.platform_clients",
    "AsyncAnthropicGoogleCloud": "sdk.platform_clients",
    "AsyncAnthropicVertex": "sdk.platform_clients",
    "Blocked": "sdk.errors",
    "Decision": "core.decision_record",
    "Finding": "verdicts",
    "HeldForReview": "sdk.errors",
    "Judge": "judging.base",
    "Moderation": "sdk.middleware",
    "ModerationError": "sdk.errors",
    "ModerationUnavailable": "sdk.errors",
    "Policy": "policy",
    "Settings": "settings",
    "SettingsError": "settings",
    "Verdict": "verdicts",
}

__all__ = [
    "Anthropic",
    "AnthropicAWS",
    "AnthropicBedrock",
    "AnthropicBedrockMantle",
    "AnthropicFoundry",
    "AnthropicGoogleCloud",
    "AnthropicVertex",
    "AsyncAnthropic",
    "AsyncAnthropicAWS",
    "AsyncAnthropicBedrock",
    "AsyncAnthropicBedrockMantle",
    "AsyncAnthropicFoundry",
    "AsyncAnthropicGoogleCloud",
    "AsyncAnthropicVertex",
    "Blocked",
    "Decision",
    "Finding",
    "HeldForReview",
    "Judge",
    "Moderation",
    "ModerationError",
    "ModerationUnavailable",
    "Policy",
    "Settings",
    "SettingsError",
    "Verdict",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"magistrate.{_HOME[name]}"), name)
    raise AttributeError(f"module 'magistrate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
