"""Which request is for what, and what the API answers before it looks into a body. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, unquote

from magistrate.testing.events import dump
from magistrate.testing.replies import ErrorReply, error

LARGEST_BODY = 32 * 1024 * 1024

Kind: TypeAlias = Literal[
    "message",
    "count",
    "models",
    "model",
    "batch_create",
    "batch_list",
    "batch",
    "batch_delete",
    "batch_cancel",
    "batch_results",
]
WITH_BODY: frozenset[Kind] = frozenset({"message", "count", "batch_create"})
_BATCHES = "/v1/messages/batches"
_ROUTES: tuple[tuple[str, dict[str, Kind]], ...] = (
    ("/v1/messages", {"POST": "message"}),
    ("/v1/messages/count_tokens", {"POST": "count"}),
    ("/v1/models", {"GET": "models"}),
    ("/v1/models/([^/]+)", {"GET": "model"}),
    (_BATCHES, {"GET": "batch_list", "POST": "batch_create"}),
    (f"{_BATCHES}/([^/]+)", {"GET": "batch", "DELETE": "batch_delete"}),
    (f"{_BATCHES}/([^/]+)/cancel", {"POST": "batch_cancel"}),
    (f"{_BATCHES}/([^/]+)/results", {"GET": "batch_results"}),
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a request is for. `id` is the one in the path; `body` is JSON where a body is read."""

    kind: Kind
    id: str
    query: Mapping[str, Sequence[str]]
    body: Any = None


def route(
    method: str, target: str, headers: Mapping[str, str], content: bytes
) -> Route | ErrorReply:
    """Return what a request is for, or the API's error. `target` is path and query."""
    path, _, query = target.partition("?")
    bearer = headers.get("authorization", "").partition("Bearer ")[2].strip()
    if not bearer and not headers.get("x-api-key"):
        return error(401, message="x-api-key or Authorization header is required")
    found = next(((m, known) for form, known in _ROUTES if (m := re.fullmatch(form, path))), None)
    if found is None:
        return error(404, message=f"Not found: {method} {path} is not simulated")
    match, kinds = found
    if method not in kinds:
        return error(405, message="Method Not Allowed")
    if not headers.get("anthropic-version"):
        return error(400, message="anthropic-version: header is required")
    if len(content) > LARGEST_BODY:
        return error(413, message="Request exceeds the maximum size")
    kind, name = kinds[method], unquote(match[1]) if match.lastindex else ""
    fields = parse_qs(query, keep_blank_values=True)
    if kind not in WITH_BODY:
        return Route(kind, name, fields)
    try:
        body = json.loads(content)
        dump(body)  # the API takes no halves of surrogate pairs, not even escaped ones
    except ValueError as exc:
        return error(400, message=f"The request body is not valid JSON: {exc}")
    return Route(kind, name, fields, body)


def base_url(headers: Mapping[str, str]) -> str:
    """Return the URL that a request was sent to, for links in its answer."""
    host = headers.get("host", "api.anthropic.com")
    local = host.partition(":")[0] in ("127.0.0.1", "localhost")
    return f"{'http' if local else 'https'}://{host}"
