"""What encodings in a text say: base64, hex, escapes, ciphers that people know by heart.

Pure, and linear in the length of the text: each codec scans it once, and what it decodes is no
longer than what it read. Only what decodes to readable text counts, so hashes, keys, images and
compiled code stay silent; so do escapes that are needed where they stand, as in URLs and JSON.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias
from urllib.parse import unquote

from magistrate.text.ciphers import MORSE, morse, shifted

MOST_PAYLOADS = 8  # a reader of a prompt gets the idea; what is left out is counted
MOST_CHARACTERS = 4_000  # of all payloads of a text: about 1,000 tokens
MOST_DEPTH = 2  # encodings within encodings: more is not read by eye, nor by most models

Payload: TypeAlias = tuple[str, str]  # how it was encoded, and what it says
_Decode: TypeAlias = Callable[[str], str | None]
_Unescape: TypeAlias = Callable[[str], str]


def decoded(text: str, found: Iterable[Payload] = ()) -> tuple[Payload, ...]:
    """What encodings in a text say, as (how, text); `found` is what was read in it already."""
    payloads: dict[str, str] = {}  # text to how: said twice is said once
    for how, said in found:
        payloads.setdefault(said, how)
        _collect(said, f"{how}, then ", 2, payloads)
    _collect(text, "", 1, payloads)
    return _bounded([(how, said) for said, how in payloads.items()])


def _collect(text: str, before: str, depth: int, payloads: dict[str, str]) -> None:
    for how, said in _scan(text):
        if said in payloads:
            continue
        payloads[said] = before + how
        if depth < MOST_DEPTH:
            _collect(said, f"{before}{how}, then ", depth + 1, payloads)


def _scan(text: str) -> Iterator[Payload]:
    for how, pattern, decode in _RUNS:
        for match in pattern.finditer(text):
            if said := decode(match[0]):
                yield how, said
    for how, pattern, unescape in _ESCAPES:
        for said in _unescaped(text, pattern, unescape, percent=how == "percent-encoding"):
            yield how, said
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


def _is_text(text: str) -> bool:
    """Whether somebody could have written it: printable, and mostly letters, digits and spaces.

    A long text may have a little of what no text has, and the signs of another encoding.
    """
    size = len(text)
    odd = sum(map(len, _UNPRINTABLE.findall(text)))
    signs = sum(map(len, _SIGNS.findall(text)))
    return (
        size >= 3
        and odd <= (0 if size < 64 else size // 20)
        and signs <= (0.4 if size < 32 else 0.7) * size
        and _ALNUM.search(text) is not None
    )


_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff]+"
)
_SIGNS = re.compile(r"[^\w\s\u0300-\u036f\u0590-\u05c7\u064b-\u065f\u0900-\u0eff]+")
_ONLY_LETTERS = re.compile(r"[^\W\d_]+(?:\s+[^\W\d_]+)*")
_CHANCE = 24  # bytes up to which a key or a name is readable now and then
_CUT = re.compile("\\A\ufffd{1,3}|\ufffd{1,3}\\Z")  # of a character: at most three bytes
_ALNUM = re.compile(r"[^\W_]")
# A word or two, in one script and with the signs of prose: a few bytes can be characters by chance.
_PROSE = re.compile(
    "|".join(
        f"[{letters}0-9 \\n\\t.,;:!?'\"()/@’–=_-]+"
        for letters in (
            "A-Za-zÀ-ſ", "Ͱ-Ͽ", "Ѐ-ԯ", "\u0590-\u05ff", "\u0600-\u06ff", "\u0900-\u0d7f",
            "\u0e00-\u0e7f", "぀-ヿ一-龿、。", "가-힣",
        )
    )
)  # fmt: skip


def _as_text(data: bytes) -> str | None:
    """Bytes as text, if they are text; characters cut at either end are dropped."""
    wide = len(data) >= 8 and data[1::2].count(0) * 3 > len(data)
    text = data.decode("utf-16-le" if wide else "utf-8", "replace")
    if len(data) < _CHANCE:
        return text if len(text) >= 3 and _PROSE.fullmatch(text) else None
    text = _CUT.sub("", text)
    return text if _is_text(text) else None


def _base64(run: str) -> str | None:
    """Also from the middle: a stream is heard in windows, and they cut where they cut."""
    letters = re.sub(r"[\s>=]", "", run)
    # A path, a slug or a token in parts is one run; what is encoded may be a part of it.
    parts = [part for part in re.split("[/_.+-]", letters) if 16 <= len(part) < len(letters)]
    for part in (letters, *parts) if len(run) >= 16 else ():
        for start in range(4):
            rest = part[start:].replace("-", "+").replace("_", "/")
            rest = rest[: len(rest) - (len(rest) % 4 == 1)]
            text = _as_text(base64.b64decode(rest + "=" * (-len(rest) % 4)))
            if text is not None:
                return text
    return None


def _base32(run: str) -> str | None:
    letters = run.rstrip("=")
    whole = len(letters) // 8 * 8
    tail = letters[whole:] if len(letters) % 8 in (2, 4, 5, 7) else ""
    return _as_text(base64.b32decode(letters[:whole] + tail + "=" * (-len(tail) % 8)))


def _hex(run: str) -> str | None:
    digits = re.sub(r"0x|\\x|[^0-9a-f]", "", run.lower())
    for start in range(2) if len(digits) >= 16 else ():
        rest = digits[start:]
        text = _as_text(binascii.unhexlify(rest[: len(rest) // 2 * 2]))
        if text and (not digits.isdecimal() or _is_no_number(text)):
            return text
    return None


def _is_no_number(text: str) -> bool:
    """Whether a row of digits without a letter is text: most are dates, accounts, measurements.

    Three of five pairs of digits are printable, two of five a letter: chance ends at these lengths.
    """
    return len(text) >= 32 or (len(text) > 10 and _ONLY_LETTERS.fullmatch(text) is not None)


def _binary(run: str) -> str | None:
    bits = re.sub("[^01]", "", run)
    return _as_text(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))


def _decimal(run: str) -> str | None:
    """Character codes, with the spaces between words: without them it is a list of numbers."""
    codes = [int(code) for code in re.findall(r"\d+", run)]
    text = "".join(map(chr, codes))
    words = text.split()
    letters = all(char.isascii() and (char.isalpha() or char in " .,!?'-") for char in text)
    return text if letters and 3 * len(words) <= len(text) <= 12 * len(words) > 12 else None


_BYTES = r"(?:0x|\\x)?(?:[0-9a-f]{2}){1,2}"
_CODE = r"(?:3[2-9]|4[4-9]|6[3-9]|[7-9]\d|1[01]\d|12[0-2])"  # letters, and the signs of prose
# Repeats are possessive: what a long run has matched is never tried again, nor kept for it.
_RUNS: tuple[tuple[str, re.Pattern[str], _Decode], ...] = (
    (
        "base64",
        re.compile(
            r"(?<![\w+/-])(?:(?:[\w+/-]{60,}+\r?\n[ \t>]{0,8})++[\w+/-]*+|[\w+/-]{14,}+)={0,2}",
            re.ASCII,
        ),
        _base64,
    ),
    ("base32", re.compile(r"(?<!\w)[A-Z2-7]{16,}+={0,6}(?!\w)"), _base32),
    (
        "hex",
        re.compile(
            rf"(?<![0-9A-Za-z])(?:(?:{_BYTES}[\s,:;-]{{1,2}}){{3,}}+(?:{_BYTES}(?![0-9A-Za-z]))?"
            r"|(?:0x)?[0-9a-f]{16,}+(?![0-9A-Za-z]))",
            re.IGNORECASE | re.ASCII,
        ),
        _hex,
    ),
    ("binary", re.compile(r"(?<!\w)(?:[01]{8}[ ,\n]{0,2}){4,}+(?![01])"), _binary),
    (
        "character codes",
        re.compile(rf"(?<![\w.,])(?:{_CODE}[ ,;]{{1,2}}){{11,}}+(?:{_CODE}(?![\w.]))?"),
        _decimal,
    ),
    ("Morse", MORSE, morse),
)


# --- escapes between other characters -------------------------------------------------------------

_GAP = 24  # characters between two escapes of one passage
_LONGEST = 16_000  # characters decoded at once: four times what can be shown
_NEEDLESS = 3  # escaped letters and digits of ASCII: no tool writes them so, in any format
_WRITTEN = 4  # escaped letters of other scripts in a row
_BEFORE = re.compile(r"[^\s\"'`<>()\[\]{}=&]{0,24}\Z")
_AFTER = re.compile(r"[^\s\"'`<>()\[\]{}=&]{0,24}")
_IN_URL = re.compile(r"(?:://|\bwww\.)\S*\Z")


def _unescaped(
    text: str, pattern: re.Pattern[str], unescape: _Unescape, *, percent: bool
) -> Iterator[str]:
    """Passages with escapes that spell something, to the ends of their words.

    Programs and pages have accents and ranges of letters in escapes, so that only a word in a row
    counts; addresses have whole words, so that in one of them only needless ones count.
    """
    for start, end, needless, written in _passages(text, pattern, unescape, rows=not percent):
        if needless < _NEEDLESS and (
            written < (_NEEDLESS if percent else _WRITTEN)
            or (percent and _IN_URL.search(text, max(0, start - 500), start))
        ):
            continue
        before = _BEFORE.search(text, max(0, start - _GAP), start)
        after = _AFTER.match(text, end)
        first = before.start() if before else start
        said = unescape(text[first : after.end() if after else end])
        if _is_text(said):
            yield said


def _passages(
    text: str, pattern: re.Pattern[str], unescape: _Unescape, *, rows: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Where escapes stand close together; how many letters are needless, and how many others."""
    start = end = needless = written = 0
    for match in pattern.finditer(text):
        if end and (match.start() - end > _GAP or end - start > _LONGEST):
            yield start, end, needless, written
            end = needless = written = 0
        if not end:
            start = match.start()
        end = match.end()
        chars = unescape(match[0])
        needless += sum(char.isascii() and char.isalnum() for char in chars)
        letters = sum(not char.isascii() and char.isalpha() for char in chars)
        written = max(written, letters) if rows else written + letters
    if end:
        yield start, end, needless, written


_SLASHED = re.compile(
    r"\\{1,4}(?:u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})"
    r"|([0-3][0-7]{2}))"
)


def _unslash(passage: str) -> str:
    """Escapes of programming languages; bytes that are UTF-8 together are read so."""

    def char(match: re.Match[str]) -> str:
        octal = match[5]
        code = int(octal, 8) if octal else int(next(filter(None, match.groups())), 16)
        return chr(code) if code <= 0x10FFFF else "\ufffd"

    text = _SLASHED.sub(char, passage)
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


_ESCAPES: tuple[tuple[str, re.Pattern[str], _Unescape], ...] = (
    ("percent-encoding", re.compile("(?:%(?:25)*[0-9a-fA-F]{2}){1,999}+"), unquote),
    ("escapes", re.compile(f"(?:{_SLASHED.pattern}){{1,999}}+"), _unslash),
    (
        "HTML entities",
        re.compile("(?:&#(?:\\d{1,7}|[xX][0-9a-fA-F]{1,6});?){1,999}+"),
        html.unescape,
    ),
)
