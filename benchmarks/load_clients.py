"""The clients of `load.py`: the plain SDK, and ours with either judge, of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import anthropic
import httpx2
from ledger import prose
from load_world import OPTIONS, SETTINGS, TOKENS, Instant, Upstream, asking, chunks

from magistrate import Moderation

VARIANTS = ("plain", "instant", "claude")


class Client:
    """A client, `sync` or `async`: plain, or ours with the instant or the Claude judge.

    `create` and `stream` run to their end, also those of the asynchronous kind.
    """

    def __init__(self, kind: str, variant: str, tokens: int = TOKENS) -> None:
        self._stack = ExitStack()
        self.upstream = Upstream()
        self.instant = Instant()
        middleware: list[Any] = []
        if variant != "plain":
            judge = self.instant if variant == "instant" else None
            middleware = [Moderation(SETTINGS, judge=judge)]
            self._stack.callback(middleware[0].close)
        options = {**OPTIONS, "middleware": middleware}
        self._runner: asyncio.Runner | None = None
        if kind == "async":
            self._runner = self._stack.enter_context(asyncio.Runner())
            http: Any = httpx2.AsyncClient(transport=self.upstream)
            self._client: Any = anthropic.AsyncAnthropic(http_client=http, **options)
        else:
            http = httpx2.Client(transport=self.upstream)
            self._client = anthropic.Anthropic(http_client=http, **options)
        self.create()
        self.stream()
        if variant == "claude":
            assert self.upstream.calls_each() >= 2  # both stages, by the judge itself
        self.upstream.chunks = chunks(tokens)

    def create(self, times: int = 1, before: list[dict[str, Any]] | None = None) -> None:
        if self._runner is not None:
            return self._runner.run(self._create(times, before))
        for _ in range(times):
            self._client.messages.create(**asking(before=before))
        return None

    async def _create(self, times: int, before: list[dict[str, Any]] | None) -> None:
        for _ in range(times):
            await self._client.messages.create(**asking(before=before))

    def stream(self, times: int = 1) -> None:
        if self._runner is not None:
            return self._runner.run(self._stream(times))
        for _ in range(times):
            last = None
            for event in self._client.messages.create(**asking(), stream=True):
                last = event.type
            assert last == "message_stop"
        return None

    async def _stream(self, times: int) -> None:
        for _ in range(times):
            last = None
            async for event in await self._client.messages.create(**asking(), stream=True):
                last = event.type
            assert last == "message_stop"

    def history(self, turns: int) -> list[dict[str, Any]]:
        """A conversation of so many turns, every one of them asked and answered here."""
        messages: list[dict[str, Any]] = []
        for turn in range(turns):
            request = asking(prose(50, turn), messages)
            answer = self._client.messages.create(**request)
            if self._runner is not None:
                answer = self._runner.run(_awaited(answer))
            said = {"role": "assistant", "content": answer.content[0].text}
            messages = [*request["messages"], said]
        return messages

    def close(self) -> None:
        self._stack.close()


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


@contextmanager
def all_variants(kind: str, tokens: int = TOKENS) -> Iterator[dict[str, Client]]:
    """The plain client and both of ours."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(closing(Client(kind, name, tokens))) for name in VARIANTS}
