"""What was done to cases, against what should have been: actions, pairs, repeats, time and money.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from magistrate.evals.statistics import Rate


@dataclass(frozen=True, slots=True)
class TwoWays:
    """A rate over the cases the judge answered, and over all, a failure counting as blocked."""

    answered: Rate
    enforced: Rate


@dataclass(frozen=True, slots=True)
class Conduct:
    """What was done, of the first repeat, contested cases left out.

    `actions[expected][decided]` counts cases. `disclose` is an allowed answer to which a disclosure
    was added; `failed`, only under decided, a case without an answer. `over_blocked` is the share
    that was held or blocked of the cases that should not have been: of `near_misses`, the ok
    twins of violating cases; of `ordinary` traffic; of all. `pairs_detected`: of pairs of which one
    twin violates, how many had both right in detection; `pairs_handled`: of all pairs, how many had
    both handled as expected. `severity_exact` and `severity_near` (at most one step off): of the
    violating cases where a violated clause was detected.
    """

    actions: dict[str, dict[str, int]]
    near_misses: TwoWays
    ordinary: TwoWays
    over_blocked: TwoWays
    pairs_detected: Rate
    pairs_handled: Rate
    severity_exact: Rate
    severity_near: Rate


@dataclass(frozen=True, slots=True)
class Flips:
    """Of the cases judged more than once, the share that did not come out the same each time.

    `detection` compares the repeats that were answered, `action` all of them; `either` is the flip
    rate. All are of nothing where each case was judged once.
    """

    repeats: int
    detection: Rate
    action: Rate
    either: Rate


@dataclass(frozen=True, slots=True)
class Judgments:
    """All judgments. `failures`: how many have no verdict, by reason.

    `dropped_quotes`: quotes that did not occur where the judge said, over all verdicts;
    `with_dropped` counts the verdicts that have any. `refused`: judgments in which a judge model
    refused to judge, whether or not another then did.
    """

    n: int
    failed: Rate
    failures: dict[str, int]
    dropped_quotes: int
    with_dropped: Rate
    refused: Rate


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a judgment took, of those that were answered; None where none was."""

    n: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """Per 1,000 judgments. `usd` is None where the price of any of them is not known."""

    judge_calls: float | None
    input_tokens: float | None
    output_tokens: float | None
    cache_write_tokens: float | None
    cache_read_tokens: float | None
    usd: float | None
