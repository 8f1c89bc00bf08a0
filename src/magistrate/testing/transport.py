"""Delivery inside the process: httpx2 transports that carry out a planned answer.

A body is handed over chunk by chunk and never ahead of time. Waits end when their time is up, when
the client's read timeout is (as on a socket, `httpx2.ReadTimeout`), and when the response is closed
or its socket shut down from another thread (`httpx2.ReadError`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx2

from magistrate.testing.recorded import Recorded, Service
from magistrate.testing.wire import Answer, Pause, Send, Tear

POLL_S = 0.02  # how soon an async body sees that another thread shut its socket down


class SimulatorTransport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Serves a client of either kind from a simulator in the same process."""

    def __init__(self, simulator: Service) -> None:
        self._simulator = simulator

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        delivery = self._delivery(request, request.read())
        try:
            delivery.wait(delivery.answer.head_delay_s)
            return delivery.head(_SyncBody(delivery))
        except BaseException:
            delivery.end(closed_early=True)
            raise

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        delivery = self._delivery(request, await request.aread())
        try:
            await delivery.wait_async(delivery.answer.head_delay_s)
            return delivery.head(_AsyncBody(delivery))
        except BaseException:  # also when the caller's task is cancelled
            delivery.end(closed_early=True)
            raise

    def _delivery(self, request: httpx2.Request, content: bytes) -> _Delivery:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.raw_path.decode("ascii")
        recorded, answer = self._simulator.receive(request.method, path, headers, content)
        timeout: dict[str, float | None] = request.extensions.get("timeout", {})
        return _Delivery(self._simulator, recorded, answer, timeout.get("read"), request)


class _Delivery:
    """One answer on its way: what both kinds of body share."""

    def __init__(
        self,
        simulator: Service,
        recorded: Recorded,
        answer: Answer,
        read_timeout: float | None,
        request: httpx2.Request,
    ) -> None:
        self.answer = answer
        self.shut = threading.Event()
        self._simulator = simulator
        self._recorded = recorded
        self._read_timeout = read_timeout
        self._request = request
        self._unsent = sum(isinstance(step, Send | Tear) for step in answer.steps)

    def head(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> httpx2.Response:
        if self.answer.status is None:
            self.end(closed_early=False)
            raise httpx2.RemoteProtocolError(
                "Server disconnected without sending a response.", request=self._request
            )
        extensions: dict[str, Any] = {
            "http_version": b"HTTP/1.1",
            "network_stream": _NetworkStream(self.shut),
        }
        return httpx2.Response(
            self.answer.status,
            headers=list(self.answer.headers),
            stream=stream,
            extensions=extensions,
            request=self._request,
        )

    def wait(self, seconds: float) -> None:
        patience = self._patience(seconds)
        if patience > 0:
            self.shut.wait(patience)
        self._check(seconds)

    async def wait_async(self, seconds: float) -> None:
        until = time.monotonic() + self._patience(seconds)
        # Other threads set `shut`, which rules out an event of the loop's own.
        while not self.shut.is_set() and (left := until - time.monotonic()) > 0:  # noqa: ASYNC110
            await anyio.sleep(min(left, POLL_S))
        self._check(seconds)

    def pass_on(self, step: Send | Tear) -> bytes:
        self._check(0)
        self._unsent -= 1
        if isinstance(step, Send):
            return step.data
        self.end(closed_early=False)
        raise httpx2.RemoteProtocolError(
            "peer closed connection without sending complete message body"
            " (incomplete chunked read)",
            request=self._request,
        )

    def end(self, *, closed_early: bool | None = None) -> None:
        """Note the end; by default it is early if something was left to send."""
        early = self._unsent > 0 if closed_early is None else closed_early
        self._simulator.delivered(self._recorded, closed_early=early)

    def _patience(self, seconds: float) -> float:
        return seconds if self._read_timeout is None else min(seconds, self._read_timeout)

    def _check(self, waited: float) -> None:
        if self.shut.is_set():
            raise httpx2.ReadError("The connection was shut down.", request=self._request)
        if self._read_timeout is not None and waited > self._read_timeout:
            raise httpx2.ReadTimeout("The read operation timed out", request=self._request)


class _SyncBody(httpx2.SyncByteStream):
    def __init__(self, delivery: _Delivery) -> None:
        self._delivery = delivery

    def __iter__(self) -> Iterator[bytes]:
        for step in self._delivery.answer.steps:
            if isinstance(step, Pause):
                self._delivery.wait(step.seconds)
            else:
                yield self._delivery.pass_on(step)
        self._delivery.end()

    def close(self) -> None:
        self._delivery.end()
        self._delivery.shut.set()


class _AsyncBody(httpx2.AsyncByteStream):
    def __init__(self, delivery: _Delivery) -> None:
        self._delivery = delivery

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._delivery.answer.steps:
            if isinstance(step, Pause):
                await self._delivery.wait_async(step.seconds)
            else:
                yield self._delivery.pass_on(step)
        self._delivery.end()

    async def aclose(self) -> None:
        self._delivery.end()
        self._delivery.shut.set()


class _NetworkStream:
    """Takes the place of httpx2's connection, for callers that must wake a blocked reader."""

    def __init__(self, shut: threading.Event) -> None:
        self._socket = _Socket(shut)

    def get_extra_info(self, info: str) -> Any:
        return self._socket if info == "socket" else None


class _Socket:
    def __init__(self, shut: threading.Event) -> None:
        self._shut = shut

    def shutdown(self, how: int) -> None:
        self._shut.set()
