"""The data path does no I/O and has no clock: what its modules import, and what they may not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import magistrate

SOURCE = Path(magistrate.__file__).parent
PURE = (
    "messages",
    "subjects",
    "digests",
    "conversation",
    "normalise",
    "normalise.ciphers",
    "normalise.encodings",
    "normalise.invisible",
    "normalise.lookalikes",
    "rubric",
    "prompting",
    "splitting",
    "replies",
    "verdicts",
    "decisions",
    "enforcement",
    "sse",
    "windows",
    "routes",
    "exchange",
    "effects",
    "questions",
    "streaming",
    "endings",
    "flow",
    "batches",
)
# What people wrote, as data: these read files when they load it, and are asked no questions later.
WRITTEN = ("policy", "policy_checks", "settings", "prices")
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
        "secrets",
        "socket",
        "sqlalchemy",
        "structlog",
        "subprocess",
        "tempfile",
        "tenacity",
        "threading",
        "time",
        "uuid",
    }
)
EDGES = frozenset({"anthropic", "anyio", "asyncio", "httpx", "httpx2", "sqlalchemy", "structlog"})


def imported(path: Path) -> set[str]:
    """Dotted names of everything a module imports, at any depth and for any reason."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "magistrate":
                found |= {f"magistrate.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def own(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("magistrate.")}


def file_of(name: str) -> Path:
    folder = SOURCE.joinpath(*name.split("."))
    path = folder.with_suffix(".py")
    return path if path.exists() else folder / "__init__.py"


def reached(start: tuple[str, ...]) -> set[str]:
    """All modules of the package that these import, directly or not."""
    found, todo = set[str](), list(start)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += own(imported(file_of(name)))
    return found


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_no_way_to_the_outside(name: str):
    roots = {module.split(".")[0] for module in imported(file_of(name))}
    assert not roots & FORBIDDEN


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_builds_on_pure_modules_and_on_what_people_wrote(name: str):
    assert own(imported(file_of(name))) <= {*PURE, *WRITTEN}


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_calls_nothing_that_reads_prints_or_imports(name: str):
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(file_of(name).read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "__import__", "exec", "eval", "breakpoint"}


@pytest.mark.parametrize("name", sorted(reached(PURE)))
def test_nothing_behind_the_pure_modules_needs_the_sdk_or_an_event_loop(name: str):
    roots = {module.split(".")[0] for module in imported(file_of(name))}
    assert not roots & EDGES


def test_the_whole_data_path_can_be_imported_without_the_sdk():
    modules = ", ".join(f"magistrate.{name}" for name in PURE)
    code = f"import sys, {modules}; print(*sorted({set(EDGES)!r} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr, ran.returncode) == ("", "", 0)
