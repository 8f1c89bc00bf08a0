"""The gateway's own routes: health, decisions, and judging without a completion."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from magistrate._version import __version__
from magistrate.core.offline import OfflineDecision
from magistrate.gateway.apps import App, Apps
from magistrate.gateway.http import BadRequest, Request, Response
from magistrate.gateway.moderated_request import ask_model
from magistrate.gateway.upstream import Upstream
from magistrate.judging.base import ModelReply
from magistrate.storage.review_items import ReviewError, ReviewNotFound
from magistrate.verdicts import Outcome, Stage
from magistrate.wire.messages import JSON, is_array, is_object, parsed
from magistrate.wire.routes import segments

Handler = Callable[[Request, Response], Awaitable[None]]
PROBES = frozenset({"/", "/healthz", "/readyz"})
_DECISIONS = "/magistrate/decisions/"
_REVIEWS = "/magistrate/reviews/"


class Admin:
    """Answers requests about the gateway itself."""

    def __init__(self, apps: Apps, upstream: Upstream) -> None:
        self._apps = apps
        self._upstream = upstream

    def route(self, request: Request) -> Handler | None:
        """Return what answers a request, or None for one that goes to an app.

        Raises `BadRequest` for a path below /magistrate that does not exist: none goes upstream.
        """
        match request.method, request.path:
            case (("GET" | "HEAD"), "/"):
                return self._hello
            case (("GET" | "HEAD"), "/healthz"):
                return self._healthy
            case (("GET" | "HEAD"), "/readyz"):
                return self._ready
            case "POST", "/magistrate/check":
                return self._check
            case "GET", path if path.startswith(_DECISIONS):
                return self._decision
            case "GET", path if path.startswith(_REVIEWS):
                return self._review
            case _:
                if segments(request.target)[:1] == ["magistrate"]:
                    raise BadRequest(404, "not_found_error", f"no such page: {request.path}")
                return None

    async def _hello(self, request: Request, response: Response) -> None:
        """Say that somebody is there: clients probe the root, without credentials."""
        await response.json(200, {"service": "magistrate", "version": __version__})

    async def _healthy(self, request: Request, response: Response) -> None:
        await response.json(200, {"status": "ok"})

    async def _ready(self, request: Request, response: Response) -> None:
        """Say whether requests can be served: 503 names the app and what is missing."""
        missing: dict[str, list[str]] = {}
        for app in self._apps.all:
            found = await asyncio.to_thread(app.engine.not_ready)
            if found:
                missing[app.name] = found
        status = 503 if missing else 200
        word = "not ready" if missing else "ready"
        await response.json(status, {"status": word, "missing": missing})

    async def _decision(self, request: Request, response: Response) -> None:
        """Return the record of a decision to the app that it belongs to."""
        app = self._apps.of(request)
        name = request.path.removeprefix(_DECISIONS)
        try:
            decision = await app.engine.off_loop(app.engine.state.decision, name)
        except KeyError:
            unknown = f"no decision {name[:64]!r} of this app is stored"
            raise BadRequest(404, "not_found_error", unknown) from None
        await response.json(200, decision.as_json(evidence=True))

    async def _review(self, request: Request, response: Response) -> None:
        """Say what became of a held answer, with the answer once it was released."""
        app = self._apps.of(request)
        name = request.path.removeprefix(_REVIEWS)
        store = app.engine.reviews
        try:
            if store is None:
                raise ReviewNotFound(f"no review {name[:64]!r}: this app holds no answers")
            found = await asyncio.to_thread(store.get, name)
        except ReviewNotFound as error:
            raise BadRequest(404, "not_found_error", str(error)) from None
        except ReviewError as error:
            raise BadRequest(529, "overloaded_error", f"review store: {error}") from None
        decided = found.decided_at.isoformat() if found.decided_at is not None else None
        shown = {
            "id": found.id,
            "status": found.status,
            "domains": list(found.domains),
            "created_at": found.created_at.isoformat(),
            "expires_at": found.expires_at.isoformat(),
            "decided_at": decided,
            "decision_id": found.decision.get("id"),
            "message": found.released,
        }
        await response.json(200, shown)

    async def _check(self, request: Request, response: Response) -> None:
        """Judge a text, or a request and its answer, without asking for a completion."""
        app = self._apps.of(request)
        stage, body, answer = _material(request)
        began = time.monotonic()
        offline = OfflineDecision.of(app.engine.settings, stage, body, answer)
        outcomes: list[Outcome] = []
        if offline.subject is not None:
            outcomes.append(await self._judged(app, offline, request))
        took = round((time.monotonic() - began) * 1000, 3)
        decision = replace(offline.decide(outcomes, app.engine.judge_info), latency_ms=took)
        await app.engine.off_loop(app.engine.record, decision)
        await response.json(200, decision.as_json(evidence=True))

    async def _judged(self, app: App, offline: OfflineDecision, request: Request) -> Outcome:
        headers = self._apps.headers(request)

        async def ask(body: JSON, timeout_s: float) -> ModelReply:
            return await ask_model(self._upstream, headers, body, timeout_s)

        settings = app.engine.settings
        assert offline.subject is not None
        return await app.engine.judge.judge_async(
            offline.subject, settings, ask, settings.judge.deadline_s
        )


_KEYS = frozenset({"text", "question", "request", "answer"})


def _material(request: Request) -> tuple[Stage, JSON, JSON]:
    """Return the stage, the request and the answer to judge.

    `{"text": ...}` is judged as a request; with `question`, as the answer to it. `{"request":
    {...}}` is judged as it is; with `answer`, a text or a message, the answer to it is judged.
    """
    try:
        found = parsed(request.body, unique=True)
    except ValueError:
        found = None
    if not is_object(found) or not set(found) <= _KEYS or ("text" in found) == ("request" in found):
        raise _unusable("send a JSON object with either `text` or `request`")
    if "text" in found:
        text, question = found["text"], found.get("question")
        if not isinstance(text, str) or "answer" in found:
            raise _unusable("`text` must be a string, and goes without `answer`")
        if question is None:
            return "input", {"messages": [{"role": "user", "content": text}]}, {}
        if not isinstance(question, str):
            raise _unusable("`question` must be a string")
        asked: JSON = {"messages": [{"role": "user", "content": question}]}
        return "output", asked, {"content": [{"type": "text", "text": text}]}
    body, answer = found["request"], found.get("answer")
    if not is_object(body) or not is_array(body.get("messages")) or "question" in found:
        raise _unusable("`request` must be a Messages API request, and goes without `question`")
    if answer is None:
        return "input", body, {}
    if isinstance(answer, str):
        return "output", body, {"content": [{"type": "text", "text": answer}]}
    if is_object(answer) and is_array(answer.get("content")):
        return "output", body, answer
    raise _unusable("`answer` must be a text or a message with a `content` list")


def _unusable(message: str) -> BadRequest:
    return BadRequest(400, "invalid_request_error", message)
