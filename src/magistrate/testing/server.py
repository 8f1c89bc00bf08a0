"""Delivery over a real socket: a planned answer on a port of 127.0.0.1.

HTTP/1.1 with keep-alive and chunked bodies, one thread a connection. Whoever leaves `serving` finds
no socket and no thread left behind, also where an answer was still being sent.
"""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from magistrate.testing.recorded import Service
from magistrate.testing.wire import Answer, Pause, Send, Tear

JOIN_S = 5.0


@contextmanager
def serving(simulator: Service) -> Generator[str]:
    """Serve `simulator` until the block is left; gives the base URL."""
    server = _Server(simulator)
    listener = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="simulator", daemon=True
    )
    listener.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        listener.join(JOIN_S)
        server.hang_up()
        server.server_close()


class _ClientGone(Exception):
    """The client closed the connection before the answer was complete."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def __init__(self, simulator: Service) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.simulator = simulator
        self.closing = False
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._lock:  # noted before it starts: `hang_up` must find it
            self._open[request] = thread
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def hang_up(self) -> None:
        """Shut all connections down, which wakes whatever waits on them, and join their threads."""
        self.closing = True
        with self._lock:
            connections = dict(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + JOIN_S
        for thread in connections.values():
            thread.join(max(0.0, until - time.monotonic()))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note faults of the simulation; that clients go away in every way is expected."""
        exc = sys.exception()
        if not isinstance(exc, OSError):
            self.simulator.problems.append(f"the simulated port failed: {exc!r}")


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        content = self._content(headers)
        simulator = self.server.simulator
        recorded, answer = simulator.receive(self.command, self.path, headers, content)
        gone = False
        try:
            self._deliver(answer)
        except (_ClientGone, OSError):
            gone = True
            self.close_connection = True
        finally:
            simulator.delivered(recorded, closed_early=gone and not self.server.closing)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_POST

    def _content(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return content

    def _deliver(self, answer: Answer) -> None:
        self._wait(answer.head_delay_s)
        if answer.status is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        for step in answer.steps:
            match step:
                case Send(data):
                    self._wait(0)
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                case Pause(seconds):
                    self._wait(seconds)
                case Tear():
                    self.close_connection = True
                    return
        try:
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client has it all, and did not wait for the end
            self.close_connection = True

    def _wait(self, seconds: float) -> None:
        """Let `seconds` pass; raises `_ClientGone` as soon as the client hangs up."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if selector.select(seconds):
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise _ClientGone
                time.sleep(max(0.0, until - time.monotonic()))  # the next request came already

    def version_string(self) -> str:
        return "magistrate-simulator"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: requests are recorded, tests read their own output."""
