"""CPU of the Claude judge itself: preparing its prompts and reading its replies, without its calls.

It is asked what a client of ours asks, about the same subjects in the same order, and what it asks
in turn is answered at once by a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from load_calls import LENGTHS, STREAM, TURNS
from load_clients import Client
from load_timing import Row, alternating
from load_world import SETTINGS, VERDICT, every_window

from magistrate.judging.base import ModelReply
from magistrate.judging.claude import ClaudeJudge
from magistrate.settings import Settings
from magistrate.verdicts import Verdict
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject

_SETTINGS = Settings.load(SETTINGS)
_PATIENCE_S = 3_600.0


def preparation(seconds: float, *, longest: int) -> Iterator[Row]:
    """By the turn of a conversation, then by the length of a stream."""
    for turn in TURNS:
        with (
            closing(Client("async", "plain")) as plain,
            closing(Client("async", "instant")) as ours,
        ):
            past = {client: client.history(turn - 1) for client in (plain, ours)}
            yield _beside(
                f"turn {turn}",
                seconds,
                lambda plain=plain, past=past: plain.create(1, past[plain]),
                lambda ours=ours, past=past: ours.create(1, past[ours]),
                ours,
            )
    for tokens in (length for length in LENGTHS if length <= longest):
        with (
            every_window(),
            closing(Client("async", "plain", tokens)) as plain,
            closing(Client("async", "instant", tokens)) as ours,
        ):
            yield _beside(STREAM.format(tokens), seconds, plain.stream, ours.stream, ours)


def _beside(
    name: str,
    seconds: float,
    plain: Callable[[], object],
    record: Callable[[], object],
    ours: Client,
) -> Row:
    """What the judge takes for one exchange, beside the plain SDK.

    Each round has an exchange of its own, so that what is remembered of a text helps only where it
    would help an application.
    """
    subjects: list[Subject] = []
    judge = ClaudeJudge()

    def fresh() -> None:
        ours.instant.subjects = subjects
        subjects.clear()
        record()
        ours.instant.subjects = None

    def prepare() -> None:
        for subject in subjects:
            outcome = judge.judge(subject, _SETTINGS, _answer, _PATIENCE_S)
            assert isinstance(outcome, Verdict)

    fresh()
    judge.judge(subjects[0], _SETTINGS, _answer, _PATIENCE_S)  # renders the rubrics
    judge.judge(subjects[-1], _SETTINGS, _answer, _PATIENCE_S)
    runs = {"plain": plain, "preparation": prepare}
    values = alternating(runs, seconds, before=fresh)
    return Row("judge", name, values, calls=len(subjects))


def _answer(body: JSON, timeout_s: float) -> ModelReply:
    return ModelReply(200, VERDICT)
