"""The audit: one structured event per decision, and every field it may have.

An event is an ERROR where the action is `unavailable`, since something has to be repaired; INFO
where it is `allow`, outside of shadow mode; and else a WARNING. So is a request whose caller left
before the verdict: its action is `unavailable` too, but it is no outage.

The logger wraps `logging.getLogger("magistrate")`, which has only a `NullHandler`: an application
that configured no logging finds nothing of ours on its streams. Content is written only where
`audit.content` asks for it, and never for a clause whose floor is unconditional: what such a clause
is about must not be retained at all.
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

from magistrate.core.decide import Decision, retainable
from magistrate.settings import Settings
from magistrate.verdicts import NOT_AWAITED, Finding, Verdict

_stdlib = logging.getLogger("magistrate")
_stdlib.addHandler(logging.NullHandler())


def _as_line(_logger: object, _method: str, event: Any) -> str:
    line = json.dumps(event, ensure_ascii=False, default=str)
    # A lone surrogate, which no handler could write, stays the escape it came as.
    return line.encode("utf-8", "backslashreplace").decode()


# Wrapped with processors of its own: an application's `structlog.configure` must not change what
# an audit line is, and ours must not change the application's.
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
    """What is kept of a decision: quotes of judged content only where `audit.content` allows it."""
    if not decision.findings or _may_quote(decision, settings):
        return decision
    return replace(decision, findings=_without_quotes(decision.findings))


def _may_quote(decision: Decision, settings: Settings) -> bool:
    content = settings.audit.content
    if content == "none" or (content == "flagged" and decision.action == "allow"):
        return False
    return retainable(settings, decision.findings)


def verdict_kept(verdict: Verdict, settings: Settings) -> Verdict:
    """What is kept of a verdict until its subject is judged again. By the same rule, but that
    nobody knows yet what its next decision will be."""
    allowed = settings.audit.content != "none"
    if not verdict.findings or (allowed and retainable(settings, verdict.findings)):
        return verdict
    return replace(verdict, findings=_without_quotes(verdict.findings))


def _without_quotes(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings without what quotes, or may paraphrase, the judged content."""
    return tuple(replace(found, evidence=None, reason=None) for found in findings)


def write(decision: Decision, settings: Settings) -> None:
    """Write the event for one decision. Never raises for what a handler does with it."""
    mode = {"release": "shadow"} if settings.release == "shadow" else {}
    level = _level(decision, shadow=bool(mode))
    if not _stdlib.isEnabledFor(level):
        return  # nobody listens, so there is no need to say it
    record = decision.as_json(evidence=_may_quote(decision, settings))
    with suppress(Exception):  # a broken handler must neither open nor close the gate
        _log.log(level, "decision", **record, **mode)


def _level(decision: Decision, *, shadow: bool) -> int:
    left = any(failure.detail == NOT_AWAITED for failure in decision.judge_failures)
    if decision.action == "unavailable" and not left:
        return logging.ERROR
    return logging.INFO if decision.action == "allow" and not shadow else logging.WARNING


def warn(message: str, **fields: object) -> None:
    """One operational warning."""
    _log.warning(message, **fields)


def warn_developers(message: str) -> None:
    """A warning that must be seen. Where nobody listens to logging, it goes to stderr, as logging
    itself would do without our `NullHandler`."""
    warn(message)
    ours = logging.getLogger("magistrate")
    listening = [*ours.handlers, *logging.getLogger().handlers]
    if all(isinstance(handler, logging.NullHandler) for handler in listening):
        print(f"magistrate: {message}", file=sys.stderr)
