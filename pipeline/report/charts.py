"""The geometry of bar charts. The templates draw them as SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilray.model.arrays import Ints

Doubles = NDArray[np.float64]

WIDTH, HEIGHT = 400, 150  # in units of the SVG view box; letters are 12 units high
LEFT, RIGHT, TOP, BOTTOM = 46, 392, 8, 126  # the area of the bars
_GAP = 1


@dataclass(frozen=True)
class Bar:
    """A rectangle and its label."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis. at: its position along the axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Bars over adjacent intervals. description: what the chart shows, for screen readers."""

    description: str
    bars: tuple[Bar, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]


def bar_chart(description: str, heights: Doubles | Ints, edges: Sequence[str], unit: str) -> Chart:
    """Return a chart of N bars. N is at least 1.

    heights: the values of the bars, [N]. edges: the labels of the N + 1 sides of the bars. unit: the unit of a height.
    """
    count = len(heights)
    top = _top(float(max(heights.max(), 1e-9)))
    width, max_height = (RIGHT - LEFT) / count, BOTTOM - TOP
    bars = tuple(
        Bar(
            round(LEFT + i * width + _GAP / 2, 2),
            round(BOTTOM - max_height * value / top, 2),
            round(max(width - _GAP, 1), 2),
            round(max_height * value / top, 2),
            f"{edges[i]} to {edges[i + 1]}: {compact(value)} {unit}",
        )
        for i, value in enumerate(heights.tolist())
    )
    marks = sorted({0, count // 2, count})
    x = tuple(Tick(round(LEFT + i * width, 2), edges[i]) for i in marks)
    y = tuple(Tick(round(BOTTOM - max_height * part, 2), compact(top * part)) for part in (0, 0.5, 1))
    return Chart(description, bars, x, y)


def histogram(description: str, values: Doubles, edges: Doubles, unit: str, form: Callable[[float], str]) -> Chart:
    """Return a chart of the number of values between neighbouring edges. form: the format of an edge's label."""
    counts, _ = np.histogram(values, edges)
    return bar_chart(description, counts, [form(edge) for edge in edges.tolist()], unit)


def _top(value: float) -> float:
    """Round up to 1, 2, 5 or 10 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def compact(value: float) -> str:
    """Format a number with at most three digits, and k, M, G or T."""
    value = float(f"{value:.3g}")  # rounded before the letter is chosen: 999.7 becomes 1k
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Format a duration in days, hours, minutes or seconds."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
