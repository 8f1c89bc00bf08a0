"""Fixtures and settings that every test uses."""

from __future__ import annotations

import gc
import os
import ssl
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cachetools import LRUCache
from hypothesis import settings

# The same commit gets the same answer every time. To look for what these examples do not show,
# run with `--hypothesis-profile explore`: new ones on every run.
# No deadline: how long an example takes depends on what else the machine does.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("same")

# What is imported stays. Looking through it for garbage, more of it each time, took a third of the
# time of the collection.
gc.disable()

# A client that may speak TLS reads all of the machine's certificates: 30 ms. No test speaks it, so
# they are read once.
ssl.create_default_context = cache(ssl.create_default_context)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores, or twice as many: a third of the time is waiting."""
    cores = os.cpu_count() or 1
    return min(2 * cores, cores + 2)


def pytest_collection_finish() -> None:
    """Every module is imported now: what they hold need not be looked through again and again."""
    if claude := sys.modules.get("magistrate.judging.claude"):
        claude.make_rubric = _shared(claude.make_rubric)  # type: ignore[attr-defined]
        claude.make_screen = _shared(claude.make_screen)  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()
    gc.enable()


# From this many examples on, the fast run tries a third of a property's, and the slow run all.
MANY = 200


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make two tests of a property with many examples: a fast one, and a slow one with all."""
    tried = getattr(metafunc.function, _SETTINGS, None)
    slow = any(mark.name == "slow" for mark in metafunc.definition.iter_markers())
    if tried is None or slow or tried.max_examples < MANY:
        return
    third = pytest.param(tried.max_examples // 3, id="a third")
    whole = pytest.param(tried.max_examples, id="whole", marks=pytest.mark.slow)
    metafunc.fixturenames.append("max_examples")
    metafunc.parametrize("max_examples", [third, whole])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set how many examples this test of a property tries."""
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        function = getattr(item.obj, "__func__", item.obj)
        if "max_examples" in item.callspec.params and (tried := getattr(function, _SETTINGS, None)):
            chosen = item.callspec.params["max_examples"]
            setattr(function, _SETTINGS, settings(tried, max_examples=chosen))


_SETTINGS = "_hypothesis_internal_use_settings"  # hypothesis has no other way to change them


def _shared(render: Callable[..., Any]) -> Callable[..., Any]:
    """A rubric is rendered once for all judges, by what each judge renders it once for itself.

    Rendering them took a third of the time of the tests that make a client each.
    """
    rendered: LRUCache[object, Any] = LRUCache(2_000)

    def shared(settings: Any, stage: str, templates: object, **task: Any) -> Any:
        key = (settings.hash, stage, templates, *sorted(task.items()))
        if (found := rendered.get(key)) is None:
            found = rendered[key] = render(settings, stage, templates, **task)
        return found

    return shared


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
