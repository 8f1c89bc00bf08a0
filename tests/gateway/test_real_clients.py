"""What real clients showed about the gateway: `scripts/clients` runs them all."""

from __future__ import annotations

import json
from pathlib import Path

from edges import asking
from gateways import served
from magistrate.testing import JudgeScript, Simulator, refuses, text, when_judging

KEY = {"x-api-key": "k", "anthropic-version": "2023-06-01"}


def test_an_outage_within_a_stream_does_not_say_overloaded(tmp_path: Path) -> None:
    """Claude Code repeats an overloaded stream twice more before it asks without one.

    Each time the model is paid for. Of any other error in a stream it asks once without one, and
    there `x-should-retry: false` can be said.
    """
    sim = Simulator(text("Bern."), judge=JudgeScript(when_judging("", refuses(), stage="output")))
    with served(sim, tmp_path) as gateway, gateway.http(headers=KEY) as http:
        answer = http.post("/v1/messages", json=asking("hi", stream=True))
        assert answer.status_code == 200
        assert "Bern" not in answer.text
        name, data = answer.text.strip().split("\n\n")[-1].split("\n")
        assert name == "event: error"
        error = json.loads(data.removeprefix("data: "))["error"]
        assert error["type"] == "api_error"
        assert "moderation is unavailable" in error["message"]
        whole = http.post("/v1/messages", json=asking("hi"))
        assert (whole.status_code, whole.headers["x-should-retry"]) == (529, "false")
        assert whole.json()["error"]["type"] == "overloaded_error"
