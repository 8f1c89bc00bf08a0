"""A moderated SDK request: what it asks for, and the requests that are derived from it."""

from __future__ import annotations

from typing import get_origin

import anthropic
from anthropic import APIRequest

from magistrate.core.effects import RaiseDecision
from magistrate.engine.session import Session
from magistrate.sdk.errors import ModerationError, error_for
from magistrate.wire.messages import JSON, is_object, parsed


class ModeratedRequest:
    """One HTTP attempt of a client, with its session."""

    def __init__(self, session: Session, request: APIRequest) -> None:
        self.session = session
        self.request = request
        self._not_sent: Exception | None = None

    def forwarded(self, body: JSON | None) -> APIRequest:
        """Return the request to send upstream: the caller's own if nothing changed."""
        if body is None:
            return self.request
        changed = self.request.copy(body=body)
        changed.options.content = None
        return changed

    def to_judge(self, body: JSON, timeout_s: float) -> APIRequest:
        """Return a judge's request, without headers, betas or parsers of the caller's request.

        Betas can also be set for a whole client, so they are removed explicitly. The client's other
        default headers are kept, because a proxy may need them.
        """
        options = type(self.request.options).construct(
            method="post",
            url=self._messages_url,
            json_data=body,
            timeout=timeout_s,
            headers={"anthropic-beta": anthropic.omit},
        )
        return APIRequest(options=options, cast_to=anthropic.types.Message, stream=False)

    @property
    def _messages_url(self) -> str:
        """Return where this client sends messages: the URL of this request, if it sends one."""
        path = self.request.url.split("?", 1)[0].rstrip("/")
        return self.request.url if path.endswith("messages") else "/v1/messages"

    def note_not_sent(self, error: Exception) -> None:
        """Keep why a judge's request could not be sent: no credentials, or a missing extra.

        The application's own request would fail in the same way, so that error is raised for it.
        """
        if not isinstance(error, anthropic.APIError | anthropic.RetryableError | ModerationError):
            self._not_sent = error

    def error(self, effect: RaiseDecision) -> Exception:
        """Return the exception that ends the request."""
        if effect.kind == "unavailable" and not effect.detail and self._not_sent is not None:
            return self._not_sent
        return error_for(effect)


def body_of(request: APIRequest) -> JSON | None:
    """Return the JSON object that a request carries, also as bytes; None if it is not all of it."""
    if request.options.files:
        return None  # sent as a form, whose other parts nobody looks at
    body = request.json
    if is_object(body):
        return body
    raw = request.options.content
    if isinstance(raw, bytes | bytearray):
        try:
            found = parsed(bytes(raw), unique=True)
        except ValueError:
            return None
        return found if is_object(found) else None
    return None


def reads_lines(request: APIRequest) -> bool:
    """Return whether the SDK reads the response line by line, as it does a batch's results."""
    kind = get_origin(request.cast_to) or request.cast_to
    return getattr(kind, "__name__", "") in ("JSONLDecoder", "AsyncJSONLDecoder")
