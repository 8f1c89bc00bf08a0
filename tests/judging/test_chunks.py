"""Long subjects in pieces: nothing goes unread, and no piece is too long."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.core.subject_size import total_size
from magistrate.judging.chunks import GAP, MOST_PIECES, MOST_TOKENS, OVERLAP_BYTES, split
from magistrate.text.tokens import tokens
from magistrate.wire.parts import Part, Subject


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


def test_what_one_piece_judges_is_context_in_the_next():
    parts = tuple(part("word " * 400, f"m{i}") for i in range(12))
    pieces = split(Subject("input", parts), MOST)
    assert [p.path for piece in pieces for p in piece.parts if p.judged] == [p.path for p in parts]
    assert len(pieces) > 1


@pytest.mark.parametrize("char", ["x", "ä", "語", "🎉"])
def test_what_stands_on_a_cut_is_whole_in_one_piece(char: str):
    secret = "the whole secret sentence"
    assert len(secret) < OVERLAP_BYTES
    first = split(Subject("input", (part(char * 50_000),)), MOST)[0]
    cut = len(judged([first], "a")[0])  # where a text of this character is cut first
    for at in range(cut - len(secret) - 3, cut + 3):
        text = char * at + secret + char * 40_000
        pieces = split(Subject("input", (part(text),)), MOST)
        assert len(pieces) > 1
        assert any(secret in found for found in judged(pieces, "a"))


def context(piece: Subject) -> list[tuple[str, str]]:
    return [(p.path, p.text) for p in piece.parts if not p.judged]


def test_a_piece_has_the_last_of_what_was_said_before_it_as_context():
    parts = (
        part("x" * 12_000, "a", judged=False),
        *(part(f"turn {i}", f"b{i}", judged=False) for i in range(9)),
        part("y" * 9_000, "c"),
    )
    [piece] = split(Subject("input", parts), MOST)
    assert context(piece)[-9:] == [(f"b{i}", f"turn {i}") for i in range(9)]


def test_the_context_of_a_long_conversation_moves_on_in_steps():
    """Else no prompt would begin as the one before it, and nothing would be read from a cache."""
    turns = [part(f"{i} " + "x" * 400, f"t{i}", judged=False) for i in range(200)]
    prompts = [
        [(p.path, p.text) for p in piece.parts]
        for length in range(100, 200)
        for piece in split(Subject("input", (*turns[:length], part("and?", "q"))), MOST)
    ]
    assert len(prompts) == 100
    alike = [later[: len(one) - 1] == one[:-1] for one, later in pairwise(prompts)]
    assert alike.count(False) <= 30  # half a context is three to four of these turns
    for prompt in prompts:
        assert MOST // 8 - 200 <= sum(tokens(text) + 40 for _, text in prompt[:-1]) <= MOST // 4
    newest = [prompt[-2] for prompt in prompts]
    assert newest == [(turn.path, turn.text) for turn in turns[99:199]]


def test_of_a_question_too_long_for_context_an_answer_has_both_ends():
    question = part("Answer by the code below." + "x" * 40_000 + "A = attack.", "q", judged=False)
    [piece] = split(Subject("output", (question, part("A", "r"))), MOST)
    [head, tail] = context(piece)
    assert head[1].startswith("Answer by the code below.")
    assert tail[1].startswith(f"{GAP} x")
    assert tail[1].endswith("A = attack.")


def test_a_window_has_what_was_heard_of_the_answer_before_it():
    question = part("x" * 40_000, "q", judged=False)
    judged = [part(said, "r", judged=False) for said in ("Take the first. ", "Then the second. ")]
    [piece] = split(Subject("output", (question, *judged, part("Mix them.", "r"))), MOST)
    assert context(piece)[-2:] == [("r", "Take the first. "), ("r", "Then the second. ")]


def test_a_later_piece_has_both_what_its_text_began_with_and_the_question():
    question = part("Decode what I send.", "q", judged=False)
    answer = part("The key is rot13. " + "x" * 40_000 + "END", "r")
    *_, last = split(Subject("output", (question, answer)), MOST)
    said = context(last)
    assert said[0] == ("q", "Decode what I send.")
    assert said[1][1].startswith("The key is rot13. ")
    assert last.parts[-1].text.endswith("END")
    assert not last.parts[-1].text.startswith("The key")


def test_what_was_said_between_two_parts_stands_before_the_second_one():
    between = tuple(part(f"turn {i} " + "x" * 300, f"b{i}", judged=False) for i in range(60))
    parts = (part("tools", "a"), *between, part("and?", "c"))
    first, second = split(Subject("input", parts), MOST)
    assert judged([first], "a") == ["tools"]
    assert judged([second], "c") == ["and?"]
    assert [path for path, _ in context(second)][-3:] == ["b57", "b58", "b59"]
    near = (part("tools", "a"), *between[:2], part("and?", "c"), part("y" * 12_000, "d"))
    together = split(Subject("input", near), MOST)[0]
    assert [p.path for p in together.parts][:4] == ["a", "b0", "b1", "c"]


def test_pieces_are_about_as_many_as_the_length_asks_for():
    turns = tuple(part("x" * 400, f"m{i}", judged=i % 2 == 0) for i in range(400))
    subject = Subject("input", turns)
    total = sum(tokens(p.text) + 40 for p in turns)
    assert len(split(subject, MOST)) <= 2 * total // (MOST * 3 // 4) + 1


def test_an_attachment_goes_along_once():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}
    pictured = replace(part("x" * 40_000, "a"), attachment=image)
    pieces = split(Subject("input", (pictured, part("y" * 40_000, "b"))), MOST)
    shown = [p.attachment for piece in pieces for p in piece.parts if p.attachment]
    assert shown == [image]


def test_there_is_an_end_to_it():
    enough = "x" * (4 * MOST_TOKENS * MOST_PIECES * 2)
    assert split(Subject("input", (part(enough),))) == []


# --- labels and many parts ------------------------------------------------------------------------

labels = st.dictionaries(
    st.sampled_from(["title", "context"]), st.integers(0, 3_000).map("t".__mul__), max_size=2
)
labelled = st.lists(
    st.tuples(st.integers(0, 20_000), st.booleans(), labels, st.integers(1, 40)),
    min_size=1,
    max_size=5,
).map(
    lambda found: Subject(
        "input",
        tuple(
            replace(part("x" * (size // times), f"m{i}.{n}", judged=yes), labels=named)
            for i, (size, yes, named, times) in enumerate(found)
            for n in range(times)
        ),
    )
)


@settings(deadline=None, max_examples=100)
@given(labelled)
def test_no_piece_is_too_long_with_its_labels_and_lines(subject: Subject):
    pieces = split(subject, MOST)
    if len(pieces) > 1:
        assert all(total_size(piece.parts) <= MOST + 10 for piece in pieces)
    if pieces:
        for whole in filter(lambda part: part.judged, subject.parts):
            shown = [
                p for piece in pieces for p in piece.parts if p.judged and p.path == whole.path
            ]
            assert sum(len(p.text) for p in shown) >= len(whole.text)
            assert all(p.labels == whole.labels for p in shown)


@pytest.mark.parametrize("text", ["hi", "x" * 40_000])
def test_labels_that_leave_no_room_are_too_long(text: str):
    """They stand in every piece, so that they cannot be cut: nothing of such a part is judged."""
    titled = replace(part(text), labels={"title": "t" * 4 * MOST})
    assert split(Subject("input", (titled,)), MOST) == []
    context = replace(titled, judged=False)
    [piece] = split(Subject("input", (context, part("and?", "q"))), MOST)
    assert [p.path for p in piece.parts] == ["q"]


def test_very_many_parts_are_judged_in_few_pieces_or_are_too_long():
    def tiny(count: int) -> Subject:
        return Subject("input", tuple(part("x", f"m{i}") for i in range(count)))

    pieces = split(tiny(20_000))
    assert 1 < len(pieces) <= MOST_PIECES
    assert all(total_size(piece.parts) <= MOST_TOKENS for piece in pieces)
    paths = [p.path for piece in pieces for p in piece.parts if p.judged]
    assert paths == [f"m{i}" for i in range(20_000)]
    assert split(tiny(60_000)) == []


SHAPES: dict[str, Callable[[int], tuple[Part, ...]]] = {
    "many judged": lambda n: tuple(part("x" * 40, f"m{i}") for i in range(n)),
    "every second": lambda n: tuple(part("x" * 40, f"m{i}", judged=i % 2 == 0) for i in range(n)),
    "one behind many": lambda n: (
        *(part("x" * 40, f"m{i}", judged=False) for i in range(n)),
        part("x" * 80_000),
    ),
    "one before many": lambda n: (
        part("x" * 80_000),
        *(part("x" * 40, f"m{i}", judged=False) for i in range(n)),
    ),
    "one long text": lambda n: (part("x" * 200 * n),),
}


@pytest.mark.parametrize("name", SHAPES)
def test_work_grows_no_faster_than_the_subject(name: str):
    def calls(count: int) -> int:
        found = 0

        def note(frame: object, event: str, arg: object) -> None:
            nonlocal found
            found += event in ("call", "c_call")

        subject = Subject("input", SHAPES[name](count))
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            assert len(split(subject, 4 * MOST)) > 1
        finally:
            sys.setprofile(before)
        return found

    assert calls(2_400) <= 4.5 * calls(600) + 100
