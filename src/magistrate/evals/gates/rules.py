"""Rules that a run must pass, in words: the whole grammar. Pure, but for reading a file of them.

    [section NAME | stage NAME | slice NAME | split NAME | clause NAME] [WAY] RATE LIMIT
                                           recall, precision, f1 >= 0.8; fpr, near_misses <= 0.02
    [WAY] over_blocked <= 0.01             of all cases that should pass; ordinary: of such traffic
    right_clause, right_section >= 0.8     of violating cases: caught, and under what they violate
    flip_rate <= 0.01, failures <= 0.01    of cases judged more than once; of all judgments
    lost cases <= 3                        right in the baseline and not now
    no new [WAY] misses | false positives  [in section NAME]; misses also [in floor clauses]
    no significant [WAY] recall loss | fpr rise
                                           [in section NAME | in any section | in any floor section]

WAY is `judged`, what the judge found, or `enforced`, what was done. They differ for cases without a
verdict (see `metrics.curves`): a judge that fails has the less recall as judged, and the more
false positives as enforced. Without the word it is `judged`.

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
    "right_clause": (">=", "violating cases that name a clause"),
    "right_section": (">=", "violating cases that name a section"),
    "flip_rate": ("<=", "cases judged more than once"),
    "failures": ("<=", "judgments"),
}
RATES = _OF_GROUP | _OF_RUN
ONE_WAY = ("flip_rate", "failures", "right_clause", "right_section")
_SCOPES = ("section", "stage", "slice", "split", "clause")
_GRAMMAR = (
    f"[{' | '.join(_SCOPES)} NAME] [judged | enforced] RATE <= or >= NUMBER; lost cases <= N; "
    "no new [judged | enforced] misses [in floor clauses | in section NAME]; no new [judged | "
    "enforced] false positives [in section NAME]; no significant [judged | enforced] recall loss | "
    "fpr rise [in section NAME | in any section | in any floor section]"
)
_FORMS = (
    "lost cases <= 3",
    *(
        f"no new {way}{what}"
        for way in ("", "judged ", "enforced ")
        for what in (
            "misses",
            "misses in floor clauses",
            "misses in section",
            "false positives",
            "false positives in section",
        )
    ),
    *(
        f"no significant {way}{what}{where}"
        for way in ("", "judged ", "enforced ")
        for what in ("recall loss", "fpr rise")
        for where in ("", " in section", " in any section", " in any floor section")
    ),
)
_LOST = re.compile(r"lost cases <= ([0-9]{1,9})")
_NEW = re.compile(
    r"no new (?:(judged|enforced) )?(misses|false positives)(?: in (floor clauses|section (\S+)))?"
)
_SIGNIFICANT = re.compile(
    r"no significant (?:(judged|enforced) )?(recall loss|fpr rise)"
    r"(?: in (any section|any floor section|section (\S+)))?"
)
_RATE = re.compile(
    rf"(?:({'|'.join(_SCOPES)}) (\S+) )?(?:(judged|enforced) )?([a-z0-9_]+) (<=|>=) ([0-9.]+%?)"
)


@dataclass(frozen=True, slots=True)
class RateRule:
    """`section fraud_abuse recall >= 0.7`. `group` is the `key` of a group; `enforced` the way."""

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
    enforced: bool = False


@dataclass(frozen=True, slots=True)
class SignificanceRule:
    """`no significant recall loss in any floor section`. `section` where it names one."""

    text: str
    recall: bool
    where: Where
    section: str | None
    enforced: bool = False


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
        way, what, place, section = match.groups()
        floor = place == "floor clauses"
        if not (floor and what == "false positives"):
            return NewRule(plain, what == "misses", floor, section, way == "enforced")
    if match := _SIGNIFICANT.fullmatch(plain):
        way, what, place, section = match.groups()
        where = cast("Where", "section" if section else place or "overall")
        return SignificanceRule(plain, what == "recall loss", where, section, way == "enforced")
    if match := _RATE.fullmatch(plain):
        return _rate_rule(plain, match)
    raise ValueError(_unknown(plain))


def _rate_rule(plain: str, match: re.Match[str]) -> RateRule:
    scope, name, way, rate, sign, number = match.groups()
    if rate not in RATES:
        raise ValueError(f"'{rate}' is no rate; allowed: {listed(RATES)}{nearest(rate, RATES)}")
    allowed = RATES[rate][0]
    if sign != allowed:
        raise ValueError(f"{rate} is bounded by {allowed}, as in '{rate} {allowed} {number}'")
    if scope and rate in _OF_RUN:
        raise ValueError(f"{rate} is that of the whole run; leave out '{scope} {name}'")
    if way and rate in ONE_WAY:
        raise ValueError(f"{rate} is counted in one way only; leave out '{way}'")
    try:
        limit = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"'{number}' is no number; allowed: a share such as 0.02 or 2%") from None
    if not 0 < limit < 1:
        raise ValueError(f"no sample can show {sign} {number}; allowed: between 0 and 1, not those")
    group = f"{scope} {name}" if scope else "overall"
    return RateRule(plain, group, way == "enforced", rate, limit)


def _unknown(plain: str) -> str:
    forms = [f"{rate} {sign} 0.5" for rate, (sign, _) in RATES.items()]
    close = nearest(plain, [*_FORMS, *forms])
    return f"is no rule; allowed: {_GRAMMAR}; rates are {listed(RATES)}{close}"
