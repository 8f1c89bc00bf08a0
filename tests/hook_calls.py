"""Frames of inference hooks, signed and sent to a gateway as Anthropic would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from gateways import Files, Served, served
from magistrate.core.decision_record import Decision
from magistrate.testing import Simulator

JSON = dict[str, Any]

KEY = b"the key of the hook, 24."
OLD = b"the key before, 24 bytes"
VARIABLES = {
    "HOOK_SECRET": "whsec_" + base64.b64encode(KEY).decode(),
    "HOOK_SECRET_OLD": "whsec_" + base64.b64encode(OLD).decode(),
    "HOOK_UPSTREAM_KEY": "the-key-for-upstream",
}
# As the reference describes what Anthropic sends.
SENT = {
    "Content-Type": "application/json",
    "User-Agent": "anthropic-dlp/1",
    "Accept-Encoding": "identity",
}
HOOKS: JSON = {"secrets_env": ["HOOK_SECRET"]}

_numbers = count(1)


def signature(name: str, at: str, body: bytes, key: bytes) -> str:
    """What signs a body, made without any code of the package."""
    said = f"{name}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode()


def prompt(*turns: Any, **more: Any) -> JSON:
    """A prompt frame. A turn is a text of the user's, or a pair of role and content."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": turn}]}
        if isinstance(turn, str)
        else {"role": turn[0], "content": turn[1]}
        for turn in turns
    ]
    return {
        "type": "prompt",
        "request_id": f"req_{next(_numbers)}",
        "tenant_id": None,
        "session_id": "s-12",
        "model": "claude-sonnet-4-5",
        "actor": {"type": "user", "id": "user_9", "email_address": None},
        "source": {"application": "claude-code"},
        "messages": messages,
        "metadata": {},
        **more,
    }


def said(text: str) -> tuple[str, list[JSON]]:
    """A turn of the assistant's."""
    return "assistant", [{"type": "text", "text": text}]


def called(*texts: str, info: Any = None) -> JSON:
    """A tool-call frame with one call for each text."""
    content = [
        {
            "type": "tool_use",
            "id": f"toolu_{number}",
            "tool_name": "write",
            "input": {"text": text},
            "tool_info": info or {"type": "client"},
        }
        for number, text in enumerate(texts)
    ]
    return prompt(("assistant", content), type="tool_call")


@dataclass
class Hook:
    """An app's hook at a running gateway."""

    gateway: Served
    http: httpx2.Client
    sim: Simulator
    path: str = "/hooks/inference"

    def post(
        self,
        frame: JSON | bytes,
        *keys: bytes,
        name: str | None = None,
        off: int = 0,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> httpx2.Response:
        """Sign a frame, by default with the key, and send it. `off`: how wrong the clock is."""
        body = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        name = name or (frame["request_id"] if isinstance(frame, dict) else "req_raw")
        at = str(int(time.time()) + off)
        found = " ".join(signature(name, at, body, key) for key in keys or (KEY,))
        own = {"webhook-id": name, "webhook-timestamp": at, "webhook-signature": found}
        return self.http.post(path or self.path, content=body, headers=SENT | own | (headers or {}))

    def ask(self, frame: JSON | bytes, **options: Any) -> JSON:
        """The verdict on a frame. Checks what holds for every verdict."""
        answer = self.post(frame, **options)
        assert answer.status_code == 200, answer.text
        assert "content-encoding" not in answer.headers
        assert len(answer.content) <= 64 * 1024
        verdict = answer.json()
        assert verdict["action"] in ("allow", "deny")
        if verdict["action"] == "deny":
            assert 0 < len(verdict["deny_reason"]) <= 500
        return verdict

    def action(self, frame: JSON | bytes, **options: Any) -> str:
        return self.ask(frame, **options)["action"]

    @property
    def decisions(self) -> list[Decision]:
        return self.gateway.decisions()

    @property
    def judged(self) -> list[str]:
        """What each call of the judge was asked about, as text."""
        return [json.dumps(request.body) for request in self.sim.judge_requests]


@contextmanager
def hook(
    sim: Simulator,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    files: Files | None = None,
    upstream: str | None = None,
    **hooks: Any,
) -> Iterator[Hook]:
    """Serve one app with hooks. `hooks`: more of their settings."""
    found: JSON = {"name": "app", "config": "app.yaml", "hooks": HOOKS | hooks}
    gateway = {"upstream_key_env": "HOOK_UPSTREAM_KEY", "apps": [found]}
    files = {"app.yaml": settings or {}, **(files or {})}
    with (
        served(sim, folder, gateway=gateway, files=files, upstream=upstream) as at,
        at.http() as http,
    ):
        yield Hook(at, http, sim)
