"""Load settings from a file, a mapping, or the conventional place.

`Settings.load` is the entry point. It raises all problems of a file in one `SettingsError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import PrivateAttr

from magistrate.config.diagnostics import (
    ConstraintViolation,
    Problem,
    SettingsError,
    described,
    dotted,
)
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document, given, read
from magistrate.policy import Policy, load_policy
from magistrate.settings.checks import CHECKS
from magistrate.settings.model import SettingsModel
from magistrate.settings.variables import literal_notations, with_variables

CONFIG_VARIABLE = "MAGISTRATE_CONFIG"
CONFIG_FILE = "magistrate.yaml"


class Settings(SettingsModel):
    """The checked settings of one app. Made by `load`; immutable."""

    _source: str | None = PrivateAttr(default=None)

    @classmethod
    def load(
        cls,
        source: Settings | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Settings:
        """Load settings from a path, a mapping, or the conventional place.

        None tries $MAGISTRATE_CONFIG, then ./magistrate.yaml, then uses the defaults. Relative
        paths are relative to `cwd`; a policy's path is relative to the file that names it.
        `${NAME}` in a value of a file is replaced from `environ`; a mapping is taken as it is.
        Raises `SettingsError` with every problem found, `TypeError` for any other source.
        """
        here = Path(cwd) if cwd is not None else Path()
        if isinstance(source, Settings):
            _refuse(_violations(source, given({}), frozenset()))
            return source
        if isinstance(source, Mapping):
            document = given(source)
            return _from_document(document, here, literal_notations(document))
        if source is None:
            source = environ.get(CONFIG_VARIABLE) or None
        if source is None:
            if not os.path.lexists(here / CONFIG_FILE):
                return cls()
            source = CONFIG_FILE
        if not isinstance(source, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"found {described(source)}; allowed for moderation settings: the path of a file, "
                "a mapping, Settings, or None (and a Moderation, where a client is made)"
            )
        path = here / source
        document = read(path)
        if document.data is None:
            message = "the file is empty; write at least `version: 1`"
            raise SettingsError([*document.problems, Problem(str(path), 1, 1, "", message)])
        document, wrong = with_variables(cls, document, environ)
        settings = _from_document(document, path.parent, wrong)
        settings._source = str(path)
        return settings

    @property
    def source(self) -> str | None:
        """The file these settings came from; None for defaults and mappings."""
        return self._source


def _from_document(document: Document, base: Path, wrong: list[ConstraintViolation]) -> Settings:
    """Build settings from plain data. Raises `SettingsError` with all problems at once.

    `wrong`: values whose variables are wrong. Nothing else is reported about them.
    """
    problems: list[Problem] = []
    refused = frozenset(dotted(found.where) for found in wrong)
    data = document.data
    unknown_policy = False
    if isinstance(data, dict) and "policy" in data:
        data = dict(cast("dict[str, Any]", data))
        policy = data.pop("policy")
        try:
            if isinstance(policy, str | os.PathLike):
                named = document.expanded.get(("policy",))
                policy = load_policy(cast("str | os.PathLike[str]", policy), base, named)
            elif not isinstance(policy, Policy):
                found = document.written(("policy",)) or described(policy)
                message = f"found {found}; allowed: a policy's reference or the path of a file"
                raise SettingsError([Problem(None, None, None, "", message)])
            data["policy"] = policy
        except SettingsError as error:
            unknown_policy = True
            for problem in error.problems:
                if problem.line is None:  # in the reference to the policy, not in its file
                    place = f"{problem.file}: " if problem.file else ""
                    problem = document.problem(("policy",), place + problem.message)
                problems.append(problem)
        document = replace(document, data=data)
    settings, found, broken = parsed(Settings, document)
    problems += found
    if settings is not None:
        settings.remember_written(document.expanded)
        broken |= {"policy"} if unknown_policy else set[str]()
        broken |= {str(found.where[0]) for found in wrong if found.where}
        problems += _violations(settings, document, broken)
    problems = [at for at in problems if at.file != document.file or at.path not in refused]
    _refuse(problems + [document.problem_of(found) for found in wrong])
    assert settings is not None  # else there was a problem
    return settings


def _violations(settings: Settings, document: Document, broken: frozenset[str]) -> list[Problem]:
    """Return the constraint violations between those parts of the settings that are valid."""
    checks = [check for check in CHECKS if broken.isdisjoint(check.needs)]
    return [document.problem_of(found) for check in checks for found in check.find(settings)]


def _refuse(problems: list[Problem]) -> None:
    """Raise `SettingsError` with the problems, in the order of the file, if there are any."""
    if problems:
        raise SettingsError(sorted(problems, key=lambda at: (at.line or 0, at.column or 0)))
