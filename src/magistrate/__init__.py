"""LLM-judge moderation for the Claude API.

    from magistrate import Anthropic  # instead of: from anthropic import Anthropic

Names are loaded when they are first used: `import magistrate` does not import the SDK, which takes
seconds, until something asks for a client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from magistrate._version import __version__

if TYPE_CHECKING:
    from magistrate.clients import Anthropic, AsyncAnthropic
    from magistrate.decisions import Decision
    from magistrate.errors import Blocked, HeldForReview, ModerationError, ModerationUnavailable
    from magistrate.judges import Judge
    from magistrate.middleware import Moderation
    from magistrate.platforms import (
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
    from magistrate.policy import Policy
    from magistrate.settings import Settings, SettingsError
    from magistrate.verdicts import Finding, Verdict

_HOME = {
    "Anthropic": "clients",
    "AnthropicAWS": "platforms",
    "AnthropicBedrock": "platforms",
    "AnthropicBedrockMantle": "platforms",
    "AnthropicFoundry": "platforms",
    "AnthropicGoogleCloud": "platforms",
    "AnthropicVertex": "platforms",
    "AsyncAnthropic": "clients",
    "AsyncAnthropicAWS": "platforms",
    "AsyncAnthropicBedrock": "platforms",
    "AsyncAnthropicBedrockMantle": "platforms",
    "AsyncAnthropicFoundry": "platforms",
    "AsyncAnthropicGoogleCloud": "platforms",
    "AsyncAnthropicVertex": "platforms",
    "Blocked": "errors",
    "Decision": "decisions",
    "Finding": "verdicts",
    "HeldForReview": "errors",
    "Judge": "judges",
    "Moderation": "middleware",
    "ModerationError": "errors",
    "ModerationUnavailable": "errors",
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
