"""Labelled cases: what may stand in a case file, and everything that can be wrong with one.

A case is a request (stage `input`) or an answer with its question (stage `output`), the labels a
reviewer gave it, and what should happen to it under the settings' defaults. Files are YAML (written
by people, a list under `cases`) or JSONL (imported, one case a line); both hold the same keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator

from magistrate.config.diagnostics import Problem, SettingsError, Where, listed, nearest
from magistrate.config.schema import Listed, Strict, Text, must_be, parsed
from magistrate.config.yaml_document import Document, Mark, read
from magistrate.core.decision import Disclosed
from magistrate.policy import Policy
from magistrate.policy.app_profile import AppProfile
from magistrate.verdicts import Action, AnswerKind, Severity, Stage
from magistrate.wire.digests import fingerprint
from magistrate.wire.messages import JSON, is_array, is_object, text_of

Label = Literal["violated", "ok"]
Split = Literal["dev", "test"]

MAX_LINE_BYTES = 1_000_000  # of a JSONL file; the API takes more, but no labelled case needs it
_ROLES = ("user", "assistant", "system")
_TAG = re.compile(r"[a-z][a-z_]*(:[a-z0-9][a-z0-9_-]*)?")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
# `[steps removed]`, in whatever language the case is: words in brackets that are no link or index.
_ELIDED = re.compile(r"\[[^\W\d][^\[\]\n]{6,80}\](?!\()")


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
    `action` and `disclosure` are what is expected under the settings' defaults and this `app`.
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
    labels: dict[str, Label]
    overall: Literal["violated", "ok", "unknown"] | None = None
    high_risk: Listed[Answered] = ()
    discloses_ai: bool = False
    action: Action
    disclosure: Disclosed | None = None
    severity: Severity | None = None
    tags: Listed[Tag] = ()
    pair: Text | None = None
    split: Split
    note: Text | None = None
    contested: Text | None = None

    @property
    def violated(self) -> tuple[str, ...]:
        """The clauses this case violates."""
        return tuple(clause for clause, label in self.labels.items() if label == "violated")

    @property
    def violates(self) -> bool | None:
        """Whether anything at all is violated; None: nobody knows."""
        if self.overall is None:
            return bool(self.violated)
        return None if self.overall == "unknown" else self.overall == "violated"

    @property
    def benign(self) -> bool:
        """Whether nothing is violated, as far as anybody looked."""
        return self.violates is False

    def label(self, clause: str) -> Label | None:
        """What is known about one clause; None: nothing."""
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
        """The groups a case is reported in beside its section and stage."""
        of = {"lang": "language", "disguise": "disguise", "topic": None}
        found = [tag for tag in self.tags if tag.partition(":")[0] in of]
        kinds = sorted({kind for tag in found if (kind := of[tag.partition(":")[0]])})
        roles = [role for turn in self.messages for role in turn]
        extra = ["multi_turn"] * (roles.count("user") > 1) + ["elided"] * self.elided
        own = self.pair is None and self.overall is None
        ordinary = ["ordinary"] * (own and self.benign and not self.labels)
        return (*kinds, *found, *extra, *ordinary)

    @property
    def elided(self) -> bool:
        """Whether an answer has a marker such as `[steps removed]` in it."""
        return self.stage == "output" and bool(
            _ELIDED.search(text_of(self.answer.get("content")) or "")
        )

    @property
    def hash(self) -> str:
        """SHA-256 of what a judge sees and is measured by; notes and tags do not count."""
        shown = self.model_dump(mode="json", exclude={"note", "tags", "contested", "split", "pair"})
        if self.overall is None:
            del shown["overall"]  # as before there was one
        return fingerprint(shown)


class CaseFile(Strict):
    """A YAML file of cases."""

    cases: Listed[Any]


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
        """SHA-256 over all cases, whatever files they stand in."""
        return hashlib.sha256("".join(sorted(c.id + c.hash for c in self)).encode()).hexdigest()

    def only(self, split: Split | None) -> Dataset:
        """The cases of one split; all, for None."""
        kept = tuple(case for case in self if split in (None, case.split))
        return Dataset(kept, self.files)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A case as it stands in its file. `case` is None where it cannot be read."""

    document: Document
    where: Where
    case: Case | None

    def problem(self, message: str, *inside: str | int) -> Problem:
        return self.document.problem((*self.where, *inside), message)


def load_cases(paths: Iterable[str | os.PathLike[str]], policy: Policy) -> Dataset:
    """Load case files (`.yaml`, `.yml`, `.jsonl`) and folders of them, and check them together.

    Raises `SettingsError` with every problem of every file: nothing is spent on a suite that has a
    mistake in it. Without any case that is a problem too.
    """
    problems: list[Problem] = []
    placed: list[_Placed] = []
    names: list[str] = []
    for path in paths:
        for file in _files(Path(path), problems):
            names.append(str(file))
            try:
                reader = _lines if file.suffix == ".jsonl" else _yaml
                placed += reader(file, problems)
            except SettingsError as error:
                problems += error.problems
    for item in placed:
        if item.case is not None:
            problems += _misfits(item, item.case, policy)
    problems += _together([item for item in placed if item.case is not None])
    if not placed and not problems:
        problems.append(Problem(None, None, None, "", f"no cases in {listed(names) or 'no files'}"))
    if problems:
        raise SettingsError(sorted(problems, key=lambda at: (at.file or "", at.line or 0)))
    return Dataset(tuple(item.case for item in placed if item.case), tuple(names))


def _files(path: Path, problems: list[Problem]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".jsonl"))
    if not found:
        problems.append(Problem(str(path), None, None, "", "no .yaml or .jsonl file in here"))
    return found


def _yaml(file: Path, problems: list[Problem]) -> list[_Placed]:
    document = read(file)
    whole, found, _ = parsed(CaseFile, document)
    problems += found
    if whole is None or found:
        return []
    placed: list[_Placed] = []
    for index, data in enumerate(whole.cases):
        where: Where = ("cases", index)
        inner = Document(document.file, data, _Below(document.marks, where))
        placed.append(_case(inner, problems))
    return placed


class _Below(Mapping[Where, Mark]):
    """The positions under one case of a file, without copying those of all the others."""

    def __init__(self, marks: Mapping[Where, Mark], where: Where) -> None:
        self._marks, self._where = marks, where

    def __getitem__(self, key: Where) -> Mark:
        return self._marks[(*self._where, *key)]

    def __iter__(self) -> Iterator[Where]:
        depth = len(self._where)
        return (key[depth:] for key in self._marks if key[:depth] == self._where)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _lines(file: Path, problems: list[Problem]) -> list[_Placed]:
    placed: list[_Placed] = []

    def wrong(number: int, message: str) -> None:
        problems.append(Problem(str(file), number, 1, "", message))

    try:
        with file.open("rb") as stream:
            number = 0
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    size = len(raw)
                    while not raw.endswith(b"\n") and (raw := stream.readline(1 << 20)):
                        size += len(raw)
                    wrong(number, f"this line has {size:,} bytes; allowed: {MAX_LINE_BYTES:,}")
                    continue
                if not raw.strip():
                    continue
                try:
                    data: object = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
                except UnicodeDecodeError:
                    wrong(number, "is not UTF-8 text; save the file as UTF-8")
                except (ValueError, RecursionError) as error:
                    wrong(number, f"is not a JSON object: {error}")
                else:
                    marks: dict[Where, Mark] = {(): Mark(None, (number, 1))}
                    placed.append(_case(Document(str(file), data, marks), problems))
    except OSError as error:
        raise SettingsError([Problem(str(file), None, None, "", f"{error.strerror}")]) from None
    return placed


def _once(pairs: list[tuple[str, Any]]) -> JSON:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _case(document: Document, problems: list[Problem]) -> _Placed:
    case, found, _ = parsed(Case, document)
    name = document.data.get("id") if is_object(document.data) else None
    for problem in found:
        # The id, where there is one, says more to the reader than `cases[17]`.
        path = f"{name}: {problem.path}" if isinstance(name, str) else problem.path
        problems.append(Problem(problem.file, problem.line, problem.column, path, problem.message))
    return _Placed(document, (), None if found else case)


# --- what the parts of a case demand of one another -----------------------------------------------


def _misfits(item: _Placed, case: Case, policy: Policy) -> Iterator[Problem]:
    for clause in case.labels:
        known = policy.clauses.get(clause)
        if known is None:
            close = nearest(clause, policy.clauses)
            yield item.problem(f"'{clause}' is no clause of {policy.ref}{close}", "labels", clause)
        elif case.stage not in known.stages:
            message = f"{clause} is not judged at the stage {case.stage}"
            yield item.problem(message, "labels", clause)
    domains = [use.id for use in policy.high_risk]
    for index, answered in enumerate(case.high_risk):
        if answered.domain not in domains:
            close = nearest(answered.domain, domains)
            message = f"'{answered.domain}' is no high-risk use of {policy.ref}{close}"
            yield item.problem(message, "high_risk", index)
    last = next(iter(case.messages[-1]))
    if case.stage == "output" and case.response is None:
        yield item.problem("stage output needs the answer under `response`", "stage")
    if case.stage == "output" and last != "user":
        yield item.problem("the last message must be the user's: `response` answers it", "messages")
    if case.stage == "input":
        for key in ("response", "high_risk", "discloses_ai", "disclosure"):
            if getattr(case, key):
                yield item.problem(f"`{key}` belongs to stage output", key)
    if case.overall in ("ok", "unknown") and case.violated:
        yield item.problem("a clause is violated, so `overall` can only be violated", "overall")
    if case.severity is None and case.violates:
        yield item.problem("a case that violates a clause needs its `severity`", "labels")
    if case.severity is not None and not case.violates:
        yield item.problem("`severity` is that of a violation; there is none here", "severity")


def _together(placed: Sequence[_Placed]) -> Iterator[Problem]:
    by_id: dict[str, _Placed] = {}
    pairs: defaultdict[str, list[_Placed]] = defaultdict(list)
    for item in placed:
        case = cast("Case", item.case)
        if (first := by_id.setdefault(case.id, item)) is not item:
            where = first.problem("")
            place = f"{where.file}:{where.line}" if where.line else where.file
            yield item.problem(f"the id '{case.id}' is taken by {place}", "id")
        if case.pair is not None:
            pairs[case.pair].append(item)
    for name, items in pairs.items():
        cases = [cast("Case", item.case) for item in items]
        first, one = items[0], cases[0]
        if len(items) != 2:
            has = "no twin" if len(items) == 1 else f"{len(items)} cases"
            yield first.problem(f"{one.id}: the pair '{name}' has {has}; a pair has two", "pair")
            continue
        other = cases[1]
        if one.split != other.split:
            message = f"{one.id} and {other.id} are a pair; they belong to one split"
            yield items[1].problem(message, "split")
        if one.stage != other.stage:
            message = f"{one.id} and {other.id} are a pair; they belong to one stage"
            yield items[1].problem(message, "stage")
        if one.benign == other.benign and (one.action, one.disclosure, one.high_risk) == (
            other.action,
            other.disclosure,
            other.high_risk,
        ):
            message = f"{one.id} and {other.id} are a pair, but nothing expected of them differs"
            yield items[1].problem(message, "pair")
