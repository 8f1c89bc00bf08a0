"""What the Claude judge prepares once: the same prompts, linear work, and no text that stays."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from magistrate import Moderation
from magistrate.judging import prepared
from magistrate.judging import prompt as prompting
from magistrate.judging.base import ModelReply
from magistrate.judging.chunks import MOST_TOKENS, split
from magistrate.judging.claude import ClaudeJudge, Judgment
from magistrate.judging.prepared import Preparations
from magistrate.settings import Settings
from magistrate.text.reading import Reading, reading
from magistrate.wire.content import judged_so_far, read_answer
from magistrate.wire.parts import Part, Subject, as_context
from strategies import labels, nasty_text

SETTINGS = Settings.load({"version": 1})
BUNDLED = Settings.load({"version": 1, "judge": {"strategy": "bundled"}})
KEY = b"k" * 32
DISGUISED = "Write the h\u0435llo w\u043erld of number {} in the m\u043erning."
HONEST = "Take the flour of number {} and add some water to it, then wait."


def judge() -> ClaudeJudge:
    """A judge with a known key: its prompts can be compared with those of another one."""
    made = ClaudeJudge()
    made.prepared = Preparations(KEY)
    return made


def prompts(one: ClaudeJudge, subject: Subject, settings: Settings = SETTINGS) -> list[str]:
    """The first prompts of a judgment, as they are sent."""
    judgment = Judgment(one, subject, settings, 8.0)
    return [json.dumps(judgment.call(each).prompt()) for each in judgment.begin() or ()]


RENDERED = ClaudeJudge()  # its rubrics take longer to render than everything here


def prompts_anew(subject: Subject, settings: Settings = SETTINGS) -> list[str]:
    """The same prompts from a judge that has seen nothing before."""
    RENDERED.prepared = Preparations(KEY)
    return prompts(RENDERED, subject, settings)


Make = Callable[[list[str]], Iterator[Subject]]


def stream(texts: list[str]) -> Iterator[Subject]:
    """The windows of an answer; parts that were there before are the same objects."""
    context = [Part("messages[0].content", "user", "text", "How do I bake bread?", judged=False)]
    for index, text in enumerate(texts, 1):
        part = Part("response.content[0]", "assistant", "text", text)
        yield Subject("output", (*context, part), final=index == len(texts))
        context.append(as_context(part))


def stream_read_anew(texts: list[str]) -> Iterator[Subject]:
    """The windows of an answer as they are read from the message so far: each has new objects."""
    question = Part("messages[0].content", "user", "text", "How do I bake bread?", judged=False)
    judged: dict[int, tuple[int, ...]] = {}
    for index in range(1, len(texts) + 1):
        message = {"content": [{"type": "text", "text": "".join(texts[:index])}]}
        parts = read_answer(message, judged).parts
        judged = judged_so_far(message, judged)
        yield Subject("output", (question, *parts), final=index == len(texts))


def conversation(texts: list[str]) -> Iterator[Subject]:
    """The turns of a conversation: every request brings all of it, read anew."""
    for asked in range(1, len(texts) + 1, 2):
        yield Subject(
            "input",
            tuple(
                Part(f"messages[{i}]", ("user", "assistant")[i % 2], "text", text, i == asked - 1)
                for i, text in enumerate(texts[:asked])
            ),
        )


# --- the same prompts -----------------------------------------------------------------------------


@st.composite
def growing(draw: st.DrawFn) -> list[Subject]:
    """Subjects as they follow each other: what was judged is context, and something new follows.

    Now and then the beginning changes, as where a turn is replaced by a placeholder.
    """
    made = st.builds(
        Part,
        path=st.sampled_from(("a", "b")),
        role=st.sampled_from(("user", "assistant")),
        kind=st.sampled_from(("text", "thinking", "third_party", "media")),
        text=nasty_text,
        labels=st.just({}) | labels,
        attachment=st.none() | st.builds(lambda: {"type": "image", "source": {"data": "x"}}),
    )
    context = draw(st.lists(made.map(as_context), max_size=2))
    found: list[Subject] = []
    for _ in range(draw(st.integers(1, 5))):
        new = draw(st.lists(made, min_size=1, max_size=2))
        found.append(Subject("output", (*context, *new), draw(st.booleans())))
        context += map(as_context, new)
        change = draw(st.sampled_from(("none", "none", "copies", "drop", "replace")))
        if change == "copies":
            context = list(map(replace, context))
        elif change == "drop":
            del context[draw(st.integers(0, len(context) - 1))]
        elif change == "replace":
            at = draw(st.integers(0, len(context) - 1))
            context[at] = replace(context[at], text="[removed]")
    return found


@examples(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(growing(), st.sampled_from((SETTINGS, BUNDLED)))
def test_a_judge_that_has_seen_what_came_before_asks_the_same_as_a_new_one(
    subjects: list[Subject], settings: Settings
) -> None:
    one = judge()
    for subject in subjects:
        assert prompts(one, subject, settings) == prompts_anew(subject, settings)


@pytest.mark.parametrize("make", [stream, stream_read_anew])
def test_so_it_does_where_a_stream_becomes_too_long_for_one_call(make: Make) -> None:
    texts = [f"<{i}> " + "über " * 400 for i in range(150)]
    one, pieces = judge(), set[bool]()
    for index, subject in enumerate(make(texts)):
        found = prompts(one, subject)
        if index % 25 == 0 or index > 145:
            assert found == prompts_anew(subject)
        [piece] = split(subject)
        pieces.add(piece is subject)
    assert pieces == {True, False}


def test_threads_share_what_is_prepared() -> None:
    texts = [(DISGUISED if i % 3 else HONEST).format(i) for i in range(21)]
    subjects = [*conversation(texts), *stream(texts), *stream_read_anew(texts)]
    expected = [prompts_anew(subject) for subject in subjects]
    one = judge()
    with ThreadPoolExecutor(8) as pool:
        for found in [pool.map(lambda s: prompts(one, s), subjects) for _ in range(4)]:
            assert list(found) == expected


# --- linear work ----------------------------------------------------------------------------------


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Texts that were read for disguises, and lines that were serialised."""
    done: dict[str, list[str]] = {"read": [], "serialised": []}
    encode = json.JSONEncoder(ensure_ascii=False).encode

    class Encoder:
        def encode(self, value: Any) -> str:
            done["serialised"].append(value["text"])
            return encode(value)

    def counted(text: str) -> Reading:
        done["read"].append(text)
        return reading(text)

    monkeypatch.setattr(prepared, "reading", counted)
    monkeypatch.setattr(prompting, "_ENCODER", Encoder())
    return done


@pytest.mark.parametrize("make", [stream, stream_read_anew])
@pytest.mark.parametrize("text", [HONEST, DISGUISED], ids=["honest", "disguised"])
def test_every_window_of_a_stream_prepares_what_is_new(
    make: Make, text: str, work: dict[str, list[str]]
) -> None:
    texts = [text.format(i) for i in range(40)]
    one = judge()
    for subject in make(texts):
        prompts(one, subject)
    assert work["read"] == ["How do I bake bread?", *texts]
    assert work["serialised"] == work["read"]


@pytest.mark.parametrize("make", [stream, stream_read_anew])
def test_a_stream_that_is_too_long_for_one_call_is_prepared_a_few_times_at_most(
    make: Make, work: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its context moves on in steps; behind each the labels are others."""
    disguised = Reading(normalised="never kept")
    monkeypatch.setattr(prepared, "reading", lambda text: work["read"].append(text) or disguised)
    texts = [f"<{i}> " + "word " * 400 for i in range(240)]  # twice what fits
    one = judge()
    for subject in make(texts):
        prompts(one, subject)
    assert sum(len(text) for text in texts) > 1.9 * MOST_TOKENS * 4
    assert len(work["read"]) <= 3 * len(texts)
    assert len(work["serialised"]) <= 3 * len(texts)


def test_texts_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    size_of = prepared.size_of
    monkeypatch.setattr(
        prepared, "size_of", lambda part: measured.append(part.text) or size_of(part)
    )
    texts = [HONEST.format(i) for i in range(40)]
    one = judge()
    for subject in stream_read_anew(texts):
        prompts(one, subject)
    assert measured == ["How do I bake bread?", *texts]


def test_a_turn_reads_no_turn_before_it_again(work: dict[str, list[str]]) -> None:
    texts = [HONEST.format(i) for i in range(201)]
    one = judge()
    for subject in conversation(texts):
        before = len(work["read"])
        prompts(one, subject)
        assert len(work["read"]) - before <= 2  # the last answer, and the question
    assert work["read"] == texts


def test_however_many_findings_name_a_part_it_is_read_once(work: dict[str, list[str]]) -> None:
    subject = Subject(
        "input", (Part("a", "user", "text", DISGUISED), Part("b", "user", "text", ""))
    )
    finding = {"clause": "fraud_abuse.spam", "grade": "likely", "severity": "high", "part": "p1"}
    quotes = ["not there", "hello world", *map(str, range(40))]
    said = {
        "findings": [finding | {"quote": quote} for quote in quotes],
        "high_risk": [],
        "discloses_ai": False,
    }
    judgment = Judgment(judge(), subject, BUNDLED, 8.0)
    [question] = judgment.begin() or ()
    message = {"content": [{"type": "text", "text": json.dumps(said)}], "stop_reason": "end_turn"}
    found = judgment.call(question).read(ModelReply(200, message))
    assert not isinstance(found, prompting.Shown)
    assert [each.evidence for each in found.findings].count("hello world") == 1
    assert work["read"] == [DISGUISED]


# --- what is kept ---------------------------------------------------------------------------------


def texts_held_by(value: object) -> str:
    """All text that can be reached from an object, through whatever it is made of."""
    found: list[str] = []
    seen, todo = set[int](), [value]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(
            each, type | ModuleType | FunctionType | BuiltinFunctionType | Settings
        ):
            continue
        seen.add(id(each))
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, bytes):
            found.append(each.decode("utf-8", "replace"))
        todo += gc.get_referents(each)
    return "\n".join(found)


@pytest.mark.parametrize("make", [stream, stream_read_anew, conversation])
@pytest.mark.parametrize("length", [1, 25_000], ids=["short", "in pieces"])
@pytest.mark.parametrize("text", ["SECRET", "SECRET h\u0435llo w\u043erld"])
def test_no_text_stays_when_its_exchange_is_over(make: Make, length: int, text: str) -> None:
    one = judge()
    for subject in make([f"{i} {text}" + " word" * length for i in range(5)]):
        prompts(one, subject)
        assert "SECRET" in texts_held_by(one)  # the lines of what is under way
    del subject
    gc.collect()
    assert "SECRET" not in texts_held_by(one)


def test_of_a_text_that_was_read_a_digest_stays_that_needs_the_key() -> None:
    one, other = Preparations(KEY), Preparations(b"another key")
    for each in (one, other):
        each.read("SECRET, but honest")
        each.read("SECRET h\u0435llo w\u043erld")
        assert "SECRET" not in texts_held_by(each)
    ours, theirs = ([*each._honest] for each in (one, other))
    assert len(ours) == len(theirs) == 1  # of the disguised one nothing is kept
    assert ours != theirs


@given(st.lists(nasty_text, max_size=6))
@examples(deadline=None, max_examples=100)
def test_a_text_is_read_the_same_however_often(found: list[str]) -> None:
    one = Preparations(KEY)
    for text in [*found, *found]:
        assert one.read(text) == reading(text)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "READINGS", 10)
    monkeypatch.setattr(prepared, "EXCHANGES", 4)
    one = judge()
    alive = [list(stream([HONEST.format(i)])) for i in range(30)]
    for [subject] in alive:
        assert prompts(one, subject) == prompts_anew(subject)
    assert len(one.prepared._honest) == 10
    assert len(one.prepared._exchanges) == 4
    assert one.prepared._exchanges.keys() == {id(subject.parts[0]) for [subject] in alive[-4:]}


def test_a_subject_without_parts_keeps_nothing() -> None:
    one = judge()
    assert prompts(one, Subject("input", ())) == prompts(one, Subject("input", ()))
    assert not one.prepared._exchanges


# --- in a child process ---------------------------------------------------------------------------


def test_a_judge_can_be_used_after_a_fork_while_a_thread_held_its_locks() -> None:
    moderation = Moderation({"version": 1})
    one = moderation.judge
    assert isinstance(one, ClaudeJudge)
    subjects = list(stream(["Take flour. ", DISGUISED, "Add water."]))
    before = [prompts(one, subject) for subject in subjects]
    held = one.prepared._lock
    with held:
        Moderation.after_fork()
        done: list[list[list[str]]] = []
        thread = threading.Thread(
            target=lambda: done.append([prompts(one, subject) for subject in subjects]), daemon=True
        )
        thread.start()
        thread.join(20)
    assert done == [before]  # the codes of conversations too: a provider's cache is still of use
    moderation.close()
