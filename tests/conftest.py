"""Fixtures and settings that every test uses."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
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


def pytest_collection_finish() -> None:
    """Every module is imported now: what they hold need not be looked through again and again."""
    if claude := sys.modules.get("magistrate.judging.claude"):
        claude.make_rubric = _shared(claude.make_rubric)  # type: ignore[attr-defined]
        claude.make_screen = _shared(claude.make_screen)  # type: ignore[attr-defined]
    gc.collect()
    gc.freeze()


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
