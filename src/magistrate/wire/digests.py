"""Keyed digests: recognise turns, conversations and subjects without storing them.

Pure. Always an HMAC with the deployment's key over length-prefixed canonical JSON: a plain hash of
a short text can be reversed by trying candidates, so plain hashes would reveal what users wrote.
Plain hashes of data that is not secret (policies, settings, prompts, cases) are made here too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import is_
from typing import Any, Protocol

import orjson

from magistrate.wire.messages import JSON, blocks, is_array, is_object, text_of
from magistrate.wire.shapes import CACHE_MARK, is_free, is_name

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
# The standard library decides whether to accept subclasses, data classes and dates.
_SORTED = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


@dataclass(frozen=True, slots=True)
class Digests:
    """Makes digests under one key and one scope.

    `scope` names everything that a cached verdict depends on except the content: policy, prompts,
    judge and settings. A different scope changes every digest.
    """

    key: bytes
    scope: str

    def of(self, purpose: str, *values: object) -> str:
        """Return the digest of JSON values for one purpose, in hex."""
        mac = _begun(self.key, self.scope, purpose).copy()
        for value in values:
            mac.update(_measured(value))
        return mac.hexdigest()

    def chain(self, setup: JSON, turns: Sequence[object]) -> list[str]:
        """Return the digest of the setup, then one for each turn: of setup and turns so far.

        `setup` is what a request has besides its turns: system prompt, tools and the rest.
        """
        chain = [self.of("conversation", setup)]
        for message in turns:
            turn = message if is_object(message) else {"role": None, "content": {"not": message}}
            chain.append(self.extended(chain[-1], turn))
        return chain

    def extended(self, prefix: str, message: JSON) -> str:
        """Return the digest of a conversation with one more turn."""
        return self.of("turn", prefix, canonical(message))


# --- what identifies a turn -----------------------------------------------------------------------

_HOLD_BLOCKS = frozenset({"content", "source", "citations"})  # fields of blocks
# Opaque to everyone but the provider; apps often drop these when they send an answer back.
_THINKING = frozenset({"thinking", "redacted_thinking"})


def canonical(message: JSON) -> JSON:
    """Return the form that identifies a turn: a string and its text block are the same turn.

    Null fields and cache marks of blocks, nested ones too, are omitted, since the SDK adds and
    drops them. Everywhere else, as in the input of a tool call or a schema, every key is content.
    Content of an unknown shape, and every other field of the turn, is kept unchanged.
    """
    content: object = message.get("content")
    known = content is None or isinstance(content, str) or is_array(content)
    others = {key: item for key, item in message.items() if not _is_nothing(key, item)}
    return {
        **others,
        "role": message.get("role"),
        "content": [_canonical_block(block) for block in blocks(content)] if known else content,
    }


def _canonical_block(block: object) -> Any:
    if not is_object(block):
        return block
    return {
        key: _canonical_blocks(item) if key in _HOLD_BLOCKS else item
        for key, item in block.items()
        if not _is_nothing(key, item)
    }


def _is_nothing(key: str, item: object) -> bool:
    if item is None:
        return is_name(key)
    return key == "cache_control" and is_free(item, CACHE_MARK)


def _canonical_blocks(value: object) -> Any:
    return [_canonical_block(b) for b in value] if is_array(value) else _canonical_block(value)


def returned_forms(message: JSON) -> list[JSON]:
    """Return the assistant turns that an app may send back for an answer it received.

    These are: unchanged, without thinking, and as one plain string.
    """
    content = message.get("content")
    whole = blocks(content)
    silent = [b for b in whole if not (is_object(b) and str(b.get("type")) in _THINKING)]
    forms: list[JSON] = []
    for candidate in (whole, silent, text_of(content)):
        form = canonical({"role": "assistant", "content": candidate})
        if form["content"] and candidate and form not in forms:
            forms.append(form)
    return forms


# --- digests of growing sequences -----------------------------------------------------------------


class AsJSON(Protocol):
    """An object whose JSON form contains all of its data."""

    def as_json(self) -> object: ...


class GrowingDigest:
    """Digests of sequences that mostly begin like the one before, such as an answer's windows.

    A shared beginning is hashed once. It is recognised by object identity, without comparing.
    """

    def __init__(self, digests: Digests, purpose: str) -> None:
        self._begun = self._mac = _begun(digests.key, digests.scope, purpose)
        self._shared: tuple[AsJSON, ...] = ()

    def of(self, items: tuple[AsJSON, ...], lasting: int, about: object) -> str:
        """Return the digest of `items` and `about`. The first `lasting` items are likely reused."""
        shared, mac = self._shared, self._mac
        if len(shared) > lasting or not all(map(is_, shared, items)):
            shared, mac = (), self._begun
        if len(shared) < lasting:
            mac = mac.copy()
            for item in items[len(shared) : lasting]:
                mac.update(_measured(item.as_json()))
            self._shared, self._mac = items[:lasting], mac
        mac = mac.copy()
        for item in items[lasting:]:
            mac.update(_measured(item.as_json()))
        mac.update(_measured([len(items), about]))
        return mac.hexdigest()


@lru_cache(maxsize=256)
def _begun(key: bytes, scope: str, purpose: str) -> hmac.HMAC:
    """Return the common start of all digests of one purpose. Copy it, never update it."""
    return hmac.new(key, _measured(scope) + _measured(purpose), hashlib.sha256)


def _measured(value: object) -> bytes:
    return _length_first(_distinct_json(value))


def _length_first(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def _distinct_json(value: object) -> bytes:
    """Return one byte string per JSON value, fast. It may differ between package versions."""
    try:
        data = orjson.dumps(value, option=_SORTED)
    except TypeError:  # lone surrogates, integers beyond 64 bits, and non-JSON values
        return canonical_json(value)
    # orjson writes NaN and infinities as null. No other two values share their bytes, whichever
    # library wrote them: both write JSON that parses back to its value.
    if b"null" in data and orjson.loads(data) != value:
        return canonical_json(value)
    return data


def canonical_json(value: object) -> bytes:
    """Return one byte string per JSON value. Lone surrogates differ from their escapes."""
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


# --- unkeyed: stored with results, so they must never change --------------------------------------


def sha256(values: Iterable[object]) -> str:
    """Return an unkeyed digest of values that are not secret: prompts, judges."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(_length_first(canonical_json(value)))
    return digest.hexdigest()


def fingerprint(value: object) -> str:
    """Return an unkeyed digest of one JSON value: a policy, settings, a case."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
