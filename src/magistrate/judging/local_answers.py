"""Classify answers by patterns: do they disclose an AI, and are they high-risk? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from magistrate.judging.local_model import (
    said,
)
from magistrate.policy.schema import HighRiskUse
from magistrate.settings import Settings
from magistrate.verdicts import (
    AnswerKind,
    HighRiskAnswer,
)
from magistrate.wire.parts import Subject

_ADVICE = re.compile(
    r"\b(you (should|need to|must|may|can|are (owed|entitled)|have)|your|i would|i'd)\b", re.I
)
_RECOMMENDATION = re.compile(
    r"\b(i (suggest|recommend)|recommend(ed|ation)?|rank(ed|ing)?)\b", re.I
)
_DECISION = re.compile(
    r"\b(approved|accepted|declined|denied|dismissed|rejected|refused|(not |in)?eligible"
    r"|decision)\b",
    re.I,
)
_SELF = re.compile(
    r"\b(i am|i['’]m|as|this is|soy|como|ich bin|als|je suis|en tant qu['’]|sono|sou|jestem|ik ben)"
    r"\b[^.!?\n]{0,40}\b"
    r"(ai|a\.i\.|ki|ia|si|artificial intelligence|intelligenza artificiale|language model)\b",
    re.I,
)
_DENIAL = re.compile(r"\b(not|no|never|nicht|kein\w*|pas|non|não|nie|niet)\b", re.I)


def discloses_ai(subject: Subject) -> bool:
    """Return whether an answer says in the first person that it is an AI, in one of nine languages.

    A sentence with a negation before "AI" in it does not count.
    """
    if subject.stage != "output":
        return False
    answers = (p.text for p in subject.parts if p.role == "assistant" and p.path[:8] == "response")
    found = (match for text in answers for match in _SELF.finditer(text))
    return any(not _DENIAL.search(match[0]) for match in found)


def high_risk(subject: Subject, settings: Settings) -> Iterator[HighRiskAnswer]:
    """Yield the kind of an answer in the high-risk domains that the app declares, and in no others.

    The domain is the one whose text in the policy shares the most words with question and answer;
    if none shares any, the first declared one. English words that are typical of a decision, a
    recommendation or advice determine the kind. In a domain that is only about publishing, any
    answer is a publication.
    """
    declared = settings.app.high_risk if settings.app else ()
    uses = [use for use in settings.policy.high_risk if use.id in declared]
    judged = "\n".join(p.text for p in subject.parts if p.judged and p.kind == "text")
    if subject.stage != "output" or not uses or not judged:
        return
    words = _long_words(said(subject))
    use = max(uses, key=lambda use: len(words & _vocabulary(use)))
    kind: AnswerKind = "general"
    if use.review_for == ("publication",):
        kind = "publication"
    elif _DECISION.search(judged):
        kind = "decision"
    elif _RECOMMENDATION.search(judged):
        kind = "recommendation"
    elif _ADVICE.search(judged):
        kind = "advice"
    yield HighRiskAnswer(use.id, kind, kind not in ("general", "publication"))


def _vocabulary(use: HighRiskUse) -> frozenset[str]:
    return _long_words(" ".join((use.title, use.rule, *use.counts)))


def _long_words(text: str) -> frozenset[str]:
    """Return the words of five letters or more: shorter ones do not distinguish domains."""
    return frozenset(re.findall(r"\w{5,}", text.lower()))
