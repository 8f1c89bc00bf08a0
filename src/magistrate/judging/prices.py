"""Prices of tokens, from the dated table in `prices.yaml`. Unknown models have no price."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files
from typing import Annotated

from pydantic import AfterValidator, Field

from magistrate.config.diagnostics import SettingsError
from magistrate.config.schema import Strict, must_be, parsed
from magistrate.config.yaml_document import read
from magistrate.verdicts import Usage

Dollars = Annotated[float, Field(ge=0)]
_DATED = re.compile(r"-20\d{6}$")


class Rates(Strict):
    """Dollars per million tokens."""

    input: Dollars
    output: Dollars
    write: Dollars
    read: Dollars


class LongRates(Rates):
    """The rates of requests with more than `tokens` of input."""

    tokens: int


class ModelPrice(Rates):
    """The prices of one model.

    `min_cacheable`: the shortest prefix it caches, in tokens; None if that is not published.
    """

    min_cacheable: int | None
    above: LongRates | None = None

    def rates(self, input_tokens: int) -> Rates:
        """Return the rates of one request, by the size of its whole input."""
        if self.above is not None and input_tokens > self.above.tokens:
            return self.above
        return self


def _date(value: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise must_be("a date such as 2026-10-31")
    return value


class PriceTable(Strict):
    """The whole table. `as_of`: the date on which the prices were read."""

    as_of: Annotated[str, AfterValidator(_date)]
    batch_discount: float
    models: dict[str, ModelPrice]


@cache
def price_table() -> PriceTable:
    """Return the table that is part of the package; read once."""
    with as_file(files("magistrate") / "judging" / "prices.yaml") as path:
        found, problems, _ = parsed(PriceTable, read(path))
    if found is None or problems:
        raise SettingsError(problems)
    return found


def price_of(model: str | None) -> ModelPrice | None:
    """Return the price of a model by its Claude API id, with or without date; None if unknown."""
    return price_table().models.get(_DATED.sub("", model or ""))


def min_cacheable(model: str | None) -> int:
    """Return the shortest prefix, in tokens, that is worth a cache breakpoint for this model.

    If the model's minimum is not known, return the largest known one: the API ignores a breakpoint
    after too short a prefix, so a value that is too high only misses some caching.
    """
    price = price_of(model)
    if price is not None and price.min_cacheable is not None:
        return price.min_cacheable
    return max(known.min_cacheable or 0 for known in price_table().models.values())


def priced(usage: Usage, model: str | None, *, batch: bool = False) -> Usage:
    """Return the usage of one model call with its cost in dollars, None if that is unknown.

    `usage.input_tokens` are those neither read from nor written to the cache, as the API counts.
    """
    price = price_of(model)
    if price is None:
        return replace(usage, cost_usd=None)
    total = usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens
    rates = price.rates(total)
    dollars = (
        usage.input_tokens * rates.input
        + usage.cache_write_tokens * rates.write
        + usage.cache_read_tokens * rates.read
        + usage.output_tokens * rates.output
    ) / 1_000_000
    return replace(usage, cost_usd=dollars * (price_table().batch_discount if batch else 1))
