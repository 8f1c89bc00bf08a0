"""The simulated Messages API: takes requests, chooses what is answered, and records it all.

No I/O and no waiting: `Simulator.receive` maps a request to a planned `Answer`. The transports of
`transport.py` and the port of `server.py` deliver it and report how delivery ended.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias, cast

import httpx2

from magistrate.testing import compacting, judge_replies, prompt_cache, resources, routing
from magistrate.testing.batches import Batches, BatchProfile
from magistrate.testing.declared import Declared
from magistrate.testing.events import Asked, count_tokens, error_body, message
from magistrate.testing.judge_script import Judge, Judgement, ParsedPrompt
from magistrate.testing.latency import LatencyProfile
from magistrate.testing.prompt_cache import PromptCache
from magistrate.testing.recorded import Recorded
from magistrate.testing.replies import (
    JSON,
    ErrorReply,
    Replies,
    Reply,
    error,
)
from magistrate.testing.threads import Held, Threads
from magistrate.testing.validation import complaint
from magistrate.testing.wire import Answer, answer, compressed, plain, spoken

ParsePrompt: TypeAlias = Callable[[JSON], "ParsedPrompt | None"]


class Simulator:
    """A Messages API for tests: real bytes, no network, no key, no cost.

        sim = Simulator([text("Hello.")])
        client = Anthropic(api_key="test", http_client=sim.http_client())

    `replies` answers the requests of the application:

    - one reply answers every request;
    - a list is used up in order, except for its `when(needle, reply)` entries: those answer, as
      often as they match, the requests whose last user turn holds the needle, and go first;
    - a callable receives the request's body and returns the reply.

    When a list is used up `default` answers, and without one the request fails with a 500 that
    says so and is not retried; the same sentence is then in `problems`.

    `judge` answers requests that carry a judge's prompt: a `JudgeScript`, or a callable that takes
    the parsed prompt. Without one the judge finds nothing. `profile` and `judge_profile` set the
    pace, `seed` the places where texts are cut into deltas. With `gzip` bodies are compressed for
    clients that accept it, as those of the API are. With `cache` the usage of all answers has the
    counters of the API's prompt cache: of one of this simulator's own, or of the one given.

    `batches` says how message batches go on; each entry is answered as a single request is. A
    request with `compaction` is answered with a summary, unless `replies` is a callable. Threads
    are held: a request may continue one.

    Raises `TypeError` for replies that are none.
    """

    def __init__(
        self,
        replies: Replies | None = None,
        *,
        judge: Judge | None = None,
        default: Reply | None = None,
        profile: LatencyProfile | None = None,
        judge_profile: LatencyProfile | None = None,
        parse_prompt: ParsePrompt | None = None,
        seed: int = 0,
        gzip: bool = False,
        cache: bool | PromptCache = False,
        batches: BatchProfile | None = None,
    ) -> None:
        self.problems: list[str] = []
        self._cache = PromptCache() if cache is True else cache or None
        self._declared = Declared(replies, default)
        self._judge: Judge = judge or (lambda prompt: Judgement())
        self._profile = profile or LatencyProfile()
        self._judge_profile = judge_profile or LatencyProfile()
        self._parse_prompt = parse_prompt or _parse_prompt
        self._seed = seed
        self._gzip = gzip
        self._threads = Threads()
        self._batches = Batches(batches or BatchProfile(), self._result)
        self._recorded: list[Recorded] = []
        self._changed = threading.Condition()

    @property
    def requests(self) -> list[Recorded]:
        """All requests, in the order of their arrival."""
        with self._changed:
            return list(self._recorded)

    @property
    def api_requests(self) -> list[Recorded]:
        """The requests of the application."""
        return [each for each in self.requests if not each.is_judge]

    @property
    def judge_requests(self) -> list[Recorded]:
        """The requests for a judgement."""
        return [each for each in self.requests if each.is_judge]

    def settle(self, timeout: float = 5.0) -> bool:
        """Wait until no answer is being sent any more; False if some still is after `timeout`.

        A real port notices a client that went away only a moment later: wait before reading
        `closed_early`.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: all(each.ended is not None for each in self._recorded), timeout
            )

    def http_client(self) -> httpx2.Client:
        """Return a client for `Anthropic(http_client=...)`; nothing leaves the process."""
        from magistrate.testing.transport import SimulatorTransport

        return httpx2.Client(transport=SimulatorTransport(self))

    def async_http_client(self) -> httpx2.AsyncClient:
        """Return a client for `AsyncAnthropic(http_client=...)`; nothing leaves the process."""
        from magistrate.testing.transport import SimulatorTransport

        return httpx2.AsyncClient(transport=SimulatorTransport(self))

    @contextmanager
    def serve(self) -> Generator[str]:
        """Serve on a free port of 127.0.0.1 and give its URL; ends all connections on leaving."""
        from magistrate.testing.server import serving

        with serving(self) as url:
            yield url

    def receive(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[Recorded, Answer]:
        """Record a request and plan its answer. `headers` has lower-case names.

        Whoever delivers the answer calls `delivered` afterwards.
        """
        recorded = Recorded(method, path, headers, _object(content))
        with self._changed:
            self._recorded.append(recorded)
            asked = Asked(recorded.body or {}, len(self._recorded), self._seed)
        try:
            planned = self._answer(recorded, asked, content)
        except Exception as exc:  # whatever a test's callable raises must reach the test
            planned = answer(self._problem(f"{type(exc).__name__}: {exc}"), asked)
        recorded.status = planned.status
        if self._gzip and "gzip" in headers.get("accept-encoding", ""):
            planned = compressed(planned)
        return recorded, planned

    def delivered(self, recorded: Recorded, *, closed_early: bool) -> None:
        """Note that the answer to `recorded` has ended. Only the first call counts."""
        with self._changed:
            if recorded.ended is None:
                recorded.ended = time.monotonic()
                recorded.closed_early = closed_early
                self._changed.notify_all()

    def _answer(self, recorded: Recorded, asked: Asked, content: bytes) -> Answer:
        route = routing.route(recorded.method, recorded.path, recorded.headers, content)
        if isinstance(route, ErrorReply):
            return answer(route, asked)
        if route.kind == "message":
            return self._answer_message(recorded, asked, route.body)
        if route.kind == "count":
            refused, _ = self._checked(route.body, counting=True)
            if refused is not None:
                return answer(refused, asked)
            counted = [asked.body.get(name) for name in ("system", "tools", "messages")]
            return plain({"input_tokens": count_tokens(counted)}, asked)
        found = resources.reply(route, asked, recorded.headers, self._batches)
        return answer(found, replace(asked, body={}), self._profile)

    def _answer_message(self, recorded: Recorded, asked: Asked, body: Any) -> Answer:
        refused, before = self._checked(body)
        if refused is not None:
            return answer(refused, asked)
        reply, recorded.is_judge = self._chosen(asked.body)
        profile = self._judge_profile if recorded.is_judge else self._profile
        planned = self._answer_cached(reply, asked, profile)
        said = spoken(reply, asked)
        if said is not None:
            self._threads.hold(asked.body, before, message(said, asked))
        return planned

    def _checked(
        self, body: object, *, counting: bool = False
    ) -> tuple[ErrorReply | None, Held | None]:
        """Return the error for a body that the API does not take, and what of it is held."""
        if not isinstance(body, dict):
            return error(400, message=complaint(body)), None
        body = cast(JSON, body)
        before = self._threads.before(body)
        if isinstance(before, ErrorReply):
            return before, None
        said = complaint(body, counting=counting, before=before) or prompt_cache.complaint(body)
        if said is not None:
            return error(400, message=said), None
        return None if counting else compacting.refused(body), before

    def _chosen(self, body: JSON) -> tuple[Reply, bool]:
        """Return what a right request is answered, and whether a judge answers it."""
        prompt = self._parse_prompt(body)
        if prompt is None:
            reply = self._declared.reply(body)
            return (self._problem(reply) if isinstance(reply, str) else reply), False
        reply, notes = judge_replies.render(self._judge(prompt), prompt)
        self.problems += notes
        return reply, True

    def _result(self, params: JSON, serial: int) -> JSON:
        """Return the result of an entry of a batch."""
        asked = Asked(params, serial, self._seed)
        streams = error(400, message="stream: cannot be true in a batch")
        try:
            refused = streams if asked.streams else self._checked(params)[0]
            reply = refused or self._chosen(params)[0]
        except Exception as exc:  # a test's callable, as in `receive`
            reply = self._problem(f"{type(exc).__name__}: {exc}")
        said = spoken(reply, asked)
        if said is not None:
            answered = message(said, asked)
            answered["usage"]["service_tier"] = "batch"
            return {"type": "succeeded", "message": answered}
        failed = reply if isinstance(reply, ErrorReply) else error(500)
        return {"type": "errored", "error": error_body(failed, serial)}

    def _answer_cached(self, reply: Reply, asked: Asked, profile: LatencyProfile) -> Answer:
        if self._cache is None:
            return answer(reply, asked, profile)
        found = self._cache.lookup(asked.body)
        planned = answer(reply, replace(asked, cached=found.usage), profile)
        if planned.status == 200:
            self._cache.begin(found, after_s=planned.head_delay_s)
        return planned

    def _problem(self, said: str) -> ErrorReply:
        """Return a 500 that the SDK does not retry: the test, not the API, has to change."""
        said = f"magistrate.testing.Simulator: {said}"
        self.problems.append(said)
        return ErrorReply(500, "api_error", said, (("x-should-retry", "false"),))


def _object(content: bytes) -> JSON | None:
    try:
        body: Any = json.loads(content)
    except ValueError:
        return None
    return cast(JSON, body) if isinstance(body, dict) else None


def _parse_prompt(body: JSON) -> ParsedPrompt | None:
    from magistrate.testing.prompt_parser import (
        parse_prompt,  # here: it reads the prompt's templates
    )

    return parse_prompt(body)
