"""The upstream call of a synchronous exchange, on the caller's thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
from anthropic import APIResponse, CallNext

from magistrate.core.decision_record import Upstream
from magistrate.core.events import Chunk, End, Failed, Head
from magistrate.sdk.model_client import head_of
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import events_of, received


class SyncUpstream:
    """The upstream call, on the caller's thread; judging threads may interrupt it."""

    def __init__(self, moderated: ModeratedRequest, call_next: CallNext) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._call_next = call_next
        self.request = moderated.request
        self.response: APIResponse[Any] | None = None
        self.over = False  # nothing more can be read
        self._sse = False
        self._chunks: Iterator[bytes] | None = None
        self._complete = False
        self._guard = threading.Lock()  # held to change, or act on, `_reading`
        self._reading = False
        self._doomed = False

    def read(self) -> Head | Chunk | End | Failed:
        """Send the request and return the head; later calls return the next chunk of the body."""
        try:
            if self.response is None:
                found = self._call_next(self.request)
                self.response = received(found, self._moderated.request, APIResponse)
                head = head_of(self.response.http_response, stream=self._session.stream)
                self._sse = head.sse
                return head
            if self._chunks is None:
                self._chunks = _body(self.response, sse=self._sse, lines=self._session.lines)
            with self._guard:
                if self._doomed:
                    raise httpx2.ReadError("given up after a verdict")
                self._reading = True
            try:
                data = next(self._chunks, None)
            finally:
                with self._guard:
                    self._reading = False
        except Exception as error:
            self.over = True
            return Failed(error)
        if data is None:
            self.over = self._complete = True
            return End()
        return Chunk(data)

    def interrupt(self) -> None:
        """Wake the thread that is reading a body that no longer matters.

        A connection may be back in the pool an instant before `_reading` is reset. Shutting it down
        then makes another request retry, but never causes a wrong answer.
        """
        with self._guard:
            self._doomed = True
            if not self._reading or self.response is None:
                return
            extensions = self.response.http_response.extensions
            if extensions.get("http_version") == b"HTTP/2":
                return  # the socket belongs to other requests too
            stream = extensions.get("network_stream")
            sock = stream.get_extra_info("socket") if stream is not None else None
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def cancel(self) -> Upstream:
        """Cancel the call and return how far it was."""
        if self.response is None:
            # A call that raised was sent; one that was never started was not.
            return "cancelled" if self.over else "not_sent"
        if self._complete:
            return "completed"
        self.response.close()
        return "cancelled"

    def hand_over(self) -> APIResponse[Any]:
        """Give up the response, unread and open, to the caller."""
        assert self.response is not None
        response, self.response = self.response, None
        return response

    def close(self) -> None:
        """Close the response if it was not read to its end."""
        if self.response is not None and not self.response.is_closed:
            self.response.close()


def _body(response: APIResponse[Any], *, sse: bool, lines: bool) -> Iterator[bytes]:
    if sse:
        yield from events_of(response)
    elif lines:
        yield from response.http_response.iter_bytes()
    else:  # usable only as a whole
        yield response.http_response.read()
