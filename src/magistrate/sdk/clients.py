"""The drop-in clients: real subclasses of the SDK's, with moderation outermost in their chain.

Two things the SDK does only for its exact classes are restored here: finding credentials by itself,
and keeping them on copies. For the first, the SDK's own constructor runs while the new instance
counts as one of the base class; nobody else can hold the instance yet. For that, the layouts must
agree, so the two classes share functions rather than a mixin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import anthropic
from anthropic import NotGiven

from magistrate.sdk.middleware import Moderation
from magistrate.settings import Settings

ModerationSource: TypeAlias = (
    Moderation | Settings | str | os.PathLike[str] | Mapping[str, Any] | None
)


class Anthropic(anthropic.Anthropic):
    """`anthropic.Anthropic` with moderation. Every parameter of the SDK's client works.

    One more keyword: `moderation`, a path to a configuration, a mapping, `Settings`, or a
    `Moderation` to share. Without it: `$MAGISTRATE_CONFIG`, else `./magistrate.yaml`, else the
    defaults. Raises `SettingsError` for a configuration that does not hold, and `ReviewError` for
    a review store that cannot be opened.
    """

    moderation: Moderation

    # For type checkers the SDK's own signatures stand, and `moderation` is stated in the stub part
    # below; at run time everything is passed through, so that a parameter the SDK adds works too.
    if TYPE_CHECKING:

        def __init__(self, *, moderation: ModerationSource = None, **options: Any) -> None: ...
    else:

        @wraps(anthropic.Anthropic.__init__)
        def __init__(self, *, moderation=None, middleware=None, **options) -> None:
            _set_up(self, Anthropic, moderation, middleware, options)

        @wraps(anthropic.Anthropic.copy)
        def copy(self, **options) -> Self:
            return super().copy(**_copy_options(self, options))

        with_options = copy


class AsyncAnthropic(anthropic.AsyncAnthropic):
    """`anthropic.AsyncAnthropic` with moderation; see `Anthropic`."""

    moderation: Moderation

    if TYPE_CHECKING:

        def __init__(self, *, moderation: ModerationSource = None, **options: Any) -> None: ...
    else:

        @wraps(anthropic.AsyncAnthropic.__init__)
        def __init__(self, *, moderation=None, middleware=None, **options) -> None:
            _set_up(self, AsyncAnthropic, moderation, middleware, options)

        @wraps(anthropic.AsyncAnthropic.copy)
        def copy(self, **options) -> Self:
            return super().copy(**_copy_options(self, options))

        with_options = copy


def outermost(source: ModerationSource, middleware: Any) -> tuple[Moderation, tuple[Any, ...]]:
    """The `Moderation` that a client is to have, and its middleware with that in it."""
    chain: tuple[Any, ...] = tuple(middleware or ())
    placed = next((item for item in chain if isinstance(item, Moderation)), None)
    if isinstance(source, Moderation):
        moderation = source
    elif source is None and placed is not None:
        moderation = placed
    else:
        moderation = Moderation(source)
    return moderation, chain if moderation in chain else (moderation, *chain)


def _set_up(
    client: Any,
    ours: type,
    source: ModerationSource,
    middleware: Any,
    options: dict[str, Any],
) -> None:
    client.moderation, chain = outermost(source, middleware)
    # Not looked up in the SDK's module, where an application may have put ours in its place.
    base: Any = ours.__base__
    cls: Any = client.__class__
    exact = cls is ours  # a user's own subclass is treated as the SDK treats any subclass
    if exact:
        client.__class__ = base
    try:
        base.__init__(client, middleware=chain, **options)
    finally:
        if exact:
            client.__class__ = cls


def _copy_options(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """A copy's arguments: the same moderation, and the credentials that the SDK would drop."""
    extra: dict[str, Any] = {"moderation": client.moderation}
    inherits = isinstance(options.get("credentials", NotGiven()), NotGiven)
    # As the SDK reads them: an empty key is none, an empty mapping is one.
    replaced = any(options.get(name) for name in ("api_key", "auth_token"))
    replaced = replaced or any(options.get(name) is not None for name in ("config", "profile"))
    static = client.api_key is not None or client.auth_token is not None
    if inherits and not replaced and not static and client.credentials is not None:
        extra["credentials"] = client.credentials
        host = options.get("base_url")
        if host is None or str(host).rstrip("/") == str(client.base_url).rstrip("/"):
            extra["_token_cache"] = client._token_cache
    return {**options, "_extra_kwargs": {**extra, **(options.get("_extra_kwargs") or {})}}
