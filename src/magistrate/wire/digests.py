"""Keyed digests: how turns, conversations and subjects are recognised without being kept.

Pure. Always an HMAC with the deployment's key, over length-prefixed canonical JSON: a plain hash of
a short text can be reversed by trying, and a record of plain hashes would say what users wrote.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from magistrate.wire.messages import JSON, canonical, is_object, turns

_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


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


@lru_cache(maxsize=256)
def _begun(key: bytes, scope: str, purpose: str) -> hmac.HMAC:
    """What all digests of one purpose begin with. To be copied, never updated."""
    return hmac.new(key, _measured(scope) + _measured(purpose), hashlib.sha256)


def _measured(value: object) -> bytes:
    data = canonical_json(value)
    return len(data).to_bytes(8, "big") + data


def canonical_json(value: object) -> bytes:
    """One byte string per JSON value; lone surrogates are kept apart from their escapes."""
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def sha256(values: Iterable[object]) -> str:
    """An unkeyed digest, for things that are not secret: policies, prompts, settings."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(_measured(value))
    return digest.hexdigest()
