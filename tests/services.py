"""Real servers for tests: those that run on this machine, or one started for a test alone."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# `.ci/run` sets it once it has started them: then nothing that needs one may skip.
REQUIRED = bool(os.environ.get("CI_HAS_SERVICES"))


def missing(what: str) -> None:
    """Skip a test by the name of what it needs; fail where it must not be missing."""
    if REQUIRED:
        pytest.fail(f"{what} is missing")
    pytest.skip(f"needs {what}")


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1.0):
            return True
    except OSError:
        return False


def redis_url() -> str:
    """The address of a Redis that keeps running; tests keep to keys of their own."""
    if (given := os.environ.get("MAGISTRATE_TEST_REDIS")) is not None:
        return given
    if not _listens("127.0.0.1", 6379):
        missing("Redis, at $MAGISTRATE_TEST_REDIS or 127.0.0.1:6379")
    return "redis://127.0.0.1:6379/9"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class OwnRedis:
    """A Redis of this test's own, which it may stop and start."""

    folder: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                *("--dir", str(self.folder), *self.arguments),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while not _listens("127.0.0.1", self.port):
            assert self._process.poll() is None and time.monotonic() < until
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def own_redis(folder: Path, *arguments: str) -> Iterator[OwnRedis]:
    """Start a Redis of this test's own."""
    if shutil.which("redis-server") is None:
        missing("the program redis-server")
    server = OwnRedis(folder, arguments)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# --- PostgreSQL -----------------------------------------------------------------------------------


@contextmanager
def postgres_database() -> Iterator[str]:
    """The address of an empty database of this test's own, on a server that keeps running."""
    import psycopg

    server = os.environ.get("MAGISTRATE_TEST_POSTGRES")
    if server is None:
        server = "postgresql://postgres@127.0.0.1:5432/postgres"
        if not _listens("127.0.0.1", 5432):
            missing("PostgreSQL, at $MAGISTRATE_TEST_POSTGRES or 127.0.0.1:5432")
    name = f"magistrate_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield server.rpartition("/")[0] + f"/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Cable:
    """A connection to a server that can be cut, for all who use it, and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._is_cut = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break every connection, and let no new one through."""
        self._is_cut = True
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections through."""
        self._is_cut = False

    def close(self) -> None:
        """Break every connection, and end."""
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in (*self._open, self._listener):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                self._open.append(here)
                if self._is_cut:
                    here.shutdown(socket.SHUT_RDWR)
                    continue
                there = socket.create_connection(self._to)
                self._open.append(there)
                for pair in ((here, there), (there, here)):
                    self._threads.append(threading.Thread(target=_carry, args=pair))
                    self._threads[-1].start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
