"""The caller's own timeout bounds the judges, as it bounds the call itself."""

from __future__ import annotations

import time
from typing import Any

import httpx2

from edges import FLAVOURS, asking, both, edge
from magistrate import ModerationUnavailable
from magistrate.testing import (
    JudgeScript,
    Simulator,
    fails_with,
    hang,
    text,
    when_judging,
)
from pairs import pairs

SLOW = 6.0  # the judge would take as long as this, and its own deadline is longer
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "of the client": ({"timeout": 0.4}, {}),
    "of the client, in parts": ({"timeout": httpx2.Timeout(60.0, read=0.4)}, {}),
    "of the call": ({}, {"timeout": 0.4}),
    "of the call, though the client's is longer": ({"timeout": 30.0}, {"timeout": 0.4}),
}


@pairs(flavour=FLAVOURS, stage=["input", "output"], surface=["create", "stream"], way=WAYS)
def test_no_judge_takes_longer_than_the_caller_waits(
    way: str, surface: str, stage: str, flavour: str
) -> None:
    of_client, of_call = WAYS[way]
    script = JudgeScript(when_judging("", fails_with(hang(SLOW)), stage=stage))
    with edge(flavour, Simulator(text("fine"), judge=script), **of_client) as at:
        began = time.monotonic()
        got = at.ask(surface, {**asking("hi"), **of_call})
        assert type(got.error) is ModerationUnavailable
        assert time.monotonic() - began < SLOW
        assert {(f.stage, f.reason) for f in at.decision().judge_failures} == {(stage, "timeout")}


@both
def test_a_longer_timeout_does_not_lengthen_the_judges_deadline(flavour: str) -> None:
    script = JudgeScript(when_judging("", fails_with(hang(SLOW))))
    settings = {"judge": {"deadline_s": 0.3}}
    with edge(flavour, Simulator(text("fine"), judge=script), settings=settings) as at:
        began = time.monotonic()
        assert type(at.ask("create", asking("hi")).error) is ModerationUnavailable
        assert time.monotonic() - began < SLOW
