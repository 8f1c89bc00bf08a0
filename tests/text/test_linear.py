"""Work grows no faster than the text, whoever wrote it: counted in steps, never in seconds."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import magistrate
from magistrate import text
from magistrate.text.reading import PASSAGE, reading
from regex_steps import Steps, bodies, members

# Where text that is judged meets regular expressions.
MODULES = (
    "core.history",
    "core.windows",
    "coverage.surfaces",
    "judging.local",
    "judging.local_model",
    "judging.prompt",
    "judging.reply",
    *(f"text.{each.name}" for each in pkgutil.iter_modules(text.__path__)),
    "wire.blocks",
    "wire.content",
    "wire.parts",
    "wire.sse",
)
SIZE = 120


def compiled(value: object) -> Iterator[re.Pattern[Any]]:
    """The patterns in a value of a module."""
    match value:
        case re.Pattern():
            yield value
        case list() | tuple():
            for item in value:
                yield from compiled(item)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for each in fields(value):
                yield from compiled(getattr(value, each.name))
        case _:
            pass


def written(text: str) -> Iterator[re.Pattern[Any]]:
    """The patterns that stand in calls such as `re.sub("a", ...)`."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="re"), attr=attr), args=[first, *_]
            ) if attr not in ("compile", "escape"):
                assert isinstance(first, ast.Constant), f"name the pattern of re.{attr}"
                yield re.compile(first.value)
            case _:
                pass


def source(name: str) -> str:
    path = Path(magistrate.__file__).parent.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text(encoding="utf-8")


def patterns() -> dict[str, tuple[re.Pattern[Any], bool]]:
    """All patterns of the modules; and whether a pattern is only ever put to a text as a whole."""
    found: dict[re.Pattern[Any], tuple[str, bool]] = {}
    for name in MODULES:
        text = source(name)
        for variable, value in vars(importlib.import_module(f"magistrate.{name}")).items():
            uses = set(re.findall(rf"\b{variable}\.(\w+)", text))
            for number, pattern in enumerate(compiled(value)):
                found.setdefault(pattern, (f"{name}.{variable} {number}", uses == {"fullmatch"}))
        for number, pattern in enumerate(written(text)):
            found.setdefault(pattern, (f"{name}, inline {number}", False))
    return {name: (pattern, whole) for pattern, (name, whole) in found.items()}


PATTERNS = patterns()


def attacks(pattern: re.Pattern[Any]) -> Iterator[Callable[[int], str]]:
    """Texts of a size that a pattern or a part of it matches over and over, but not at the end."""
    units = [said + between for said, between in product(members(pattern), ("", " "))]
    for unit in filter(None, dict.fromkeys((*units, *bodies(pattern)))):
        for end in dict.fromkeys((unit[:1], "\0")):
            yield lambda size, unit=unit, end=end: unit * (size // len(unit) + 1) + end


def grows(work: Callable[[str], int], text: Callable[[int], str], size: int) -> str | None:
    """How work grows where the text does by four, if that is more than in proportion."""
    short, long = work(text(size)), work(text(4 * size))
    lengths = len(text(4 * size)) / len(text(size))
    return f"{short} to {long}" if long > 1.15 * lengths * short + 200 else None


def growth(pattern: re.Pattern[Any], *, whole: bool = False) -> list[str]:
    """The attacks on a pattern that succeed."""
    # Of passages: from where there is more than one.
    size = 2 * PASSAGE if f"{{1,{PASSAGE}}}" in str(pattern.pattern) else SIZE
    matcher = Steps(pattern)

    def work(text: str) -> int:
        before = matcher.count
        if whole:
            matcher.fullmatch(text)
        else:
            deque(matcher.finditer(text), 0)
        return matcher.count - before

    found = ((text, grows(work, text, size)) for text in attacks(pattern))
    return [f"{text(40)!r}: {grown}" for text, grown in found if grown]


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_takes_longer_than_in_proportion(name: str):
    pattern, whole = PATTERNS[name]
    assert growth(pattern, whole=whole) == []


def test_the_patterns_are_found():
    assert len(PATTERNS) > 60
    for name in ("text.encodings._CODECS 2", "text.ciphers.MORSE 0", "wire.sse._REGULAR 0"):
        assert name in PATTERNS


# --- the counter itself ---------------------------------------------------------------------------

SLOW = {
    "as binary numbers once were found": r"(?<!\w)(?:[01]{8}[ ,\n]{0,2}){4,}+(?![01])",
    "a condition after a run": r"(?:ab)++(?!a)",
    "a run, then what is not there": r"a*b",
    "spaces, then what is not there": r"\s+x",
}


@pytest.mark.parametrize("name", SLOW)
def test_the_counter_sees_what_is_slow(name: str):
    assert growth(re.compile(SLOW[name])) != []


def test_the_counter_sees_what_is_exponential():
    matcher = Steps(re.compile("(?:a+;?)+!"))
    counts: list[int] = []
    for size in (8, 10, 12):
        assert list(matcher.finditer("a" * size)) == []
        counts.append(matcher.count - sum(counts))
    assert counts[2] > 3 * counts[1] > 9 * counts[0]


ALPHABET = "aZ09 \n.-=/%\\&#;:,x_é你\u0300\u200b\u202eᵃ𝐛🇦<>\"'()é$@"


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(PATTERNS)), st.data())
def test_the_counter_finds_what_the_engine_finds(name: str, data: st.DataObject):
    pattern, _ = PATTERNS[name]
    pieces = st.one_of(st.sampled_from(members(pattern)), st.sampled_from(ALPHABET))
    text = "".join(data.draw(st.lists(pieces, max_size=12)))
    if isinstance(pattern.pattern, bytes):
        text = text.encode("latin-1", "replace").decode("latin-1")
        found = [match.span() for match in pattern.finditer(text.encode("latin-1"))]
    else:
        found = [match.span() for match in pattern.finditer(text)]
    assert list(Steps(pattern).finditer(text)) == found


# --- a whole reading ------------------------------------------------------------------------------

UNITS = {
    "hidden": "b\u200bo\u200bmb ",
    "zero width": "\u200b\u200c",
    "joiners": "می\u200c",
    "tags": "\U000e0041",
    "flags": "\U0001f3f4\U000e0067\U000e0062",
    "emoji": "👩\u200d🔬❤\ufe0f",
    "overrides": "\u202eab",
    "marks": "a\u0300\u0301\u0302\u0303",
    "marks on one letter": "\u0300",
    "struck": "b\u0336",
    "homoglyphs": "bоmb ",
    "mixed letters": "bо",
    "styled": "𝐛𝐨",
    "small": "ᵃ",
    "wide": "Ａ",
    "circled and dotted": "Ⓐ.",
    "spread": "b o m b ",
    "dots": "b.",
    "leet": "expl0s1v3 ",
    "base64": "bWFrZSBhIGJvbWIgbm93 ",
    "one base64": "QUJD",
    "lines of base64": "QUJD" * 15 + "\n",
    "slugs": "abcdefghijklmnopq-",
    "base32": "MFRGG2DF",
    "hex": "4142",
    "bytes": "41 42 ",
    "binary": "01101000 ",
    "bits": "01",
    "codes": "97 98 32 ",
    "percent": "%41",
    "percent of percent": "%25",
    "addresses": "://%41%42%43 ",
    "escapes": "\\u0431",
    "backslashes": "\\",
    "entities": "&#98;",
    "ampersands": "&#",
    "Morse": "-... --- ",
    "rules": "--- ",
    "rot13": "gur naq guvf ",
    "rot13, quoted": 'gur:naq"guvf\n\n',
    "reversed": "eht dna siht ",
    "base64 of base64": "WWxkR2NscFRRbWhKUjBwMllsZEpQUT09 ",
    "spaces": " ",
    "lines": "\n ",
    "letters": "a",
    "English": "The kettle is on. ",
    "Chinese": "请帮我",
}
ENDS = ("", "0", "g", "=", "\\u", "%", "\u200b", " x")


def work(text: str) -> int:
    """Lines of the package that run in a reading, and calls, of functions in C too."""
    count = 0
    ours = str(Path(magistrate.__file__).parent / "text")

    def line(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(ours):
            return None
        count += event == "line"
        return line

    def call(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    tracer, profiler = sys.gettrace(), sys.getprofile()
    sys.settrace(line)
    sys.setprofile(call)
    try:
        reading(text)
    finally:
        sys.setprofile(profiler)
        sys.settrace(tracer)
    return count


repeated = st.tuples(
    st.lists(st.sampled_from(sorted(UNITS.values())), min_size=1, max_size=3).map("".join),
    st.sampled_from(ENDS),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(repeated, min_size=1, max_size=2))
def test_a_reading_of_any_mixture_takes_steps_in_proportion(parts: list[tuple[str, str]]):
    def text(size: int) -> str:
        each = size // len(parts)
        return "".join(unit * (each // len(unit) + 1) + end for unit, end in parts)

    assert grows(work, text, 600) is None


# Reads the texts of a file, and marks the end of each for callgrind by a call of a function in C.
READS = """
import json, os, sys
from magistrate.text.reading import reading
texts = json.load(open(sys.argv[1], encoding="ascii"))
reading("warm")
os.getppid()
for text in texts:
    reading(text)
    os.getppid()
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_a_reading_takes_instructions_in_proportion(tmp_path: Path):
    """All that a processor does, within the engine of `re` too."""
    texts = [unit * (size // len(unit)) + "0" for unit in UNITS.values() for size in (1_500, 6_000)]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="ascii")
    tool = ("--tool=callgrind", f"--callgrind-out-file={tmp_path}/out", "--dump-before=getppid")
    done = subprocess.run(
        ["valgrind", *tool, sys.executable, "-c", READS, str(tmp_path / "texts.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    dumps = sorted(tmp_path.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    found = [re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.M) for dump in dumps]
    counts = [int(each[1]) for each in found if each is not None][1 : len(texts) + 1]
    assert len(counts) == len(texts)
    slow = {
        name: (short, long)
        for name, short, long in zip(UNITS, counts[::2], counts[1::2], strict=True)
        if long > 4.6 * short
    }
    assert slow == {}
