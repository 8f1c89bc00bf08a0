"""The drop-in clients for other platforms: the SDK's, with moderation as outermost middleware.

Importing them needs none of the SDK's extras. If `boto3` or `google-auth` is missing, the SDK says
so itself when a client has to sign a request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

import anthropic
from anthropic.lib import bedrock, vertex

from magistrate.judging.claude import ClaudeJudge
from magistrate.sdk.clients import ModerationSource, outermost
from magistrate.sdk.middleware import Moderation
from magistrate.sdk.timeouts import client_timeout
from magistrate.settings import DEFAULT_JUDGE_MODEL, Problem, SettingsError

# What to set `judge.model` to on platforms that may not know the default name. Claude Platform on
# AWS and on Google Cloud, which Anthropic runs, know the names of its own API.
_BEDROCK = "an inference profile's id, such as global.anthropic.claude-haiku-5-5, or its ARN"
_MANTLE = "a model's id on Bedrock, such as anthropic.claude-haiku-5-5"
_VERTEX = (
    "a model that is enabled in your project and region, such as claude-haiku-5-5 "
    "or claude-haiku-4-5@20251001"
)
_FOUNDRY = "the name that a Claude model has been deployed under in your resource"


class _Moderated:
    """Adds the keyword `moderation` to the SDK's client: see `magistrate.Anthropic`.

    Raises `SettingsError` if `judge.model` has to be set and is not.
    """

    moderation: Moderation
    _judge_model: ClassVar[str | None] = None  # what it can be, if it has to be set

    if TYPE_CHECKING:

        def __init__(
            self, *args: Any, moderation: ModerationSource = None, **options: Any
        ) -> None: ...
    else:

        def __init__(self, *args, moderation=None, **options) -> None:
            if args:  # Bedrock's client takes its parameters by position too
                signature = inspect.signature(super().__init__)
                options = dict(signature.bind_partial(*args, **options).arguments)
            given = tuple(options.pop("middleware", None) or ())
            self.moderation, chain = outermost(moderation, given)
            try:
                self._require_judge_model()
                super().__init__(middleware=chain, **options)
            except BaseException:
                if self.moderation not in (moderation, *given):
                    self.moderation.close()  # it was made here, so no other client has it
                raise

        def request(self, *args, **options):
            # An asynchronous request runs later, in a task that may have another context.
            if inspect.iscoroutinefunction(super().request):
                return self._request_later(*args, **options)
            with client_timeout(self.timeout):
                return super().request(*args, **options)

        async def _request_later(self, *args, **options):
            with client_timeout(self.timeout):
                return await super().request(*args, **options)

        def copy(self, **options):
            extra = {"moderation": self.moderation, **(options.get("_extra_kwargs") or {})}
            return super().copy(**{**options, "_extra_kwargs": extra})

        def __init_subclass__(cls) -> None:
            sdk = cls.__bases__[-1]
            if sdk.__module__.startswith("anthropic."):  # not an application's own subclass
                cls.__init__ = _signed(_Moderated.__init__, sdk.__init__)
                cls.copy = cls.with_options = _signed(_Moderated.copy, sdk.copy)

    def _require_judge_model(self) -> None:
        settings = self.moderation.settings
        asked = isinstance(self.moderation.judge, ClaudeJudge)
        if self._judge_model is None or settings.judge.model is not None or not asked:
            return
        message = (
            f"not set, and {type(self).__name__} may have no model called {DEFAULT_JUDGE_MODEL}; "
            f"set it to {self._judge_model}"
        )
        raise SettingsError([Problem(settings.source, None, None, "judge.model", message)])


def _signed(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Return our method with the SDK's signature, all of whose parameters it accepts."""

    @wraps(theirs)
    def method(*args: Any, **options: Any) -> Any:
        return ours(*args, **options)

    return method


class AnthropicBedrock(_Moderated, bedrock.AnthropicBedrock):
    """`anthropic.AnthropicBedrock` with moderation. Its streams arrive as server-sent events."""

    _judge_model = _BEDROCK


class AsyncAnthropicBedrock(_Moderated, bedrock.AsyncAnthropicBedrock):
    """`anthropic.AsyncAnthropicBedrock` with moderation; see `AnthropicBedrock`."""

    _judge_model = _BEDROCK


class AnthropicBedrockMantle(_Moderated, bedrock.AnthropicBedrockMantle):
    """`anthropic.AnthropicBedrockMantle` with moderation."""

    _judge_model = _MANTLE


class AsyncAnthropicBedrockMantle(_Moderated, bedrock.AsyncAnthropicBedrockMantle):
    """`anthropic.AsyncAnthropicBedrockMantle` with moderation."""

    _judge_model = _MANTLE


class AnthropicVertex(_Moderated, vertex.AnthropicVertex):
    """`anthropic.AnthropicVertex` with moderation."""

    _judge_model = _VERTEX


class AsyncAnthropicVertex(_Moderated, vertex.AsyncAnthropicVertex):
    """`anthropic.AsyncAnthropicVertex` with moderation."""

    _judge_model = _VERTEX


class AnthropicFoundry(_Moderated, anthropic.AnthropicFoundry):
    """`anthropic.AnthropicFoundry` with moderation."""

    _judge_model = _FOUNDRY


class AsyncAnthropicFoundry(_Moderated, anthropic.AsyncAnthropicFoundry):
    """`anthropic.AsyncAnthropicFoundry` with moderation."""

    _judge_model = _FOUNDRY


class AnthropicAWS(_Moderated, anthropic.AnthropicAWS):
    """`anthropic.AnthropicAWS` with moderation."""


class AsyncAnthropicAWS(_Moderated, anthropic.AsyncAnthropicAWS):
    """`anthropic.AsyncAnthropicAWS` with moderation."""


class AnthropicGoogleCloud(_Moderated, anthropic.AnthropicGoogleCloud):
    """`anthropic.AnthropicGoogleCloud` with moderation."""


class AsyncAnthropicGoogleCloud(_Moderated, anthropic.AsyncAnthropicGoogleCloud):
    """`anthropic.AsyncAnthropicGoogleCloud` with moderation."""
