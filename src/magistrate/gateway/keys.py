"""Keys of the gateway: what callers present, and what is kept of them."""

from __future__ import annotations

import hashlib
import secrets

KEY_PREFIX = "mag_"


def new_key() -> str:
    """Return a new key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """Return what is kept of a key. A key is random, so a plain hash cannot be guessed back."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
