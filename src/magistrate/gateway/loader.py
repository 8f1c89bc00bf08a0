"""Load the gateway's file, and the settings of every app it names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document, given, read
from magistrate.gateway.keys import is_key_hash
from magistrate.gateway.schema import AppSettings, GatewayFile, GatewaySettings
from magistrate.settings import Settings
from magistrate.settings.loader import CONFIG_FILE, CONFIG_VARIABLE
from magistrate.settings.variables import with_variables
from magistrate.wire.messages import is_object


@dataclass(frozen=True, slots=True)
class Served:
    """What a gateway serves: its settings, and those of each app by name."""

    gateway: GatewaySettings
    apps: Mapping[str, Settings]

    @property
    def uses_keys(self) -> bool:
        """Return whether any app's callers present keys of the gateway."""
        return any(app.keys for app in self.gateway.apps)


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    upstream: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Served:
    """Load a gateway's file, or the settings of one app, which is then all that is served.

    None looks where settings are looked for: $MAGISTRATE_CONFIG, ./magistrate.yaml, the defaults.
    `upstream` replaces the address in the file. Raises `SettingsError` with every problem found.
    """
    if source is None:
        source = environ.get(CONFIG_VARIABLE) or (
            CONFIG_FILE if Path(CONFIG_FILE).exists() else None
        )
    document = read(Path(source)) if source is not None else None
    if document is None or not _is_gateway(document):
        settings = Settings.load(source, environ=environ)
        name = AppSettings.model_validate({"name": "app"})
        gateway = _checked(GatewaySettings(apps=(name,)), upstream)
        return Served(gateway, {"app": settings})
    assert source is not None
    return _of_file(Path(source), document, upstream, environ)


def _is_gateway(document: Document) -> bool:
    return is_object(document.data) and "gateway" in document.data


def _checked(gateway: GatewaySettings, upstream: str | None) -> GatewaySettings:
    if upstream is None:
        return gateway
    shape = gateway.model_dump(mode="json") | {"upstream": upstream}
    found, problems, _ = parsed(GatewayFile, given({"gateway": shape}))
    if problems or found is None:
        raise SettingsError([Problem("--upstream", None, None, "", problems[0].message)])
    return found.gateway


def _of_file(
    path: Path, document: Document, upstream: str | None, environ: Mapping[str, str]
) -> Served:
    document, wrong = with_variables(GatewayFile, document, environ)
    found, problems, _ = parsed(GatewayFile, document)
    problems += [document.problem_of(each) for each in wrong]
    apps: dict[str, Settings] = {}
    if found is not None:
        problems += _violations(found.gateway, document)
        for at, app in enumerate(found.gateway.apps):
            try:
                where = None if app.config is None else path.parent / app.config
                apps[app.name] = (
                    Settings() if where is None else Settings.load(where, environ=environ)
                )
            except SettingsError as error:
                place = ("gateway", "apps", at, "config")
                problems += [
                    one if one.line is not None else document.problem(place, str(one))
                    for one in error.problems
                ]
    if found is not None and not problems:
        problems += _shared_names(found.gateway, apps, document)
    if problems or found is None:
        raise SettingsError(problems)
    return Served(_checked(found.gateway, upstream), apps)


def _shared_names(
    gateway: GatewaySettings, apps: Mapping[str, Settings], document: Document
) -> list[Problem]:
    """Return which apps would read each other's records: one name in one store."""
    found: list[Problem] = []
    seen: dict[tuple[str, str], str] = {}
    for at, app in enumerate(gateway.apps):
        settings = apps[app.name]
        stores = [settings.review.store if settings.review is not None else "", settings.state]
        for store in stores:
            if store in ("", "memory"):
                continue
            other = seen.setdefault((settings.app_name, store), app.name)
            if other != app.name:
                message = (
                    f"{app.name} and {other} share a store under the name "
                    f"{settings.app_name!r}, so they would read each other's records: give each an "
                    "`app.name` of its own"
                )
                found.append(document.problem(("gateway", "apps", at, "name"), message))
    return found


def _violations(gateway: GatewaySettings, document: Document) -> list[Problem]:
    """Return what is wrong between the apps."""
    found: list[Problem] = []
    if not gateway.apps:
        found.append(document.problem(("gateway", "apps"), "name at least one app"))
    names = Counter(app.name for app in gateway.apps)
    keys = Counter(key for app in gateway.apps for key in app.keys)
    for at, app in enumerate(gateway.apps):
        place = ("gateway", "apps", at)
        if names[app.name] > 1:
            found.append(document.problem((*place, "name"), f"two apps are called {app.name!r}"))
        for number, key in enumerate(app.keys):
            if not is_key_hash(key):  # not shown: it may be a key
                message = "not a hash: list what `magistrate gateway key new` printed as one"
                found.append(document.problem((*place, "keys", number), message))
        if any(keys[key] > 1 for key in app.keys):
            message = "a key is listed twice: a key belongs to one app"
            found.append(document.problem((*place, "keys"), message))
        if app.hooks and not app.hooks.secrets_env and not app.hooks.allow_unsigned:
            message = "name the variable that holds the secret: without one, no frame is accepted"
            found.append(document.problem((*place, "hooks"), message))
    if any(app.keys for app in gateway.apps) and not all(app.keys for app in gateway.apps):
        message = (
            "some apps have keys and some have none: without a key, a caller of the first would be "
            "served as one of the others"
        )
        found.append(document.problem(("gateway", "apps"), message))
    return found
