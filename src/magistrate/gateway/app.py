"""The gateway as an ASGI application: every request by its route, to the app it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from magistrate.engine.routing import Stopped, open_session
from magistrate.engine.session import Session
from magistrate.gateway.admin import PROBES, Admin
from magistrate.gateway.apps import App, Apps
from magistrate.gateway.batches import answers_about_batches, with_own_results_url
from magistrate.gateway.hook_apps import hook_apps
from magistrate.gateway.hooks import Hooks
from magistrate.gateway.http import (
    JSON_TYPE,
    NO_RETRY,
    SMALL_BYTES,
    BadRequest,
    CallerLeft,
    Request,
    Response,
    head_of,
    off_loop,
    read,
    returned_headers,
)
from magistrate.gateway.loader import Served
from magistrate.gateway.moderated_request import GatewayEdge, relay, upstream_failed
from magistrate.gateway.upstream import FAILURES, Upstream, whole
from magistrate.wire.messages import JSON, as_bytes, is_object, parsed
from magistrate.wire.routes import segments

MOST_BYTES = 64 * 1024 * 1024  # the largest body that any client of the API sends is 32 MB
BODY_IDLE_S = 30.0
BODY_S = 300.0

_log = structlog.get_logger("magistrate.gateway")


def make_app(served: Served, *, counted: bool = False) -> Starlette:
    """Return the gateway's application. `counted`: its decisions are counted for Prometheus.

    Raises `SettingsError` or `ReviewError` if an app cannot be served.
    """
    gateway = Gateway(served)
    if counted:
        from prometheus_client import REGISTRY

        from magistrate.observe.metrics import Metrics

        metrics = Metrics(REGISTRY)
        for app in gateway.apps.all:
            app.engine.add_sink(metrics.of(app.name))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        await gateway.upstream.open()
        try:
            yield
        finally:
            await gateway.close()

    return Starlette(routes=[Mount("/", app=gateway)], lifespan=lifespan)


class Gateway:
    """Serves all apps in front of one upstream."""

    def __init__(self, served: Served) -> None:
        self.apps = Apps(served)
        self.upstream = Upstream(served.gateway.upstream)
        self._public_url = served.gateway.public_url
        self._admin = Admin(self.apps, self.upstream)
        self._hooks = Hooks(hook_apps(served, self.apps), self.upstream)

    async def close(self) -> None:
        """Close the connections and the stores."""
        await self.upstream.close()
        await asyncio.to_thread(self.apps.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = Response(send)
        if scope["type"] != "http":
            return
        try:
            head = head_of(scope)
            if not self._is_open(head):
                self.apps.of(head)  # before a stranger's body is read
            request = await read(
                head, receive, most_bytes=MOST_BYTES, idle_s=BODY_IDLE_S, whole_s=BODY_S
            )
        except CallerLeft:
            return
        except BadRequest as error:
            # What is left of the body is not read: it would be the next request.
            refused = [NO_RETRY, ("connection", "close")]
            await response.error(error.status, error.kind, error.message, refused)
            return
        await _until_caller_leaves(receive, self._serve(request, response))

    def _is_open(self, head: Request) -> bool:
        """Return whether a request needs no key: a probe, or a hook, which is signed."""
        return head.path in PROBES or segments(head.target)[:1] == ["hooks"]

    async def _serve(self, request: Request, response: Response) -> None:
        try:
            own = self._hooks.route(request) or self._admin.route(request)
            await (own(request, response) if own else self._moderated(request, response))
        except BadRequest as error:
            await response.error(error.status, error.kind, error.message, [NO_RETRY])
        except FAILURES as error:
            if response.started:
                _log.warning("upstream broke", target=request.path, error=type(error).__name__)
                raise
            ended = upstream_failed(error)
            await response.error(ended.status, ended.kind, ended.message)
        except Exception as error:
            _log.error("failed", target=request.path, error=type(error).__name__)
            if response.started:
                raise
            said = f"magistrate failed: {type(error).__name__}"
            await response.error(500, "api_error", said, [NO_RETRY])

    async def _moderated(self, request: Request, response: Response) -> None:
        app = self.apps.of(request)
        request = _aliased(request)
        headers = self.apps.headers(request)
        session = await off_loop(request, self._session, app, request)
        if isinstance(session, Stopped):
            raise BadRequest(400, "invalid_request_error", session.reason)
        if session is None:
            await self._pass(request, headers, response)
            return
        edge = GatewayEdge(session, self.upstream, request, headers, self._rewriting(request))
        await edge.respond(response)

    def _session(self, app: App, request: Request) -> Session | Stopped | None:
        session = open_session(
            app.engine, request.method, request.target, _body(request), raises=False
        )
        if isinstance(session, Session):
            session.is_large = len(request.body) > SMALL_BYTES
        return session

    def _rewriting(self, request: Request) -> Callable[[JSON], JSON]:
        base = self._public_url or request.base_url
        return lambda body: with_own_results_url(body, base)

    async def _pass(
        self, request: Request, headers: list[tuple[str, str]], response: Response
    ) -> None:
        """Forward a request without content, such as a list of models."""
        found = await self.upstream.send(
            request.method,
            request.target,
            headers,
            request.body,
            offered=request.header("accept-encoding"),
        )
        if not answers_about_batches(request.path) or found.status != 200:
            await relay(found, response)
            return
        data = await whole(found)
        try:
            body = parsed(data)
        except ValueError:
            body = None
        if is_object(body):
            data = as_bytes(self._rewriting(request)(body))
        returned = returned_headers(found.headers.items())
        await response.bytes(
            found.status, data, [*((k, v) for k, v in returned if k != "content-type"), JSON_TYPE]
        )


def _aliased(request: Request) -> Request:
    """Return the request with the path that upstream has: some SDKs leave the version out."""
    if not request.path.startswith("/messages"):
        return request
    return replace(request, target=f"/v1{request.target}")


def _body(request: Request) -> JSON | None:
    """Return a body that is one JSON object with unique keys; else None."""
    try:
        found = parsed(request.body, unique=True)
    except ValueError:
        return None
    return found if is_object(found) else None


async def _until_caller_leaves(receive: Receive, served: Awaitable[None]) -> None:
    """Serve a request; cancel that, with its upstream call and judges, if the caller leaves."""
    serving = asyncio.ensure_future(served)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            serving.cancel()
            await asyncio.wait((serving,))
        if not serving.cancelled():
            serving.result()
    finally:
        for task in (serving, leaving):
            if not task.done():
                task.cancel()
        await asyncio.wait((serving, leaving))


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


__all__ = ["App", "Gateway", "make_app"]
