"""Find and remove characters that are invisible or that change the reading direction.

Pure. Most have legitimate uses, recognised here by their neighbours: variation selectors and
joiners in emoji, joiners in Arabic and Indic scripts, direction marks in text with right-to-left
letters, a byte order mark at the very start. Every other occurrence is reported and removed.

Source of names and categories: the Unicode character database of the running Python.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE = 100_000  # characters read at a time: millions of hidden ones must not cost gigabytes
MOST_KINDS = 16  # named one by one; a text with a hundred kinds must not fill the prompt

_CONTROL = bytes([*range(0x09), *range(0x0E, 0x1B), 0x7F])
# Anything that could be invisible; `_is_honest` decides. Not included: tab, line ends, ESC (common
# in logs, and visible in JSON), and characters newer than this Python's Unicode database.
_SUSPECT = re.compile(
    "[\x00-\x08\x0e-\x1a\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U0001fffe\U0001ffff\U0002fffe\U0002ffff\U0003fffe-\U0010ffff\U0001f3f4](?:(?<=\U0001f3f4)"
    # The flags of England, Scotland and Wales, whole.
    "\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f)?"
)
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u05ff\u0600-\u07bf\u07c0-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"
    "\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
# Scripts in which joiners change how letters are joined.
_JOINING = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1c4f\ua840-\ua9df"
    "\uaa00-\uaaef\uabc0-\uabff\ufb50-\ufdcf\ufe70-\ufefc\U00010a00-\U00011fff\U0001e900-\U0001e95f]"
)
# Scripts without spaces between words, where a zero width space says where a line may break.
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf]")
_IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")
_BRAILLE = re.compile("[\u2801-\u28ff]")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069")
_ZERO_WIDTH = frozenset("\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff")

# Text that an override shows right to left, up to the end of the override or of the line.
_OVERRIDDEN = re.compile("\u202e([^\u202a-\u202e\u2066-\u2069\n\r\u2029]*)\u202c?")

# Marks of no particular script. Only polytonic Greek has three on one letter.
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
_MARK = re.compile(f"[{_MARKS}]")
_STACKED = re.compile(f"(?<![\u0370-\u03ff\u1f00-\u1fff{_MARKS}])[{_MARKS}]{{3,}}|[{_MARKS}]{{4,}}")
_STRUCK = re.compile("(?:[^\\W\\d_][\u0334-\u0338]){3,}+")  # letters with a line through each


@dataclass(frozen=True, slots=True)
class Stripped:
    """A text without its hidden characters. `hidden`: their names. `payloads`: text they encode."""

    text: str
    hidden: tuple[str, ...]
    payloads: tuple[tuple[str, str], ...]


def can_hide(text: str) -> bool:
    """Return whether `strip` could change any part of a text; cheap."""
    if text.isascii():
        return len(text.encode().translate(None, _CONTROL)) < len(text)
    return _SUSPECT.search(text) is not None or _MARK.search(text) is not None


def strip(text: str) -> Stripped:
    """Remove the characters that a reader does not see, and reorder overridden text as shown."""
    if not can_hide(text):
        return Stripped(text, (), ())
    found: list[str] = []
    if "\u202e" in text:
        text = _OVERRIDDEN.sub(_as_shown, text)
    rtl = _RIGHT_TO_LEFT.search(text) is not None
    clean = "".join(_seen(text, start, found, rtl=rtl) for start in range(0, len(text), _PIECE))
    stacked = 0
    if _MARK.search(clean):
        stacked = sum(map(len, _STACKED.findall(clean)))
        clean = _STRUCK.sub(lambda letters: letters[0][::2], _STACKED.sub("", clean))
    return Stripped(clean, _named(found, stacked), _payloads(found))


def _seen(text: str, start: int, found: list[str], *, rtl: bool) -> str:
    """Return the visible characters of a piece of a text; append the hidden ones to `found`."""
    kept: list[str] = []
    end = min(start + _PIECE, len(text))
    for match in _SUSPECT.finditer(text, start, end):
        if len(match[0]) == 1 and not _is_honest(text, match.start(), rtl=rtl):
            found.append(sys.intern(match[0]))  # one object per kind, to save memory
            kept.append(text[start : match.start()])
            start = match.end()
    return "".join(kept) + text[start:end]


def _as_shown(match: re.Match[str]) -> str:
    """Return overridden text as shown on screen; text with right-to-left letters is unchanged."""
    turned: str = match[1]
    if _RIGHT_TO_LEFT.search(turned):
        return match[0]
    return match[0].replace(turned, turned[::-1])


def _is_honest(text: str, at: int, *, rtl: bool) -> bool:
    """Return whether a character has its legitimate use at this position."""
    char = text[at]
    before, after = text[at - 1] if at else "", text[at + 1 : at + 2]
    match char:
        case "\ufeff":
            return at == 0
        case "\U0001f3f4":  # a flag of no country
            return True
        case "\u200b":
            return bool(_UNSPACED.match(before) and _UNSPACED.match(after))
        case "\u200c" | "\u200d":
            drawn = char == "\u200d" and _is_drawn(before) and _is_drawn(after)
            return drawn or _JOINING.match(before) is not None
        case "\u115f" | "\u1160":
            return bool(_HANGUL.match(before) or _HANGUL.match(after))
        case "\u2800":
            return bool(_BRAILLE.match(before) or _BRAILLE.match(after))
        case _ if char in _DIRECTION:
            return rtl
        case _ if "\u180b" <= char <= "\u180f":
            return "\u1800" <= before <= "\u18af"
        case _ if _selects(char):
            return not _selects(after) and _has_variants(before, char)
        case _:
            return False


def _selects(char: str) -> bool:
    """Return whether a character is a variation selector."""
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _has_variants(base: str, selector: str) -> bool:
    """Return whether a selector can follow `base` (Unicode's StandardizedVariants and IVD)."""
    if _IDEOGRAPH.match(base):
        return True
    if selector in "\ufe0e\ufe0f":
        return (base != "" and base in "#*0123456789©®") or _is_drawn(base)
    return (
        selector <= "\ufe0d"
        and ("\u2010" <= base <= "\uffef" or base == "0")
        and (base == "0" or unicodedata.category(base)[0] in "SP" or bool(_JOINING.match(base)))
    )


def _is_drawn(char: str) -> bool:
    """Return whether a character can be part of an emoji.

    Emoji newer than this Python have no category, so their whole range counts.
    """
    return (
        char == "\ufe0f"
        or "\U0001f000" <= char <= "\U0001faff"
        or (char >= "\u203c" and (char == "ℹ" or unicodedata.category(char)[0] in "SP"))
    )


def _named(found: list[str], stacked: int) -> tuple[str, ...]:
    """Return the names of what was found with counts, most frequent first."""
    kinds: Counter[str] = Counter()
    for char, count in Counter(found).items():
        kinds[_name(char)] += count
    if stacked:
        kinds["STACKED COMBINING MARKS"] = stacked
    named = [f"{name} ×{count}" for name, count in kinds.most_common(MOST_KINDS)]
    more = len(kinds) - len(named)
    return (*named, *([f"{more} more kinds"] if more else []))


def _name(char: str) -> str:
    if _is_tag(char):
        return "TAG CHARACTERS U+E0020–U+E007F"
    if _selects(char):
        return "VARIATION SELECTORS U+FE00–U+FE0F, U+E0100–U+E01EF"
    group = {"Co": "PRIVATE USE", "Cn": "UNASSIGNED", "Cs": "LONE SURROGATE", "Cc": "CONTROL"}
    name = unicodedata.name(char, "") or group.get(unicodedata.category(char), "UNNAMED")
    return f"{name} U+{ord(char):04X}"


# --- text encoded in hidden characters ------------------------------------------------------------


def _is_tag(char: str) -> bool:
    return "\U000e0020" <= char <= "\U000e007f"


def _payloads(found: list[str]) -> tuple[tuple[str, str], ...]:
    """Decode text in hidden characters: tag letters, bytes in selectors, bits in two kinds."""
    tags = "".join(chr(ord(char) - 0xE0000) for char in found if _is_tag(char)).strip("\x7f")
    spelled = [
        ("tag characters", tags),
        ("variation selectors", _selected([char for char in found if _selects(char)])),
        *(("zero-width bits", bits) for bits in _bits([c for c in found if c in _ZERO_WIDTH])),
    ]
    return tuple((how, text) for how, text in spelled if text.strip())


def _selected(selectors: list[str]) -> str:
    """Decode selectors: one byte each or, if only the first sixteen occur, half a byte each."""
    values = bytes(
        ord(char) - 0xFE00 if char <= "\ufe0f" else ord(char) - 0xE0100 + 16 for char in selectors
    )
    text = _readable(values)
    if not text and max(values, default=16) < 16:
        text = _readable(bytes(a << 4 | b for a, b in zip(values[::2], values[1::2], strict=False)))
    return text


def _bits(zeros: list[str]) -> Iterator[str]:
    """Yield texts of eight-bit bytes from two kinds of characters; either kind can be the 1."""
    kinds = sorted(set(zeros))
    if len(kinds) == 2 and len(zeros) >= 24:
        for one in kinds:
            bits = "".join("1" if char == one else "0" for char in zeros)
            yield _readable(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8)))


def _readable(data: bytes) -> str:
    """Return bytes as text, or an empty string. The first byte may be an emoji's own selector."""
    text = data.decode("utf-8", "replace").strip("\ufffd\x00\x0e\x0f")
    printable = sum(char.isprintable() or char in "\n\r\t" for char in text)
    return text if len(text) >= 3 and printable == len(text) else ""
