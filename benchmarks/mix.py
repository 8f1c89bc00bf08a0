"""What judging adds to the price of an application's own calls, for a reference mix of requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import (
    DEFAULT,
    RATES,
    STAGES,
    SUSPECT,
    VIOLATES,
    Call,
    hold_back,
    prose,
    show,
    user,
    world,
)

from magistrate.judging.prices import price_of

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
MODELS = {"Sonnet 5.5": "claude-sonnet-5-5", "Opus 5.5": "claude-opus-5-5"}
STRATEGIES = ("cascade", "bundled", "focused")

# Tokens of a reply without thinking: a screen or judgment that names nothing, one that names
# something. Not measured on a model: the length of the JSON, in about three characters a token.
NOTHING, SUSPICION, FINDING = 15, 25, 60


def replied(call: Call, kind: Kind) -> int:
    if call.stage == "output" or not kind.said:
        return NOTHING
    return SUSPICION if call.screen else FINDING


def micro(call: Call, kind: Kind) -> float:
    """A call in millionths of a dollar, which is tokens times dollars per million."""
    return (
        call.fresh * RATES.input
        + call.written * RATES.write
        + call.read * RATES.read
        + replied(call, kind) * RATES.output
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
                for model in MODELS.values():
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
    for kind in MIX[:2]:
        rows: list[list[object]] = []
        for stream in (False, True):
            for number, call in enumerate(found["cascade", kind.name, stream], 1):
                rows.append(
                    [
                        f"{'stream' if stream else 'JSON'} {number}: {call.stage}",
                        f"{call.read:,} x {RATES.read:g} + {call.written:,} x {RATES.write:g}"
                        f" + {call.fresh} x {RATES.input:g}"
                        f" + {replied(call, kind)} x {RATES.output:g}",
                        f"{micro(call, kind):.1f}",
                    ]
                )
        mains = ", ".join(f"{name} {kind.main(model):,.0f}" for name, model in MODELS.items())
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
            sonnet, opus = (100 * sum(cells) / kind.main(model) for model in MODELS.values())
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
    from magistrate.core.offline import OfflineDecision
    from magistrate.evals.case_files import load_cases
    from magistrate.judging.local import LocalJudge
    from magistrate.settings import Settings

    settings = Settings.load({"version": 1})
    clear = LocalJudge().clear
    cases = load_cases(sorted(CASES.glob("ordinary_*.yaml")), settings.policy).only("test")
    seen: dict[str, list[bool]] = {stage: [] for stage in STAGES}
    for case in cases:
        subject = OfflineDecision.of(settings, case.stage, case.request, case.answer).subject
        if subject is not None:
            seen[case.stage].append(clear(subject))
    return {stage: sum(found) / max(1, len(found)) for stage, found in seen.items()}


# --- replies --------------------------------------------------------------------------------------


def replies() -> None:
    """What thinking would add: nobody has measured how much a judge thinks at low effort."""
    rows: list[list[object]] = []
    main = sum(kind.share * kind.main(MODELS["Sonnet 5.5"]) for kind in MIX)
    for stream in (False, True):
        calls = {kind: judged("cascade", kind, stream=stream) for kind in MIX}
        least = sum(k.share * micro(call, k) for k in MIX for call in calls[k])
        count = sum(k.share * len(calls[k]) for k in MIX)
        cells = [
            f"{100 * (least + count * thought * RATES.output) / main:.1f} %" for thought in THOUGHTS
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
