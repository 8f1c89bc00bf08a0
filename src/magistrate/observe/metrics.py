"""Metrics of decisions for Prometheus. Extra `metrics`. No label holds content.

magistrate_decisions_total{app, stage, action}
magistrate_findings_total{app, stage, section, grade}
magistrate_judge_failures_total{app, stage, reason}
magistrate_uninspected_total{app, reason}
magistrate_disclosures_total{app, disclosure}
magistrate_judge_calls_total{app}, magistrate_judge_tokens_total{app, kind}
magistrate_judge_cost_usd_total{app}: of models with a known price
magistrate_exchange_seconds{app, action}: from the request to the end of its answer
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from magistrate.core.decision_record import Decision
from magistrate.settings import Settings

# A judge takes half a second to some seconds, and a stream up to minutes.
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The counters of all apps of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"magistrate_{name}", about, ("app", *labels), registry=registry)

        self.decisions = counter("decisions", "Decisions made", "stage", "action")
        self.findings = counter("findings", "Findings of judges", "stage", "section", "grade")
        self.failures = counter("judge_failures", "Judgments without a verdict", "stage", "reason")
        self.uninspected = counter("uninspected", "Items that no judge could read", "reason")
        owed = "Disclosures owed, and what became of them"
        self.disclosures = counter("disclosures", owed, "disclosure")
        self.calls = counter("judge_calls", "Calls of judge models")
        self.tokens = counter("judge_tokens", "Tokens of judge models", "kind")
        self.cost = counter("judge_cost_usd", "What judging cost, in dollars")
        self.seconds = Histogram(
            "magistrate_exchange_seconds",
            "From the request to the end of its answer, in seconds",
            ("app", "action"),
            buckets=_BUCKETS,
            registry=registry,
        )

    def of(self, app: str) -> AppMetrics:
        """Return the sink of one app."""
        return AppMetrics(self, app)


class AppMetrics:
    """Counts the decisions of one app. Implements `Sink`."""

    def __init__(self, metrics: Metrics, app: str) -> None:
        self._metrics = metrics
        self._app = app

    def record(self, decision: Decision, settings: Settings) -> None:
        """Count a finished decision."""
        app, to = self._app, self._metrics
        to.decisions.labels(app, decision.stage, decision.action).inc()
        for found in decision.findings:
            section = found.clause.partition(".")[0]
            to.findings.labels(app, found.stage, section, found.grade).inc()
        for failed in decision.judge_failures:
            to.failures.labels(app, failed.stage, failed.reason).inc()
        for item in decision.uninspected:
            to.uninspected.labels(app, item.reason).inc()
        if decision.disclosure is not None:
            to.disclosures.labels(app, decision.disclosure).inc()
        usage = decision.usage
        to.calls.labels(app).inc(usage.judge_calls)
        for kind, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache_write", usage.cache_write_tokens),
            ("cache_read", usage.cache_read_tokens),
        ):
            to.tokens.labels(app, kind).inc(tokens)
        if usage.cost_usd is not None:
            to.cost.labels(app).inc(usage.cost_usd)
        to.seconds.labels(app, decision.action).observe(decision.latency_ms / 1000)
