"""Labelled cases: the schema of one, and a data set of them.

A case is a request (stage `input`) or an answer with its question (stage `output`), the labels a
reviewer gave it, and what should happen to it under the settings' defaults. Files are YAML (written
by people, a list under `cases`) or JSONL (imported, one case a line); both hold the same keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field

from magistrate.config.schema import Listed, Strict, Text, must_be
from magistrate.core.decision_record import Disclosed
from magistrate.core.offline import OfflineDecision
from magistrate.policy.app_profile import AppProfile
from magistrate.settings import Settings
from magistrate.verdicts import Action, AnswerKind, Severity, Stage
from magistrate.wire.digests import fingerprint
from magistrate.wire.messages import JSON, is_array, is_object, text_of

Label = Literal["violated", "ok"]
Split = Literal["dev", "test"]
_ROLES = ("user", "assistant", "system")
_TAG = re.compile(r"[a-z][a-z_]*(:[a-z0-9][a-z0-9_-]*)?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
# `[steps removed]`, in whatever language the case is: words in brackets that are no link or index.
_ELIDED = re.compile(r"\[[^\W\d][^\[\]\n]{6,80}\](?!\()")


def _slug(words: str) -> str:
    """Return words as a name of a group: small letters and digits, with `-` for all else."""
    return "-".join(re.findall(r"[^\W_]+", words.casefold())) or "-"


def _turn(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) != 1 or next(iter(value)) not in _ROLES:
        raise must_be("one key, user, assistant or system, and what was said")
    _content(next(iter(value.values())))
    return value


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise must_be("at least one message")
    return value


def _content(value: Any) -> Any:
    said = isinstance(value, str) and value != ""
    if not said and not (is_array(value) and value and all(map(is_object, value))):
        raise must_be("text that is not empty, or a list of content blocks")
    return value


def _tag(value: str) -> str:
    if not _TAG.fullmatch(value):
        raise must_be("a tag such as lang:de or disguise:base64")
    return value


def _case_id(value: str) -> str:
    if not _ID.fullmatch(value):
        raise must_be("letters, digits and . _ : / - without spaces")
    return value


Turn = Annotated[dict[str, Any], AfterValidator(_turn)]
Content = Annotated[Any, AfterValidator(_content)]
Tag = Annotated[str, AfterValidator(_tag)]
CaseId = Annotated[str, AfterValidator(_case_id)]


class Answered(Strict):
    """What an answer is in a high-risk domain: the label a `HighRiskAnswer` is compared with."""

    domain: Text
    kind: AnswerKind
    individual: bool


class Case(Strict):
    """One labelled case.

    A case without a clause `violated` is ok under every clause. In a case with one, clauses that
    `labels` does not name are unknown: a text often touches more than its author had in mind.
    `overall` is for labels from elsewhere, which are known for the clauses they name and no other,
    even where nothing is violated: it says whether anything is, under whatever clause.
    `sections` labels whole sections: of one that is `violated` it is unknown which clause is, of
    one that is `ok` all are.
    `action` and `disclosure` are what is expected under the settings' defaults and this `app`.
    `declined`: the numbers, from 0, of messages that moderation declined before: a judge sees them
    as such. `continues_declined`: whether the last turn asks for the same again.
    `groups`: columns of a set from elsewhere by which it is reported too, such as `hazard`.
    `pair` joins a case to its contrast twin. `contested` says why reviewers disagree on the label;
    such cases are reported apart.
    """

    id: CaseId
    stage: Stage
    messages: Annotated[Listed[Turn], AfterValidator(_some)]
    system: Content | None = None
    tools: list[dict[str, Any]] | None = None
    response: Content | None = None
    app: AppProfile | None = None
    declined: Listed[int] = ()
    continues_declined: bool = False
    labels: dict[str, Label]
    sections: dict[str, Label] = Field(default_factory=dict[str, Label])
    overall: Literal["violated", "ok", "unknown"] | None = None
    high_risk: Listed[Answered] = ()
    discloses_ai: bool = False
    action: Action
    disclosure: Disclosed | None = None
    severity: Severity | None = None
    tags: Listed[Tag] = ()
    groups: dict[Text, Text] = Field(default_factory=dict[Text, Text])
    pair: Text | None = None
    split: Split
    note: Text | None = None
    contested: Text | None = None

    @property
    def violated(self) -> tuple[str, ...]:
        """The clauses this case violates."""
        return tuple(clause for clause, label in self.labels.items() if label == "violated")

    @property
    def violated_sections(self) -> tuple[str, ...]:
        """The sections that a clause is violated of, but not known which."""
        return tuple(name for name, label in self.sections.items() if label == "violated")

    @property
    def violates(self) -> bool | None:
        """Whether anything at all is violated; None: unknown."""
        if self.overall is None:
            return "violated" in (*self.labels.values(), *self.sections.values())
        return None if self.overall == "unknown" else self.overall == "violated"

    @property
    def benign(self) -> bool:
        """Whether nothing is violated, as far as the labels say."""
        return self.violates is False

    def label(self, clause: str) -> Label | None:
        """Return what is known about one clause; None: nothing. Its section is not looked at."""
        everywhere = self.overall is None and self.benign
        return "ok" if everywhere else self.labels.get(clause)

    @cached_property
    def request(self) -> JSON:
        """The Messages API request, as far as a judge reads it."""
        turns = [
            {"role": role, "content": content}
            for turn in self.messages
            for role, content in turn.items()
        ]
        body: JSON = {"messages": turns}
        if self.system is not None:
            body["system"] = self.system
        if self.tools is not None:
            body["tools"] = self.tools
        return body

    @cached_property
    def answer(self) -> JSON:
        """The message that is judged at stage `output`; empty at stage `input`."""
        if self.response is None:
            return {}
        if isinstance(self.response, str):
            return {"content": [{"type": "text", "text": self.response}]}
        return {"content": self.response}

    def offline(self, settings: Settings) -> OfflineDecision:
        """Return the question about this case to a judge, and how its answer is decided."""
        return OfflineDecision.of(settings, self.stage, self.request, self.answer, self.declined)

    @property
    def text(self) -> str:
        """All that was said, for reading and searching."""
        said = [text_of(m["content"]) for m in cast("list[JSON]", self.request["messages"])]
        return "\n".join([*said, text_of(self.answer.get("content"))])

    @property
    def cluster(self) -> str:
        """What varies together: a case and its twin. Errors are clustered by this."""
        return self.pair or self.id

    @property
    def slices(self) -> tuple[str, ...]:
        """The groups a case is reported in, apart from its section and stage."""
        of = {"lang": "language", "disguise": "disguise", "topic": None}
        found = [tag for tag in self.tags if tag.partition(":")[0] in of]
        kinds = sorted({kind for tag in found if (kind := of[tag.partition(":")[0]])})
        roles = [role for turn in self.messages for role in turn]
        extra = ["multi_turn"] * (roles.count("user") > 1) + ["elided"] * self.elided
        own = self.pair is None and self.overall is None
        named = self.labels or self.sections
        ordinary = ["ordinary"] * (own and self.benign and not named)
        groups = [f"{_slug(name)}:{_slug(value)}" for name, value in self.groups.items()]
        return tuple(dict.fromkeys((*kinds, *found, *extra, *ordinary, *groups)))

    @property
    def elided(self) -> bool:
        """Whether an answer has a marker such as `[steps removed]` in it."""
        return self.stage == "output" and bool(
            _ELIDED.search(text_of(self.answer.get("content")) or "")
        )

    @property
    def hash(self) -> str:
        """SHA-256 of what a judge sees and is measured by; notes and tags do not count."""
        aside = {"note", "tags", "groups", "contested", "split", "pair"}
        shown = self.model_dump(mode="json", exclude=aside)
        # As before there were any.
        for later in ("overall", "sections", "declined", "continues_declined"):
            if not shown[later]:
                del shown[later]
        return fingerprint(shown)

    @cached_property
    def judged_hash(self) -> str:
        """SHA-256 of what a verdict depends on: what is judged, at which stage, in which app.

        Its id, its labels and what is expected of it do not count.
        """
        app = self.app.model_dump(mode="json") if self.app is not None else None
        said: list[object] = [self.stage, self.request, self.answer, app]
        return fingerprint([*said, *([list(self.declined)] if self.declined else [])])


@dataclass(frozen=True, slots=True)
class Dataset:
    """Cases that fit together, in the order of their files."""

    cases: tuple[Case, ...]
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @property
    def hash(self) -> str:
        """SHA-256 over all cases, whatever files they are in."""
        return hashlib.sha256("".join(sorted(c.id + c.hash for c in self)).encode()).hexdigest()

    def only(self, split: Split | None) -> Dataset:
        """Return the cases of one split; all, for None."""
        kept = tuple(case for case in self if split in (None, case.split))
        return Dataset(kept, self.files)
