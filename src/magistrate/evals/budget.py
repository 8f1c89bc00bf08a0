"""What a run may spend: every call of a judge is reserved before it is made, and settled after it.

A reservation is the most that a call can cost: a token for every byte of its request, and as long a
reply as it allows. So a budget holds for cases of any length, for any number of calls at the same
time, and over all sessions of a run: what was reserved and paid is a line of

    RUN/spending.jsonl   {"case", "repeat", "call", and "reserved" or "paid", in dollars}

Of a call whose answer never came it is not known what it cost. It counts with all that it could
have cost, and so does one that a kill cut off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from magistrate.evals.results import Result
from magistrate.evals.run_folder import json_lines, wrong
from magistrate.judging.base import AskModelAsync, ModelReply
from magistrate.judging.prices import price_of
from magistrate.judging.reply import read_usage
from magistrate.verdicts import Usage
from magistrate.wire.messages import JSON, is_array, is_object

SPENDING = "spending.jsonl"
_FRAME_TOKENS = 1_000  # of what the API adds to a request: roles, and how to follow its schema
# What an attachment costs depends on its pixels or pages, whatever its bytes: of an image as large,
# and of a document with as many pages, as the API takes.
_ATTACHED_TOKENS = {"image": 10_000, "document": 600_000}
_SLACK = 1e-9  # dollars: sums of floats are not exact

Key = tuple[str, int]


class OverBudget(Exception):
    """The call could cost more than is left; it was not made."""


def most_usd(body: JSON) -> float:
    """Return the most a Messages API request can cost, in dollars; infinite for an unknown price.

    No tokenizer makes more tokens than a text has bytes of UTF-8.
    """
    price = price_of(str(body.get("model")))
    if price is None:
        return math.inf
    sent = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    most = sent + _FRAME_TOKENS + _attached(body.get("messages"))
    # A shorter input is never dearer, so the longest one has the highest rates.
    rates = price.rates(most)
    dollars = most * max(rates.input, rates.write) + int(body["max_tokens"]) * rates.output
    return dollars / 1_000_000


def _attached(content: object) -> int:
    """Return the most tokens that attachments take beyond their bytes."""
    if is_array(content):
        return sum(map(_attached, content))
    if not is_object(content):
        return 0
    return _ATTACHED_TOKENS.get(str(content.get("type")), 0) + _attached(content.get("content"))


def paid_usd(body: JSON, reply: ModelReply) -> float | None:
    """Return what a call cost, in dollars; None where that is not known.

    A status that is an error costs nothing.
    """
    if reply.failure is not None:
        return None
    if reply.status != 200:
        return 0.0
    said = reply.body or {}
    if not is_object(said.get("usage")):
        return None
    model = str(said.get("model") or body.get("model"))
    return read_usage(said, model).cost_usd


@dataclass(slots=True)
class Purse:
    """The money of one run, in dollars. `budget` None: there is no limit, but it is written down.

    `open` is what calls under way could cost; `paid` what calls have cost, `told` what judges said
    that judgments cost, both by case and repeat. The larger of the two counts in `spent`, over all
    sessions: a judge of another kind may make no call of which this knows. `unknown`: something was
    paid at no known price.
    """

    folder: Path
    budget: float | None
    paid: dict[Key, float] = field(default_factory=dict[Key, float])
    told: dict[Key, float] = field(default_factory=dict[Key, float])
    open: float = 0.0
    spent: float = 0.0
    unknown: bool = False
    _calls: int = 0

    @classmethod
    def of(cls, folder: Path, budget: float | None, written: Iterable[Result]) -> Purse:
        """Return the purse of a run. `written`: every line of its results, replaced ones too.

        Raises `SettingsError` where the run has a budget and has already spent at no known price.
        """
        purse = cls(folder, budget)
        for result in written:
            purse.tell(result.key, result.outcome.usage)
        if budget is not None and purse.unknown:
            wrong(folder, "what it has cost so far is not known, so no budget can be kept")
        purse._read()
        return purse

    @property
    def left(self) -> float:
        """What neither was spent nor is reserved; infinite without a budget."""
        if self.budget is None:
            return math.inf
        return -math.inf if self.unknown else self.budget - self.spent - self.open

    def tell(self, key: Key, usage: Usage) -> None:
        """Note what a judge said that a judgment cost."""
        if usage.judge_calls and usage.cost_usd is None:
            self.unknown = True
        self._add(self.told, key, usage.cost_usd or 0.0)

    def _add(self, to: dict[Key, float], key: Key, usd: float) -> None:
        before = self._of(key)
        to[key] = to.get(key, 0.0) + usd
        self.spent += self._of(key) - before

    def _of(self, key: Key) -> float:
        return max(self.paid.get(key, 0.0), self.told.get(key, 0.0))

    def guarded(self, key: Key, ask: AskModelAsync) -> AskModelAsync:
        """Return `ask` for the judgment of one case; it raises `OverBudget` for a call too dear."""

        async def asked(body: JSON, timeout_s: float) -> ModelReply:
            most = most_usd(body)
            if self.budget is not None and most > self.left + _SLACK:
                raise OverBudget
            self._calls += 1
            line: JSON = {"case": key[0], "repeat": key[1], "call": self._calls}
            reserved = most if math.isfinite(most) else None
            self._write(line | {"reserved": reserved})
            self.open += reserved or 0.0
            try:
                reply = await ask(body, timeout_s)
            except BaseException:
                self._add(self.paid, key, reserved or 0.0)
                raise
            finally:
                self.open -= reserved or 0.0
            paid = paid_usd(body, reply)
            if paid is not None:
                self._write(line | {"paid": paid})
            self._add(self.paid, key, (reserved or 0.0) if paid is None else paid)
            return reply

        return asked

    def _write(self, line: JSON) -> None:
        try:
            with (self.folder / SPENDING).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, ensure_ascii=True) + "\n")
        except OSError as error:
            wrong(self.folder / SPENDING, f"cannot be written: {error.strerror}")

    def _read(self) -> None:
        """Count the calls of earlier sessions: what they cost, or else what they could have."""
        file = self.folder / SPENDING
        calls: dict[tuple[str, int, int], float | None] = {}
        for number, line in json_lines(file):
            try:
                call = (str(line["case"]), int(line["repeat"]), int(line["call"]))
                found = line["paid"] if "paid" in line else line["reserved"]
                calls[call] = None if found is None else float(found)
            except (KeyError, TypeError, ValueError):
                wrong(file, "is no line of what a call cost; the file was changed", number)
            if found is not None and not (math.isfinite(found) and found >= 0):
                wrong(file, f"{found} is no number of dollars; the file was changed", number)
            self._calls = max(self._calls, call[2])
        for (case, repeat, _), usd in calls.items():
            self._add(self.paid, (case, repeat), usd or 0.0)


@dataclass(slots=True)
class Estimate:
    """What judging a case is likely to cost, from those that were judged.

    It decides how many cases are begun at the same time. Where a judge makes calls, `Purse` keeps
    the limit. What another kind of judge costs is known only afterwards, so for its longer cases
    the highest cost of a byte is expected.
    """

    dearest: float | None = None
    a_byte: float = 0.0

    def learn(self, length: int, usd: float) -> None:
        self.dearest = max(self.dearest or 0.0, usd)
        self.a_byte = max(self.a_byte, usd / max(1, length))

    def of(self, length: int, *, calls: bool) -> float | None:
        """Return dollars; None before anything is known. `calls`: the judge makes calls."""
        if self.dearest is None or calls:
            return self.dearest
        return max(self.dearest, self.a_byte * length)
