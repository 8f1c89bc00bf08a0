"""The parts of the settings file, with their defaults and allowed values.

Constraints between the parts are in `checks.py`; the whole settings are in `model.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from magistrate.config.schema import Listed, Strict, Text, must_be
from magistrate.verdicts import Action, Severity
from magistrate.wire.routes import SurfaceName

DEFAULT_JUDGE_MODEL = "claude-haiku-5-5"
DEFAULT_CHAT_DISCLOSURE = "You are talking to an AI assistant."
DEFAULT_HIGH_RISK_DISCLOSURE = "AI helped to prepare this answer."
DEFAULT_BLOCK_TEXT = "This request or its answer is not permitted here, so it was stopped."
DEFAULT_HOLD_TEXT = (
    "A qualified person will look at this answer before it is released. It is not available yet."
)


def _written(value: object) -> object:
    if value is None:
        raise must_be("a value for this key; to use its default, remove the key")
    return value


def _at_most_warn(value: object) -> object:
    if value == "allow":
        raise must_be("warn or block; unread content never passes without a warning")
    return value


def _output_blocks(value: object) -> object:
    if value in ("allow", "warn", "hold"):
        raise must_be("block; an answer that was not judged is never delivered")
    return value


def _failure_mapping(value: object) -> object:
    if value == "block":
        return {}  # the defaults
    if isinstance(value, Mapping | OnFailure):
        return cast("object", value)
    raise must_be("the word block, or a mapping {input: allow|warn|block, output: block}")


def _store_url(value: str) -> str:
    if re.fullmatch(r"postgresql://[^/\s]*/[^\s]+", value):
        return value
    path = value.removeprefix("sqlite:///")
    memory = not path or path.startswith((":", "file:")) or "?" in path
    if path == value or memory or not path.isprintable() or path.endswith("/"):
        raise must_be(
            "sqlite:/// and the path of a file, such as sqlite:///var/reviews.db, or postgresql://HOST/DATABASE"
        )
    return value


def _state(value: str) -> str:
    if value != "memory" and not re.fullmatch(r"(rediss?|unix)://\S+", value):
        raise must_be("memory, or the address of a Redis server such as redis://127.0.0.1:6379/0")
    return value


StateUrl = Annotated[str, AfterValidator(_state)]
Threshold = Literal[
    "unlikely", "possible", "likely", "certain"
]  # "none" is the grade of clean text
Written = BeforeValidator(_written)
_Warned = Annotated[Literal["allow", "warn", "block"], BeforeValidator(_at_most_warn)]


class OnFailure(Strict):
    """The action if no judge is available: for a request, and (always block) for an answer."""

    input: Literal["allow", "warn", "block"] = "block"
    output: Annotated[Literal["block"], BeforeValidator(_output_blocks)] = "block"


class ScreenSettings(Strict):
    """The cascade's first pass. If `model` or `effort` is None, the judgment's are used.

    `skip_clear: local` asks no model about content in which the local judge finds nothing at all.
    """

    model: Text | None = None
    effort: Literal["low", "medium", "high"] | None = None
    skip_clear: Literal["never", "local"] = "never"


class JudgeSettings(Strict):
    """The judge and its limits. `model` None means `DEFAULT_JUDGE_MODEL`.

    `backend: local`: the embedded judge, for development and offline tests. `strategy`: `cascade`
    is a cheap first pass, then one call for each suspected group of rules; `bundled` is one call
    with all rules; `focused` is one call for every group. `second_model` judges what `model`
    refuses to judge. `explain` asks for reasons, which take time: for evals, not for live traffic.
    """

    backend: Literal["claude", "local"] = "claude"
    model: Text | None = None
    strategy: Literal["cascade", "bundled", "focused"] = "cascade"
    screen: ScreenSettings = ScreenSettings()
    second_model: Text | None = None
    explain: bool = False
    deadline_s: Annotated[float, Field(gt=0, le=600)] = 8.0
    on_failure: Annotated[OnFailure, BeforeValidator(_failure_mapping)] = OnFailure()
    effort: Literal["low", "medium", "high"] | None = "low"
    max_tokens: Annotated[int, Field(ge=256, le=1_000_000)] = 4096
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64


class ActionRow(Strict):
    """A row of `actions`. Fields it does not set come from the next wider row."""

    input: Annotated[Action | None, Written] = None
    output: Annotated[Action | None, Written] = None
    from_grade: Annotated[Threshold | None, Written] = None
    from_severity: Annotated[Severity | None, Written] = None


class DisclosureTexts(Strict):
    """The sentences that tell people they use an AI."""

    chat: Text = DEFAULT_CHAT_DISCLOSURE
    high_risk: Text = DEFAULT_HIGH_RISK_DISCLOSURE


class Texts(Strict):
    """The texts that the caller reads in a refusal, and while an answer waits for review."""

    block: Text = DEFAULT_BLOCK_TEXT
    hold: Text = DEFAULT_HOLD_TEXT


class Reviewer(Strict):
    """A reviewer, and the high-risk uses or sections (by id) whose answers they may release."""

    name: Text
    qualified_in: Annotated[Listed[Text], Field(min_length=1)]


class ReviewSettings(Strict):
    """Where held answers are stored, for how many days, and who may release them."""

    store: Annotated[str, AfterValidator(_store_url)]
    retain_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    reviewers: Annotated[Listed[Reviewer], Field(min_length=1)]


class StreamingSettings(Strict):
    """How a stream is released, as asked. `Settings.release` is the mode in effect."""

    release: Literal["window", "message", "shadow"] = "window"


class BatchSettings(Strict):
    """The effect of a violating entry on its batch: refuse the batch, or omit the entry."""

    on_block: Literal["refuse", "omit"] = "refuse"


class AuditSettings(Strict):
    """Whether audit events quote content. Child-safety content is never retained."""

    content: Literal["none", "flagged", "all"] = "none"


class OnUninspected(Strict):
    """The action for content that cannot be read, by reason.

    `encrypted` (redacted thinking) is opaque to everyone and may pass. `remote_tools` (MCP servers
    named in a request) may pass too: calls of such tools and their results are judged in the
    answer. Nothing else passes without at least a warning. `unknown_field`: something in a place
    that this version does not know, which its text alone does not show. `surfaces`: parts of the
    API that this version cannot judge at all, each let through by name. `endpoint`: every call to
    an unknown endpoint.
    """

    file: _Warned = "block"
    media: _Warned = "block"
    encrypted: Literal["allow", "warn", "block"] = "allow"
    thread: _Warned = "block"  # a conversation stored at the provider, not seen by this process
    unknown_block: _Warned = "block"
    remote_tools: Literal["allow", "warn", "block"] = "allow"
    unknown_event: _Warned = "block"
    unknown_field: _Warned = "block"
    surfaces: dict[SurfaceName, _Warned] = Field(default_factory=dict[SurfaceName, _Warned])
    endpoint: _Warned = "block"
