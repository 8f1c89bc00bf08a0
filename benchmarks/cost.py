"""What judging costs in tokens and dollars, counted on the simulator with its prompt cache.

    python benchmarks/cost.py [conversations] [streams] [mix] [replies]

Real client, middleware and Claude judge; no network. Tokens are the simulator's count, four
characters each, so ratios hold as long as the real tokenizer treats prompts and answers alike.
Prices are those of `prices.yaml`. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anthropic import Anthropic
from rich.console import Console
from rich.table import Table

from magistrate import Moderation, streaming, windows
from magistrate.prices import price_of
from magistrate.prompting import parse_prompt
from magistrate.testing import JudgeScript, LatencyProfile, Simulator, finds, text, when_judging
from magistrate.testing.events import characters
from magistrate.testing.prompt_cache import Lookup, PromptCache

JUDGE = "claude-haiku-5-5"
SUSPECT = "Please look twice"  # the judge screens what says so, and then finds nothing
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


_rates = price_of(JUDGE)
assert _rates is not None
WRITE, READ = _rates.write / _rates.input, _rates.read / _rates.input


class Ledger(PromptCache):
    """A prompt cache that keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.main: list[dict[str, Any]] = []

    def lookup(self, body: dict[str, Any]) -> Lookup:
        found = super().lookup(body)
        usage, prompt = found.usage, parse_prompt(body)
        if prompt is None:
            self.main.append(usage)
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
        # As an application does that saves on its own calls.
        asked |= {"messages": messages, "cache_control": {"type": "ephemeral"}}
        if stream:
            for _ in self.client.messages.create(**asked, stream=True):
                pass
        else:
            self.client.messages.create(**asked)
        return self.ledger.take()

    def warm(self, *, stream: bool = False) -> None:
        """Have the rubrics of both stages in the cache."""
        self.say([user("Hello.")], "Hi.", stream=stream)
        self.ledger.main.clear()

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


# --- a conversation grows -------------------------------------------------------------------------


def conversations() -> None:
    """Judged tokens of a turn as a conversation grows, and of a turn that is asked again."""
    for asked, answered, turns in ((50, 150, 100), (300, 700, 80)):
        rows: list[list[object]] = []
        with world() as here:
            here.warm()
            messages: list[dict[str, Any]] = []
            for turn in range(1, turns + 1):
                messages.append(user(prose(asked, turn)))
                answer = prose(answered, f"answer {turn}")
                calls = here.say(messages, answer)
                if turn in (1, 2, 3, 5, 10, 20, 50, 60, 70, 80, 100):
                    by_stage = {stage: [c for c in calls if c.stage == stage] for stage in STAGES}
                    cells: list[object] = [turn]
                    for found in by_stage.values():
                        fresh, written, read, _, _ = added(found)
                        cells += [fresh + written, read, f"{sum(c.subject for c in found):,.0f}"]
                    rows.append([*cells, len(calls)])
                if turn == turns:
                    again = here.say(messages, answer)
                messages.append({"role": "assistant", "content": answer})
        show(
            f"A conversation of {asked} + {answered} tokens a turn: judged per turn, rubric apart",
            [
                "turn",
                *(f"{s}: {what}" for s in STAGES for what in ("uncached", "read", "eq")),
                "calls",
            ],
            rows,
            f"Turn {turns} asked again: {len(again)} judge calls, "
            f"{sum(c.fresh + c.written + c.read for c in again)} tokens. "
            f"eq: uncached at 1 or {WRITE:g}, read at {READ:g}.",
        )


STAGES = ("input", "output")


def added(calls: list[Call]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*(call.parts for call in calls), strict=True))) or (0,) * 5


# --- an answer is streamed ------------------------------------------------------------------------


class Paced(windows.Holdback):
    """A hold-back for which `ahead` tokens are written while a verdict is out.

    With 0 verdicts come at once, which makes the most calls.
    """

    __slots__ = ()
    ahead = 0
    most_held = 0

    @property
    def wants_more(self) -> bool:
        if self.out and self._ready_tokens >= Paced.ahead:
            return False
        return super().wants_more

    def feed(self, event: Any) -> Any:
        passing = super().feed(event)
        unheard = self._heard_to - self._first
        held = sum(w for at, (_, w) in enumerate(self._queue) if at >= unheard)
        Paced.most_held = max(Paced.most_held, held)
        return passing


@contextmanager
def hold_back(first: int, window: int, ahead: int) -> Iterator[None]:
    before = windows.FIRST_WINDOW, windows.WINDOW
    windows.FIRST_WINDOW, windows.WINDOW = first, window
    streaming.Holdback = Paced
    Paced.ahead, Paced.most_held = ahead, 0
    try:
        yield
    finally:
        windows.FIRST_WINDOW, windows.WINDOW = before
        streaming.Holdback = windows.Holdback


LENGTHS = (500, 1_000, 2_000, 4_000, 8_000)
DEFAULT = (windows.FIRST_WINDOW, windows.WINDOW)
HOLD_BACKS = [
    (*DEFAULT, 0),
    (40, 60, 0),
    (40, 145, 0),
    (40, 240, 0),
    (40, 480, 0),
    (*DEFAULT, 80),
    (*DEFAULT, 200),
]


def streams() -> None:
    """What judging a streamed answer takes, by its length and the size of windows."""
    for first, window, ahead in HOLD_BACKS:
        rows: list[list[object]] = []
        with world(delay_s=0.05 if ahead else 0.0) as here, hold_back(first, window, ahead):
            here.warm(stream=True)
            for length in LENGTHS:
                Paced.most_held = 0
                question = [user(prose(100, f"question {length}"))]
                calls = here.say(question, prose(length, length), stream=True)
                heard = [call for call in calls if call.stage == "output"]
                fresh, written, read, _, rubric = added(heard)
                subject, whole = sum(c.subject for c in heard), sum(c.whole for c in heard)
                ratios = [f"{subject / length:.2f}", f"{whole / length:.2f}"]
                counts = [length, len(heard), fresh, written, read, rubric]
                rows.append([*counts, *ratios, Paced.most_held])
        called = "default, " if (first, window) == DEFAULT else ""
        show(
            f"Streamed answer, windows {first} then {window} ({called}"
            + (
                f"{ahead} tokens are written while a verdict is out)" if ahead else "instant judge)"
            ),
            ["N", "calls", "fresh", "written", "read", "rubric read", "x N", "with rubric", "held"],
            rows,
            f"x N = (fresh + {WRITE:g} written + {READ:g} read) / N; with rubric: "
            f"+ {READ:g} rubric read. held: most tokens held beyond what is out with the judge.",
        )


# --- a mix of requests ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request of the reference mix, by tokens. `history`: of earlier turns."""

    name: str
    share: float
    said: str
    asked: int
    answered: int
    turns: int = 1

    @property
    def history(self) -> int:
        return (self.turns - 1) * (self.asked + self.answered)

    def main(self, model: str) -> float:
        """What the application's own call costs, in millionths of a dollar: history from cache."""
        rates = price_of(model)
        assert rates is not None
        asked = self.asked * (rates.write if self.history else rates.input)
        return self.history * rates.read + asked + self.answered * rates.output


MIX = (
    Kind("ordinary, one turn", 0.77, "", 1_000, 500),
    Kind("ordinary, fifth turn", 0.20, "", 250, 350, turns=5),
    Kind("ordinary, but suspected", 0.02, SUSPECT, 1_000, 500),
    Kind("violating, blocked", 0.01, VIOLATES, 1_000, 500),
)
ORDINARY = MIX[:2]  # what the local first stage can leave out
MODELS = ("claude-sonnet-5-5", "claude-opus-5-5")
STRATEGIES = ("cascade", "bundled", "focused")

# Tokens of a reply without thinking: a screen or judgment that names nothing, one that names
# something. Not measured on a model: the length of the JSON, in about three characters a token.
NOTHING, SUSPICION, FINDING = 15, 25, 60


def replied(call: Call, kind: Kind) -> int:
    if call.stage == "output" or not kind.said:
        return NOTHING
    if call.screen:
        return SUSPICION
    return FINDING if kind.said == VIOLATES else NOTHING


def micro(call: Call, kind: Kind) -> float:
    """A call in millionths of a dollar, which is tokens times dollars per million."""
    assert _rates is not None
    return (
        call.fresh * _rates.input
        + call.written * _rates.write
        + call.read * _rates.read
        + replied(call, kind) * _rates.output
    )


def judged(strategy: str, kind: Kind, *, stream: bool) -> list[Call]:
    """The calls of one request, with rubrics of screens in the cache, and no others."""
    with world({"strategy": strategy}) as here, hold_back(*DEFAULT, 0):
        here.warm()
        messages: list[dict[str, Any]] = []
        calls: list[Call] = []
        for turn in range(kind.turns):
            asked = f"{kind.said} {prose(kind.asked, (kind.name, turn))}".strip()
            messages.append(user(asked[: 4 * kind.asked]))
            answer = prose(kind.answered, (kind.name, turn, "answer"))
            calls = here.say(messages, answer, stream=stream)
            messages.append({"role": "assistant", "content": answer})
    return calls


Costs = dict[tuple[str, str, bool], list[Call]]  # by strategy, kind and whether it streams


def mix() -> None:
    """What judging adds to the price of the application's own calls, for a reference mix."""
    assert _rates is not None
    found: Costs = {
        (strategy, kind.name, stream): judged(strategy, kind, stream=stream)
        for strategy in STRATEGIES
        for kind in MIX
        for stream in (False, True)
    }
    _arithmetic(found)
    _stages(found)
    clear = shares_clear()
    rows: list[list[object]] = []
    for strategy in STRATEGIES:
        for stream in (False, True):
            row: list[object] = [f"{strategy}, {'streamed' if stream else 'JSON'}"]
            for local in (None, clear):
                spent = _weighted(found, strategy, stream=stream, clear=local)
                for model in MODELS:
                    main = sum(kind.share * kind.main(model) for kind in MIX)
                    row.append(f"{100 * spent / main:.1f} %")
            calls = sum(k.share * len(found[strategy, k.name, stream]) for k in MIX)
            rows.append([*row, f"{calls:.2f}"])
    show(
        "Price overhead of the mix, both stages, without thinking",
        ["", "Sonnet 5.5", "Opus 5.5", "with local: Sonnet", "Opus", "calls"],
        rows,
        f"With the local first stage: of ordinary requests {clear['input']:.0%} of the questions"
        f" and {clear['output']:.0%} of the whole answers cost nothing; windows of a stream are"
        " never left out.",
    )


def _arithmetic(found: Costs) -> None:
    assert _rates is not None
    for kind in MIX[:2]:
        rows: list[list[object]] = []
        for stream in (False, True):
            for number, call in enumerate(found["cascade", kind.name, stream], 1):
                rows.append(
                    [
                        f"{'stream' if stream else 'JSON'} {number}: {call.stage}",
                        f"{call.read:,} x {_rates.read:g} + {call.written:,} x {_rates.write:g}"
                        f" + {call.fresh} x {_rates.input:g}"
                        f" + {replied(call, kind)} x {_rates.output:g}",
                        f"{micro(call, kind):.1f}",
                    ]
                )
        mains = ", ".join(f"{model} {kind.main(model):,.0f}" for model in MODELS)
        show(
            f"Cascade, {kind.name}: every call, in millionths of a dollar",
            ["call", "read + written + fresh + reply", "= µ$"],
            rows,
            f"Main call: {mains}.",
        )


def _stages(found: Costs) -> None:
    for stream in (False, True):
        rows: list[list[object]] = []
        for kind in MIX:
            calls = found["cascade", kind.name, stream]
            cells = [
                sum(micro(c, kind) for c in calls if c.stage == stage and c.screen == screen)
                for stage in STAGES
                for screen in (True, False)
            ]
            sonnet, opus = (100 * sum(cells) / kind.main(model) for model in MODELS)
            shown = [f"{cell:.0f}" for cell in (*cells, sum(cells))]
            rows.append(
                [kind.name, f"{kind.share:.0%}", *shown, f"{sonnet:.1f} %", f"{opus:.1f} %"]
            )
        show(
            f"Cascade by stage, {'streamed' if stream else 'JSON'}: µ$ a request",
            ["", "share", "screen in", "judge in", "screen out", "judge out", "sum", *MODELS],
            rows,
        )


def _weighted(
    found: Costs, strategy: str, *, stream: bool, clear: dict[str, float] | None = None
) -> float:
    """µ$ a request of the mix. `clear`: the share of ordinary subjects that cost nothing."""
    spent = 0.0
    for kind in MIX:
        for call in found[strategy, kind.name, stream]:
            asked = 1.0
            if clear is not None and kind in ORDINARY and not (stream and call.stage == "output"):
                asked -= clear[call.stage]
            spent += kind.share * asked * micro(call, kind)
    return spent


# --- what the local judge leaves out --------------------------------------------------------------

CASES = Path(__file__).parent.parent / "evals" / "cases"


def shares_clear() -> dict[str, float]:
    """The share of ordinary test cases that the local judge sees nothing in, by stage."""
    from magistrate.evals.cases import load_cases
    from magistrate.judges.local import LocalJudge
    from magistrate.settings import Settings
    from magistrate.trial import Trial

    settings = Settings.load({"version": 1})
    clear = LocalJudge().clear
    cases = load_cases(sorted(CASES.glob("ordinary_*.yaml")), settings.policy).only("test")
    seen: dict[str, list[bool]] = {stage: [] for stage in STAGES}
    for case in cases:
        subject = Trial.of(settings, case.stage, case.request, case.answer).subject
        if subject is not None:
            seen[case.stage].append(clear(subject))
    return {stage: sum(found) / max(1, len(found)) for stage, found in seen.items()}


# --- replies --------------------------------------------------------------------------------------


def replies() -> None:
    """What thinking would add: nobody has measured how much a judge thinks at low effort."""
    assert _rates is not None
    rows: list[list[object]] = []
    main = sum(kind.share * kind.main(MODELS[0]) for kind in MIX)
    for stream in (False, True):
        calls = {kind: judged("cascade", kind, stream=stream) for kind in MIX}
        least = sum(k.share * micro(call, k) for k in MIX for call in calls[k])
        count = sum(k.share * len(calls[k]) for k in MIX)
        cells = [
            f"{100 * (least + count * thought * _rates.output) / main:.1f} %"
            for thought in THOUGHTS
        ]
        rows.append([f"{'streamed' if stream else 'JSON'}, {count:.2f} calls", *cells])
    show(
        "Price overhead on Sonnet 5.5 by thinking tokens a judge call (cascade)",
        ["", *map(str, THOUGHTS)],
        rows,
        f"Replies without thinking: {NOTHING} tokens for nothing, {SUSPICION} for a suspicion,"
        f" {FINDING} for a finding (assumed).",
    )


THOUGHTS = (0, 25, 50, 100, 200, 400)

SECTIONS: dict[str, Callable[[], None]] = {
    "conversations": conversations,
    "streams": streams,
    "mix": mix,
    "replies": replies,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], help="all by default")
    for name in parser.parse_args().sections or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
