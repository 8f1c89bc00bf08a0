"""Decode encodings in a text: base64, hex, escapes, common ciphers.

Pure, and linear in the length of the text: each codec scans it once, and decodes to no more
characters than it read. Only readable results count, so hashes, keys, images and compiled code are
not reported. Nor are escapes that their format needs, as in URLs and JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from magistrate.text.ciphers import MORSE, morse, shifted
from magistrate.text.escapes import escaped
from magistrate.text.readable import as_text
from magistrate.text.scanning import ascii_of, runs, table

MOST_PAYLOADS = 8  # enough for a judge to see the pattern; the others are counted
MOST_CHARACTERS = 4_000  # of all payloads of a text: about 1,000 tokens
MOST_DEPTH = 2  # nested encodings: neither people nor most models decode more levels

Payload: TypeAlias = tuple[str, str]  # the encoding, and the decoded text
_Decode: TypeAlias = Callable[[str], str | None]


def decoded(text: str, found: Iterable[Payload] = ()) -> tuple[Payload, ...]:
    """Return the decoded passages of a text, as (how, text). `found`: those already decoded."""
    payloads: dict[str, str] = {}  # text to how: duplicates count once
    for how, said in found:
        payloads.setdefault(said, how)
        _collect(said, f"{how}, then ", 2, payloads)
    _collect(text, "", 1, payloads)
    return _bounded([(how, said) for said, how in payloads.items()]) if payloads else ()


def _collect(text: str, before: str, depth: int, payloads: dict[str, str]) -> None:
    for how, said in _scan(text):
        if said in payloads:
            continue
        payloads[said] = before + how
        if depth < MOST_DEPTH:
            _collect(said, f"{before}{how}, then ", depth + 1, payloads)


def _scan(text: str) -> Iterator[Payload]:
    yield from _in_runs(text)
    yield from escaped(text)
    yield from shifted(text)


def _bounded(payloads: list[Payload]) -> tuple[Payload, ...]:
    """Return the first payloads, sharing the space evenly: a long one must not displace others."""
    shown = payloads[:MOST_PAYLOADS]
    room, found = MOST_CHARACTERS, dict[int, Payload]()
    for rank, at in enumerate(sorted(range(len(shown)), key=lambda i: len(shown[i][1]))):
        how, said = shown[at]
        said = _shortened(said, room // (len(shown) - rank))
        room -= len(said)
        found[at] = how, said
    more = len(payloads) - len(shown)
    kept = [found[at] for at in range(len(shown))]
    return (*kept, *([("not shown", f"{more} more encoded passages")] if more else []))


def _shortened(text: str, most: int) -> str:
    """Return a text, or both ends of it if it is too long: content can hide at either end."""
    if len(text) <= most:
        return text
    left_out = f" […{len(text) - most} characters…] "
    half = max(0, most - len(left_out)) // 2
    return text[:half] + left_out + text[len(text) - half :]


# --- encodings with their own alphabet ------------------------------------------------------------


def _base64(run: str) -> str | None:
    """Decode at any offset: a stream is judged in windows, which can cut an encoded passage."""
    letters = run.rstrip("=")
    # A path, a slug or a token with parts is one run; only a part of it may be encoded.
    parts = [part for part in _PARTS.split(letters) if 16 <= len(part) < len(letters)]
    for part in (letters, *parts) if len(run) >= 16 else ():
        for start in range(4):
            rest = part[start:].replace("-", "+").replace("_", "/")
            rest = rest[: len(rest) - (len(rest) % 4 == 1)]
            text = as_text(base64.b64decode(rest + "=" * (-len(rest) % 4)))
            if text is not None:
                return text
    return None


_PARTS = re.compile("[/_.+-]")


def _base32(run: str) -> str | None:
    letters = run.rstrip("=")
    whole = len(letters) // 8 * 8
    tail = letters[whole:] if len(letters) % 8 in (2, 4, 5, 7) else ""
    return as_text(base64.b32decode(letters[:whole] + tail + "=" * (-len(tail) % 8)))


def _hex(run: str) -> str | None:
    digits = _NO_DIGIT.sub("", run.lower())
    for start in range(2) if len(digits) >= 16 else ():
        rest = digits[start:]
        text = as_text(binascii.unhexlify(rest[: len(rest) // 2 * 2]))
        if text and (not digits.isdecimal() or _is_no_number(text)):
            return text
    return None


_ONLY_LETTERS = re.compile(r"[^\W\d_]++(?:\s++[^\W\d_]++)*+")
_NO_DIGIT = re.compile(r"0x|\\x|[^0-9a-f]")


def _is_no_number(text: str) -> bool:
    """Return whether text decoded from decimal digits only is long enough to be no accident.

    Most such runs are dates, account numbers and measurements. Three of five pairs of digits are
    printable, and two of five are a letter, so that shorter runs can be readable by chance.
    """
    return len(text) >= 32 or (len(text) > 10 and _ONLY_LETTERS.fullmatch(text) is not None)


def _binary(run: str) -> str | None:
    """Decode groups of eight bits. A group of any other length separates two texts."""
    whole = "".join(bits if len(bits) % 8 == 0 else " " for bits in _BITS.findall(run))
    said = [
        as_text(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))
        for bits in whole.split()
        if len(bits) >= 32
    ]
    return " ".join(filter(None, said)) or None


_BITS = re.compile("[01]+")


def _decimal(run: str) -> str | None:
    """Decode character codes. They must include spaces between words; else they are numbers."""
    codes = [int(code) for code in _CODES.findall(run)]
    text = "".join(map(chr, codes))
    words = text.split()
    letters = all(char.isascii() and (char.isalpha() or char in " .,!?'-") for char in text)
    return text if letters and 3 * len(words) <= len(text) <= 12 * len(words) > 12 else None


_CODES = re.compile(r"\d+")
_BYTES = r"(?:0x|\\x)?(?:[0-9a-f]{2}){1,2}"
_CODE = r"(?:3[2-9]|4[4-9]|6[3-9]|[7-9]\d|1[01]\d|12[0-2])"  # letters, and the punctuation of prose
_DIGITS = "0123456789"
_HEX = _DIGITS + "abcdefABCDEF"
_LARGE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACES = " \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class _Codec:
    """An encoding with its own alphabet.

    `alphabet` has every character that `pattern` can match: the pattern is only searched in runs of
    at least `least` of them. Its repeats are possessive, so that it never backtracks, and it cannot
    begin inside a run that it has already read.
    """

    how: str
    alphabet: bytes
    least: int
    pattern: re.Pattern[str]
    decode: _Decode


_BASE64 = _Codec(
    "base64",
    table(x=_LARGE + _LARGE.lower() + _DIGITS + "+/-_="),
    14,
    re.compile(r"(?<![\w+/-])[\w+/-]{14,}+={0,2}", re.ASCII),
    _base64,
)
_CODECS = (
    _Codec(
        "base32",
        table(x=_LARGE + "234567="),
        16,
        re.compile(r"(?<!\w)[A-Z2-7]{16,}+={0,6}(?!\w)"),
        _base32,
    ),
    _Codec(
        "hex",
        table(x=_HEX + "xX\\" + _SPACES + ",:;-"),
        9,
        re.compile(
            rf"(?<![0-9A-Za-z])(?:(?:{_BYTES}[\s,:;-]{{1,2}}){{3,}}+(?:{_BYTES}(?![0-9A-Za-z]))?"
            r"|(?:0x)?[0-9a-f]{16,}+(?![0-9A-Za-z]))",
            re.IGNORECASE | re.ASCII,
        ),
        _hex,
    ),
    _Codec(
        "binary",
        table(x="01 ,\n"),
        32,
        re.compile(r"(?<!\w)[01]++(?:[ ,\n]{1,2}[01]++)*+"),
        _binary,
    ),
    _Codec(
        "character codes",
        table(x=_DIGITS + " ,;"),
        33,
        re.compile(rf"(?<![\w.,])(?:{_CODE}[ ,;]{{1,2}}){{11,}}+(?:{_CODE}(?![\w.]))?"),
        _decimal,
    ),
)
# The end of a full line of base64, and the quotation marks at the start of the next line.
_FULL_LINE = re.compile(r"\n(?<=[A-Za-z0-9_+/-]{60}\n)[ \t>]{0,8}")


def _in_runs(text: str) -> Iterator[Payload]:
    yield from _said(_BASE64, _FULL_LINE.sub("", text.replace("\r\n", "\n")))
    for codec in _CODECS:
        yield from _said(codec, text)
    for match in MORSE.finditer(text):
        if said := morse(match[0]):
            yield "Morse", said


def _said(codec: _Codec, text: str) -> Iterator[Payload]:
    for start, end in runs(ascii_of(text), codec.alphabet, codec.least):
        # One more character for the pattern's lookahead: the end of a run is not the end of text.
        for match in codec.pattern.finditer(text, start, end + 1):
            if said := codec.decode(match[0]):
                yield codec.how, said
