"""Helpers for frameworks, where the frameworks are not installed."""

from __future__ import annotations

import subprocess
import sys

import processes

FRAMEWORKS = ("anthropic", "langchain_anthropic", "langchain_core", "pydantic_ai", "instructor")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_importing_the_package_imports_no_framework() -> None:
    code = f"import sys, magistrate.integrations; print({{*{FRAMEWORKS}}} & sys.modules.keys())"
    assert python(code).stdout.strip() == "set()"


def test_a_missing_framework_is_named_with_what_to_install() -> None:
    missing = "import sys; sys.modules['langchain_anthropic'] = None"
    done = processes.run(f"{missing}; import magistrate.integrations.langchain")
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: magistrate.integrations.langchain needs langchain-anthropic:"
        " pip install 'langchain-anthropic>=1.7'"
    )
