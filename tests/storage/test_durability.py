"""A caller that was told "pending review" can rely on it, whatever happens to the process next."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import processes
from magistrate.reviews import ReviewStore
from magistrate.settings import Settings

APP = """
import asyncio, os, signal, sys
from magistrate import Anthropic, AsyncAnthropic
from magistrate.testing import JudgeScript, Simulator, high_risk, text, when_judging

sim = Simulator(text("Take half a tablet."),
                judge=JudgeScript(when_judging("half a tablet", high_risk("healthcare"))))
call = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "my tablets?"}])
flavour = sys.argv[1]
if flavour == "sync":
    client = Anthropic(api_key="k", http_client=sim.http_client())
    notice = client.messages.create(**call)
elif flavour == "stream":
    client = Anthropic(api_key="k", http_client=sim.http_client())
    for event in client.messages.create(**call, stream=True):
        if event.type == "content_block_delta":
            os.kill(os.getpid(), signal.SIGKILL)  # the first word of the notice has been seen
else:
    async def ask():
        client = AsyncAnthropic(api_key="k", http_client=sim.async_http_client())
        return await client.messages.create(**call)
    notice = asyncio.run(ask())
assert notice.moderation["action"] == "hold"
os.kill(os.getpid(), signal.SIGKILL)
"""

CONFIG = """
version: 1
app: {name: clinic, audience: consumer, interface: chatbot, high_risk: [healthcare]}
review:
  store: "sqlite:///reviews.db"
  reviewers: [{name: dr.lee, qualified_in: [healthcare]}]
"""


@pytest.mark.parametrize("flavour", ["sync", "async", "stream"])
def test_a_process_killed_right_after_the_notice_loses_no_held_answer(
    flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "magistrate.yaml").write_text(CONFIG)
    done = processes.run(APP, flavour, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.chdir(tmp_path)
    settings = Settings.load("magistrate.yaml")
    assert settings.review is not None
    store = ReviewStore(settings.review, app="clinic")
    (held,) = store.pending()
    assert "my tablets?" in str(held.request)
    assert "half a tablet" in str(held.message)
    assert held.decision["review_id"] == held.id
    store.approve(held.id, reviewer="dr.lee")
    released = store.get(held.id).released
    assert released is not None
    assert "half a tablet" in str(released)
    store.close()
