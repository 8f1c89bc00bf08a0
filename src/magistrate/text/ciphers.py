"""Decode text in exchanged letters, reversed text and Morse: rot13 and its variants, atbash.

Pure. Only its most common words distinguish such a text from another language. So each word is
looked up among the enciphered common words of a few languages. A passage counts only if it has
several of them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from magistrate.text.scanning import ranges

LEAST_HITS = 3  # enciphered common words in a passage, at least two of them different
SHARE = 5  # at least one word in this many must be common: in plain English every second one is

_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        a about all and any are as at be because but by can could do does for from get have he her
        him his how i if in into is it its just know like make me more my no not now of on one
        only or other our out people please she so some tell than that the their them then there
        they this to up us use want was we what when where which who why will with without would
        write you your aber als auch auf aus bei das dass dem den der des die du ein eine einen er
        es für hat ich im ist kann man mein mit nach nicht noch oder sich sie sind über um und uns
        von wie wir zu zum zur au avec ce cette comment dans elle est et il je la le les mais moi
        ne nous ou par pas plus pour que qui sans ses son sur un une vous como con cuando del
        desde donde ella ellos en esta este está los más muy para pero por porque se ser sin sobre
        su sus también una y che chi come della delle di dove gli ho non per perché più quando
        questo sono ao das dos ele em eu foi isso mas meu não nos o os quando são sem seu também
        uma você aan bij dat de een geen het hoe ik maar met naar niet om te van voor wat zijn
        """,
    )
)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def _ways() -> dict[str, dict[int, int]]:
    """Return the ciphers by name, as tables for `str.translate` that decode them."""
    ways = {"atbash": _ALPHABET[::-1]}
    ways |= {f"rot{26 - n}": _ALPHABET[n:] + _ALPHABET[:n] for n in range(1, 26)}
    both = {how: plain + plain.upper() for how, plain in ways.items()}
    return {how: str.maketrans(_ALPHABET + _ALPHABET.upper(), said) for how, said in both.items()}


_WAYS = _ways()
_REVERSED = "reversed"


def _disguised() -> dict[str, tuple[str, ...]]:
    """Return each enciphered common word with its ciphers; two-letter words only for rot13.

    Every second pair of letters is a word in some cipher, and many are words in both forms.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for how, table in _WAYS.items():
        back = {plain: cipher for cipher, plain in table.items()}
        for word in _COMMON:
            if len(word) > (1 if how == "rot13" else 2):
                found[word.translate(back)].append(how)
    for word in _COMMON:
        if len(word) > 2:
            found[word[::-1]].append(_REVERSED)
    return {word: tuple(hows) for word, hows in found.items() if word not in _COMMON}


_DISGUISED = _disguised()
_PLAIN = frozenset(
    word for word in _COMMON if len(word) > 2
)  # "em" is Portuguese, or "me" reversed
# What ends a passage, apart from a common word in plain text: a paragraph, or quotation signs.
_BREAK = re.compile(r"[\n:\"“”«»](?:(?<=\n)\s*\n|(?<!\n))")
_TOKEN = re.compile(r"(?<!\w)[^\W\d_]++(?!\w)")
_LETTERS = f"[{ranges(set(''.join(_DISGUISED)))}]"  # the letters of enciphered words
_WORD = re.compile(f"{_LETTERS}{_LETTERS}+")
_ONLY_LETTERS = bytes(code if chr(code) in _ALPHABET else ord(" ") for code in range(256))


def shifted(text: str) -> Iterator[tuple[str, str]]:
    """Yield the decoded passages of a text, as (how, text)."""
    if _can_be_shifted(text):
        for section in _BREAK.split(text):
            if _can_be_shifted(section):
                yield from _passages(section)


def _can_be_shifted(text: str) -> bool:
    """Return whether a text has the enciphered words that one passage must have; cheap."""
    small = text.lower()
    if small.isascii():
        found = small.encode().translate(_ONLY_LETTERS).decode().split()
    else:
        found = _WORD.findall(small)
    words = [word for word in found if word in _DISGUISED]
    if len(words) < LEAST_HITS:
        return False
    hits = Counter(how for word in words for how in _DISGUISED[word])
    kinds = Counter(how for word in set(words) for how in _DISGUISED[word])
    return any(total >= LEAST_HITS and kinds[how] > 1 for how, total in hits.items())


def _passages(text: str) -> Iterator[tuple[str, str]]:
    start = end = words = 0
    hits: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for token in _TOKEN.finditer(text):
        word = token[0].lower()
        if word in _PLAIN:
            yield from _readable(text, start, end, words, hits)
            start, words = token.end(), 0
            hits.clear()
            continue
        words, end = words + 1, token.end()
        for how in _DISGUISED.get(word, ()):
            hits[how][word] += 1
    yield from _readable(text, start, end, words, hits)


def _readable(
    text: str, start: int, end: int, words: int, hits: dict[str, Counter[str]]
) -> Iterator[tuple[str, str]]:
    if not hits:
        return
    how, found = max(hits.items(), key=lambda item: item[1].total())
    if found.total() < LEAST_HITS or len(found) < 2 or found.total() * SHARE < words:
        return
    passage = text[start:end].strip()
    yield how, passage[::-1] if how == _REVERSED else passage.translate(_WAYS[how])


# --- Morse ----------------------------------------------------------------------------------------

_SIGN = r"[.\-·•−–—]"
_END = r"(?:[ \t]{0,4}[/|][ \t]{0,4}|\s{1,4})"
MORSE = re.compile(  # begins with a sign instead of a lookbehind: such a search is faster
    rf"{_SIGN}(?<!\S.){_SIGN}{{0,5}}{_END}(?:{_SIGN}{{1,6}}{_END}){{2,}}+(?:{_SIGN}{{1,6}}(?!\S))?"
)
# Signs in the order of their letters.
_MORSE: dict[str, str] = dict(
    zip(
        re.findall(
            r"\S+",
            ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- "
            "...- .-- -..- -.-- --.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. "
            ".-.-.- --..-- ..--.. -.-.-- -..-. -....- .----.",
        ),
        "abcdefghijklmnopqrstuvwxyz0123456789.,?!/-'",
        strict=True,
    )
)
_SIGNS_OF = {char: signal for signal, char in _MORSE.items()}
_SIGNALS = str.maketrans("·•−–—", "..---")
_WORD_END = re.compile(r"\s{0,4}[/|]\s{0,4}|\s{0,4}\n\s{0,4}|\s{2,4}")


def morse(run: str) -> str | None:
    """Decode a run of signals to lowercase; None for a ruled line, a list or a row of dots."""
    words = _WORD_END.split(run.translate(_SIGNALS).strip())
    text = " ".join("".join(_MORSE.get(signal, "\0") for signal in word.split()) for word in words)
    # Ruled lines, lists and rows of dots have only one kind of sign in each word.
    mixed = sum(len(set(_SIGNS_OF.get(char, ""))) == 2 for char in text)
    several = len(text) >= 4 and len(set(text) - {" "}) >= 3
    return text if several and mixed >= 2 and "\0" not in text else None
