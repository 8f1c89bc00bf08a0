"""Types of fields that more than one file has."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from magistrate.config.schema import must_be


def _one(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        return value
    raise must_be("1, the only version of this file")


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise must_be("the name of an environment variable")
    return value


FormatVersion = Annotated[Literal[1], BeforeValidator(_one)]
VariableName = Annotated[str, AfterValidator(_variable)]
