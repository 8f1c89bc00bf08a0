"""Choose the flow of a request, or stop it. By the path that the server will see."""

from __future__ import annotations

from dataclasses import dataclass

from magistrate.core.batch_results import moderate_results
from magistrate.core.batches import Entry, entries_of, moderate_batch
from magistrate.core.flow import moderate
from magistrate.core.message_threads import begins_thread, moderate_thread
from magistrate.engine.engine import Engine
from magistrate.engine.session import Session
from magistrate.observe import audit
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Uninspected
from magistrate.wire.routes import SURFACES, batch_id, route, unjudged_surface


@dataclass(frozen=True, slots=True)
class Stopped:
    """A request that is not sent. `reason` is written for the caller."""

    reason: str


_UNREADABLE = Stopped("magistrate cannot read this request: send its body as JSON or as bytes")


def open_session(
    engine: Engine,
    method: str,
    url: str,
    body: JSON | None,
    *,
    stream: bool = False,
    lines: bool = False,
    raises: bool = True,
) -> Session | Stopped | None:
    """Return the session of a request, why it is stopped, or None for one without content.

    `body`: None if it is not a JSON object. `stream`: the client asks for a stream, whatever the
    body says. `lines`: the client reads the response line by line, as it does a batch's results.
    `raises`: whether the edge can raise at its caller.
    """
    match route(method, url):
        case "free":
            # A batch names the URL of its results, and that may be any URL.
            return _results(engine, url, raises) if lines else None
        case "message":
            return _UNREADABLE if body is None else _message(engine, body, stream, raises)
        case "batch":
            return _UNREADABLE if body is None else _batch(engine, body, raises)
        case "results":
            return _results(engine, url, raises)
        case "surface" | "uninspected":
            return _unjudged(engine, method, url)


def _message(engine: Engine, body: JSON, stream: bool, raises: bool) -> Session:
    session = Session(engine, stream=stream or body.get("stream") is True, raises=raises)
    if body.get("thread"):
        session.flow = moderate_thread(body, lambda whole: session.exchange(whole, threaded=True))
    else:
        session.flow = moderate(session.exchange(body))
    return session


def _batch(engine: Engine, body: JSON, raises: bool) -> Session:
    session = Session(engine, raises=raises)
    entries = [Entry(name, session.exchange(params)) for name, params in entries_of(body)]
    for entry in entries:
        entry.exchange.in_batch = True
        if not begins_thread(entry.exchange.body.get("thread")):
            entry.exchange.input.note([Uninspected("thread", "thread")])
    session.flow = moderate_batch(body, entries, engine.settings)
    return session


def _results(engine: Engine, url: str, raises: bool) -> Session:
    session = Session(engine, lines=True, raises=raises)
    session.flow = moderate_results(batch_id(url), session.exchange)
    return session


def _unjudged(engine: Engine, method: str, url: str) -> Stopped | None:
    """Stop a request that no judge can read, unless the settings let it pass with a warning."""
    allowed = engine.settings.on_uninspected
    call = f"{method.upper()} {url}"
    if (surface := unjudged_surface(url)) is not None:
        action = allowed.surfaces.get(surface, "block")
        words = f"magistrate does not moderate {SURFACES[surface]} yet, so {call} was not sent"
        key = f"surfaces: {{{surface}: warn}}"
    else:
        action = allowed.endpoint
        words, key = f"magistrate cannot inspect {call}, so it was not sent", "endpoint: warn"
    engine.counters.count_uninspected("endpoint")
    if action == "block":
        return Stopped(f"{words}; `on_uninspected: {{{key}}}` lets it pass unjudged")
    audit.warn("uninspected request", method=method, url=url, reason="endpoint")
    return None
