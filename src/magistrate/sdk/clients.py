"""The drop-in clients: subclasses of the SDK's, with moderation as their outermost middleware.

The SDK does two things only for its exact classes, and this module restores both: it finds
credentials by itself, and keeps them on copies. For the first, the SDK's own constructor runs while
the new instance has the base class as its `__class__`; no other code can have the instance yet. The
layouts of the classes must be the same for that, so the two clients share functions, not a mixin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import anthropic
from anthropic import NotGiven

from magistrate.sdk.middleware import Moderation
from magistrate.sdk.timeouts import client_timeout
from magistrate.settings import Settings

ModerationSource: TypeAlias = (
    Moderation | Settings | str | os.PathLike[str] | Mapping[str, Any] | None
)


class Anthropic(anthropic.Anthropic):
    """`anthropic.Anthropic` with moderation. Every parameter of the SDK's client works.

    One more keyword: `moderation`, a path to a configuration, a mapping, `Settings`, or a
    `Moderation` to share. Without it: `$MAGISTRATE_CONFIG`, else `./magistrate.yaml`, else the
    defaults. Raises `SettingsError` for an invalid configuration, and `ReviewError` for a review
    store that cannot be opened.
    """

    moderation: Moderation

    # Type checkers see the SDK's own signatures, and `moderation` in the stub below. At run time
    # all parameters are passed through, so that one that the SDK adds works too.
    if TYPE_CHECKING:

        def __init__(self, *, moderation: ModerationSource = None, **options: Any) -> None: ...
    else:

        @wraps(anthropic.Anthropic.__init__)
        def __init__(self, *, moderation=None, middleware=None, **options) -> None:
            _set_up(self, Anthropic, moderation, middleware, options)

        @wraps(anthropic.Anthropic.copy)
        def copy(self, **options) -> Self:
            return super().copy(**_copy_options(self, options))

        @wraps(anthropic.Anthropic.request)
        def request(self, *args, **options):
            with client_timeout(self.timeout):
                return super().request(*args, **options)

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

        @wraps(anthropic.AsyncAnthropic.request)
        async def request(self, *args, **options):
            with client_timeout(self.timeout):
                return await super().request(*args, **options)

        with_options = copy


def outermost(source: ModerationSource, middleware: Any) -> tuple[Moderation, tuple[Any, ...]]:
    """Return the `Moderation` of a client, and its middleware including that."""
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
    # Not from the SDK's module: an application may have replaced the class there with ours.
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
    """Return the arguments of a copy: with the moderation, and credentials the SDK would drop."""
    extra: dict[str, Any] = {"moderation": client.moderation}
    inherits = isinstance(options.get("credentials", NotGiven()), NotGiven)
    # As in the SDK: an empty key counts as not given, an empty mapping as given.
    replaced = any(options.get(name) for name in ("api_key", "auth_token"))
    replaced = replaced or any(options.get(name) is not None for name in ("config", "profile"))
    static = client.api_key is not None or client.auth_token is not None
    if inherits and not replaced and not static and client.credentials is not None:
        extra["credentials"] = client.credentials
        host = options.get("base_url")
        if host is None or str(host).rstrip("/") == str(client.base_url).rstrip("/"):
            extra["_token_cache"] = client._token_cache
    return {**options, "_extra_kwargs": {**extra, **(options.get("_extra_kwargs") or {})}}
