"""`magistrate serve` as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def process(folder: Path, upstream: str, *more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    port = free_port()
    command = [sys.executable, "-m", "magistrate", "serve", "--port", str(port)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MAGISTRATE")}
    with subprocess.Popen(
        [*command, "--upstream", upstream, *more],
        cwd=folder,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    httpx2.get(f"{url}/healthz", timeout=1.0)
                    break
                except httpx2.HTTPError:
                    assert running.poll() is None, running.stderr and running.stderr.read()
                    assert time.monotonic() < until
                    time.sleep(0.05)
            yield url, running
        finally:
            if running.poll() is None:
                running.kill()
