"""A hook of the build: the policies as JSON (see `src/magistrate/compiled.py`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompilePolicies(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        source = Path(self.root) / "src"
        sys.path.insert(0, str(source))
        from magistrate.config.compiled import compile_yaml

        for policy in sorted((source / "magistrate" / "policy" / "builtin").glob("*.yaml")):
            compile_yaml(policy)
