"""The audit log: one structured event per decision.

The level of an event is INFO if the decision allows, ERROR if it is `unavailable` (something needs
repair), else WARNING. In shadow mode it is at least WARNING. A request that its caller abandoned
before the verdict is WARNING too, since that is not an outage.

The logger wraps `logging.getLogger("magistrate")`, which has only a `NullHandler`: an application
that did not configure logging gets no output from it. Content is written only if `audit.content`
asks for it, and never for a clause with an unconditional floor: such content must not be retained.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from magistrate.core.decide import retainable
from magistrate.core.decision_record import Decision
from magistrate.settings import Settings
from magistrate.verdicts import NOT_AWAITED, Finding, Verdict

_stdlib = logging.getLogger("magistrate")
_stdlib.addHandler(logging.NullHandler())


def _as_line(_logger: object, _method: str, event: Any) -> str:
    line = json.dumps(event, ensure_ascii=False, default=str)
    # A lone surrogate, which no handler could write, is written as an escape.
    return line.encode("utf-8", "backslashreplace").decode()


# Wrapped with its own processors: an application's `structlog.configure` must not change audit
# lines, and these processors must not change the application's logs.
_log = structlog.wrap_logger(
    _stdlib,
    processors=[
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _as_line,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=False,
)


def kept(decision: Decision, settings: Settings) -> Decision:
    """Return the decision without quotes of judged content, unless `audit.content` allows them."""
    if not decision.findings or _may_quote(decision, settings):
        return decision
    return replace(decision, findings=_without_quotes(decision.findings))


def _may_quote(decision: Decision, settings: Settings) -> bool:
    content = settings.audit.content
    if content == "none" or (content == "flagged" and decision.action == "allow"):
        return False
    return retainable(settings, decision.findings)


def verdict_kept(verdict: Verdict, settings: Settings) -> Verdict:
    """Return the verdict as it may be cached: without quotes, unless `audit.content` allows them.

    As in `kept`, but `flagged` allows quotes here, since the next decision is not known yet.
    """
    allowed = settings.audit.content != "none"
    if not verdict.findings or (allowed and retainable(settings, verdict.findings)):
        return verdict
    return replace(verdict, findings=_without_quotes(verdict.findings))


def _without_quotes(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings without fields that quote or may paraphrase the judged content."""
    return tuple(replace(found, evidence=None, reason=None) for found in findings)


class Audit:
    """The sink that writes one event for each decision."""

    def record(self, decision: Decision, settings: Settings) -> None:
        """Write the event. Never raises, even if a handler does."""
        write(decision, settings)


def write(decision: Decision, settings: Settings) -> None:
    """Write the event of one decision. Never raises, even if a handler does."""
    mode = {"release": "shadow"} if settings.release == "shadow" else {}
    level = _level(decision, shadow=bool(mode))
    if not _stdlib.isEnabledFor(level):
        return  # the level is off, so the event need not be built
    record = decision.as_json(evidence=_may_quote(decision, settings))
    with suppress(Exception):  # a broken handler must not change what is delivered
        _log.log(level, "decision", **record, **mode)


def _level(decision: Decision, *, shadow: bool) -> int:
    left = any(failure.detail == NOT_AWAITED for failure in decision.judge_failures)
    if decision.action == "unavailable" and not left:
        return logging.ERROR
    return logging.INFO if decision.action == "allow" and not shadow else logging.WARNING


def warn(message: str, **fields: object) -> None:
    """Write one operational warning. Never raises, even if a handler does."""
    with suppress(Exception):
        _log.warning(message, **fields)


def note(message: str, **fields: object) -> None:
    """Write one operational event that needs no attention. Never raises, even if a handler does."""
    with suppress(Exception):
        _log.info(message, **fields)


def warn_developers(message: str) -> None:
    """Write a warning that developers must see.

    Without a logging handler it is printed to stderr, as logging itself would do without the
    `NullHandler`.
    """
    warn(message)
    ours = logging.getLogger("magistrate")
    listening = [*ours.handlers, *logging.getLogger().handlers]
    if all(isinstance(handler, logging.NullHandler) for handler in listening):
        print(f"magistrate: {message}", file=sys.stderr)
