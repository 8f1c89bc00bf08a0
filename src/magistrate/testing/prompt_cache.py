"""The API's prompt cache, as its documentation describes it: what of a request is read, or written.

No waiting, and no time of its own: a clock is passed in. The rules, from the pages of the Claude
documentation on prompt caching and on structured outputs:

- A prefix runs over tools, system and messages, in this order; what changes in one changes all
  behind it. Speed and the format of the answer belong to the system; the choice of tools, thinking,
  effort and whether there are images to the messages.
- Only a breakpoint writes: one entry, for the prefix that ends with its block. It reads the longest
  prefix that an earlier request wrote, at most 20 positions back, itself the first; a run of
  `tool_use` blocks is one position, and so is a run of `tool_result` blocks.
- There are at most four. A `cache_control` of the request itself is one, on the last block that can
  have one.
- Below the model's minimum nothing is written, and nothing complains.
- An entry can be read once the response of the request that wrote it has begun. It lives for five
  minutes, or an hour, from the start of the last request that wrote or read it.
- Every model has entries of its own.

What is left out: the documentation does not say how many tokens a request has, so they are counted
as `events.count_tokens` does; effort is taken to leave tools and system alone, which holds for some
models only; workspaces, of which a simulator is one.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from magistrate.judging.prices import min_cacheable
from magistrate.testing.events import characters, count_tokens
from magistrate.testing.replies import JSON

BREAKPOINTS = 4
LOOKBACK = 20
LIFETIMES_S = {"5m": 300.0, "1h": 3600.0}
_RUNS = ("tool_use", "tool_result")  # many of them in a row are one position
_UNMARKED = ("thinking", "redacted_thinking")  # cached with what is around them, never alone


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a request with the prefix that ends there."""

    prefix: str  # digest
    tokens: int  # of the prefix
    position: int
    ttl: str | None  # of the breakpoint, if there is one


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache does for one request.

    `usage` has the counters of the API's usage. `read` is the prefix that was found, `writes` are
    the prefixes of the breakpoints, each with its lifetime; `started` is when the request was made.
    """

    usage: JSON
    read: str | None
    writes: tuple[tuple[str, str], ...]
    started: float


@dataclass(slots=True)
class _Entry:
    ttl: str
    readable: float
    used: float

    def fresh(self, now: float) -> bool:
        return self.readable <= now < self.used + LIFETIMES_S[self.ttl]


class PromptCache:
    """The entries of one workspace. Safe to use from many threads. `clock` gives seconds.

    A request is looked up when it arrives; `begin` then puts what it writes in the cache, from the
    moment its response begins. A request that fails begins nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def lookup(self, body: JSON) -> Lookup:
        """Return what is read from the cache, written to it, and neither, in tokens."""
        now = self._clock()
        blocks = list(_blocks(body))
        least = min_cacheable(body.get("model"))
        marked = [at for at, b in enumerate(blocks) if b.ttl is not None and b.tokens >= least]
        with self._lock:
            found = (block for at in reversed(marked) for block in self._behind(blocks, at, now))
            hit = next(found, None)
        read = hit.tokens if hit is not None else 0
        written = dict.fromkeys(LIFETIMES_S, 0)
        end = read
        for block in (blocks[at] for at in marked):
            written[block.ttl or "5m"] += max(0, block.tokens - end)
            end = max(end, block.tokens)
        usage = {
            "input_tokens": count_tokens([body.get(name) for name in _PLACES]) - end,
            "cache_creation_input_tokens": sum(written.values()),
            "cache_read_input_tokens": read,
            "cache_creation": {
                f"ephemeral_{ttl}_input_tokens": tokens for ttl, tokens in written.items()
            },
        }
        writes = tuple((blocks[at].prefix, blocks[at].ttl or "5m") for at in marked)
        return Lookup(usage, hit.prefix if hit is not None else None, writes, now)

    def begin(self, lookup: Lookup, *, after_s: float = 0.0) -> None:
        """Its response begins, `after_s` seconds from now: what it writes can be read from then."""
        now = self._clock()
        with self._lock:
            self._entries = {
                prefix: entry
                for prefix, entry in self._entries.items()
                if now < entry.used + LIFETIMES_S[entry.ttl]
            }
            for prefix, ttl in lookup.writes:
                self._entries.setdefault(prefix, _Entry(ttl, now + after_s, lookup.started))
            for prefix in (lookup.read, *dict(lookup.writes)):
                if entry := self._entries.get(prefix or ""):
                    entry.used = max(entry.used, lookup.started)

    def _behind(self, blocks: list[_Block], at: int, now: float) -> Iterator[_Block]:
        """Yield the entries that a breakpoint can read, the longest first."""
        for block in reversed(blocks[: at + 1]):
            if blocks[at].position - block.position >= LOOKBACK:
                return
            entry = self._entries.get(block.prefix)
            if entry is not None and entry.fresh(now):
                yield block


_PLACES = ("system", "tools", "messages")


def complaint(body: JSON) -> str | None:
    """Why the API refuses the breakpoints of a request, or None."""
    placed = list(_placed(body))
    own = _lifetime(body.get("cache_control"))
    marks = [ttl for ttl in (*(_ttl(block) for _, block, _ in placed), own) if ttl is not None]
    if len(marks) > BREAKPOINTS:
        return (
            f"A maximum of {BREAKPOINTS} blocks with cache_control may be provided."
            f" Found {len(marks)}."
        )
    for _, block, _ in placed:
        if _ttl(block) is not None and cast(JSON, block).get("type") in _UNMARKED:
            return "cache_control cannot be set for thinking blocks"
    if unknown := next((ttl for ttl in marks if ttl not in LIFETIMES_S), None):
        return f"cache_control.ttl: Input should be '5m' or '1h', not {unknown!r}"
    if "1h" in marks and "5m" in marks[: len(marks) - marks[::-1].index("1h")]:
        return "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
    return None


def _blocks(body: JSON) -> Iterator[_Block]:
    """Yield the blocks of a request in the order of its prefix."""
    placed = list(_placed(body))
    own = _lifetime(body.get("cache_control"))
    last = max((at for at, (_, block, _) in enumerate(placed) if _can_have_one(block)), default=-1)
    digest = hashlib.sha256(str(body.get("model")).encode())
    length, position = 0, 0
    before = ""
    for at, (around, block, weight) in enumerate(placed):
        digest.update(_dump([around, _bare(block)]))
        length += weight
        kind = str(cast(JSON, block).get("type")) if isinstance(block, dict) else ""
        position += not (kind in _RUNS and kind == before)
        before = kind
        ttl = _ttl(block)
        if own is not None and at == last and ttl is None:
            ttl = own
        yield _Block(digest.hexdigest(), length // 4, position, ttl)


def _placed(body: JSON) -> Iterator[tuple[Any, Any, int]]:
    """Yield every block with what else its prefix depends on, and its characters."""
    for tool in cast(list[Any], body.get("tools") or []):
        yield "tool", tool, characters(tool)
    config: JSON = body.get("output_config") or {}
    around: Any = ["system", body.get("speed"), config.get("format")]
    for block in _listed(body.get("system")):
        yield around, block, characters(block)
    images = any(
        isinstance(block, dict) and cast(JSON, block).get("type") == "image"
        for turn in body["messages"]
        for block in _listed(turn.get("content"))
    )
    chosen = [body.get(name) for name in ("tool_choice", "thinking")]
    around = [around, *chosen, config.get("effort"), images]
    for number, turn in enumerate(body["messages"]):
        weight = characters(turn.get("role"))
        for block in _listed(turn.get("content")):
            yield [around, number, turn.get("role")], block, weight + characters(block)
            weight = 0


def _listed(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [content] if content else []
    return cast(list[Any], content or [])


def _can_have_one(block: Any) -> bool:
    return not isinstance(block, dict) or cast(JSON, block).get("type") not in _UNMARKED


def _ttl(block: Any) -> str | None:
    return _lifetime(cast(JSON, block).get("cache_control")) if isinstance(block, dict) else None


def _lifetime(mark: Any) -> str | None:
    return str(cast(JSON, mark).get("ttl") or "5m") if isinstance(mark, dict) else None


def _bare(block: Any) -> Any:
    """Return a block without its mark, which is no part of what is cached."""
    if not isinstance(block, dict):
        return {"type": "text", "text": block}
    return {key: value for key, value in cast(JSON, block).items() if key != "cache_control"}


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"
