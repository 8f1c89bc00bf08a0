"""Load policies from files: built-in ones by reference, a team's own by path."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from magistrate.config.compiled import read_compiled
from magistrate.config.diagnostics import Problem, SettingsError, listed, nearest
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document, read
from magistrate.policy.checks import violations
from magistrate.policy.model import DEFAULT_POLICY, Policy, PolicyFile


def builtin_refs() -> tuple[str, ...]:
    """Return the references of the policies that come with the package."""
    names = (
        re.fullmatch(r"(.+)-(\d{4}-\d{2}-\d{2})\.yaml", entry.name)
        for entry in (files("magistrate") / "policy" / "builtin").iterdir()
    )
    return tuple(sorted(f"{name[1]}@{name[2]}" for name in names if name))


def builtin_policy(ref: str = DEFAULT_POLICY) -> Policy:
    """Return a policy of the package; read once. Raises KeyError for an unknown reference."""
    return _builtin(ref)


@cache  # the argument is always passed, so that the default and its name share one entry
def _builtin(ref: str) -> Policy:
    if ref not in builtin_refs():
        raise KeyError(ref)
    with as_file(
        files("magistrate") / "policy" / "builtin" / f"{ref.replace('@', '-')}.yaml"
    ) as path:
        return _load(read_compiled(path))


def load_policy(
    source: str | os.PathLike[str], base: Path | None = None, named: str | None = None
) -> Policy:
    """Load a policy by reference (`id@version`) or from a file, relative to `base`.

    `named`: what messages show instead of `source`, which may hold a value of the environment.
    Raises `SettingsError`. The problem of an unknown reference has no position.
    """
    text = os.fspath(source)
    if isinstance(source, str) and not _looks_like_path(text):
        if text in builtin_refs():
            return builtin_policy(text)
        raise SettingsError([Problem(None, None, None, "", unknown_ref(named or text))])
    return _load(read((base or Path()) / text, named))


def unknown_ref(ref: str) -> str:
    known = builtin_refs()
    return (
        f"found the policy '{ref}'; allowed: {listed(known)}, or the path of a .yaml file"
        f"{nearest(ref, known)}"
    )


def _looks_like_path(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or "/" in text or os.sep in text


def _load(document: Document) -> Policy:
    found, problems, _ = parsed(PolicyFile, document)
    if problems or found is None:
        raise SettingsError(problems)
    included: Policy | None = None
    if found.include is not None:
        if found.include not in builtin_refs():
            raise SettingsError([document.problem(("include",), unknown_ref(found.include))])
        included = builtin_policy(found.include)
    problems = [document.problem_of(wrong) for wrong in violations(found, included)]
    if problems:
        raise SettingsError(problems)
    return _merged(found, included)


def _merged(found: PolicyFile, included: Policy | None) -> Policy:
    """Append the file's sections to the included ones; its other parts replace the included."""
    parts: dict[str, Any] = {name: getattr(found, name) for name in Policy.model_fields}
    if included is not None:
        parts["sections"] = included.sections + found.sections
        for name in ("high_risk", "disclosure", "integrity", "refusals"):
            if name not in found.model_fields_set:
                parts[name] = getattr(included, name)
    return Policy(**parts)
