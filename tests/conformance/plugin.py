"""An early pytest plugin: our clients under the SDK's names, before a test module imports them.

The judge allows everything, and what cannot be inspected passes with a warning, so that what
differs from a plain run is what our clients do to the SDK and not what they moderate. Where the
suite looks at the request only and answers it with `{}` or an empty body, the answer is completed
to a message: from a real server, that is an error of upstream to our clients.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import anthropic.lib.aws
import anthropic.lib.bedrock
import anthropic.lib.foundry
import anthropic.lib.google_cloud
import anthropic.lib.vertex

import magistrate
import magistrate.sdk.async_edge
import magistrate.sdk.clients
import magistrate.sdk.responses
import magistrate.sdk.sync_upstream
from magistrate.settings import Settings
from magistrate.settings.schema import OnUninspected
from magistrate.testing import ScriptedJudge
from magistrate.wire.routes import SURFACES

# The suite's servers answer with what no API would, and it asks for more than messages.
SETTINGS = Settings.load(
    {
        "version": 1,
        "on_uninspected": {
            **dict.fromkeys(OnUninspected.model_fields, "warn"),
            "surfaces": dict.fromkeys(SURFACES, "warn"),
        },
    }
)

# Where an application may import a client from. The modules that define them stay as they are: the
# SDK compares types with the names in there.
MODULES = (
    anthropic,
    anthropic.lib.aws,
    anthropic.lib.bedrock,
    anthropic.lib.foundry,
    anthropic.lib.google_cloud,
    anthropic.lib.vertex,
)


class Allowing(magistrate.Moderation):
    """What a client makes for itself when the suite, which knows nothing of us, builds one."""

    def __init__(self, settings: object = None) -> None:
        assert settings is None
        super().__init__(SETTINGS, judge=ScriptedJudge())


MESSAGE = {
    "id": "msg_completed",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-5-5",
    "content": [],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_received = magistrate.sdk.responses.received


def completed(found: Any, request: Any, cls: Any) -> Any:
    """Return an upstream response; a mock's stub of one as a whole message."""
    response = _received(found, request, cls)
    raw = response.http_response
    if raw.is_success and not request.stream and getattr(raw, "_content", None) is not None:
        said = _object(raw)
        if said is not None and not isinstance(said.get("content"), list):
            raw._content = json.dumps({**MESSAGE, **said}).encode()
    return response


def _object(raw: Any) -> dict[str, Any] | None:
    if not raw.content:
        return {}
    try:
        said = raw.json()
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def substitute() -> None:
    """Put our clients into the SDK's public modules.

    The clients are ours exactly: the SDK, and ours like it, treat subclasses differently. So what
    they make is replaced instead.
    """
    magistrate.sdk.clients.Moderation = Allowing
    for upstream in (magistrate.sdk.sync_upstream, magistrate.sdk.async_edge):
        upstream.received = completed
    for name in magistrate.__all__:
        theirs, ours = getattr(anthropic, name, None), getattr(magistrate, name)
        if isinstance(theirs, type) and issubclass(ours, theirs):
            for module in MODULES:
                if getattr(module, name, None) is theirs:
                    setattr(module, name, ours)
    anthropic.Client, anthropic.AsyncClient = anthropic.Anthropic, anthropic.AsyncAnthropic


substitute()
