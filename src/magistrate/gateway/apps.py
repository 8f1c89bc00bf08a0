"""The apps behind one gateway: which one a request belongs to, and what it may present upstream."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.engine.engine import Engine
from magistrate.gateway.http import APP_HEADER, BadRequest, Headers, Request
from magistrate.gateway.keys import key_hash
from magistrate.gateway.loader import Served
from magistrate.judging.selection import judge_for

_CREDENTIALS = frozenset({"x-api-key", "authorization"})


@dataclass(frozen=True, slots=True)
class App:
    """One app and its engine."""

    name: str
    engine: Engine


class Apps:
    """All apps of a gateway. Raises `ReviewError` if a review store cannot be opened.

    Raises `SettingsError` if callers are to present keys of the gateway and the variable with the
    key for upstream is not set.
    """

    def __init__(self, served: Served, environ: Mapping[str, str] = os.environ) -> None:
        gateway = served.gateway
        self._upstream_key: str | None = None
        if served.uses_keys:
            self._upstream_key = environ.get(gateway.upstream_key_env) or None
            if self._upstream_key is None:
                message = (
                    f"the environment variable {gateway.upstream_key_env} is not set: apps with "
                    "keys of their own need the key for upstream in it"
                )
                raise SettingsError([Problem(None, None, None, "", message)])
        self._by_name: dict[str, App] = {}
        for name, settings in served.apps.items():
            self._by_name[name] = App(name, Engine(settings, judge_for(settings)))
        self._by_key = {key: self._by_name[app.name] for app in gateway.apps for key in app.keys}

    @property
    def all(self) -> tuple[App, ...]:
        """Return every app."""
        return tuple(self._by_name.values())

    def of(self, request: Request) -> App:
        """Return the app that a request belongs to. Raises `BadRequest` if there is none."""
        if self._upstream_key is not None:
            presented = _presented(request)
            found = self._by_key.get(key_hash(presented)) if presented else None
            if found is None:
                raise BadRequest(401, "authentication_error", "present a key of this gateway")
            return found
        name = request.header(APP_HEADER)
        if name is None and len(self._by_name) == 1:
            return next(iter(self._by_name.values()))
        if name is None or name not in self._by_name:
            names = ", ".join(self._by_name)
            message = f"name the app in the header {APP_HEADER}: one of {names}"
            raise BadRequest(400, "invalid_request_error", message)
        return self._by_name[name]

    def headers(self, request: Request) -> Headers:
        """Return the headers that go upstream, with the credentials that are valid there."""
        found = request.forwarded_headers()
        if self._upstream_key is None:
            return found
        found = [(key, value) for key, value in found if key not in _CREDENTIALS]
        return [*found, ("x-api-key", self._upstream_key)]

    def close(self) -> None:
        """Close every engine."""
        for app in self.all:
            app.engine.close()


def _presented(request: Request) -> str | None:
    """Return the key that a request presents, in either of the API's two headers."""
    if (key := request.header("x-api-key")) is not None:
        return key
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
