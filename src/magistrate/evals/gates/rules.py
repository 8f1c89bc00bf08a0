"""Rules that a run must pass, in words: the whole grammar. Pure, but for reading a file of them.

    [section NAME | stage NAME | slice NAME | split NAME | clause NAME] [enforced] RATE LIMIT
                                           recall, precision, f1 >= 0.8; fpr, near_misses <= 0.02
    [enforced] over_blocked <= 0.01        of all cases that should pass; ordinary: of such traffic
    flip_rate <= 0.01, failures <= 0.01    of cases judged more than once; of all judgments
    lost cases <= 3                        right in the baseline and not now
    no new misses | false positives        [in section NAME]; misses also [in floor clauses]
    no significant recall loss | fpr rise  [in section NAME | in any section | in any floor section]

A rate passes by its value, but only if the sample could have shown it: if every case had been right
the whole 95 % interval would have kept the limit. Rules that compare need a baseline. A change is
significant by the exact McNemar test, adjusted by Holm's method over all sections where a rule asks
several of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from magistrate.config.diagnostics import Problem, SettingsError, listed, nearest, shown
from magistrate.config.schema import Listed, Strict, Text, parsed
from magistrate.config.yaml_document import read

Sign = Literal["<=", ">="]
Where = Literal["overall", "section", "any section", "any floor section"]

# What each rate is bounded by, and what it is a share of.
_OF_GROUP: dict[str, tuple[Sign, str]] = {
    "recall": (">=", "violating cases"),
    "precision": (">=", "detections"),
    "f1": (">=", "violating cases"),
    "fpr": ("<=", "benign cases"),
    "near_misses": ("<=", "near misses"),
}
_OF_RUN: dict[str, tuple[Sign, str]] = {
    "over_blocked": ("<=", "cases that should pass"),
    "ordinary": ("<=", "ordinary cases"),
    "flip_rate": ("<=", "cases judged more than once"),
    "failures": ("<=", "judgments"),
}
RATES = _OF_GROUP | _OF_RUN
_ONE_WAY = ("flip_rate", "failures")
_SCOPES = ("section", "stage", "slice", "split", "clause")
_GRAMMAR = (
    f"[{' | '.join(_SCOPES)} NAME] [enforced] RATE <= or >= NUMBER; lost cases <= N; "
    "no new misses [in floor clauses | in section NAME]; no new false positives [in section NAME]; "
    "no significant recall loss | fpr rise [in section NAME | in any section | in any floor "
    "section]"
)
_FORMS = (
    "lost cases <= 3",
    "no new misses",
    "no new misses in floor clauses",
    "no new misses in section",
    "no new false positives",
    "no new false positives in section",
    *(
        f"no significant {what}{where}"
        for what in ("recall loss", "fpr rise")
        for where in ("", " in section", " in any section", " in any floor section")
    ),
)
_LOST = re.compile(r"lost cases <= ([0-9]{1,9})")
_NEW = re.compile(r"no new (misses|false positives)(?: in (floor clauses|section (\S+)))?")
_SIGNIFICANT = re.compile(
    r"no significant (recall loss|fpr rise)(?: in (any section|any floor section|section (\S+)))?"
)
_RATE = re.compile(
    rf"(?:({'|'.join(_SCOPES)}) (\S+) )?(enforced )?([a-z0-9_]+) (<=|>=) ([0-9.]+%?)"
)


@dataclass(frozen=True, slots=True)
class RateRule:
    """`section fraud_abuse recall >= 0.7`. `group` is the `key` of a group."""

    text: str
    group: str
    enforced: bool
    rate: str
    limit: float


@dataclass(frozen=True, slots=True)
class LostRule:
    """`lost cases <= 3`."""

    text: str
    limit: int


@dataclass(frozen=True, slots=True)
class NewRule:
    """`no new misses in floor clauses`. `section` None: of all, or of the floor."""

    text: str
    misses: bool
    floor: bool
    section: str | None


@dataclass(frozen=True, slots=True)
class SignificanceRule:
    """`no significant recall loss in any floor section`. `section` where it names one."""

    text: str
    recall: bool
    where: Where
    section: str | None


Rule = RateRule | LostRule | NewRule | SignificanceRule


class GateFile(Strict):
    """A YAML file of rules."""

    gates: Listed[Text]


def read_rules(words: Iterable[str] = (), file: str | os.PathLike[str] | None = None) -> list[Rule]:
    """Rules as given, and those under `gates` of a YAML file.

    Raises `SettingsError` with every rule that cannot be read, and what is allowed instead.
    """
    rules: list[Rule] = []
    problems: list[Problem] = []
    for text in words:
        try:
            rules.append(parse(text))
        except ValueError as error:
            problems.append(Problem(None, None, None, shown(text), str(error)))
    if file is not None:
        document = read(file)
        found, wrong, _ = parsed(GateFile, document)
        problems += wrong
        for index, text in enumerate(found.gates if found and not wrong else ()):
            try:
                rules.append(parse(text))
            except ValueError as error:
                problems.append(document.problem(("gates", index), str(error)))
    if problems:
        raise SettingsError(problems)
    return rules


def parse(text: str) -> Rule:
    """Return one rule. Raise ValueError that says what is allowed."""
    plain = " ".join(re.sub(r"([<>]=)", r" \1 ", text.lower()).split())
    if match := _LOST.fullmatch(plain):
        return LostRule(plain, int(match[1]))
    if match := _NEW.fullmatch(plain):
        floor = match[2] == "floor clauses"
        if not (floor and match[1] == "false positives"):
            return NewRule(plain, match[1] == "misses", floor, match[3])
    if match := _SIGNIFICANT.fullmatch(plain):
        where = "section" if match[3] else match[2] or "overall"
        return SignificanceRule(plain, match[1] == "recall loss", cast("Where", where), match[3])
    if match := _RATE.fullmatch(plain):
        return _rate_rule(plain, match)
    raise ValueError(_unknown(plain))


def _rate_rule(plain: str, match: re.Match[str]) -> RateRule:
    scope, name, enforced, rate, sign, number = match.groups()
    if rate not in RATES:
        raise ValueError(f"'{rate}' is no rate; allowed: {listed(RATES)}{nearest(rate, RATES)}")
    allowed = RATES[rate][0]
    if sign != allowed:
        raise ValueError(f"{rate} is bounded by {allowed}, as in '{rate} {allowed} {number}'")
    if scope and rate in _OF_RUN:
        raise ValueError(f"{rate} is that of the whole run; leave out '{scope} {name}'")
    if enforced and rate in _ONE_WAY:
        raise ValueError(f"{rate} is counted in one way only; leave out 'enforced'")
    try:
        limit = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"'{number}' is no number; allowed: a share such as 0.02 or 2%") from None
    if not 0 < limit < 1:
        raise ValueError(f"no sample can show {sign} {number}; allowed: between 0 and 1, not those")
    return RateRule(plain, f"{scope} {name}" if scope else "overall", bool(enforced), rate, limit)


def _unknown(plain: str) -> str:
    forms = [f"{rate} {sign} 0.5" for rate, (sign, _) in RATES.items()]
    close = nearest(plain, [*_FORMS, *forms])
    return f"is no rule; allowed: {_GRAMMAR}; rates are {listed(RATES)}{close}"
