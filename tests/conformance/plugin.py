"""An early pytest plugin: our clients under the SDK's names, before a test module imports them.

The judge allows everything, and endpoints that cannot be inspected pass with a warning, so that
what differs from a plain run is what our clients do to the SDK and not what they moderate.
"""

from __future__ import annotations

import anthropic

import magistrate.clients
from magistrate.middleware import Moderation
from magistrate.settings import Settings
from magistrate.testing import ScriptedJudge

# The suite's fakes answer with what no API would, and ask for endpoints that are not messages.
_PASS = dict.fromkeys(
    ("file", "media", "encrypted", "thread", "unknown_block", "unknown_event", "endpoint"), "warn"
)
SETTINGS = Settings.load({"version": 1, "on_uninspected": _PASS})


class Allowing(Moderation):
    """What a client makes for itself when the suite, which knows nothing of us, builds one."""

    def __init__(self, settings: object = None) -> None:
        assert settings is None
        super().__init__(SETTINGS, judge=ScriptedJudge())


# A subclass of our client would be tested instead of our client: the SDK, and ours like it, treat
# subclasses differently. So the clients stay, and what they construct is replaced.
magistrate.clients.Moderation = Allowing

anthropic.Anthropic = anthropic.Client = magistrate.clients.Anthropic
anthropic.AsyncAnthropic = anthropic.AsyncClient = magistrate.clients.AsyncAnthropic
