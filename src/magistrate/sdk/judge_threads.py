"""Threads on which judges work for synchronous clients.

Why not `concurrent.futures`: its pool takes no more work after the main thread has ended, although
an application may continue in other threads. And at exit, a process waits for all work that has
begun: up to a judge's deadline, for verdicts that no caller reads.
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

    They end when this is closed or garbage-collected. After a fork, make a new one: a child process
    does not have the threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._closed = False
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        # The threads refer to the queue, not to this object, so that it can be garbage-collected.
        weakref.finalize(self, self._queue.put, None).atexit = False

    def submit(self, work: Work) -> None:
        """Run `work` as soon as a thread is free. Raise RuntimeError if none can run it."""
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
        """Take no more work. The threads end after the work they already have."""
        with self._lock:
            self._closed = True
        self._queue.put(None)


def _work(queue: SimpleQueue[Work | None], idle: threading.Semaphore) -> None:
    while (work := queue.get()) is not None:
        # No exception may end the thread, not even SystemExit from a user's own judge.
        with suppress(BaseException):
            work()
        del work  # and all it refers to: the next work may not come for a long time
        idle.release()
    queue.put(None)  # for the next thread
