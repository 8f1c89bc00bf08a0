"""What is counted for Prometheus, and that no label holds content."""

from __future__ import annotations

import signal
import socket
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edges import asking
from gateway_process import process
from magistrate.core.decision_record import Decision, JudgeFailure
from magistrate.observe.metrics import Metrics
from magistrate.settings import Settings
from magistrate.testing import Simulator, text
from magistrate.verdicts import Finding, JudgeInfo, Usage
from magistrate.wire.parts import Uninspected

DECISION = Decision(
    id="dec_mark",
    action="hold",
    disclosure="added",
    stage="output",
    policy="mark@1",
    policy_hash="mark",
    settings_hash="mark",
    app="mark",
    judge=JudgeInfo("mark", "mark", "mark"),
    findings=(Finding("fraud_abuse.spam", "likely", "high", "input", "mark", "mark", "mark"),),
    review_id="mark",
    domains=("legal",),
    uninspected=(Uninspected("mark", "media"),),
    judge_failures=(JudgeFailure("input", "timeout", "mark"),),
    usage=Usage(2, 10, 3, 4, 5, 0.25),
    latency_ms=1500.0,
    platform={"mark": "mark"},
)


def counted(*decisions: Decision) -> dict[str, float]:
    """Every sample by its name and labels."""
    registry = CollectorRegistry()
    sink = Metrics(registry).of("shop")
    for decision in decisions:
        sink.record(decision, Settings())
    shown = generate_latest(registry).decode()
    assert "mark" not in shown
    return samples(shown)


def samples(shown: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(shown):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = (sample.labels[key] for key in sorted(sample.labels))
                found[" ".join((sample.name, *labels))] = sample.value
    return found


def test_each_decision_is_counted_in_all_its_parts() -> None:
    found = counted(DECISION, DECISION, replace(DECISION, action="allow", findings=()))
    assert found["magistrate_decisions_total hold shop output"] == 2
    assert found["magistrate_decisions_total allow shop output"] == 1
    assert found["magistrate_findings_total shop likely fraud_abuse input"] == 2
    assert found["magistrate_judge_failures_total shop timeout input"] == 3
    assert found["magistrate_uninspected_total shop media"] == 3
    assert found["magistrate_disclosures_total shop added"] == 3
    assert found["magistrate_judge_calls_total shop"] == 6
    assert found["magistrate_judge_tokens_total shop input"] == 30
    assert found["magistrate_judge_tokens_total shop cache_write"] == 12
    assert found["magistrate_judge_cost_usd_total shop"] == 0.75
    assert found["magistrate_exchange_seconds_sum hold shop"] == 3.0
    assert found["magistrate_exchange_seconds_bucket hold shop 2.5"] == 2
    assert found["magistrate_exchange_seconds_bucket hold shop 1.0"] == 0


def test_a_price_that_is_not_known_counts_as_nothing() -> None:
    found = counted(replace(DECISION, usage=Usage(1, 1, 1, cost_usd=None)))
    assert "magistrate_judge_cost_usd_total shop" not in found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_serves_the_metrics_of_all_its_processes(workers: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sim = Simulator(text("ok"))
    (tmp_path / "magistrate.yaml").write_text('{"version": 1, "judge": {"backend": "local"}}')
    key = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    more = ("--workers", workers, "--metrics-port", str(port))
    with sim.serve() as upstream, process(tmp_path, upstream, *more) as (url, running):
        for number in range(6):
            # A connection each, so that more than one process may be asked.
            body = asking(f"question {number}")
            assert httpx2.post(f"{url}/v1/messages", json=body, headers=key).status_code == 200
        found = samples(httpx2.get(f"http://127.0.0.1:{port}/metrics").text)
        assert found["magistrate_decisions_total allow app output"] == 6 or (
            found["magistrate_decisions_total allow app input"] == 6
        )
        assert "magistrate_" not in httpx2.get(f"{url}/metrics").text, "callers do not see them"
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
