"""Long subjects in pieces: nothing goes unread, and no piece is too long."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.splitting import MOST_PIECES, MOST_TOKENS, OVERLAP_BYTES, split
from magistrate.subjects import Part, Subject
from magistrate.windows import tokens


def part(text: str, path: str = "a", *, judged: bool = True) -> Part:
    return Part(path, "user", "text", text, judged)


def judged(pieces: list[Subject], path: str) -> list[str]:
    return [p.text for piece in pieces for p in piece.parts if p.judged and p.path == path]


def put_together(texts: list[str]) -> str:
    """Overlapping pieces as one text again: each begins with the end of the one before."""
    whole = texts[0]
    for before, text in pairwise(texts):
        shared = next(
            n for n in range(len(before), -1, -1) if text.startswith(before[-n:] if n else "")
        )
        whole += text[shared:]
    return whole


def test_a_short_subject_is_one_piece_and_the_same():
    subject = Subject("input", (part("hello"), part("there", "b", judged=False)))
    assert split(subject) == [subject]


texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=50),
    st.sampled_from(["x", "ä", "語", "🎉", "\ud800", " "]).flatmap(
        lambda char: st.integers(0, 30_000).map(lambda n: char * n)
    ),
)
subjects = st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=6).map(
    lambda found: Subject(
        "input",
        tuple(part(text, f"m{i}", judged=yes) for i, (text, yes) in enumerate(found)),
    )
)
MOST = 4_000


@settings(deadline=None, max_examples=150)
@given(subjects)
def test_everything_to_judge_is_in_some_piece_and_no_piece_is_too_long(subject: Subject):
    pieces = split(subject, MOST)
    if not pieces:
        return
    for whole in subject.parts:
        found = judged(pieces, whole.path)
        if not whole.judged:
            assert found == []
        elif len(set(whole.text)) > 1 or len(found) == 1:
            assert put_together(found) == whole.text
        else:
            assert sum(map(len, found)) >= len(whole.text)
    if len(pieces) > 1:
        for piece in pieces:
            assert sum(tokens(p.text) for p in piece.parts) <= MOST
            assert any(p.judged for p in piece.parts)


@pytest.mark.parametrize("char", ["x", "ä", "語", "🎉"])
def test_what_stands_on_a_cut_is_whole_in_one_piece(char: str):
    for at in range(9_000, 9_400, 37):
        secret = "the whole secret sentence"
        text = char * at + secret + char * 40_000
        pieces = split(Subject("input", (part(text),)), MOST)
        assert len(pieces) > 1
        assert any(secret in found for found in judged(pieces, "a"))
        assert len(secret) < OVERLAP_BYTES


def test_a_piece_has_the_last_of_what_was_said_before_it_as_context():
    subject = Subject(
        "input",
        (
            part("early " * 3_000, "a", judged=False),
            part("late", "b", judged=False),
            part("x" * 20_000, "c"),
        ),
    )
    for piece in split(subject, MOST):
        assert [(p.path, p.judged) for p in piece.parts] == [("b", False), ("c", True)]


def test_an_attachment_goes_along_once():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}
    pictured = replace(part("x" * 40_000, "a"), attachment=image)
    pieces = split(Subject("input", (pictured, part("y" * 40_000, "b"))), MOST)
    shown = [p.attachment for piece in pieces for p in piece.parts if p.attachment]
    assert shown == [image]


def test_there_is_an_end_to_it():
    enough = "x" * (4 * MOST_TOKENS * MOST_PIECES * 2)
    assert split(Subject("input", (part(enough),))) == []
