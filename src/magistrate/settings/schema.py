"""The parts of the app team's file, each with its defaults and what may stand in it.

What one part demands of another is in `checks.py`; the whole is in `model.py`.
"""

from __future__ import annotations

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
        raise must_be("something after the key, or no such key at all")
    return value


def _at_most_warn(value: object) -> object:
    if value == "allow":
        raise must_be("warn or block; what nobody could read never passes in silence")
    return value


def _output_blocks(value: object) -> object:
    if value in ("allow", "warn", "hold"):
        raise must_be("block; an answer that was not judged is never given out")
    return value


def _failure_mapping(value: object) -> object:
    if value == "block":
        return {}  # the defaults
    if isinstance(value, Mapping | OnFailure):
        return cast("object", value)
    raise must_be("the word block, or a mapping {input: allow|warn|block, output: block}")


def _store_url(value: str) -> str:
    path = value.removeprefix("sqlite:///")
    memory = not path or path.startswith((":", "file:")) or "?" in path
    if path == value or memory or not path.isprintable() or path.endswith("/"):
        raise must_be("sqlite:/// and the path of a file, such as sqlite:///var/reviews.db")
    return value


Threshold = Literal["unlikely", "possible", "likely", "certain"]  # "none" is what clean text has
Written = BeforeValidator(_written)
_Warned = Annotated[Literal["allow", "warn", "block"], BeforeValidator(_at_most_warn)]


class OnFailure(Strict):
    """What happens when no judge answers: to a request, and (always the same) to an answer."""

    input: Literal["allow", "warn", "block"] = "block"
    output: Annotated[Literal["block"], BeforeValidator(_output_blocks)] = "block"


class ScreenSettings(Strict):
    """The cascade's first pass. `model` and `effort` None are those of the judgment.

    `skip_clear: local` asks nobody about what the local judge sees nothing in at all.
    """

    model: Text | None = None
    effort: Literal["low", "medium", "high"] | None = None
    skip_clear: Literal["never", "local"] = "never"


class JudgeSettings(Strict):
    """Who judges and how long it may take. `model` None is `DEFAULT_JUDGE_MODEL`.

    `backend: local` is the embedded judge, for development and offline tests. `strategy`: a cheap
    first pass and then one call for each suspected group of rules; one call with all rules; or one
    call for every group. `second_model` is asked what `model` refuses to judge. `explain` asks for
    reasons, which take time: for evals, not for the hot path.
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
    """A row of `actions`: what it does not say comes from the next wider row."""

    input: Annotated[Action | None, Written] = None
    output: Annotated[Action | None, Written] = None
    from_grade: Annotated[Threshold | None, Written] = None
    from_severity: Annotated[Severity | None, Written] = None


class DisclosureTexts(Strict):
    """The sentences that tell people about the AI."""

    chat: Text = DEFAULT_CHAT_DISCLOSURE
    high_risk: Text = DEFAULT_HIGH_RISK_DISCLOSURE


class Texts(Strict):
    """What the caller reads in a refusal, and while an answer waits for review."""

    block: Text = DEFAULT_BLOCK_TEXT
    hold: Text = DEFAULT_HOLD_TEXT


class Reviewer(Strict):
    """A person and what they may release: ids of high-risk uses or of sections."""

    name: Text
    qualified_in: Annotated[Listed[Text], Field(min_length=1)]


class ReviewSettings(Strict):
    """Where held answers wait, for how long, and who may release them."""

    store: Annotated[str, AfterValidator(_store_url)]
    retain_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    reviewers: Annotated[Listed[Reviewer], Field(min_length=1)]


class StreamingSettings(Strict):
    """How a stream is released. `Settings.release` is what is in force."""

    release: Literal["window", "message", "shadow"] = "window"


class BatchSettings(Strict):
    """What a violating entry does to its batch: the whole is refused, or that entry left out."""

    on_block: Literal["refuse", "omit"] = "refuse"


class AuditSettings(Strict):
    """Whether audit events quote content. Child-safety content is never retained."""

    content: Literal["none", "flagged", "all"] = "none"


class OnUninspected(Strict):
    """What happens to what nobody can read, by reason. `encrypted` (redacted thinking) is opaque
    to everyone and may pass; nothing else passes without at least a warning.

    `surfaces` are calls of the API that this version cannot judge at all, let through one by one;
    `endpoint` is every call that nobody has heard of.
    """

    file: _Warned = "block"
    media: _Warned = "block"
    encrypted: Literal["allow", "warn", "block"] = "allow"
    thread: _Warned = "block"  # a conversation the provider holds and this process has not seen
    unknown_block: _Warned = "block"
    unknown_event: _Warned = "block"
    surfaces: dict[SurfaceName, _Warned] = Field(default_factory=dict[SurfaceName, _Warned])
    endpoint: _Warned = "block"
