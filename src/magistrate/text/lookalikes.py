"""Tables of letters that look like other letters. `reading.py` decides when to apply them.

Pure. The shapes are as in Unicode's confusables, limited to letters that are used in disguises.
"""

from __future__ import annotations

import unicodedata


def _pairs(*rows: str) -> dict[str, str]:
    """Return a table from rows of letters and the letters they look like, in the same order."""
    table: dict[str, str] = {}
    for row in rows:
        letters, latin = row.split()
        table |= dict(zip(letters, latin, strict=True))
    return table


_CYRILLIC = _pairs(
    "авсԁенһіјкӏмогрԛѕтиѵԝхуь abcdehhijklmorpqstuvwxyb",
    "АВСЕҒНІЈКМОРԚЅТԜХУҮӀԌѴЬ ABCEFHIJKMOPQSTWXYYIGVb",
)
_GREEK = _pairs(
    "αβγεηικνορστυχωϲϳ abyenikvopotuxwcj",
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ ABEZHIKMNOPTYX",
)
_ARMENIAN = _pairs("օոսհցզքյլ onuhgqpjl", "ՕՍՏԼ OUSL")
_CHEROKEE = _pairs("ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃᏒ ABCDEGHiJKLMPRSTVWZR")

# Letters of other scripts that look Latin, by script.
LATIN_BY_SCRIPT: tuple[dict[str, str], ...] = (_CYRILLIC, _GREEK, _ARMENIAN, _CHEROKEE)
LATIN = _CYRILLIC | _GREEK | _ARMENIAN | _CHEROKEE
# The reverse, for a Cyrillic text with Latin letters in its words.
CYRILLIC = _pairs("aceopxyABCEHKMOPTX асеорхуАВСЕНКМОРТХ")


def _styled(*ranges: tuple[int, int]) -> dict[str, str]:
    """Return the letters that Unicode maps to one ASCII letter, possibly in brackets."""
    table: dict[str, str] = {}
    for first, last in ranges:
        for code in range(first, last + 1):
            plain = unicodedata.normalize("NFKC", chr(code)).strip("()")
            if len(plain) == 1 and plain.isascii() and plain.isalpha():
                table[chr(code)] = plain
    return table


def _drawn(first: int) -> dict[str, str]:
    """Return 26 pictures of A to Z from a code point on, which Unicode does not map to letters."""
    return {chr(first + i): chr(65 + i) for i in range(26)}


# Styled alphabets: mathematical, in circles, squares or brackets, roman numerals.
STYLED = (
    _styled((0x1D400, 0x1D7FF), (0x249C, 0x24E9), (0x1F110, 0x1F149), (0x2160, 0x217F))
    | _styled((0x2102, 0x2138))
    | _drawn(0x1F150)
    | _drawn(0x1F170)
)
FULL_WIDTH = _styled((0xFF21, 0xFF3A), (0xFF41, 0xFF5A))
# Superscript, subscript and small capital letters. Single ones are common in phonetics, chemistry
# and French.
SMALL = _styled((0x1D2C, 0x1D6A), (0x02B0, 0x02E3), (0x2071, 0x209C)) | _pairs(
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ abcdefghijklmnopqrstuvwyz"
)
REGIONAL = _drawn(0x1F1E6)  # in pairs they are flags

LEET = {
    "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g",
    "@": "a", "$": "s",
}  # fmt: skip
VOWELS = frozenset("aeiouAEIOUаеёиоуыэюяАЕЁИОУЫЭЮЯαεηιουωΑΕΗΙΟΥΩ")
