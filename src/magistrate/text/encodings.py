"""What encodings in a text say: base64, hex, escapes, ciphers that people know by heart.

Pure, and linear in the length of the text: each codec scans it once, and what it decodes is no
longer than what it read. Only what decodes to readable text counts, so hashes, keys, images and
compiled code stay silent; so do escapes that are needed where they stand, as in URLs and JSON.
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

MOST_PAYLOADS = 8  # a reader of a prompt gets the idea; what is left out is counted
MOST_CHARACTERS = 4_000  # of all payloads of a text: about 1,000 tokens
MOST_DEPTH = 2  # encodings within encodings: more is not read by eye, nor by most models

Payload: TypeAlias = tuple[str, str]  # how it was encoded, and what it says
_Decode: TypeAlias = Callable[[str], str | None]


def decoded(text: str, found: Iterable[Payload] = ()) -> tuple[Payload, ...]:
    """What encodings in a text say, as (how, text); `found` is what was read in it already."""
    payloads: dict[str, str] = {}  # text to how: said twice is said once
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
    """The first ones, the room shared out evenly: a long one must not push the others out."""
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
    """Both ends of a text that is too long: neither is the better place to hide."""
    if len(text) <= most:
        return text
    left_out = f" […{len(text) - most} characters…] "
    half = max(0, most - len(left_out)) // 2
    return text[:half] + left_out + text[len(text) - half :]


# --- runs of an alphabet of their own -------------------------------------------------------------


def _base64(run: str) -> str | None:
    """Also from the middle: a stream is heard in windows, and they cut where they cut."""
    letters = run.rstrip("=")
    # A path, a slug or a token in parts is one run; what is encoded may be a part of it.
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
    """Whether a row of digits without a letter is text: most are dates, accounts, measurements.

    Three of five pairs of digits are printable, two of five a letter: chance ends at these lengths.
    """
    return len(text) >= 32 or (len(text) > 10 and _ONLY_LETTERS.fullmatch(text) is not None)


def _binary(run: str) -> str | None:
    """Bytes of eight bits each: a number of another length is none, and ends what is before it."""
    whole = "".join(bits if len(bits) % 8 == 0 else " " for bits in _BITS.findall(run))
    said = [
        as_text(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))
        for bits in whole.split()
        if len(bits) >= 32
    ]
    return " ".join(filter(None, said)) or None


_BITS = re.compile("[01]+")


def _decimal(run: str) -> str | None:
    """Character codes, with the spaces between words: without them it is a list of numbers."""
    codes = [int(code) for code in _CODES.findall(run)]
    text = "".join(map(chr, codes))
    words = text.split()
    letters = all(char.isascii() and (char.isalpha() or char in " .,!?'-") for char in text)
    return text if letters and 3 * len(words) <= len(text) <= 12 * len(words) > 12 else None


_CODES = re.compile(r"\d+")
_BYTES = r"(?:0x|\\x)?(?:[0-9a-f]{2}){1,2}"
_CODE = r"(?:3[2-9]|4[4-9]|6[3-9]|[7-9]\d|1[01]\d|12[0-2])"  # letters, and the signs of prose
_DIGITS = "0123456789"
_HEX = _DIGITS + "abcdefABCDEF"
_LARGE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACES = " \t\n\r\f\v"


@dataclass(frozen=True, slots=True)
class _Codec:
    """An encoding with an alphabet of its own.

    `alphabet` has every character that `pattern` can match: it is looked for only where at least
    `least` of them stand in a row. Its repeats are possessive, so that nothing is kept for another
    try, and it cannot begin within a row that it has left.
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
# The end of a line that is full of base64, and what stands before the next one in a quotation.
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
        # One character more, which the pattern looks at: it must not take a cut for an end.
        for match in codec.pattern.finditer(text, start, end + 1):
            if said := codec.decode(match[0]):
                yield codec.how, said
