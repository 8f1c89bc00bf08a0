"""Signatures of webhooks, as the Standard Webhooks specification has them.

Pure: no clock, no environment, and nothing of the server, so that commands can sign without it.
The library `standardwebhooks` decodes the body as UTF-8, reads the clock itself and takes one
secret; here raw bytes are signed, and a secret may be rotated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"
# How far, in seconds, a timestamp may be from now, either way.
TOLERANCE_S = 300

_PREFIX = "whsec_"
_VERSION = "v1,"
_LEAST_KEY_BYTES = 16
_SECONDS = re.compile(r"[0-9]{1,12}")


class BadSignature(ValueError):
    """A request that is not signed as it must be. The message says what is wrong with it."""


def key_of(secret: str) -> bytes:
    """Return the key in a secret `whsec_...`. Raises ValueError, which does not quote it."""
    if not secret.startswith(_PREFIX):
        raise ValueError(f"not a secret: it must begin with {_PREFIX}")
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        message = f"not a secret: what follows {_PREFIX} must be standard base64"
        raise ValueError(message) from None
    if len(key) < _LEAST_KEY_BYTES:
        raise ValueError(f"not a secret: its key has fewer than {_LEAST_KEY_BYTES} bytes")
    return key


def sign(key: bytes, name: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a body that is sent under an id, at a time in unix seconds."""
    mac = hmac.new(key, f"{name}.{timestamp}.".encode(), hashlib.sha256)
    mac.update(body)
    return _VERSION + base64.b64encode(mac.digest()).decode("ascii")


def is_signed(headers: Mapping[str, str]) -> bool:
    """Return whether a request carries anything of a signature. Names are in lower case."""
    return any(name in headers for name in (ID, TIMESTAMP, SIGNATURE))


def verify(keys: Iterable[bytes], headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Check that one of the keys signed the body. Raises `BadSignature`.

    `headers`: with names in lower case. `now`: in unix seconds.
    """
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not headers.get(name)]
    if missing:
        raise BadSignature(f"without {', '.join(missing)}")
    name, timestamp = headers[ID], headers[TIMESTAMP]
    if not _SECONDS.fullmatch(timestamp):
        raise BadSignature(f"{TIMESTAMP} is not a time in unix seconds")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise BadSignature(f"{TIMESTAMP} is more than {TOLERANCE_S} seconds from now")
    given = [each.encode() for each in headers[SIGNATURE].split(" ")]
    valid = False
    for key in keys:
        expected = sign(key, name, timestamp, body).encode("ascii")
        for each in given:  # all of them: the time must not say which one matched
            valid |= hmac.compare_digest(expected, each)
    if not valid:
        raise BadSignature(f"no {SIGNATURE} is valid")
