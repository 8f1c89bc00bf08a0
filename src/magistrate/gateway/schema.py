"""The gateway's file: which API it stands in front of, and the apps it serves."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from magistrate.config.schema import Listed, Strict, Text, must_be

DEFAULT_UPSTREAM = "https://api.anthropic.com"


def _one(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        return value
    raise must_be("1, the only version of this file")


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", value):
        raise must_be("an address such as https://api.anthropic.com, without query or credentials")
    return value.rstrip("/")


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise must_be("the name of an environment variable")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise must_be("up to 64 letters, digits, and `_`, `.` or `-`")
    return value


Url = Annotated[str, AfterValidator(_url)]


class AppSettings(Strict):
    """One app behind the gateway.

    `config`: its magistrate.yaml, relative to this file. `keys`: hashes of the keys that callers
    of this app present; without any, callers present their own credentials for upstream.
    """

    name: Annotated[str, AfterValidator(_name)]
    config: Text | None = None
    keys: Listed[Text] = ()


class GatewaySettings(Strict):
    """What one gateway serves.

    `upstream_key_env`: the variable that holds the key for upstream, where callers present keys of
    the gateway. `public_url`: the gateway's address as callers see it, if not the one in `Host`.
    """

    upstream: Url = DEFAULT_UPSTREAM
    upstream_key_env: Annotated[str, AfterValidator(_variable)] = "ANTHROPIC_API_KEY"
    public_url: Url | None = None
    apps: Listed[AppSettings] = Field(default=(AppSettings(name="app"),))


class GatewayFile(Strict):
    """The whole file."""

    version: Annotated[Literal[1], BeforeValidator(_one)] = 1
    gateway: GatewaySettings
