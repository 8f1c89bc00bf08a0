"""The local model: turns a text into features, and features into scores.

A linear model over a bag of hashed n-grams, with one set of weights per output. The weights are
data (`local-model.json`, `local-model.npz`, written by `scripts/train-local-judge`). Nothing is
unpickled, and only numpy is needed to use them. `docs/local-judge.md` says how good it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Any
from zlib import crc32

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.text.reading import reading
from magistrate.wire.parts import Part, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

HEADER = "local-model.json"
WEIGHTS = "local-model.npz"

# Number of buckets that n-grams are hashed into. The training cases have about as many distinct
# n-grams, so some share a bucket. In cross-validation, two or four times as many buckets gave no
# gain.
WORD_BUCKETS = 1 << 15
CHAR_BUCKETS = 1 << 15
BUCKETS = WORD_BUCKETS + CHAR_BUCKETS
CHAR_LENGTHS = (2, 3, 4)

# Characters scored at a time. Harmless text dilutes harmful text in the same piece, so a long text
# is scored in pieces and the highest score counts. Most training cases are shorter than one piece.
PIECE = 2_000
OVERLAP = 200
# Characters of the context before the judged parts: enough for the question of an answer.
CONTEXT = 1_500

_WORDS = re.compile(r"\w+")
_DIGITS = re.compile(r"\d")
# Labels that machines generate. Names and titles are read, because people write them.
_UNREAD_LABELS = frozenset({"tool_use_id", "kind", "media_type"})


# --- from a subject to text -----------------------------------------------------------------------


def said(subject: Subject) -> str:
    """Return the text of a subject: the end of its context, then all judged parts."""
    before = "\n".join(
        plain(part.text) for part in subject.parts if not part.judged and part.kind == "text"
    )
    judged = "\n".join(spoken(part) for part in subject.parts if part.judged)
    return f"{before[-CONTEXT:]}\n{judged}" if before else judged


def spoken(part: Part) -> str:
    """Return the text of a part with its labels, as a reader would see it."""
    labels = (text for name, text in part.labels.items() if name not in _UNREAD_LABELS)
    return "\n".join(filter(None, (plain(text) for text in (*labels, part.text))))


def plain(text: str) -> str:
    """Return a text as a reader would see it: normalised, then what is encoded in it."""
    found = reading(text)
    decoded = (hidden for _, hidden in found.decoded)
    return "\n".join((text if found.normalised is None else found.normalised, *decoded))


def pieces(text: str) -> Iterator[str]:
    """Yield a text in overlapping pieces of `PIECE` characters; at least one."""
    yield text[:PIECE]
    for start in range(PIECE - OVERLAP, len(text) - OVERLAP, PIECE - OVERLAP):
        yield text[start : start + PIECE]


# --- from text to numbers -------------------------------------------------------------------------


def ngrams(text: str) -> tuple[Counter[int], Counter[int]]:
    """Count the n-grams per bucket: of words and word pairs, and of characters within words."""
    folded = _DIGITS.sub("0", unicodedata.normalize("NFKC", text).lower())
    sequence = _WORDS.findall(folded)
    words = Counter(_bucket("w", word) % WORD_BUCKETS for word in sequence)
    words.update(_bucket("w", f"{a} {b}") % WORD_BUCKETS for a, b in pairwise(sequence))
    letters: Counter[int] = Counter()
    for word, times in Counter(sequence).items():
        framed = f" {word} "
        for length in CHAR_LENGTHS:
            for start in range(len(framed) - length + 1):
                gram = framed[start : start + length]
                letters[WORD_BUCKETS + _bucket("c", gram) % CHAR_BUCKETS] += times
    return words, letters


def _bucket(kind: str, gram: str) -> int:
    # Not `hash`: its results differ between processes.
    return crc32((kind + gram).encode("utf-8", "surrogatepass"))


def vector(text: str, rarity: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the buckets of a text and their weights.

    Rare n-grams weigh more. Each of the two families of n-grams is scaled to length 1, however
    long the text is.
    """
    import numpy as np

    indices: list[NDArray[np.int64]] = []
    values: list[Floats] = []
    for family in ngrams(text):
        index = np.fromiter(family.keys(), np.int64, len(family))
        often = np.fromiter((1.0 + log(n) for n in family.values()), np.float32, len(family))
        value = often * rarity[index]
        length = float(np.sqrt(value @ value))
        indices.append(index)
        values.append(value / np.float32(length or 1.0))
    return np.concatenate(indices), np.concatenate(values)


# --- the model ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scored:
    """A piece of text and its scores: for any violation, and for each section.

    Scores are log-odds on the training cases, not probabilities for real traffic.
    """

    text: str
    any: float
    sections: dict[str, float]


def worst(scored: Iterable[Scored]) -> Scored:
    """Return the piece with the highest score for any violation."""
    return max(scored, key=lambda each: each.any)


@dataclass(frozen=True, eq=False)
class LocalModel:
    """The weights of the model, by bucket.

    `weights` has a column for "any violation", then one for each of `sections`; `clause_weights`
    has one for each of `clauses`. `thresholds`: the lowest score of each grade. Below the threshold
    `clear`, no model needs to be asked.
    """

    header: dict[str, Any]
    rarity: Floats
    weights: Floats
    intercepts: Floats
    clause_weights: NDArray[np.int8]
    hash: str

    @property
    def sections(self) -> list[str]:
        return self.header["sections"]

    @property
    def clauses(self) -> list[str]:
        return self.header["clauses"]

    @property
    def thresholds(self) -> dict[str, float]:
        return self.header["thresholds"]

    @property
    def name(self) -> str:
        return f"local-{self.header['version']}-{self.hash[:12]}"

    def scored(self, text: str) -> Scored:
        """Return the scores of one piece of text."""
        index, value = vector(text, self.rarity)
        scores: list[float] = (value @ self.weights[index] + self.intercepts).tolist()
        return Scored(text, scores[0], dict(zip(self.sections, scores[1:], strict=True)))

    def likeness(self, text: str) -> dict[str, float]:
        """Return how similar a text is to each clause; comparable only within one text."""
        import numpy as np

        index, value = vector(text, self.rarity)
        alike: list[float] = (value @ self.clause_weights[index].astype(np.float32)).tolist()
        return dict(zip(self.clauses, alike, strict=True))


@cache
def load_model() -> LocalModel:
    """Return the model that is part of the package; read once.

    Raises `SettingsError` if numpy is not installed.
    """
    try:
        import_module("numpy")
    except ModuleNotFoundError:
        message = "the local judge needs numpy: pip install 'magistrate[local]'"
        raise SettingsError([Problem(None, None, None, "judge.backend", message)]) from None
    folder = files("magistrate") / "judging"
    header = json.loads((folder / HEADER).read_text("utf-8"))
    return read_model(header, (folder / WEIGHTS).read_bytes())


def read_model(header: dict[str, Any], weights: bytes) -> LocalModel:
    """Return a model from its two files. Raise ValueError if they do not belong together."""
    from io import BytesIO

    import numpy as np

    if hashlib.sha256(weights).hexdigest() != header["weights_sha256"]:
        raise ValueError(f"{WEIGHTS} is not the file that {HEADER} describes")
    with np.load(BytesIO(weights), allow_pickle=False) as arrays:
        scale = arrays["scale"].astype(np.float32)
        return LocalModel(
            header,
            arrays["rarity"].astype(np.float32),
            arrays["weights"].astype(np.float32) * scale,
            arrays["intercepts"].astype(np.float32),
            arrays["clauses"],
            hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest(),
        )
