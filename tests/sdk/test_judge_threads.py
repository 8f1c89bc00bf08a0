"""Threads that judge for synchronous clients: started as needed, reused, and in nobody's way."""

from __future__ import annotations

import gc
import sys
import textwrap
import threading
from queue import SimpleQueue

import pytest

import processes
from magistrate.sdk.judge_threads import JudgeThreads
from processes import Ended


def alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("magistrate-judge")]


@pytest.fixture(autouse=True)
def _none_left() -> None:
    """Those of tests before may be about to end."""
    for thread in alive():
        thread.join(20)
    assert alive() == []


def ended(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(20)
    return not any(thread.is_alive() for thread in threads)


def settled(threads: JudgeThreads) -> None:
    """Wait until a thread is idle, without taking it."""
    assert threads._idle.acquire(timeout=20)
    threads._idle.release()


def test_a_thread_that_has_nothing_to_do_is_used_again() -> None:
    threads, on = JudgeThreads(8), SimpleQueue[int]()
    for _ in range(5):
        threads.submit(lambda: on.put(threading.get_ident()))
        settled(threads)
    assert len({on.get(timeout=20) for _ in range(5)}) == 1
    assert len(alive()) == 1
    threads.close()
    assert ended(alive())


def test_there_are_never_more_than_may_be_and_nothing_is_lost() -> None:
    threads, done, opened = JudgeThreads(3), SimpleQueue[int](), threading.Event()

    def work(number: int) -> None:
        opened.wait(20)
        done.put(number)

    for number in range(50):
        threads.submit(lambda number=number: work(number))  # type: ignore[misc]
    assert len(alive()) == 3
    opened.set()
    assert {done.get(timeout=20) for _ in range(50)} == set(range(50))
    threads.close()
    assert ended(alive())


def test_closing_takes_no_more_work_and_ends_every_thread_after_what_it_has() -> None:
    threads, done, opened = JudgeThreads(2), SimpleQueue[int](), threading.Event()
    for number in range(6):
        threads.submit(lambda number=number: (opened.wait(20), done.put(number)))  # type: ignore[misc]
    started = alive()
    threads.close()
    threads.close()
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(lambda: None)
    opened.set()
    assert ended(started)
    assert {done.get(timeout=0) for _ in range(6)} == set(range(6))


def test_forgetting_them_ends_them() -> None:
    threads, done = JudgeThreads(2), threading.Event()
    threads.submit(done.set)
    assert done.wait(20)
    started = alive()
    assert started
    del threads
    gc.collect()
    assert ended(started)


def test_work_that_raises_costs_no_thread() -> None:
    threads, done = JudgeThreads(1), threading.Event()

    def leave() -> None:
        raise SystemExit

    threads.submit(leave)
    threads.submit(done.set)
    assert done.wait(20)
    threads.close()
    assert ended(alive())


# --- the end of a process -------------------------------------------------------------------------

PRELUDE = """
    import os, signal, sys, threading
    from magistrate import Anthropic, Moderation
    from magistrate.testing import ScriptedJudge, Simulator, text

    def client(script=None):
        sim = Simulator(text("hello"))
        judge = ScriptedJudge(script)
        settings = {"version": 1, "judge": {"deadline_s": 600}}
        moderation = Moderation(settings, judge=judge)
        return Anthropic(
            api_key="k", moderation=moderation, http_client=sim.http_client()
        )

    def ask(client):
        turn = {"role": "user", "content": "hi"}
        return client.messages.create(model="m", max_tokens=9, messages=[turn])
"""


def run(script: str) -> Ended:
    """Run a program. One that does not end by itself fails."""
    return processes.run(textwrap.dedent(PRELUDE) + textwrap.dedent(script))


def test_a_judge_that_does_not_answer_keeps_no_process_from_ending() -> None:
    done = run("""
        asked = threading.Event()

        def never(subject):
            asked.set()
            threading.Event().wait()

        threading.Thread(target=ask, args=[client(never)], daemon=True).start()
        assert asked.wait(50)
        print("ends")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself a signal")
def test_an_interrupt_ends_a_process_that_waits_for_a_verdict() -> None:
    done = run("""
        def never(subject):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait()

        try:
            ask(client(never))
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_threads_that_outlive_the_main_thread_are_moderated() -> None:
    """A program may start its work in threads and be done; `concurrent.futures` then refuses."""
    done = run("""
        def work():
            threading.main_thread().join()
            print(ask(client()).content[0].text)

        threading.Thread(target=work).start()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
