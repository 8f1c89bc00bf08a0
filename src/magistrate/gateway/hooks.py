"""Anthropic's Inference Hooks: frames in, verdicts out.

Decides nothing: checks the signature, asks the engine, and answers in time. Once a signature is
valid, every answer is a verdict with status 200: any other is a failure to the organisation that
calls, and it may have chosen to let failures pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable

from magistrate.core.effects import Answer, RaiseDecision, RejectAnswer
from magistrate.core.exchange import Exchange
from magistrate.core.hook_verdicts import answer_frame, verdict_on_failure
from magistrate.engine.async_driver import AsyncDriver
from magistrate.engine.judge_calls import GRACE_S
from magistrate.engine.no_upstream import NoUpstream
from magistrate.engine.session import Session
from magistrate.gateway.hook_apps import HookApp
from magistrate.gateway.http import BadRequest, Request, Response, off_loop
from magistrate.gateway.moderated_request import ask_model
from magistrate.gateway.signatures import ID, BadSignature, is_signed, verify
from magistrate.gateway.upstream import Upstream
from magistrate.judging.base import ModelReply
from magistrate.observe import audit
from magistrate.storage.expiring_map import ExpiringMap
from magistrate.wire.hook_frames import Frame, UnreadableFrame, allow, read_frame
from magistrate.wire.messages import JSON, parsed
from magistrate.wire.routes import segments

Handler = Callable[[Request, Response], Awaitable[None]]

PATH = "/hooks/inference"
# Seconds from a request's headers to its verdict. The caller waits for 5 by default, and its own
# connection takes some of them.
DEADLINE_S = 3.5
# Of these, what is left for the verdict once the judge has had its time.
_RESERVE_S = 0.1
# For how long, in seconds, a repeated delivery gets the same answer; how many answers are kept.
_REPEATED_S, _REPEATED = 600.0, 10_000


class Hooks:
    """Answers the hooks of all apps that have them, by name in `apps`."""

    def __init__(self, apps: dict[str, HookApp], upstream: Upstream) -> None:
        self._apps = apps
        self._upstream = upstream
        self._answered: ExpiringMap[JSON] = ExpiringMap(_REPEATED, _REPEATED_S)

    def route(self, request: Request) -> Handler | None:
        """Return what answers a request, or None for one that is no hook.

        Raises `BadRequest` for a path below /hooks that does not exist: none goes upstream.
        """
        if segments(request.target)[:1] != ["hooks"]:
            return None
        hook = self._named(request.path)
        if hook is None:
            raise BadRequest(404, "not_found_error", f"no such hook: {request.path[:100]}")
        if request.method != "POST":
            raise BadRequest(405, "invalid_request_error", "frames are sent with POST")

        async def answer(request: Request, response: Response) -> None:
            await self._answer(hook, request, response)

        return answer

    def _named(self, path: str) -> HookApp | None:
        """Return the app of a path: the one that it names, or the only one."""
        if path == PATH and len(self._apps) == 1:
            return next(iter(self._apps.values()))
        return self._apps.get(path.removeprefix(f"{PATH}/"))

    async def _answer(self, hook: HookApp, request: Request, response: Response) -> None:
        digest = await off_loop(request, _authentic, hook, request)
        verdict = self._answered.get(digest) if digest else None
        if verdict is None:
            verdict = await self._verdict(hook, request, digest)
        await response.json(200, verdict)

    async def _verdict(self, hook: HookApp, request: Request, digest: str) -> JSON:
        """Return the verdict on a frame, whatever happens. It is kept unless magistrate failed."""
        on_error = hook.settings.on_error
        session = Session(hook.app.engine, raises=False)
        exchange: Exchange | None = None
        late = 0
        try:
            left = DEADLINE_S - (time.monotonic() - request.began)
            async with asyncio.timeout(left):
                frame = await off_loop(request, _frame, request.body)
                if frame.kind == "unknown":
                    return _let_pass(hook, frame)
                exchange = session.exchange(frame.request)
                session.flow = answer_frame(exchange, frame, on_error)
                left = DEADLINE_S - (time.monotonic() - request.began) - GRACE_S - _RESERVE_S
                session.deadline_s = max(0.0, min(session.deadline_s, left))
                verdict = await self._driven(session, hook)
        except TimeoutError:
            failure, late = "deadline", len(request.body)
        except _Ended:
            failure = "state store"
        except UnreadableFrame:
            failure = "frame"
        except _NotJson:  # content can be nested so deeply that no reader takes it
            failure, on_error = "not JSON", "deny"
        except Exception as error:
            failure = type(error).__name__
        else:
            _note(hook, frame, verdict)
            if digest and verdict["magistrate"]["action"] != "unavailable":
                self._answered.put((digest,), verdict)
            return verdict
        verdict = verdict_on_failure(on_error, failure, exchange, late_over_bytes=late)
        audit.warn(
            "hook failed",
            app=hook.app.name,
            failure=failure,
            verdict=verdict["action"],
            decision_id=verdict["magistrate"]["id"],
        )
        return verdict

    async def _driven(self, session: Session, hook: HookApp) -> JSON:
        outward = AsyncDriver(session, _HookEdge(self._upstream, hook)).run()
        try:
            async for effect in outward:
                assert isinstance(effect, Answer), effect
                return effect.message
        finally:
            await outward.aclose()
        raise AssertionError("a flow without a verdict")


class _Ended(Exception):
    """The flow ended without a decision: a store failed."""


class _NotJson(Exception):
    """A body that is no JSON, that has a key twice, or that is nested too deeply."""


def _frame(body: bytes) -> Frame:
    try:
        data = parsed(body, unique=True)
    except ValueError:
        raise _NotJson from None
    return read_frame(data)


def _authentic(hook: HookApp, request: Request) -> str:
    """Return what identifies a signed delivery; an empty text for an unsigned one, where allowed.

    Raises `BadRequest` for any other.
    """
    headers = dict(request.headers)
    if hook.settings.allow_unsigned and not is_signed(headers):
        return ""
    try:
        verify(hook.keys, headers, request.body, time.time())
    except BadSignature as error:
        raise BadRequest(401, "authentication_error", f"not signed: {error}") from None
    return f"{hook.app.name} {headers[ID]} {hashlib.sha256(request.body).hexdigest()}"


def _let_pass(hook: HookApp, frame: Frame) -> JSON:
    """Return the verdict on a frame that is not known here. It is counted, and on record."""
    hook.app.engine.counters.count_uninspected("unknown_event")
    audit.warn(
        "uninspected request", app=hook.app.name, reason="unknown_event", frame=frame.type[:64]
    )
    return allow({"id": None, "action": "allow", "uninspected": "unknown_event"})


def _note(hook: HookApp, frame: Frame, verdict: JSON) -> None:
    """Put on record what the caller was told, with the id under which it knows the frame."""
    ours: JSON = verdict["magistrate"]
    audit.note(
        "hook verdict",
        app=hook.app.name,
        frame=frame.kind,
        request_id=frame.request_id,
        verdict=verdict["action"],
        decision_id=ours["id"],
        not_enforced=ours.get("not_enforced", []),
    )


class _HookEdge(NoUpstream):
    """The edge of one frame: only its judge asks anything."""

    def __init__(self, upstream: Upstream, hook: HookApp) -> None:
        self._upstream = upstream
        self._hook = hook

    async def ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        """Send a judge's request with the app's own credentials."""
        return await ask_model(self._upstream, self._hook.headers, body, timeout_s)

    def error(self, effect: RaiseDecision | RejectAnswer) -> Exception:
        """Return what ends the request."""
        return _Ended()
