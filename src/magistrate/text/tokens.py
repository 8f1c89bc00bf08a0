"""How long a text is, in bytes and estimated tokens."""

from __future__ import annotations

BYTES_PER_TOKEN = 4  # an estimate; real tokenizers find more in JSON and code


def tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return -(-byte_size(text) // BYTES_PER_TOKEN)


def byte_size(text: str) -> int:
    """Return the bytes of a text in UTF-8.

    Pieces of a stream are added up in bytes: rounding each one up to tokens would count too many.
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
