"""What judging costs in tokens and dollars, counted on the simulator with its prompt cache.

    python benchmarks/cost.py [conversations] [streams] [mix] [replies]

Real client, middleware and Claude judge; no network. Tokens are the simulator's count, four
characters each, so ratios hold as long as the real tokenizer treats prompts and answers alike.
Prices are those of `prices.yaml`. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ledger import (
    DEFAULT,
    READ,
    STAGES,
    WRITE,
    Call,
    Paced,
    hold_back,
    prose,
    show,
    user,
    world,
)
from mix import mix, replies

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


def added(calls: list[Call]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*(call.parts for call in calls), strict=True))) or (0,) * 5


# --- an answer is streamed ------------------------------------------------------------------------


LENGTHS = (500, 1_000, 2_000, 4_000, 8_000)
HOLD_BACKS = [
    (*DEFAULT, 0),
    (40, 60, 0),
    (40, 120, 0),
    (40, 240, 0),
    (40, 480, 0),
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
                judged = [call for call in calls if call.stage == "output"]
                fresh, written, read, _, rubric = added(judged)
                subject, whole = sum(c.subject for c in judged), sum(c.whole for c in judged)
                ratios = [f"{subject / length:.2f}", f"{whole / length:.2f}"]
                counts = [length, len(judged), fresh, written, read, rubric]
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
