"""Read where an image or document comes from. Pure.

A judge looks at bytes that are in the request. What a URL or an id stands for is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping

from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Extract, Part, Role, Uninspected
from magistrate.wire.shapes import ID, WORD, Shape
from magistrate.wire.unknown_fields import dump, residue

SOURCE: Mapping[str, Shape] = {"type": WORD, "media_type": WORD, "file_id": ID}


def read_source(kind: object, source: object, path: str, at: str, role: Role) -> Extract:
    """Read the `source`, at `at`, of an image or document; it becomes one part at `path`."""
    if not is_object(source):
        yield Uninspected(path, "media")
        if source is not None:
            yield from residue({"source": source}, {}, path, role)
        return
    rest = dict(source)
    match source.get("type"):
        case "base64" if isinstance(source.get("data"), str) and _whole_unicode(source):
            # The model receives exactly the bytes in the request. A URL may serve a judge something
            # else than the model, so its content cannot be judged.
            del rest["data"]
            labels = taken_labels(rest, media_type="media_type")
            known = ("type", "media_type", "data")
            shown: JSON = {name: source[name] for name in known if name in source}
            yield Part(
                path, role, "media", "", labels=labels, attachment={"type": kind, "source": shown}
            )
        case "base64":
            yield Uninspected(path, "media")
            rest.pop("data", None)
        case "file":
            yield Uninspected(path, "file")
        case "url":
            yield Uninspected(path, "media")
            rest.pop("url", None)
        case _:
            yield Uninspected(path, "media")
    yield from residue(rest, SOURCE, at, role)


def _whole_unicode(value: object) -> bool:
    """Return whether all text in a JSON value is valid Unicode.

    A lone surrogate would make the judge's call fail and look like an outage.
    """
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
    if is_object(value):
        return all(_whole_unicode(key) and _whole_unicode(item) for key, item in value.items())
    return not is_array(value) or all(map(_whole_unicode, value))


def taken_labels(left: JSON, **fields: str) -> dict[str, str]:
    """Take fields that name a block or its origin. They are judged as labels of its part."""
    return {
        label: value if isinstance(value, str) else dump(value)
        for label, key in fields.items()
        if (value := left.pop(key, None)) is not None
    }
