"""Keys of the gateway: what callers present, and what is kept of them."""

from __future__ import annotations

import hashlib
import re
import secrets

KEY_PREFIX = "mag_"


def new_key() -> str:
    """Return a new key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """Return what is kept of a key. A key is random, so a plain hash cannot be guessed back."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def is_key_hash(text: str) -> bool:
    """Return whether a text has the form of what `key_hash` returns."""
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text) is not None
