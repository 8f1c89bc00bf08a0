"""Validation of configuration files: the strict base of all models, and its error messages.

Nothing is coerced: `"true"` and `yes` are not booleans, `1` is not text. Pydantic's errors become
`Problem`s that say what was found, what is allowed, and which allowed word is closest.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic import Strict as StrictType
from pydantic_core import ErrorDetails, PydanticCustomError

from magistrate.config.diagnostics import Problem, Where, closest, described, listed, nearest
from magistrate.config.yaml_document import Document

T = TypeVar("T")
M = TypeVar("M", bound="Strict")

_HALVED = re.compile("[\ud800-\udfff]")  # half a character: not encodable
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
OWN_FILE = "has a file of its own"  # in an `Annotated`: its keys do not belong in this file
Listed = Annotated[tuple[T, ...], StrictType(False)]  # a YAML list; its items are still strict


class Strict(BaseModel):
    """The base of all models: frozen, without unknown keys, without coercion."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    def __copy__(self: M) -> M:
        twin = super().__copy__()
        values = cast("dict[str, Any]", twin.__dict__)
        for name in set(values) - set(type(twin).model_fields):
            del values[name]  # values that `cached_property` computed for the original
        return twin


def must_be(allowed: str) -> PydanticCustomError:
    """Return a validator's error. `allowed` says what is allowed; what was found is added later."""
    return PydanticCustomError("must_be", "{allowed}", {"allowed": allowed})


def _text(value: str) -> str:
    if not value.strip():
        raise must_be("text that is not blank")
    if _HALVED.search(value):
        raise must_be("text that is valid Unicode")
    if _CONTROL.search(value):
        raise must_be("text without control characters; only tabs and line feeds")
    return value


def _word(value: str) -> str:
    if not (value.isascii() and value.replace("_", "a").isalpha() and value.islower()):
        raise must_be("one word of lowercase letters and underscores")
    return value


Text = Annotated[str, AfterValidator(_text)]
Word = Annotated[str, AfterValidator(_word)]


def parsed(model: type[M], document: Document) -> tuple[M | None, list[Problem], frozenset[str]]:
    """Validate a document. Returns (value, problems, top-level keys that contain a problem).

    If there are problems, the value is built without the invalid parts, so that the caller can look
    for further problems. It is None if the invalid parts cannot be left out.
    """
    data = _copied(document.data)
    if not isinstance(data, dict):
        found = document.written(()) or described(document.data)
        message = f"found {found}; the file must be a mapping (key: value)"
        return None, [*document.problems, document.problem((), message)], frozenset()
    problems = list(document.problems)
    broken = set[str]()
    mistyped = set[Where]()
    first_round = True
    while True:
        try:
            return model.model_validate(data), problems, frozenset(broken)
        except ValidationError as error:
            details = error.errors(include_url=False)
        if first_round:
            mistyped = _mistyped(model, data, details)
        for detail in details:
            where = _place(document.data, detail["loc"])
            broken.update(str(part) for part in where[:1])
            if first_round and not _follows(detail, where, mistyped):
                problems.append(_problem(model, document, detail, where))
            if not _leave_out(data, where[:-1] if detail["type"] == "missing" else where):
                return None, problems, frozenset(broken)
        first_round = False


def _mistyped(model: type[BaseModel], data: Any, details: list[ErrorDetails]) -> set[Where]:
    """Return the keys that were probably meant by the unknown keys."""
    found = set[Where]()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            *inside, word = _place(data, detail["loc"])
            owner = _model_at(model, tuple(inside))
            meant = closest(word, _keys(owner)) if owner else None
            if owner and meant and _home(owner, str(word)) is None:
                found.add((*inside, meant))
    return found


def _follows(detail: ErrorDetails, where: Where, mistyped: set[Where]) -> bool:
    """Return whether a problem is only a consequence of another one."""
    if detail["type"] == "missing":
        return where in mistyped
    # Pydantic does not count invalid items, and then reports too few.
    found: Any = detail["input"]
    return detail["type"] == "too_short" and len(found) >= detail.get("ctx", {})["min_length"]


def _place(data: Any, where: Where) -> Where:
    """Return `where` without pydantic's `[key]` marker, unless the document has such a key."""
    if where[-1:] != ("[key]",):
        return where
    for part in where:
        if isinstance(data, list) and isinstance(part, int):
            data = cast("list[Any]", data)[part]
        elif isinstance(data, dict) and part in data:
            data = cast("dict[Any, Any]", data)[part]
        else:
            return where[:-1]
    return where


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in cast("dict[Any, Any]", value).items()}
    return value  # lists are only left out whole, and models are not changed


def _leave_out(data: Any, where: Where) -> bool:
    """Remove the value at `where`, or the whole list around it, so that indices stay valid.

    Return False if only the whole document could be removed.
    """
    lists = [i for i, part in enumerate(where) if isinstance(part, int)]
    where = where[: lists[0]] if lists else where
    if not where:
        return False
    for part in where[:-1]:
        if not isinstance(data, dict) or part not in data:
            return True  # already removed with an earlier one
        data = cast("dict[Any, Any]", data)[part]
    if isinstance(data, dict):
        cast("dict[Any, Any]", data).pop(where[-1], None)
    return True


def _problem(
    model: type[BaseModel], document: Document, detail: ErrorDetails, where: Where
) -> Problem:
    key_is_wrong = where != detail["loc"]
    entered: object = detail["input"] if where not in document.expanded else ""  # never told
    found = document.written(where) or described(entered)
    if key_is_wrong:
        found = f"the key '{where[-1]}'"
    match detail["type"]:
        case "extra_forbidden":
            known = [] if (owner := _model_at(model, where[:-1])) is None else _keys(owner)
            word = str(where[-1])
            if owner and (home := _home(owner, word)):
                there = (*where[:-1], home) in document.marks
                message = f"'{word}' belongs under '{home}'{': indent it' if there else ''}"
            else:
                allowed = f"allowed here: {listed(known)}{nearest(word, known)}"
                message = f"unknown key '{word}'; {allowed}"
            key_is_wrong = True
        case "missing":
            owner = _model_at(model, where[:-1])
            field = owner.model_fields.get(str(where[-1])) if owner else None
            words = _words(field.annotation) if field else ()
            allowed = f"; allowed: {listed(words)}" if words else ""
            message = f"this key is missing{allowed}"
        case "literal_error":
            words = _words(annotation_at(model, where, of_key=key_is_wrong))
            message = f"found {found}; allowed: {listed(words)}{nearest(entered, words)}"
        case "bool_type":
            hint = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(
                str(entered).lower(), ""
            )
            hint = f"; did you mean '{hint}'?" if hint else ""
            message = f"found {found}; allowed: true or false{hint}"
        case "tuple_type" | "list_type":
            allowed = _list_expected(annotation_at(model, where), document.written(where))
            message = f"found {found}; allowed: {allowed}"
        case "model_type" | "dict_type" | "model_attributes_type":
            allowed = _mapping_expected(_model_at(model, where), entered)
            message = f"found {found}; allowed: {allowed}"
        case _:
            message = f"found {found}; allowed: {_allowed(detail)}"
    return document.problem(where, message, on_key=key_is_wrong)


def _allowed(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "must_be" | "value_error":
            return str(context.get("allowed", detail["msg"]))
        case "string_type" | "string_unicode":
            return "text (in quotes, if it looks like a number)"
        case "int_type" | "int_from_float":
            return "a whole number, written without leading zeros or underscores"
        case "float_type" | "finite_number":
            return "a number, written without leading zeros or underscores"
        case "greater_than":
            return f"a number greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"a number of at least {context['ge']:g}"
        case "less_than_equal":
            return f"a number of at most {context['le']:g}"
        case "too_short":
            return f"at least {context['min_length']} in the list"
        case _:
            return detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")


def _list_expected(annotation: Any, written: str | None) -> str:
    sequence = _find(annotation, tuple)
    item = _find(get_args(sequence)[0], BaseModel) if sequence else None
    if item is not None:
        return f"a list of mappings with the keys {listed(_keys(item))}"
    return f"a list, such as [{written}]" if written not in (None, "nothing") else "a list"


def _mapping_expected(model: type[BaseModel] | None, found: object) -> str:
    """Describe a mapping of this model, preferably with keys for which `found` is valid."""
    if model is None:
        return "a mapping (key: value)"
    fits = [
        f"{name}: {found}"
        for name, field in model.model_fields.items()
        if isinstance(found, str) and found in _words(field.annotation)
    ]
    if fits:
        return f"a mapping, such as {{{listed(fits)}}}"
    return f"a mapping (key: value) with keys such as {listed(_keys(model)[:4])}"


def _home(owner: type[BaseModel], word: str) -> str | None:
    """Return the key of `owner` whose mapping has `word` as a key."""
    for name, field in owner.model_fields.items():
        inner = None if OWN_FILE in field.metadata else _find(field.annotation, BaseModel)
        if inner is not None and word in inner.model_fields:
            return name
    return None


def _keys(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def annotation_at(model: type[BaseModel], where: Where, *, of_key: bool = False) -> Any:
    """Return the annotation of the value (`of_key`: of the key of a free mapping) at `where`."""
    annotation: Any = model
    for depth, part in enumerate(where):
        if (owner := _find(annotation, BaseModel)) is not None and isinstance(part, str):
            field = owner.model_fields.get(part)
            annotation = field.annotation if field else None
        elif (mapping := _find(annotation, dict)) is not None:
            last = depth == len(where) - 1
            annotation = get_args(mapping)[0 if of_key and last else 1]
        elif (sequence := _find(annotation, tuple)) is not None:
            annotation = get_args(sequence)[0]
        else:
            return None
    return annotation


def _model_at(model: type[BaseModel], where: Where) -> type[BaseModel] | None:
    return _find(annotation_at(model, where), BaseModel)


def _find(annotation: Any, kind: type) -> Any:
    """Return the outermost model, dict or tuple of, say, `Annotated[X | None, ...]`."""
    origin = get_origin(annotation)
    if origin is kind:
        return annotation
    if origin in (dict, tuple):
        return None
    if isinstance(annotation, type) and issubclass(annotation, kind):
        return annotation
    return next((hit for arg in get_args(annotation) if (hit := _find(arg, kind))), None)


def _words(annotation: Any) -> tuple[str, ...]:
    """Return the words of the `Literal`s in an annotation."""
    if get_origin(annotation) is Literal:
        return tuple(str(word) for word in get_args(annotation))
    if get_origin(annotation) in (dict, tuple):
        return ()
    return tuple(word for arg in get_args(annotation) for word in _words(arg))
