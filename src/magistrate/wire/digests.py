"""Keyed digests: how turns, conversations and subjects are recognised without being kept.

Pure. Always an HMAC with the deployment's key, over length-prefixed canonical JSON: a plain hash of
a short text can be reversed by trying, and a record of plain hashes would say what users wrote.
The plain hashes of what is no secret (policies, settings, prompts, cases) are made here too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import is_
from typing import Protocol

import orjson

from magistrate.wire.messages import JSON, canonical, is_object, turns

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
# Subclasses, data classes and dates are the standard library's to accept or refuse.
_SORTED = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


@dataclass(frozen=True, slots=True)
class Digests:
    """Makes digests under one key and one scope.

    `scope` names everything that a remembered verdict depends on besides the content: policy,
    prompts, judge and settings. A different scope makes every digest a different one.
    """

    key: bytes
    scope: str

    def of(self, purpose: str, *values: object) -> str:
        """The digest of some JSON values for one purpose; hex."""
        mac = _begun(self.key, self.scope, purpose).copy()
        for value in values:
            mac.update(_measured(value))
        return mac.hexdigest()

    def prefixes(self, body: JSON) -> list[str]:
        """One digest per turn: of the whole conversation up to and including that turn.

        The chain starts from the system prompt, so the same turns under another one are another
        conversation.
        """
        return self.chain(body)[1:]

    def chain(self, body: JSON) -> list[str]:
        """The digest of the conversation before its first turn, then those of `prefixes`."""
        chain = [self.start(body)]
        for message in turns(body):
            turn = message if is_object(message) else {"role": None, "content": {"not": message}}
            chain.append(self.extended(chain[-1], turn))
        return chain

    def start(self, body: JSON) -> str:
        """The digest of the empty conversation under this request's system prompt."""
        return self.of("conversation", body.get("system"))

    def extended(self, prefix: str, message: JSON) -> str:
        """The digest of a conversation continued by one more turn."""
        return self.of("turn", prefix, canonical(message))


class AsJSON(Protocol):
    """Something with a JSON form that says everything about it."""

    def as_json(self) -> object: ...


class GrowingDigest:
    """Digests of sequences that mostly begin as the one before, as the windows of an answer do.

    What two of them share is hashed once. Only the very same objects are shared, so that nothing
    has to be compared.
    """

    def __init__(self, digests: Digests, purpose: str) -> None:
        self._begun = self._mac = _begun(digests.key, digests.scope, purpose)
        self._shared: tuple[AsJSON, ...] = ()

    def of(self, items: tuple[AsJSON, ...], lasting: int, about: object) -> str:
        """The digest of all items and of `about`. The first `lasting` are likely to come again."""
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
    """What all digests of one purpose begin with. To be copied, never updated."""
    return hmac.new(key, _measured(scope) + _measured(purpose), hashlib.sha256)


def _measured(value: object) -> bytes:
    return _length_first(_distinct_json(value))


def _length_first(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def _distinct_json(value: object) -> bytes:
    """One byte string per JSON value, fast; not the same in every version of this package."""
    try:
        data = orjson.dumps(value, option=_SORTED)
    except TypeError:  # lone surrogates, integers beyond 64 bits, and what is no JSON
        return canonical_json(value)
    # To orjson NaN and infinities are null. No other two values have bytes in common, whichever of
    # the two wrote them: both write JSON that reads back as its value.
    if b"null" in data and orjson.loads(data) != value:
        return canonical_json(value)
    return data


def canonical_json(value: object) -> bytes:
    """One byte string per JSON value; lone surrogates are kept apart from their escapes."""
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


# --- unkeyed: recorded with results, so that they must never change -------------------------------


def sha256(values: Iterable[object]) -> str:
    """An unkeyed digest of some values, for things that are not secret: prompts, judges."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(_length_first(canonical_json(value)))
    return digest.hexdigest()


def fingerprint(value: object) -> str:
    """An unkeyed digest of one JSON value: a policy, settings, a case."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
