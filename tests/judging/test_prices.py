"""What judging costs: the table against published prices, and the arithmetic against its own."""

from __future__ import annotations

from itertools import product

import pytest

from magistrate.judging.prices import min_cacheable, price_of, price_table, priced
from magistrate.verdicts import Usage

# As published in October 2026: dollars per million tokens (input, output, five-minute write, read).
PUBLISHED = {
    "claude-haiku-5-5": (0.10, 0.50, 0.125, 0.01),
    "claude-haiku-4-5": (1.0, 5.0, 1.25, 0.10),
    "claude-sonnet-5-5": (2.0, 10.0, 2.50, 0.10),
    "claude-opus-5-5": (4.0, 20.0, 5.0, 0.20),
}
LONG = (0.50, 2.50, 0.625, 0.05)  # claude-haiku-5-5 above 100,000 tokens of input


def test_the_table_is_what_was_published():
    assert set(price_table().models) == set(PUBLISHED)
    for name, expected in PUBLISHED.items():
        found = price_of(name)
        assert found is not None
        assert (found.input, found.output, found.write, found.read) == expected


def test_a_write_costs_a_quarter_more_than_input_and_a_read_less():
    for price in price_table().models.values():
        for rates in (price, price.above or price):
            assert rates.write == pytest.approx(1.25 * rates.input)
            assert rates.read < rates.input


@pytest.mark.parametrize("kind", ["input_tokens", "output_tokens"])
@pytest.mark.parametrize("model", PUBLISHED)
def test_a_million_tokens_cost_what_the_table_says(model: str, kind: str):
    per_million = PUBLISHED[model][kind == "output_tokens"]
    usage = Usage(**{"judge_calls": 1, kind: 10_000})
    assert priced(usage, model).cost_usd == pytest.approx(per_million / 100)


@pytest.mark.parametrize(
    ("new", "written", "read", "rates"),
    [
        (100_000, 0, 0, PUBLISHED["claude-haiku-5-5"]),
        (100_001, 0, 0, LONG),
        # What is read from the cache counts towards the length too.
        (1_000, 2_000, 97_000, PUBLISHED["claude-haiku-5-5"]),
        (1_000, 2_000, 97_001, LONG),
    ],
)
def test_a_long_request_costs_more_as_a_whole(
    new: int, written: int, read: int, rates: tuple[float, ...]
):
    usage = Usage(1, new, 500, written, read)
    amounts = zip((new, 500, written, read), rates, strict=True)
    dollars = sum(tokens * rate for tokens, rate in amounts) / 1_000_000
    for batch, share in ((False, 1.0), (True, 0.5)):
        found = priced(usage, "claude-haiku-5-5", batch=batch)
        assert found.cost_usd == pytest.approx(dollars * share)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("model", ["gpt-5", "claude-haiku-9", "", None, "claude-haiku-5-5-beta"])
def test_what_is_not_in_the_table_has_an_unknown_price(model: str | None, batch: bool):
    assert priced(Usage(1, 1, 1, cost_usd=0.0), model, batch=batch).cost_usd is None


def test_a_date_does_not_change_the_price():
    assert price_of("claude-haiku-4-5-20251001") == price_of("claude-haiku-4-5") is not None


@pytest.mark.parametrize(
    ("model", "least"),
    [("claude-haiku-5-5", 512), ("claude-haiku-4-5-20251001", 4096), ("claude-opus-5-5", 4096)],
)
def test_where_the_least_cacheable_length_is_unknown_it_is_the_largest(model: str, least: int):
    assert min_cacheable(model) == least
    assert min_cacheable("unknown") == 4096


def test_unknown_stays_unknown_in_sums_and_what_was_not_asked_costs_nothing():
    known, unknown = Usage(1, cost_usd=0.25), Usage(1, cost_usd=None)
    for one, two in product((known, unknown), repeat=2):
        both = known.cost_usd == one.cost_usd == two.cost_usd
        assert (one + two).cost_usd == (0.5 if both else None)
    assert (Usage() + known).cost_usd == (known + Usage()).cost_usd == 0.25
