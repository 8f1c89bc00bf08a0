"""Tell whether decoded bytes and characters are readable text.

Pure. Unreadable results are not reported: hashes, keys, images and compiled code look like encoded
text too.
"""

from __future__ import annotations

import re


def is_text(text: str) -> bool:
    """Return whether a text is printable, and mostly letters, digits and spaces.

    A text of at least 64 characters may have up to 5 % unprintable characters. At least 32
    characters may have up to 70 % signs (another encoding inside), shorter ones 40 %.
    """
    size = len(text)
    odd = sum(map(len, _UNPRINTABLE.findall(text)))
    signs = sum(map(len, _SIGNS.findall(text)))
    return (
        size >= 3
        and odd <= (0 if size < _LONG else size // 20)
        and signs <= (0.4 if size < 32 else 0.7) * size
        and _ALNUM.search(text) is not None
    )


_LONG = 64  # from this many characters, a text may have a few unprintable ones
_CONTROL = bytes([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff]+"
)
_SIGNS = re.compile(r"[^\w\s\u0300-\u036f\u0590-\u05c7\u064b-\u065f\u0900-\u0eff]+")
_CHANCE = 24  # below this many bytes, a key or a name can be readable by chance
_CUT = re.compile("\\A\ufffd{1,3}|\ufffd{1,3}\\Z")  # parts of a cut character: at most three bytes
_ALNUM = re.compile(r"[^\W_]")
# A word or two in one script, with punctuation: a few bytes can decode to characters by chance.
_PROSE = re.compile(
    "|".join(
        f"[{letters}0-9 \\n\\t.,;:!?'\"()/@’–=_-]+"
        for letters in (
            "A-Za-zÀ-ſ", "Ͱ-Ͽ", "Ѐ-ԯ", "\u0590-\u05ff", "\u0600-\u06ff", "\u0900-\u0d7f",
            "\u0e00-\u0e7f", "぀-ヿ一-龿、。", "가-힣",
        )
    )
)  # fmt: skip


def as_text(data: bytes) -> str | None:
    """Return bytes as text without characters cut at either end; None if they are not text."""
    wide = len(data) >= 8 and data[1::2].count(0) * 3 > len(data)
    most = 0 if len(data) < _LONG else len(data) // 20
    if not wide and len(data) - len(data.translate(None, _CONTROL)) > most:
        return None  # `is_text` would find the same, but after decoding
    text = data.decode("utf-16-le" if wide else "utf-8", "replace")
    if len(data) < _CHANCE:
        return text if len(text) >= 3 and _PROSE.fullmatch(text) else None
    text = _CUT.sub("", text)
    return text if is_text(text) else None
