"""A request that reached the simulated API, and what whoever delivers its answer needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from magistrate.testing.replies import JSON
from magistrate.testing.wire import Answer


@dataclass(slots=True, eq=False)
class Recorded:
    """A request as it arrived, and how its answer went.

    `body` is None where the request holds no JSON object. `status` is None where the connection
    closed without an answer. `closed_early`: the client went away before it had been sent the
    whole answer. Times are those of `time.monotonic`; `ended` is None while the answer is being
    sent.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: JSON | None
    is_judge: bool = False
    closed_early: bool = False
    status: int | None = None
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None


class Service(Protocol):
    """What a transport or a port delivers for: takes a request, is told how its answer ended."""

    problems: list[str]

    def receive(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[Recorded, Answer]: ...

    def delivered(self, recorded: Recorded, *, closed_early: bool) -> None: ...
