"""A world for counting what judging costs: real client, middleware and judge, simulated API.

Tokens are the simulator's count, four characters each; what is read from the prompt cache and
written to it is what the API would count.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from anthropic import Anthropic
from rich.console import Console
from rich.table import Table

from magistrate import Moderation
from magistrate.core import streaming, windows
from magistrate.judging.prices import price_of
from magistrate.testing import JudgeScript, LatencyProfile, Simulator, finds, text, when_judging
from magistrate.testing.events import characters
from magistrate.testing.prompt_cache import Lookup, PromptCache
from magistrate.testing.prompt_parser import parse_prompt
from magistrate.text.tokens import BYTES_PER_TOKEN

JUDGE = "claude-haiku-5-5"
STAGES = ("input", "output")
DEFAULT = (windows.FIRST_WINDOW, windows.WINDOW)
SUSPECT = "Please look twice"  # suspected by the screen, unlikely for the judgment
VIOLATES = "Please fake some reviews"

console = Console(width=118)
VOCABULARY = (
    "the of a in to and is it that for on with as at by from this be are or an was not have which"
    " bread water flour oven letter garden river window number question answer reason morning"
    " people system table result simple answer little before after under again please while about"
    " measure compare describe explain consider remember between another several different"
)
WORDS = VOCABULARY.split()


def prose(tokens: int, seed: object) -> str:
    """Plain sentences of so many tokens, four characters each; others for every seed."""
    dice = random.Random(str(seed))
    said = ""
    while len(said) < 4 * tokens:
        said += " ".join(dice.choices(WORDS, k=dice.randint(6, 14))).capitalize() + ". "
    return said[: 4 * tokens - 1] + "."


# --- a world that counts --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a judge: its input by how it is paid. `rubric`: how long the rubric is."""

    stage: str
    screen: bool
    fresh: int
    written: int
    read: int
    rubric: int

    @property
    def parts(self) -> tuple[int, int, int, int, int]:
        """Fresh, written and read of the subject; written and read of the rubric."""
        rubric_read = min(self.read, self.rubric)
        rubric_written = self.rubric - rubric_read
        return (
            self.fresh,
            self.written - rubric_written,
            self.read - rubric_read,
            rubric_written,
            rubric_read,
        )

    @property
    def subject(self) -> float:
        """What the subject costs, in input tokens at the full price."""
        fresh, written, read, _, _ = self.parts
        return fresh + written * WRITE + read * READ

    @property
    def whole(self) -> float:
        """The same, with the rubric."""
        return self.fresh + self.written * WRITE + self.read * READ


_known = price_of(JUDGE)
assert _known is not None
RATES = _known
WRITE, READ = RATES.write / RATES.input, RATES.read / RATES.input


class Ledger(PromptCache):
    """A prompt cache that keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def lookup(self, body: dict[str, Any]) -> Lookup:
        found = super().lookup(body)
        usage, prompt = found.usage, parse_prompt(body)
        if prompt is None:
            return found
        counts = (
            usage["input_tokens"],
            usage["cache_creation_input_tokens"],
            usage["cache_read_input_tokens"],
        )
        rubric = characters(body["system"]) // 4
        self.calls.append(Call(prompt.stage, bool(prompt.groups), *counts, rubric))
        return found

    def take(self) -> list[Call]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class World:
    """A client whose answers are chosen by the caller, and the ledger of its judge."""

    def __init__(self, judge: dict[str, Any] | None = None, *, delay_s: float = 0.0) -> None:
        self.ledger = Ledger()
        self.answer = ""
        script = JudgeScript(
            when_judging(SUSPECT, finds("fraud_abuse.fake_reviews", grade="unlikely")),
            when_judging(VIOLATES, finds("fraud_abuse.fake_reviews")),
        )
        sim = Simulator(
            lambda body: text(self.answer),
            judge=script,
            judge_profile=LatencyProfile(first_byte_s=delay_s),
            cache=self.ledger,
        )
        self.moderation = Moderation({"version": 1, "judge": judge or {}})
        self.client = Anthropic(
            api_key="k",
            http_client=sim.http_client(),
            middleware=[self.moderation],
            max_retries=0,
        )

    def say(
        self, messages: list[dict[str, Any]], answer: str, *, stream: bool = False
    ) -> list[Call]:
        """One turn; what its judging took."""
        self.answer = answer
        asked: dict[str, Any] = {"model": "claude-sonnet-5-5", "max_tokens": 9000}
        asked["messages"] = messages
        if stream:
            for _ in self.client.messages.create(**asked, stream=True):
                pass
        else:
            self.client.messages.create(**asked)
        return self.ledger.take()

    def warm(self, *, stream: bool = False) -> None:
        """Have the rubrics of both stages in the cache."""
        self.say([user("Hello.")], "Hi.", stream=stream)

    def close(self) -> None:
        self.client.close()
        self.moderation.close()


def user(said: str) -> dict[str, Any]:
    return {"role": "user", "content": said}


@contextmanager
def world(judge: dict[str, Any] | None = None, *, delay_s: float = 0.0) -> Iterator[World]:
    made = World(judge, delay_s=delay_s)
    try:
        yield made
    finally:
        made.close()


def show(title: str, columns: list[str], rows: list[list[object]], caption: str = "") -> None:
    table = Table(title=title, caption=caption or None, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        cells = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row]
        table.add_row(*cells)
    console.print(table, "")


# --- how much of a stream is heard at a time ------------------------------------------------------


class Paced(windows.StreamBuffer):
    """A hold-back for which `ahead` tokens are written while a verdict is out.

    With 0 verdicts come at once, which makes the most calls.
    """

    __slots__ = ()
    ahead = 0
    most_held = 0

    @property
    def held(self) -> int:
        """Tokens of text that wait and are not out with the judge."""
        waiting = islice(self._queue, max(0, self._judged_to - self._first), None)
        deltas = (event.data.get("delta") or {} for event, _ in waiting)
        return sum(len(delta.get("text") or "") for delta in deltas) // BYTES_PER_TOKEN

    @property
    def wants_more(self) -> bool:
        return super().wants_more and not (self.out and self.held >= Paced.ahead)

    def feed(self, event: Any) -> Any:
        passing = super().feed(event)
        Paced.most_held = max(Paced.most_held, self.held)
        return passing


@contextmanager
def hold_back(first: int, window: int, ahead: int) -> Iterator[None]:
    before = windows.FIRST_WINDOW, windows.WINDOW
    windows.FIRST_WINDOW, windows.WINDOW = first, window
    streaming.StreamBuffer = Paced
    Paced.ahead, Paced.most_held = ahead, 0
    try:
        yield
    finally:
        windows.FIRST_WINDOW, windows.WINDOW = before
        streaming.StreamBuffer = windows.StreamBuffer
