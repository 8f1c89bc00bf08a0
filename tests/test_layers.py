"""The shape of the package: which folder may import which, what the pure ones may not touch."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

import magistrate

SOURCE = Path(magistrate.__file__).parent
# From the ground up: a module imports from its own layer and from those above it in this list.
LAYERS = (
    "values",
    "verdicts",
    "config",
    "wire",
    "text",
    "policy",
    "settings",
    "core",
    "judging",
    "storage",
    "observe",
    "engine",
    "sdk",
    "gateway",
    "integrations",
    "coverage",
    "evals",
    "testing",
    "cli",
)
# The faces: what users import. `reviews` shows what `storage` holds.
FACES = {"": "cli", "__main__": "cli", "_version": "values", "reviews": "storage"}
# What is still wrong, as (module, module it imports). It may only shrink.
EXCEPTIONS: set[tuple[str, str]] = set()
PURE = (
    "verdicts",
    "wire",
    "text",
    "core",
    "judging.chunks",
    "judging.plan",
    "judging.prompt",
    "judging.reply",
    "judging.rubric",
)
FORBIDDEN = frozenset(
    {
        "anthropic",
        "anyio",
        "asyncio",
        "datetime",
        "httpx",
        "httpx2",
        "io",
        "logging",
        "os",
        "pathlib",
        "random",
        "redis",
        "secrets",
        "socket",
        "sqlalchemy",
        "sqlite3",
        "structlog",
        "subprocess",
        "tempfile",
        "tenacity",
        "threading",
        "time",
        "uuid",
    }
)
# `OfflineDecision` makes ids and keys of its own: it is what commands and evals decide with.
MAY_MAKE_IDS = {"core.offline": {"secrets"}}
EDGES = frozenset({"anthropic", "anyio", "asyncio", "httpx", "httpx2", "sqlalchemy", "structlog"})
MOST_LINES = 300
LONG_BECAUSE = "Long because"  # opens the reason in the docstring of a longer module


def modules() -> dict[str, Path]:
    """Every module of the package by its name below `magistrate`."""
    found: dict[str, Path] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = modules()
_OWN = {f"magistrate.{name}" for name in MODULES}  # `from package import module` takes no package


def imported(path: Path) -> set[str]:
    """Dotted names of everything a module imports, at any depth and for any reason."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= _OWN else {node.module, *names}
    return found


def own(name: str) -> set[str]:
    """The modules of the package that one of them imports."""
    found = {each.removeprefix("magistrate.") for each in imported(MODULES[name])}
    return {each for each in found if each in MODULES} - {name}


def layer(name: str) -> str:
    """The layer of a module."""
    return FACES.get(name) or name.split(".")[0]


def below(names: tuple[str, ...]) -> list[str]:
    """The modules that are, or stand in, these."""
    return [each for each in MODULES if any(f"{each}.".startswith(f"{name}.") for name in names)]


def reached(start: list[str]) -> set[str]:
    """All modules that these import, directly or not."""
    found, todo = set[str](), list(start)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += own(name)
    return found


def test_every_module_stands_in_a_layer() -> None:
    assert {layer(name) for name in MODULES} <= set(LAYERS)


def test_imports_go_down_the_layers_only() -> None:
    up = {
        (name, other)
        for name in MODULES
        for other in own(name)
        if LAYERS.index(layer(other)) > LAYERS.index(layer(name))
    }
    assert up == EXCEPTIONS


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: own(name) for name in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("name", [each for each in MODULES if len(each) > 0])
def test_a_long_module_says_why_at_its_head(name: str) -> None:
    text = MODULES[name].read_text("utf-8")
    if len(text.splitlines()) > MOST_LINES:
        assert LONG_BECAUSE in (ast.get_docstring(ast.parse(text)) or "")


@pytest.mark.parametrize("folder", ["core", "wire", "judging", "sdk"])
def test_modules_are_short(folder: str) -> None:
    sizes = [len(MODULES[name].read_text("utf-8").splitlines()) for name in below((folder,))]
    assert median(sizes) <= 150


@pytest.mark.parametrize("name", below(PURE))
def test_a_pure_module_imports_no_way_to_the_outside(name: str) -> None:
    roots = {module.split(".")[0] for module in imported(MODULES[name])}
    assert roots & FORBIDDEN == MAY_MAKE_IDS.get(name, set())


@pytest.mark.parametrize("name", below(PURE))
def test_a_pure_module_calls_nothing_that_reads_prints_or_imports(name: str) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "__import__", "exec", "eval", "breakpoint"}


@pytest.mark.parametrize("name", sorted(reached(below(PURE))))
def test_nothing_behind_the_pure_modules_needs_the_sdk_or_an_event_loop(name: str) -> None:
    roots = {module.split(".")[0] for module in imported(MODULES[name])}
    assert not roots & EDGES


def test_the_whole_data_path_can_be_imported_without_the_sdk() -> None:
    names = ", ".join(f"magistrate.{name}" for name in below(PURE))
    code = f"import sys, {names}; print(*sorted({set(EDGES)!r} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr, ran.returncode) == ("", "", 0)
