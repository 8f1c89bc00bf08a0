"""The residue rule: what no reader took from an object is judged as text, labelled by its path.

Pure. A reader takes the fields that it reads. What is left is residue, whether its name is unknown
or its value has another type than the API states, unless `shapes` says that such a value carries no
content. So a harmless addition to the API passes a judge, and nothing hides in one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Extract, Kind, Part, Role, Uninspected
from magistrate.wire.shapes import Shape, is_name, left_over


def residue(
    fields: JSON, shapes: Mapping[str, Shape], path: str, role: Role, kind: Kind = "text"
) -> Extract:
    """Read what no reader took of an object: each field as a part, whole, under its path.

    What a judge cannot look at, such as an image in an unknown place, is `Uninspected` too.
    """
    for key, item in left_over(fields, shapes).items():
        named = is_name(key)
        name = key if named else "?"
        place = f"{path}.{name}" if path else name
        yield from read_residue(item if named else {key: item}, place, role, kind)


def read_residue(item: object, path: str, role: Role, kind: Kind = "text") -> Extract:
    """Read one value that no reader took."""
    if _refers(item):
        yield Uninspected(path, "unknown_field")
    yield Part(path, role, kind, item if isinstance(item, str) else dump(item))


def dump(value: object) -> str:
    """Return a JSON value as text for a judge."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _refers(value: object) -> bool:
    """Return whether a value has content that its text does not show: media, files, URLs."""
    if is_array(value):
        return any(map(_refers, value))
    if not is_object(value):
        return False
    kind = value.get("type")
    if kind in ("base64", "file", "url", "image") or "file_id" in value:
        return True
    return any(map(_refers, value.values()))
