"""Threads on which judges work for synchronous clients.

Why not `concurrent.futures`: its pool takes no more work once the main thread has ended, though an
application may go on in other threads; and a process that ends waits for all it has begun, which
is as long as a judge's deadline for verdicts that nobody reads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeAlias

Work: TypeAlias = Callable[[], object]


class JudgeThreads:
    """At most `most` daemon threads. One is started when there is work and none is idle.

    They end when this is closed or forgotten. After a fork, make a new one: threads stay behind.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._closed = False
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        # The threads hold the queue, not this object, so that it can be forgotten.
        weakref.finalize(self, self._queue.put, None).atexit = False

    def submit(self, work: Work) -> None:
        """Have `work` done as soon as a thread is free. RuntimeError if none can do it."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the judging threads are closed")
            self._queue.put(work)
            if self._idle.acquire(blocking=False) or self._started == self._most:
                return
            threading.Thread(
                target=_work,
                args=(self._queue, self._idle),
                name=f"magistrate-judge_{self._started}",
                daemon=True,
            ).start()
            self._started += 1

    def close(self) -> None:
        """Take no more work. The threads end when they have done what they were given."""
        with self._lock:
            self._closed = True
        self._queue.put(None)


def _work(queue: SimpleQueue[Work | None], idle: threading.Semaphore) -> None:
    while (work := queue.get()) is not None:
        # Not even SystemExit, from a judge of the user's own, may cost a thread.
        with suppress(BaseException):
            work()
        del work  # and all it holds: the next may be long in coming
        idle.release()
    queue.put(None)  # for the next thread
