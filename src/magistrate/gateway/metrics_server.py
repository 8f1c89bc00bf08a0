"""Serve the metrics of a gateway at a port of their own, for all of its processes together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported


@contextmanager
def serving_metrics(host: str, port: int, *, several: bool) -> Generator[None, None, None]:
    """Serve `GET /metrics` until the block is left. `several`: other processes do the counting.

    Raises `OSError` if the port cannot be used. Must come before the first import of
    `prometheus_client`: with several processes, each of them counts in files of a shared folder.
    """
    with tempfile.TemporaryDirectory(prefix="magistrate-metrics-") as folder:
        if several:
            os.environ[_FOLDER] = folder
        from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = REGISTRY
        if several:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)
        server, thread = start_http_server(port, host, registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            os.environ.pop(_FOLDER, None)
