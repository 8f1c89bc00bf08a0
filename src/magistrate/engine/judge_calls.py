"""How long an edge waits for a judge, and when it calls one on its own thread."""

from __future__ import annotations

from magistrate.engine.session import Session
from magistrate.judging.base import AskModel
from magistrate.verdicts import Outcome, broken
from magistrate.wire.parts import Subject

# A judge keeps its own deadline. If it does not, the edge stops waiting this many seconds later.
GRACE_S = 0.25
# Most characters of a subject for which a judge that never waits is called at once. The local judge
# takes about 4 ms for them; a longer call would delay other tasks of the event loop noticeably.
_SHORT = 2_000


def judged_at_once(session: Session, subject: Subject) -> bool:
    """Return whether to judge at once on this thread: the judge never waits, the text is short."""
    size = sum(len(part.text) for part in subject.parts)
    return session.judge.waits == "never" and size <= _SHORT


def judge_here(session: Session, subject: Subject, ask: AskModel, deadline_s: float) -> Outcome:
    """Judge on this thread. An exception of the judge counts as a failure."""
    try:
        return session.engine.judge.judge(subject, session.settings, ask, deadline_s)
    except Exception as error:
        return broken(session.judge, type(error).__name__)
