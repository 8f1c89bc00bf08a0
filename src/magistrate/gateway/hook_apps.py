"""The apps that answer inference hooks: their secrets, and the key their judges ask with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.gateway.apps import App, Apps
from magistrate.gateway.http import Headers
from magistrate.gateway.loader import Served
from magistrate.gateway.schema import HooksSettings
from magistrate.gateway.signatures import key_of


@dataclass(frozen=True, slots=True)
class HookApp:
    """One app with hooks. `keys` sign its frames; `headers` are its judge's credentials."""

    app: App
    settings: HooksSettings
    keys: tuple[bytes, ...]
    headers: Headers


def hook_apps(
    served: Served, apps: Apps, environ: Mapping[str, str] = os.environ
) -> dict[str, HookApp]:
    """Return the apps with hooks, by name.

    Raises `SettingsError` with every variable of the environment that is missing or unusable. No
    message contains a value.
    """
    found: dict[str, HookApp] = {}
    problems: list[str] = []
    by_name = {app.name: app for app in apps.all}
    for each in served.gateway.apps:
        if (hooks := each.hooks) is None:
            continue
        app, keys, headers = by_name[each.name], list[bytes](), Headers()
        for name in hooks.secrets_env:
            try:
                keys.append(key_of(environ.get(name) or ""))
            except ValueError as error:
                why = f": {error}" if environ.get(name) else " is not set"
                problems.append(f"hooks of {each.name}: the environment variable {name}{why}")
        if app.engine.settings.judge.backend == "claude":
            name = hooks.upstream_key_env or served.gateway.upstream_key_env
            if key := environ.get(name):
                headers.append(("x-api-key", key))
            else:
                problems.append(
                    f"hooks of {each.name}: the environment variable {name} is not set: a hook "
                    "brings no credentials, so the judge needs the key for upstream in it"
                )
        found[each.name] = HookApp(app, hooks, tuple(keys), headers)
    if problems:
        raise SettingsError([Problem(None, None, None, "", message) for message in problems])
    return found
