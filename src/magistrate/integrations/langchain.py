"""LangChain: its `ChatAnthropic`, with moderated clients.

    from magistrate.integrations.langchain import ChatAnthropic

    chat = ChatAnthropic(model="claude-sonnet-5-5", moderation="magistrate.yaml")

Importing this module needs the package `langchain-anthropic`.
"""

# magistrate is type-checked without LangChain, so the base class is unknown there.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from magistrate.sdk.clients import Anthropic, AsyncAnthropic, ModerationSource
from magistrate.sdk.middleware import Moderation

try:
    from langchain_anthropic import ChatAnthropic as _ChatAnthropic
except ImportError as exc:
    raise ImportError(
        "magistrate.integrations.langchain needs langchain-anthropic:"
        " pip install 'langchain-anthropic>=1.7'"
    ) from exc


class ChatAnthropic(_ChatAnthropic):
    """`langchain_anthropic.ChatAnthropic` with moderation. Every parameter of it works.

    One more keyword: `moderation`, as in `magistrate.Anthropic`. As an attribute it is the
    `Moderation` that the sync and the async client share, for its records and reviews. Raises
    `SettingsError` for an invalid configuration, and `ReviewError` for a review store that cannot
    be opened.

    A refusal is an ordinary message: `response_metadata["stop_reason"]` is `"refusal"`, and
    `response_metadata["moderation"]` has the decision. A model in `with_fallbacks` has to be
    moderated too.
    """

    moderation: Any = Field(default=None, exclude=True, repr=False)

    def __init__(self, *args: Any, moderation: ModerationSource = None, **options: Any) -> None:
        # Made here and not in a validator: pydantic would wrap `SettingsError`, a `ValueError`.
        made = moderation if isinstance(moderation, Moderation) else Moderation(moderation)
        super().__init__(*args, moderation=made, **options)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """False: a saved chain would be loaded with LangChain's class, without moderation."""
        return False

    @cached_property
    def _client(self) -> Anthropic:
        http_client = super()._client._client
        return Anthropic(moderation=self.moderation, http_client=http_client, **self._client_params)

    @cached_property
    def _async_client(self) -> AsyncAnthropic:
        http_client = super()._async_client._client
        return AsyncAnthropic(
            moderation=self.moderation, http_client=http_client, **self._client_params
        )
