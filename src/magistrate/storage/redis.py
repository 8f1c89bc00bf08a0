"""State that several processes share, in Redis or Valkey. Extra `redis`.

Keys are keyed digests or ids. Values are encrypted and bound to their key (AES-256-GCM), so the
server holds no readable content and cannot make up an approval. What cannot be decrypted counts as
not stored: it is judged again.

The server must not evict keys: an approval that outlives the block before it would let a declined
turn through. So a server with a `maxmemory-policy` other than `noeviction` is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, TypeVar, cast

import redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter, ValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry

from magistrate.core.decision_record import Decision
from magistrate.storage.base import StoreError
from magistrate.verdicts import Verdict
from magistrate.wire.messages import JSON, as_bytes, is_object, parsed

T = TypeVar("T")

# A conversation that pauses longer is judged again as a whole, once.
APPROVAL_S = 7 * 24 * 3600
# Longer than any approval that was stored at the same time, so that it never ends before one.
BLOCK_S = 2 * APPROVAL_S
VERDICT_S = 24 * 3600
DECISION_S = 30 * 24 * 3600
# The API keeps the results of a batch for 29 days.
CONTENT_S = 30 * 24 * 3600
# A longer conversation or batch is not kept: what continues it is declined.
MOST_BYTES = 16 * 1024 * 1024
# Seconds for one call. A request makes a handful.
TIMEOUT_S = 1.0

_LASTING = ("blocked", "floor", "refused")  # the first word of approval keys that decline
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"
_DECISION, _VERDICT = TypeAdapter(Decision), TypeAdapter(Verdict)


class RedisState:
    """The state of one app, in a Redis server. Implements `StateStore`.

    `key`: the deployment's secret, equal in every process. Raises `StoreError` where the server
    cannot be used; the next call tries again.
    """

    blocks = True

    def __init__(self, url: str, *, key: bytes, app: str) -> None:
        self._cipher = AESGCM(sha256(b"magistrate state " + key).digest())
        self._prefix = f"magistrate:{app}:"
        client: Any = redis.Redis  # its types are partly unknown
        self._client: Any = client.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            health_check_interval=30,
            # Once: an idle connection may have been closed since.
            retry=Retry(NoBackoff(), 1),
        )
        self._checked = False

    # --- approvals --------------------------------------------------------------------------------

    def known(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Return those of the approval keys that are stored, each with its decision's id."""
        asked = list(dict.fromkeys(keys))
        names = [self._name("approval", key) for key in asked]
        found = self._call(lambda: self._client.mget(names) if names else self._client.ping())
        if not names:
            return {}
        opened = {
            key: self._opened(name, value)
            for key, name, value in zip(asked, names, cast("list[Any]", found), strict=True)
        }
        return {key: value.decode() for key, value in opened.items() if value is not None}

    def remember(self, keys: Iterable[str], decision_id: str) -> None:
        """Store approval keys of a decision, in their order, all or none."""
        given = list(keys)
        if not given:
            return

        def store() -> None:
            with self._client.pipeline(transaction=True) as pipeline:
                for key in given:
                    lasting = key.partition(" ")[0] in _LASTING
                    name = self._name("approval", key)
                    sealed = self._sealed(name, decision_id.encode())
                    pipeline.set(name, sealed, ex=BLOCK_S if lasting else APPROVAL_S)
                pipeline.execute()

        self._call(store)

    # --- verdicts ---------------------------------------------------------------------------------

    def verdict(self, key: str) -> Verdict | None:
        """Return an earlier verdict. It cost nothing this time, so its usage is zero."""
        found = self._get("verdict", key)
        try:
            return None if found is None else _VERDICT.validate_json(found).without_usage()
        except ValidationError:  # of another version
            return None

    def keep_verdict(self, key: str, verdict: Verdict) -> None:
        """Store a verdict."""
        self._set("verdict", key, _VERDICT.dump_json(verdict), VERDICT_S)

    def claim(self, key: str, lifetime_s: float) -> str | None:
        """Claim a question for so many seconds, and return the claim; None: it is claimed."""
        token = secrets.token_hex(16)
        name = self._name("claim", key)
        lasts_ms = max(1, round(lifetime_s * 1000))
        got = self._call(lambda: self._client.set(name, token, nx=True, px=lasts_ms))
        return token if got else None

    def release(self, key: str, claim: str) -> None:
        """Give a claim up. One that has ended, and is another's now, is left alone."""
        name = self._name("claim", key)
        self._call(lambda: self._client.eval(_RELEASE, 1, name, claim))

    # --- content that the provider holds, and records ---------------------------------------------

    def thread(self, message_id: str) -> JSON | None:
        """Return the conversation that the provider holds under this id."""
        return self._object("thread", message_id)

    def keep_thread(self, message_id: str, conversation: JSON) -> None:
        """Store a conversation that the provider holds."""
        self._set("thread", message_id, as_bytes(conversation), CONTENT_S)

    def batch(self, batch_id: str) -> JSON | None:
        """Return what was stored for a message batch."""
        return self._object("batch", batch_id)

    def keep_batch(self, batch_id: str, batch: JSON) -> None:
        """Store the questions of a message batch, and the refusals of omitted entries."""
        self._set("batch", batch_id, as_bytes(batch), CONTENT_S)

    def decision(self, decision_id: str) -> Decision:
        """Return a finished record. Raises KeyError for an id that is not stored."""
        found = self._get("decision", decision_id)
        try:
            if found is not None:
                return _DECISION.validate_json(found)
        except ValidationError:  # of another version
            pass
        raise KeyError(decision_id)

    def keep_decision(self, decision: Decision) -> None:
        """Store a finished record."""
        self._set("decision", decision.id, _DECISION.dump_json(decision), DECISION_S)

    def after_fork(self) -> None:
        """Drop the connections: they are the parent's."""
        self._client.connection_pool.reset()

    # --- the server -------------------------------------------------------------------------------

    def _name(self, kind: str, key: str) -> str:
        return f"{self._prefix}{kind}:{key}"

    def _object(self, kind: str, key: str) -> JSON | None:
        found = self._get(kind, key)
        value = parsed(found) if found is not None else None
        return value if is_object(value) else None

    def _get(self, kind: str, key: str) -> bytes | None:
        name = self._name(kind, key)
        return self._opened(name, self._call(lambda: self._client.get(name)))

    def _set(self, kind: str, key: str, value: bytes, lasts_s: int) -> None:
        if len(value) > MOST_BYTES:
            return
        name = self._name(kind, key)
        sealed = self._sealed(name, value)
        self._call(lambda: self._client.set(name, sealed, ex=lasts_s))

    def _sealed(self, name: str, value: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, value, name.encode())

    def _opened(self, name: str, sealed: Any) -> bytes | None:
        if not isinstance(sealed, bytes) or len(sealed) < 28:  # nonce and tag
            return None
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], name.encode())
        except InvalidTag:  # under another key, damaged, or moved
            return None

    def _call(self, command: Callable[[], T]) -> T:
        try:
            if not self._checked:
                self._check_eviction()
            return command()
        except (redis.RedisError, OSError) as error:
            # Without the message: it may hold the address, and with it a password.
            raise StoreError(f"Redis: {type(error).__name__}") from None

    def _check_eviction(self) -> None:
        try:
            found = cast("dict[str, str]", self._client.config_get("maxmemory-policy"))
            policy = found.get("maxmemory-policy", "noeviction")
        except redis.ResponseError:  # managed servers may forbid the command
            policy = "noeviction"
        if policy != "noeviction":
            raise StoreError(
                f"Redis: its maxmemory-policy is {policy}; it must be noeviction, since a block "
                "that is evicted would let a declined turn through"
            )
        self._checked = True
