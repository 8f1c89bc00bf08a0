"""The SDK's clients on a simulator, sync and async, in process or over its port, as one shape."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic

from magistrate.testing import Simulator

WHERE = ("process", "port")
FLAVOURS = ("sync", "async")


async def got(value: Any) -> Any:
    """What a call returned, awaited where it is awaitable."""
    return await value if inspect.isawaitable(value) else value


async def items(listed: Any) -> list[Any]:
    """Everything that a page (with those after it) or a stream yields."""
    listed = await got(listed)
    if hasattr(listed, "__aiter__"):
        return [each async for each in listed]
    return list(listed)


@asynccontextmanager
async def connected(sim: Simulator, where: str, flavour: str, **options: Any) -> AsyncIterator[Any]:
    """A client of the SDK on `sim`."""
    options = {"api_key": "test", "max_retries": 0, **options}
    with ExitStack() as stack:
        if where == "port":
            options["base_url"] = stack.enter_context(sim.serve())
        elif flavour == "sync":
            options["http_client"] = sim.http_client()
        else:
            options["http_client"] = sim.async_http_client()
        if flavour == "sync":
            with Anthropic(**options) as client:
                yield client
        else:
            async with AsyncAnthropic(**options) as client:
                yield client


def everywhere(test: Callable[..., Any]) -> Callable[..., Any]:
    """Run a test with either client, in process and over a port."""
    placed = pytest.mark.parametrize("where", WHERE)(test)
    return pytest.mark.parametrize("flavour", FLAVOURS)(placed)
