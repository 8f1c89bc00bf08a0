"""Whether bytes and characters that came out of an encoding are something to read.

Pure. What is not stays silent: hashes, keys, images and compiled code look like encoded text.
"""

from __future__ import annotations

import re


def is_text(text: str) -> bool:
    """Whether somebody could have written it: printable, and mostly letters, digits and spaces.

    A long text may have a little of what no text has, and the signs of another encoding.
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


_LONG = 64  # characters from which a text may have a few that are odd
_CONTROL = bytes([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff]+"
)
_SIGNS = re.compile(r"[^\w\s\u0300-\u036f\u0590-\u05c7\u064b-\u065f\u0900-\u0eff]+")
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


def as_text(data: bytes) -> str | None:
    """Bytes as text, if they are text; characters cut at either end are dropped."""
    wide = len(data) >= 8 and data[1::2].count(0) * 3 > len(data)
    most = 0 if len(data) < _LONG else len(data) // 20
    if not wide and len(data) - len(data.translate(None, _CONTROL)) > most:
        return None  # as `is_text` will find, but without decoding
    text = data.decode("utf-16-le" if wide else "utf-8", "replace")
    if len(data) < _CHANCE:
        return text if len(text) >= 3 and _PROSE.fullmatch(text) else None
    text = _CUT.sub("", text)
    return text if is_text(text) else None
