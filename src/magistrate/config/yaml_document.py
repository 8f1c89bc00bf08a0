"""Read YAML files into plain data, with the position of every key and value.

Only this module knows positions in files. Schemas are in `schema.py`. No file is written here.

The file is composed to ruamel's node graph instead of being constructed. Nodes know where they
begin and how they were written, so `012` or `1_000` can be reported as written instead of being
read as a number, and all duplicate keys are found in one pass.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tokens import DirectiveToken

from magistrate.config.diagnostics import (
    ConstraintViolation,
    Problem,
    SettingsError,
    Where,
    described,
    dotted,
    shown,
)

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000  # after expanding aliases: a small file can expand to billions

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})?(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_CORE = "tag:yaml.org,2002:"
_BREAKS = ("\r\n", "\n", "\r", "\x85", "\u2028", "\u2029")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value and its key begin (line, column; from 1), and how a scalar was written."""

    key: tuple[int, int] | None
    value: tuple[int, int]
    written: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and, if it was read from a file, the position of every key and value."""

    file: str | None
    data: Any
    marks: Mapping[Where, Mark] = field(default_factory=dict[Where, Mark])
    problems: tuple[Problem, ...] = ()
    expanded: Mapping[Where, str] = field(default_factory=dict[Where, str])  # as they were written

    def problem(self, where: Where, message: str, *, on_key: bool = False) -> Problem:
        """Return a problem at `where`, or at the closest enclosing value that is in the file."""
        place: tuple[int, int] | None = None
        for end in range(len(where), -1, -1):
            if mark := self.marks.get(where[:end]):
                # A key missing in a mapping is reported at the mapping's own key. A scalar may
                # have been read as a list of one item.
                use_key = on_key if end == len(where) else isinstance(where[end], str)
                place = mark.key if use_key and mark.key else mark.value
                break
        line, column = place or (None, None)
        return Problem(self.file, line, column, dotted(where), message)

    def problem_of(self, found: ConstraintViolation) -> Problem:
        return self.problem(found.where, found.message, on_key=found.on_key)

    def written(self, where: Where) -> str | None:
        """Return the scalar at `where` as written in the file, quotes included."""
        mark = self.marks.get(where)
        return mark.written if mark else None


def read(path: str | os.PathLike[str], named: str | None = None) -> Document:
    """Read one YAML file. Raises `SettingsError` if it cannot be read or is not YAML.

    Duplicate keys and tags do not raise: they are listed in `Document.problems`. `named`: the name
    of the file in messages, if it is not its path.
    """
    file = named or os.fspath(path)
    if os.path.isdir(path):
        _refuse(file, "this is a directory; give the path of a YAML file")
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        _refuse(file, "this file does not exist")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        _refuse(file, f"cannot be read ({getattr(error, 'strerror', None) or error})")
    if len(raw) > MAX_BYTES:
        _refuse(file, f"is larger than {MAX_BYTES:,} bytes, the limit for these files")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _position(raw[: error.start].decode("utf-8", "replace"))
        _refuse(file, "is not UTF-8 text; save it as UTF-8", line, column)
    return parse(text, file)


def parse(text: str, file: str | None = None) -> Document:
    """Parse YAML text. Raises `SettingsError` as `read` does."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    try:
        directive = _directive(text)
        root = yaml.compose(text)
    except ReaderError as error:
        line, column = _position(text[: cast("Any", error).position])
        _refuse(file, "contains a control character that YAML does not allow", line, column)
    except MarkedYAMLError as error:
        _refuse_marked(file, error)
    except RecursionError:
        _refuse(file, "is nested too deeply")
    except Exception as error:  # any parser failure means an invalid file
        _refuse(file, f"cannot be read as YAML ({type(error).__name__})")
    if directive is not None:
        _refuse(
            file,
            "contains a directive (a line that begins with %), which can change what values mean; "
            "remove it: files are read as YAML 1.2",
            *directive,
        )
    if root is None:
        return Document(file, None)
    reading = _Reading(file)
    try:
        data = reading.plain(root, (), None)
    except _TooMuch as error:
        _refuse(file, str(error))
    return Document(file, data, reading.marks, tuple(reading.problems))


def given(data: Mapping[Any, Any]) -> Document:
    """Return a Python mapping as a document without positions. Raises `SettingsError`."""
    reading = _Reading(None)
    try:
        plain = reading.copied(data, ())
    except _TooMuch as error:
        _refuse(None, str(error))
    return Document(None, plain, {}, tuple(reading.problems))


class _TooMuch(Exception):
    pass


class _Reading:
    """Makes plain copies of a node graph or of Python data, within the limits above."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.marks: dict[Where, Mark] = {}
        self.problems: list[Problem] = []
        self.values = 0

    def plain(self, node: Any, where: Where, key: tuple[int, int] | None) -> Any:
        self._count(where)
        begin = (node.start_mark.line + 1, node.start_mark.column + 1)
        if node.id == "scalar":
            return self._scalar(node, where, key, begin)
        self.marks[where] = Mark(key, begin)
        if node.id == "sequence":
            self._tag(node, where, "seq", begin)
            items = cast("list[Any]", node.value)
            return [self.plain(item, (*where, i), None) for i, item in enumerate(items)]
        self._tag(node, where, "map", begin)
        return self._mapping(node, where)

    def copied(self, value: object, where: Where) -> Any:
        self._count(where)
        if isinstance(value, Mapping):
            result: dict[str, Any] = {}
            for key, item in cast("Mapping[object, object]", value).items():
                if isinstance(key, str):
                    result[key] = self.copied(item, (*where, key))
                else:
                    message = f"found the key {described(key)}; keys must be text"
                    self.problems.append(Problem(None, None, None, dotted(where), message))
            return result
        if isinstance(value, list | tuple):
            items = cast("list[object]", value)
            return [self.copied(item, (*where, i)) for i, item in enumerate(items)]
        return value

    def _count(self, where: Where) -> None:
        self.values += 1
        if len(where) > MAX_DEPTH:
            raise _TooMuch("is nested too deeply, or refers to itself")
        if self.values > MAX_VALUES:
            raise _TooMuch(f"expands to more than {MAX_VALUES:,} values")

    def _problem(self, where: Where, place: tuple[int, int], message: str) -> None:
        self.problems.append(Problem(self.file, *place, dotted(where), message))

    def _tag(self, node: Any, where: Where, expected: str, begin: tuple[int, int]) -> None:
        if node.tag != _CORE + expected:
            tag = shown(str(node.tag))
            self._problem(where, begin, f"found the tag {tag}; tags are not allowed: remove it")

    def _mapping(self, node: Any, where: Where) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in cast("list[tuple[Any, Any]]", node.value):
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key_node.id != "scalar":
                self._problem(where, place, "found a list or mapping as a key; keys must be text")
                continue
            key = str(key_node.value)  # as written: `012` and `true` are just words here
            if key_node.tag == _CORE + "merge":
                message = "merge keys (<<) are not part of YAML 1.2; write the keys out"
                self._problem((*where, key), place, message)
            elif key in result:
                first = self.marks[(*where, key)].key or place
                message = f"duplicate key '{shown(key)}', first on line {first[0]}; keep one"
                self._problem((*where, key), place, message)
            else:
                result[key] = self.plain(value_node, (*where, key), place)
        return result

    def _scalar(
        self, node: Any, where: Where, key: tuple[int, int] | None, begin: tuple[int, int]
    ) -> Any:
        text = str(node.value)
        tag = str(node.tag).removeprefix(_CORE)
        quoted = bool(node.style)
        nothing = tag == "null" and not text
        # The position of an absent value would be that of the next key.
        self.marks[where] = Mark(
            key,
            key if nothing and key else begin,
            f'"{shown(text)}"' if quoted else "nothing" if tag == "null" else shown(text),
        )
        if tag == "null":
            return None
        if tag == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag == "int" and INTEGER.fullmatch(text):
            return int(text)
        if tag == "float" and DECIMAL.fullmatch(text) and text.strip("+-."):
            return float(text)
        if tag not in ("str", "bool", "int", "float", "timestamp", "merge", "value"):
            self._tag(node, where, "str", begin)
        return text  # also 012, 1_000, .nan and dates: a schema that wants a number reports them


def _directive(text: str) -> tuple[int, int] | None:
    if "%" not in text:  # scanning twice is slow, and directives are rare
        return None
    yaml: Any = YAML(typ="safe", pure=True)
    for token in yaml.scan(text):
        if isinstance(token, DirectiveToken):
            return token.start_mark.line + 1, token.start_mark.column + 1
    return None


def _position(before: str) -> tuple[int, int]:
    for mark in _BREAKS:
        before = before.replace(mark, "\n")
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _refuse_marked(file: str | None, error: Any) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    words = shown(f"{error.problem or error.context or 'something unexpected'}", 200)
    words = words.replace("<block end>", "the end of the block")
    if error.context == "while scanning a quoted scalar" and error.context_mark:
        # The parser reports this at the end of the file.
        place = error.context_mark
        message = "this is not valid YAML: the quote that opens here is never closed"
        _refuse(file, message, place.line + 1, place.column + 1)
    if "'\\t'" in words:
        words += "; indent with spaces, not tabs"
    elif words == "mapping values are not allowed here":
        words += "; check the indentation and the colons"
    elif mark and mark.buffer and mark.buffer[: mark.pointer].endswith("$"):
        words += "; between { } or [ ], write a variable in quotes"
    context = f" {error.context}" if error.context and error.problem else ""
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    _refuse(file, f"this is not valid YAML:{context} {words}", line, column)


def _refuse(
    file: str | None, message: str, line: int | None = None, column: int | None = None
) -> NoReturn:
    raise SettingsError([Problem(file, line, column, "", message)]) from None
