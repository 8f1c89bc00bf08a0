"""Variables of the environment in the settings file: `${NAME}` and `${NAME:-default}`.

They are replaced in values, never in keys, after the file was parsed: a value from the environment
arrives as it is, cannot change the structure of the file, and is not looked at for variables again.
Other notations for the same thing are refused by name where they can mean nothing else.

No message here contains a value from the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel

from magistrate.config.diagnostics import ConstraintViolation, Where, shown
from magistrate.config.schema import annotation_at
from magistrate.config.yaml_document import DECIMAL, INTEGER, Document

# What a value is for decides which notations can be meant in it. All others are names and words.
_PROSE = (("texts",), ("disclosure",))  # what people read: "$5", "~" and "100%" are just that
_PATHS = (("policy",), ("review", "store"))
_NAMES_OF_VARIABLES = (("digest_key_env",),)

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE = re.compile(
    rf"\$(?P<escape>\$\{{)|\$\{{(?P<name>{_NAME})(?::-(?P<default>(?:(?!\$\{{)[^}}])*))?\}}"
    r"|(?P<malformed>\$\{[^}]*\}?)"
)
_TEMPLATE = re.compile(r"\{\{\s*env\b.*?\}\}", re.DOTALL)
_PERCENT = re.compile(rf"%\(({_NAME})\)s")
_OS_ENVIRON = re.compile(rf"(?:^|/)os\.environ/({_NAME})")
# At the start of a value or of a folder's name, or in capitals after a separator.
_DOLLAR = re.compile(rf"(?:^|/)\$({_NAME})|(?<![A-Za-z0-9$])\$([A-Z_][A-Z0-9_]+)")
_WHOLE = re.compile(rf"\$({_NAME})|os\.environ/({_NAME})|%\(({_NAME})\)s")


def with_variables(
    model: type[BaseModel], document: Document, environ: Mapping[str, str]
) -> tuple[Document, list[ConstraintViolation]]:
    """Return the document with the values of its variables, and what is wrong with them.

    Where `model` wants a number, true or false, and the whole value is one variable, its value is
    read as such. A value that is wrong stays as it was written.
    """
    expanded: dict[Where, str] = {}
    found: list[ConstraintViolation] = []

    def filled(value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value).items()
            return {key: filled(item, (*where, key)) for key, item in items}
        if isinstance(value, list):
            items = cast("list[Any]", value)
            return [filled(item, (*where, i)) for i, item in enumerate(items)]
        if not isinstance(value, str):
            return value
        wrong = list(_violations(value, where, environ))
        found.extend(ConstraintViolation(where, message) for message in wrong)
        if wrong or "${" not in value:
            return value
        text = _VARIABLE.sub(lambda match: _value(match, environ) or "", value)
        if any(match["name"] for match in _VARIABLE.finditer(value)):
            expanded[where] = value
        if where in _PATHS and (message := _tilde(text)):
            found.append(ConstraintViolation(where, f"{_found(value)}: {message}"))
            return value
        whole = _VARIABLE.fullmatch(value)
        return _typed(text, annotation_at(model, where)) if whole and whole["name"] else text

    data = filled(document.data, ())
    return replace(document, data=data, expanded=expanded), found


def literal_notations(document: Document) -> list[ConstraintViolation]:
    """Return the variables in a Python mapping, which is taken as it is.

    Only those in paths, names and words: in what people read, a mapping says what it says.
    """
    found: list[ConstraintViolation] = []

    def look(value: Any, where: Where) -> None:
        if isinstance(value, dict):
            for key, item in cast("dict[str, Any]", value).items():
                look(item, (*where, key))
        elif isinstance(value, list):
            for i, item in enumerate(cast("list[Any]", value)):
                look(item, (*where, i))
        elif isinstance(value, str) and where[:1] not in _PROSE:
            notation = re.search(rf"\$\{{{_NAME}(?::-[^}}]*)?\}}", value)
            remedy = "a Python mapping is taken as it is; use os.environ"
            if notation or (where in _PATHS and _tilde(value)) or _other(value, where):
                found.append(ConstraintViolation(where, f"{_found(value)}: {remedy}"))

    look(document.data, ())
    return found


def _violations(value: str, where: Where, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with the variables in one value, as messages."""
    if where in _NAMES_OF_VARIABLES and (name := re.fullmatch(rf"\$\{{?({_NAME})\}}?", value)):
        yield f"{_found(value)}: this key takes the name of a variable; write {name[1]}"
        return
    for match in _VARIABLE.finditer(value):
        if match["malformed"]:
            yield (
                f"{_found(match['malformed'])}; allowed: ${{NAME}} or ${{NAME:-default}}, without "
                "others inside; for the characters ${ write $${"
            )
        elif match["name"] and _value(match, environ) is None:
            name = match["name"]
            yield (
                f"the environment variable {name} is not set; "
                f"set it, or write ${{{name}:-a default}}"
            )
    rest = _VARIABLE.sub("", value) if "${" in value else value
    if message := _other(rest, where) or (_tilde(value) if where in _PATHS else None):
        yield f"{_found(value)}: {message}"


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str | None:
    """Return what replaces one match; None if its variable is not set and has no default."""
    if match["escape"]:
        return "${"
    if match["default"] is not None:  # as in a shell: `:-` also replaces an empty value
        return environ.get(match["name"]) or match["default"]
    return environ.get(match["name"])


def _other(value: str, where: Where) -> str | None:
    """Return the message about another notation that is clearly meant in this value, if any."""
    if template := _TEMPLATE.search(value):
        return f"{shown(template[0])} is not replaced; write ${{NAME}}"
    if where[:1] in _PROSE:
        match = _WHOLE.fullmatch(value.strip())
    else:
        match = _PERCENT.search(value) or _OS_ENVIRON.search(value) or _DOLLAR.search(value)
    if match is None:
        return None
    name = next(group for group in match.groups() if group)
    return f"{match[0].removeprefix('/')} is not replaced; write ${{{name}}}"


def _tilde(value: str) -> str | None:
    """Return the message about a path that begins with `~`, if it does."""
    if value.removeprefix("sqlite:///").startswith("~"):
        return "~ is not replaced; write ${HOME}, or ./~ for a name that begins so"
    return None


def _found(value: str) -> str:
    return f"found '{shown(value)}'"


def _typed(text: str, annotation: Any) -> Any:
    """Return a value as the number, true or false that the schema wants, else the text itself."""
    kinds = set(_kinds(annotation))
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kinds & {int, float} and INTEGER.fullmatch(text):
        return int(text)
    if float in kinds and DECIMAL.fullmatch(text) and text.strip("+-."):
        return float(text)
    return text


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the types of the scalars that an annotation allows."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif annotation in (str, bool, int, float):
        yield annotation
    elif get_origin(annotation) not in (tuple, dict):
        for part in get_args(annotation):
            yield from _kinds(part)
