"""The package's YAML files as JSON, written at build time because parsing YAML in Python is slow.

The YAML stays the source. The JSON contains the digest of the YAML it was made from and is used
only if that matches. Without a matching JSON, as in a checkout that was never built, the YAML is
read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from magistrate.config.diagnostics import SettingsError
from magistrate.config.yaml_document import Document, read


def compile_yaml(file: Path) -> Path:
    """Write a YAML file as JSON into the same folder. Raises `SettingsError` for any problem."""
    document = read(file)
    if document.problems:
        raise SettingsError(document.problems)
    target = file.with_suffix(".json")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made = {"made_of_sha256": digest, "data": document.data}
    target.write_text(json.dumps(made, ensure_ascii=False), "utf-8")
    return target


def read_compiled(file: Path) -> Document:
    """Read a YAML file from its JSON, without positions, or the YAML if no JSON matches it.

    Raises `SettingsError` as `read` does.
    """
    try:
        made = json.loads(file.with_suffix(".json").read_bytes())
        if made["made_of_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest():
            return Document(str(file), made["data"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return read(file)
