"""The gateway's file: which API it stands in front of, and the apps it serves."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from magistrate.config.fields import FormatVersion, VariableName
from magistrate.config.schema import Listed, Strict, Text, must_be
from magistrate.core.hook_verdicts import OnError

DEFAULT_UPSTREAM = "https://api.anthropic.com"


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", value):
        raise must_be("an address such as https://api.anthropic.com, without query or credentials")
    return value.rstrip("/")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise must_be("up to 64 letters, digits, and `_`, `.` or `-`")
    return value


Url = Annotated[str, AfterValidator(_url)]


class HooksSettings(Strict):
    """How one app answers inference hooks.

    `secrets_env`: the variables that hold the secrets of its webhooks; of several, any may have
    signed a frame, as while a secret is rotated. `upstream_key_env`: the variable with the key that
    its judge asks with, if not the gateway's. `on_error`: the verdict where magistrate itself
    fails. `allow_unsigned`: also take frames without any signature.
    """

    secrets_env: Listed[VariableName] = ()
    upstream_key_env: VariableName | None = None
    on_error: OnError = "deny"
    allow_unsigned: bool = False


class AppSettings(Strict):
    """One app behind the gateway.

    `config`: its magistrate.yaml, relative to this file. `keys`: hashes of the keys that callers
    of this app present; without any, callers present their own credentials for upstream.
    `hooks`: how it answers Anthropic's inference hooks; without it, it answers none.
    """

    name: Annotated[str, AfterValidator(_name)]
    config: Text | None = None
    keys: Listed[Text] = ()
    hooks: HooksSettings | None = None


class GatewaySettings(Strict):
    """What one gateway serves.

    `upstream_key_env`: the variable that holds the key for upstream, where callers present keys of
    the gateway. `public_url`: the gateway's address as callers see it, if not the one in `Host`.
    """

    upstream: Url = DEFAULT_UPSTREAM
    upstream_key_env: VariableName = "ANTHROPIC_API_KEY"
    public_url: Url | None = None
    apps: Listed[AppSettings] = Field(default=(AppSettings(name="app"),))


class GatewayFile(Strict):
    """The whole file."""

    version: FormatVersion = 1
    gateway: GatewaySettings
