"""What can go wrong with a reply: faults of the connection, of a proxy, and of time."""

from __future__ import annotations

from magistrate.testing.replies import ERROR_TYPES, Delayed, Faulty, RawReply, Reply, error


def not_json() -> RawReply:
    """Return a 200 that promises JSON, or events, and holds neither."""
    return RawReply(
        200,
        "application/json",
        b"upstream says hello",
        sse=b"event: message_start\ndata: upstream says hello\n\n",
    )


def html_error(status: int = 502) -> RawReply:
    """Return the error page of a proxy between the client and the API."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n"
    return RawReply(status, "text/html", page.encode())


def cut(reply: Reply, *, after_events: int = 3) -> Faulty:
    """End the stream early but cleanly: no `message_stop`, and no error from the connection."""
    return Faulty(reply, "cut", after_events)


def drop(reply: Reply, *, after_events: int = 3) -> Faulty:
    """Tear the connection down in the middle of the body."""
    return Faulty(reply, "drop", after_events)


def error_event(
    reply: Reply,
    *,
    after_events: int = 3,
    type: str = "overloaded_error",
    message: str | None = None,
) -> Faulty:
    """Break off with an `event: error` in the stream, as the API does after the head is sent."""
    status = next((status for status, known in ERROR_TYPES.items() if known == type), 500)
    return Faulty(reply, "error_event", after_events, error=error(status, type, message))


def stall(reply: Reply, *, after_events: int = 3, seconds: float) -> Faulty:
    """Fall silent for `seconds` in the middle of the stream, then go on."""
    return Faulty(reply, "stall", after_events, seconds=seconds)


def delayed(reply: Reply, seconds: float) -> Delayed:
    """Answer, but `seconds` late."""
    return Delayed(reply, seconds)


def hang(seconds: float) -> Delayed:
    """Take the request, say nothing for `seconds`, then close the connection unanswered."""
    return Delayed(None, seconds)
