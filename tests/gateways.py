"""A gateway on a real port in front of a simulator on another, for any client to use."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from magistrate.core.decision_record import Decision
from magistrate.gateway.app import Gateway, make_app
from magistrate.gateway.loader import load
from magistrate.gateway.serve import PatientProtocol
from magistrate.testing import Simulator

Files = Mapping[str, Any]  # name -> what is in it; JSON is YAML too


@dataclass
class Served:
    """A running gateway. `upstream`: the address of what it stands in front of."""

    url: str
    upstream: str
    gateway: Gateway
    server: uvicorn.Server

    def decisions(self, app: str = "app") -> list[Decision]:
        """Every decision of an app, in the order in which they were made."""
        (found,) = [each for each in self.gateway.apps.all if each.name == app]
        return found.engine.state.decisions.all()  # type: ignore[attr-defined]

    def http(self, **options: Any) -> httpx2.Client:
        """A plain HTTP client of the gateway."""
        options = {"base_url": self.url, "timeout": 30.0, "trust_env": False, **options}
        return httpx2.Client(**options)


@contextmanager
def served(
    sim: Simulator,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    gateway: Mapping[str, Any] | None = None,
    files: Files | None = None,
    upstream: str | None = None,
) -> Iterator[Served]:
    """Serve one app with these settings, or what the gateway's file says about several."""
    with sim.serve() as url:
        upstream = upstream or url
        for name, said in (files or {}).items():
            (folder / name).write_text(json.dumps({"version": 1, **said}))
        if gateway is not None:
            file = folder / "gateway.yaml"
            file.write_text(json.dumps({"gateway": {"upstream": upstream, **gateway}}))
        else:
            file = folder / "magistrate.yaml"
            file.write_text(json.dumps({"version": 1, **(settings or {})}))
        app = make_app(load(str(file), upstream=upstream))
        with running(app) as (address, server):
            yield Served(address, url, app.routes[0].app, server)  # type: ignore[attr-defined]


@dataclass
class Raw:
    """A request exactly as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


@contextmanager
def stub(answer: bytes, *, status: int = 200, **headers: str) -> Iterator[tuple[str, list[Raw]]]:
    """A server that knows nothing of the API: keeps what arrives, and always answers the same."""
    kept: list[Raw] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kept.append(Raw(self.command, self.path, list(self.headers.items()), body))
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_HEAD = do_DELETE = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(app: Any) -> Iterator[tuple[str, uvicorn.Server]]:
    """Run an ASGI application on a free port, as `magistrate serve` does."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="gateway", daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until, "the gateway did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the gateway did not stop"
