"""The charts of a report, as inline SVG that needs no script and follows the page's colours.

altair and vl-convert are the extra `report`; without it there are no charts, and the tables next to
them say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from magistrate.evals.metrics.statistics import Interval

# altair takes no CSS variables, so these replace them until the SVG is made.
_INK, _GRID, _SERIES = "#010101", "#010102", ("#010103", "#010104")
_VARIABLES = {_INK: "--ink", _GRID: "--line", _SERIES[0]: "--series-a", _SERIES[1]: "--series-b"}
_SHAPES, _DASHES = ("circle", "square"), ([1, 0], [4, 3])
_WIDTH, _STEP = 340, 15
_POINT = Interval(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """One value with its interval. `at` is the other coordinate, where there is one."""

    name: str
    run: str
    value: float
    interval: Interval
    at: float = 0.0
    at_interval: Interval = _POINT
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Charts:
    """Draws, if it can."""

    altair: Any = None
    convert: Any = None

    @classmethod
    def available(cls) -> Charts:
        """With the libraries of the extra `report`, or without any."""
        try:
            return cls(import_module("altair"), import_module("vl_convert"))
        except ImportError:
            return cls()

    def __bool__(self) -> bool:
        return self.altair is not None

    def whiskers(self, marks: Sequence[Mark], title: str) -> str:
        """One line a name, with a dot and whiskers for each run; shares from 0 to 100%."""
        if not self or not marks:
            return ""
        alt = self.altair
        runs = list(dict.fromkeys(mark.run for mark in marks))
        base = self._base(marks, runs).encode(
            y=alt.Y("name:N", sort=None, title=None), yOffset=alt.YOffset("run:N", sort=runs)
        )
        share = alt.Axis(format="~%", title=title, tickCount=5)
        lines = base.mark_rule(strokeWidth=2).encode(
            strokeDash=self._dash(runs),
            x=alt.X("low:Q", scale=alt.Scale(domain=_domain(marks)), axis=share),
            x2="high:Q",
        )
        dots = base.mark_point(filled=True, size=70, opacity=1).encode(
            x="value:Q", shape=self._shape(runs)
        )
        step = alt.Step(_STEP if len(runs) > 1 else 2 * _STEP, **{"for": "position"})
        return self._svg((lines + dots).properties(width=_WIDTH, height=step))

    def tradeoff(self, marks: Sequence[Mark]) -> str:
        """Return what is caught (up) against what is flagged without reason (right), by grade.

        The axis to the right is by square root: what matters happens near 0.
        """
        if not self or not marks:
            return ""
        alt = self.altair
        runs = list(dict.fromkeys(mark.run for mark in marks))
        base = self._base(marks, runs)
        widest = min(1.0, max(0.05, *(mark.at_interval.high for mark in marks)))
        right = alt.X(
            "at:Q",
            scale=alt.Scale(type="sqrt", domain=[0, widest]),
            axis=alt.Axis(format="~%", title="harmless cases flagged", tickCount=5),
        )
        up = alt.Y(
            "value:Q",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="~%", title="violating cases caught", tickCount=5),
        )
        curve = base.mark_line(strokeWidth=1.5, interpolate="linear").encode(
            x=right, y=up, order="order:Q", strokeDash=self._dash(runs)
        )
        across = base.mark_rule(opacity=0.6).encode(x=alt.X("at_low:Q"), x2="at_high:Q", y=up)
        upward = base.mark_rule(opacity=0.6).encode(x=right, y=alt.Y("low:Q"), y2="high:Q")
        dots = base.mark_point(filled=True, opacity=1).encode(
            x=right,
            y=up,
            shape=self._shape(runs),
            size=alt.Size("size:Q", scale=None, legend=None),
        )
        whole = across + upward + curve + dots
        for run, below in zip(runs, (-7, 15), strict=False):  # so that two runs do not overlap
            words = base.transform_filter(alt.datum.run == run)
            whole += words.mark_text(align="left", dx=7, dy=below, fontSize=11).encode(
                x=right, y=up, text="name:N", color=alt.value(_INK)
            )
        return self._svg(whole.properties(width=_WIDTH + 60, height=240))

    def _base(self, marks: Iterable[Mark], runs: Sequence[str]) -> Any:
        rows = [
            {
                "name": mark.name,
                "run": mark.run,
                "value": mark.value,
                "low": mark.interval.low,
                "high": mark.interval.high,
                "at": mark.at,
                "at_low": mark.at_interval.low,
                "at_high": mark.at_interval.high,
                "size": 110 if mark.strong else 45,
                "order": order,
            }
            for order, mark in enumerate(marks)
        ]
        alt = self.altair
        colour = alt.Color(
            "run:N", scale=alt.Scale(domain=runs, range=list(_SERIES[: len(runs)])), legend=None
        )
        return alt.Chart(alt.Data(values=rows)).encode(color=colour)

    def _shape(self, runs: Sequence[str]) -> Any:
        alt = self.altair
        scale = alt.Scale(domain=list(runs), range=list(_SHAPES[: len(runs)]))
        return alt.Shape("run:N", scale=scale, legend=None)

    def _dash(self, runs: Sequence[str]) -> Any:
        alt = self.altair
        scale = alt.Scale(domain=list(runs), range=list(_DASHES[: len(runs)]))
        return alt.StrokeDash("run:N", scale=scale, legend=None)

    def _svg(self, chart: Any) -> str:
        alt = self.altair
        axis = alt.AxisConfig(
            labelColor=_INK,
            titleColor=_INK,
            gridColor=_GRID,
            domainColor=_GRID,
            tickColor=_GRID,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=260,
        )
        whole = chart.configure(
            background="transparent", axis=axis, view=alt.ViewConfig(stroke=None)
        )
        return themed(str(self.convert.vegalite_to_svg(whole.to_dict(validate=False))))


def _domain(marks: Sequence[Mark]) -> list[float]:
    """From 0 to 100%, or to the widest whisker where all are near 0."""
    widest = max(mark.interval.high for mark in marks)
    return [0.0, 1.0 if widest > 0.5 else max(0.02, widest)]


def themed(svg: str) -> str:
    """Return the SVG in the page's colours and width, without a label: its figure has one."""
    for colour, name in _VARIABLES.items():
        svg = svg.replace(f'"{colour}"', f'"var({name})"')
    svg = re.sub(r' (?:role|aria-[a-z]+|xmlns:xlink|class)="[^"]*"', "", svg)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
