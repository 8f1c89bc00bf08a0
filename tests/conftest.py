"""Fixtures and settings that every test uses."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

# The same commit gets the same answer every time. To look for what these examples do not show,
# run with `--hypothesis-profile explore`: new ones on every run.
# No deadline: how long an example takes depends on what else the machine does.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Every module is imported now: what they hold need not be looked through again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
