"""Read the installed SDK's source: the requests it makes, and the content of its types.

The source is parsed with `ast`, not imported: importing the SDK takes seconds, and new methods must
be found without a list. Nothing here knows how anything is moderated.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_VERBS = {
    "get": "get",
    "get_api_list": "get",
    "post": "post",
    "put": "put",
    "patch": "patch",
    "delete": "delete",
    "request": "post",  # any method: assume one that can carry content
}
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_NO_TYPES = frozenset({"int", "float", "complex", "bool", "bytes", "None", "datetime", "date"})


def installed() -> Path:
    """Return the folder of the installed SDK. Raises ModuleNotFoundError without one."""
    spec = find_spec("anthropic")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the anthropic SDK is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


# --- calls ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One request that a method of the SDK makes.

    `resource`: the method's place on a client (`beta.messages.batches`). `path`: with placeholders
    in braces. If the source does not contain the path, since the URL comes from the API, `path` is
    derived from the names and `computed` is the expression. `binary`: the answer is a file, not
    JSON. `verb`: empty for a method that sends nothing itself but calls others.
    """

    resource: str
    method: str
    verb: str
    path: str
    computed: str = ""
    binary: bool = False

    @property
    def example(self) -> str:
        """The path with example values instead of placeholders."""
        return _PLACEHOLDER.sub("id_1", self.path)


def calls(sdk: Path) -> list[Call]:
    """Return every request of an SDK's resource classes, sync and async twins as one."""
    root = sdk / "resources"
    found: dict[tuple[str, str, str, str], Call] = {}
    for file in sorted(root.rglob("*.py")):
        parts = [part for part in file.relative_to(root).with_suffix("").parts if part[0] != "_"]
        if len(parts) > 1 and parts[-1] == parts[-2]:
            parts.pop()
        for call in _calls_in(ast.parse(file.read_text("utf-8")), ".".join(parts)):
            found.setdefault((call.resource, call.method, call.verb, call.path), call)
    return sorted(found.values())


def _calls_in(tree: ast.Module, resource: str) -> Iterator[Call]:
    for owner in tree.body:
        if not isinstance(owner, ast.ClassDef):
            continue
        for method in owner.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                found = [
                    _call(resource, method.name, *sent, node)
                    for node in ast.walk(method)
                    if isinstance(node, ast.Call) and (sent := _sent(node)) is not None
                ]
                yield from found
                if not found and method.name[0] != "_" and not method.decorator_list:
                    yield Call(resource, method.name, "", "")


def _call(resource: str, method: str, verb: str, where: ast.expr | None, node: ast.Call) -> Call:
    path, computed = _literal(where), ""
    if not path:
        computed = ast.unparse(where) if where else "?"
        path = f"/v1/{resource.removeprefix('beta.').replace('.', '/')}/{{id}}/{method}"
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    binary = given.get("cast_to", "").endswith("BinaryAPIResponse")
    return Call(resource, method, verb, path, computed, binary)


def _sent(node: ast.Call) -> tuple[str, ast.expr | None] | None:
    """Return the verb and path of a call that sends, `self._post(...)` or a partial; else None."""
    given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "path")]
    if (verb := _verb(node.func)) is not None:
        return verb, given[0] if given else None
    for at, argument in enumerate(node.args):
        if (verb := _verb(argument)) is not None:
            return verb, node.args[at + 1] if at + 1 < len(node.args) else None
    return None


def _verb(node: ast.expr) -> str | None:
    if not isinstance(node, ast.Attribute):
        return None
    owner = ast.unparse(node.value)
    if owner == "self" and node.attr.startswith("_"):
        return _VERBS.get(node.attr[1:])
    return _VERBS.get(node.attr) if owner == "self._client" else None


def _literal(node: ast.expr | None) -> str:
    """Return a path written as a string, alone or in `path_template(...)`; else empty."""
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{id}" for part in node.values
        )
    return str(node.value) if isinstance(node, ast.Constant) else ""


# --- types ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Types:
    """One module of the SDK's `types`, with its relative imports."""

    file: Path

    @cached_property
    def _tree(self) -> ast.Module:
        return ast.parse(self.file.read_text("utf-8"))

    @cached_property
    def _imports(self) -> dict[str, tuple[Path, str]]:
        found: dict[str, tuple[Path, str]] = {}
        for node in self._tree.body:
            if isinstance(node, ast.ImportFrom) and node.level and node.module:
                folder = self.file.parents[node.level - 1]
                path = folder.joinpath(*node.module.split(".")).with_suffix(".py")
                for name in node.names:
                    found[name.asname or name.name] = (path, name.name)
        return found

    def samples(self, name: str) -> list[Any]:
        """Return sample values of a type. Every text in them is unique and names its place.

        For a union: the samples of all members. For a class: as many as needed to have each variant
        of each field once, with every optional field present. Empty if `name` is not one of the
        SDK's JSON types.
        """
        return _named(self.file, name, "")

    def sample(self, node: ast.expr, at: str) -> list[Any]:
        """Return sample values of an annotation; `at` is their place."""
        match node:
            case ast.Constant(value=str(quoted)):
                return self.sample(ast.parse(quoted, mode="eval").body, at)
            case ast.Name(id="str" | "object" | "Any"):
                return [f"={at}="]  # in the shape of an id: where one belongs it is read as one
            case ast.Name(id="bool"):
                return [True]
            case ast.Name(id="int" | "float"):
                return [1]
            case ast.Name(id=name):
                return [] if name in _NO_TYPES else self._look_up(name, at)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return [*self.sample(left, at), *self.sample(right, at)]
            case ast.Subscript(value=ast.Name(id=name), slice=inner):
                items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return self._generic(name, items, at)
            case _:
                return []

    def _generic(self, name: str, items: list[ast.expr], at: str) -> list[Any]:
        match name:
            case "Literal":
                # One value is enough, except for the field that names the type.
                values = [ast.literal_eval(item) for item in items]
                return values if at.split(".")[-1] == "type" else values[:1]
            case "Union":
                return [each for item in items for each in self.sample(item, at)]
            case "Optional" | "Required" | "NotRequired" | "Annotated" | "ReadOnly":
                return self.sample(items[0], at)
            case "List" | "list" | "Iterable" | "Sequence" | "SequenceNotStr" | "Set" | "Tuple":
                return [[each] for each in self.sample(items[0], at)]
            case "Dict" | "dict" | "Mapping":
                return [{"key": each} for each in self.sample(items[-1], f"{at}.key")]
            case _:
                return []

    def _look_up(self, name: str, at: str) -> list[Any]:
        if name in self._imports:
            path, original = self._imports[name]
            return _named(path, original, at)
        return _named(self.file, name, at)

    def define(self, name: str, at: str) -> list[Any]:
        """Return sample values of a class or alias that is defined in this module."""
        for node in self._tree.body:
            match node:
                case ast.ClassDef(name=defined) if defined == name:
                    return self._instances(node, at)
                case ast.AnnAssign(target=ast.Name(id=defined), value=value) if (
                    defined == name and value is not None
                ):
                    return self.sample(value, at)
                case ast.Assign(targets=[ast.Name(id=defined)], value=value) if defined == name:
                    return self.sample(value, at)
                case _:
                    pass
        return []

    def _instances(self, owner: ast.ClassDef, at: str) -> list[Any]:
        fields: dict[str, list[Any]] = {}
        for base in owner.bases:
            for inherited in self.sample(base, at):
                if isinstance(inherited, dict):
                    fields |= {key: [value] for key, value in inherited.items()}  # pyright: ignore[reportUnknownVariableType]
        for line in owner.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                name = _alias(line.value) or line.target.id
                if values := self.sample(line.annotation, f"{at}.{name}" if at else name):
                    fields[name] = values
        count = max(map(len, fields.values()), default=0)
        return [
            {name: values[min(index, len(values) - 1)] for name, values in fields.items()}
            for index in range(count)
        ]


def _alias(value: ast.expr | None) -> str:
    """Return a field's name in JSON if it is a reserved word of Python; else empty."""
    for keyword in value.keywords if isinstance(value, ast.Call) else ():
        if keyword.arg == "alias" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return ""


@cache
def _module(path: Path) -> Types:
    return Types(path)


def _named(path: Path, name: str, at: str) -> list[Any]:
    # The limit ends the samples of recursive types.
    if at.count(".") > 12 or not path.is_file():
        return []
    return _module(path).define(name, at)
