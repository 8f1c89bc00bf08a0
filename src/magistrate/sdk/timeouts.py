"""The caller's own timeout, which bounds the judges too.

The SDK tells a middleware the timeout of a request, but not that of its client, which ours note.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2
from anthropic import APIRequest, NotGiven

_of_client: ContextVar[object] = ContextVar("magistrate_client_timeout", default=None)


@contextmanager
def client_timeout(timeout: object) -> Generator[None, None, None]:
    """Note the timeout of the client that makes a request in this context."""
    token = _of_client.set(timeout)
    try:
        yield
    finally:
        _of_client.reset(token)


def within(request: APIRequest, deadline_s: float) -> float:
    """Return how long a judge of this request may take, in seconds: at most its timeout.

    Of a timeout in parts, the one for reading counts, as it bounds the wait for an answer.
    """
    timeout: object = request.options.timeout
    if isinstance(timeout, NotGiven):
        timeout = _of_client.get()
    if isinstance(timeout, httpx2.Timeout):
        timeout = timeout.read
    return min(deadline_s, timeout) if isinstance(timeout, int | float) else deadline_s
