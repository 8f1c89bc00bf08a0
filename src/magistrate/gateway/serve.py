"""Run the gateway as a server: one process or several, with limits on what callers may hold."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import ExitStack
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from magistrate.gateway.app import make_app
from magistrate.gateway.loader import load
from magistrate.gateway.metrics_server import serving_metrics

# Seconds for a request's headers to arrive, and for which an unused connection is kept.
HEADERS_S = 10.0
KEEP_ALIVE_S = 75
MOST_HEADER_BYTES = 64 * 1024
# Seconds that running requests have to end after SIGTERM.
DRAIN_S = 60

_ARGUMENTS = "MAGISTRATE_GATEWAY_ARGUMENTS"


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 that waits only so long for a request, and reads only so much of its headers.

    uvicorn has a limit for neither: a caller that sends one byte a minute keeps a connection.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._header_bytes = 0
        self._has_head = False
        self._timer: asyncio.TimerHandle | None = None
        self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_head = False
        self._wait()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            return  # a trailer: it would count as a header that a proxy in front did not see
        if name.lower() == b"upgrade":
            # uvicorn would leave the body unread, and take it for the next request.
            raise ValueError("connections are not upgraded here")
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._stop()
        self._header_bytes = 0
        self._has_head = True
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is None and not self._is_answering():
            self._wait()  # what came was no request: an empty line keeps no connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop()
        self._timer = self.loop.call_later(HEADERS_S, self._too_late)

    def _too_late(self) -> None:
        self._timer = None
        if self._is_answering():  # an earlier request of this connection
            self._wait()
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MOST_HEADER_BYTES:
            self.transport.close()


def serve(
    source: str | None,
    *,
    upstream: str | None,
    host: str,
    port: int,
    workers: int,
    metrics_port: int | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then running requests have a minute to end.

    `metrics_port`: where metrics are served, for all processes together. Raises, before anything is
    served, `SettingsError` or `ReviewError` if an app cannot be served, and `OSError` if a port
    cannot be used.
    """
    with ExitStack() as stack:
        if metrics_port is not None:
            several = workers > 1
            stack.enter_context(serving_metrics(host, metrics_port, several=several))
        _serve(source, upstream, host, port, workers, counted=metrics_port is not None)


def _serve(
    source: str | None, upstream: str | None, host: str, port: int, workers: int, *, counted: bool
) -> None:
    options: dict[str, Any] = {
        "http": PatientProtocol,
        "lifespan": "on",
        "ws": "none",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": DRAIN_S,
    }
    application = make_app(load(source, upstream=upstream), counted=counted and workers == 1)
    # Bound here: uvicorn would end the process with an exit code of its own.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener:
        # uvicorn raises the signal again when it is done; by default that would kill the process.
        signal.signal(signal.SIGTERM, _done)
        if workers == 1:
            uvicorn.Server(uvicorn.Config(application, **options)).run(sockets=[listener])
            return
        os.environ[_ARGUMENTS] = json.dumps([source, upstream, counted])
        config = uvicorn.Config(f"{__name__}:worker", factory=True, workers=workers, **options)
        Multiprocess(config, [listener]).run()


def _done(number: int, frame: object) -> None:
    pass


def worker() -> Starlette:
    """Return the application of one worker process."""
    source, upstream, counted = json.loads(os.environ[_ARGUMENTS])
    return make_app(load(source, upstream=upstream), counted=counted)
