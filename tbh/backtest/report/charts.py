"""Charts as inline SVG: lines over time and bars.

Widths are in per cent of the chart, heights and letters in pixels, so that one drawing reads on a phone and on paper.
Colours are classes of the page's style sheet; there is no inline style, which the page's own policy forbids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from tbh.backtest.report.scales import short, ticks, time_ticks
from tbh.strategies.base import FloatArray

AXIS_PX = 70
_WIDE = 1_000
"""Units across a line's own drawing, which is stretched to the chart's width."""
_BUCKETS = 700


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what stands under it, its height, its class, and what is told on pointing at it."""

    label: str
    value: float
    kind: str
    title: str


def time_chart(
    key: str,
    title: str,
    stamps: npt.NDArray[np.int64],
    lines: Sequence[tuple[str, FloatArray]],
    *,
    height: int,
    filled: bool = False,
) -> str:
    """Lines (class, n values) over ``stamps`` (n, ms UTC). ``filled``: one line, of fractions, that hangs from zero;
    the times stand below it and not below the others."""
    first, last = int(stamps[0]), int(stamps[-1])
    low, high = _range([values for _, values in lines], zero=filled)
    scale, unit = (100.0, " %") if filled else (1.0, "")
    top, bottom = 8, height - (22 if filled else 8)

    def down(value: float) -> float:
        return top + (high - value) / (high - low) * (bottom - top)

    steps = [value / scale for value in ticks(low * scale, high * scale, max(3, height // 45))]
    grid = "".join(f'<line class="grid" x1="0" x2="100%" y1="{down(v):.1f}" y2="{down(v):.1f}"/>' for v in steps)
    labels = "".join(
        f'<text x="{AXIS_PX - 8}" y="{down(v) + 4:.1f}" text-anchor="end">{label}{unit}</text>'
        for v, label in zip(steps, short([value * scale for value in steps]), strict=True)
    )
    paths = "".join(_line(kind, stamps, values, down, filled) for kind, values in lines)
    return (
        f'<div class="plot" id="{key}"><svg class="axis" width="{AXIS_PX}" height="{height}" aria-hidden="true">'
        f'{labels}</svg><svg class="area" height="{height}" role="img" aria-label="{escape(title)}">{grid}'
        f"{_times(first, last, bottom, told=filled)}"
        f'<svg width="100%" height="{height}" viewBox="0 0 {_WIDE} {height}" preserveAspectRatio="none">{paths}</svg>'
        "</svg></div>"
    )


def _range(all_values: Sequence[FloatArray], *, zero: bool) -> tuple[float, float]:
    low = min(float(values.min()) for values in all_values)
    high = 0.0 if zero else max(float(values.max()) for values in all_values)
    if high - low < 1e-9 * max(abs(high), abs(low), 1e-9):
        spread = abs(high) * 0.01 or 0.01
        return low - spread, high + (0.0 if zero else spread)
    room = (high - low) * 0.04
    return low - room, high + (0.0 if zero else room)


def _line(kind: str, stamps: npt.NDArray[np.int64], values: FloatArray, down: object, filled: bool) -> str:
    assert callable(down)
    first, span = int(stamps[0]), max(int(stamps[-1]) - int(stamps[0]), 1)
    points = [
        f"{(int(stamps[row]) - first) / span * _WIDE:.1f},{down(float(values[row])):.1f}" for row in telling(values)
    ]
    if filled:
        return f'<path class="{kind}" d="M0,{down(0.0):.1f}L{" ".join(points)}L{_WIDE},{down(0.0):.1f}Z"/>'
    return f'<path class="line {kind}" d="M{" ".join(points)}"/>'


def telling(values: FloatArray) -> list[int]:
    """The rows (sorted) that a drawing needs: the first, the last, and the lowest and highest of each stretch."""
    rows = len(values)
    if rows <= 2 * _BUCKETS:
        return list(range(rows))
    edges = np.linspace(0, rows, _BUCKETS + 1).astype(np.int64)
    found = {0, rows - 1}
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[begin:end]
        found |= {begin + int(part.argmin()), begin + int(part.argmax())}
    return sorted(found)


def _times(first: int, last: int, bottom: int, *, told: bool) -> str:
    drawn = []
    for number, (ms, label) in enumerate(time_ticks(first, last, 8)):
        part = (ms - first) / max(last - first, 1) * 100
        drawn.append(f'<line class="grid" x1="{part:.2f}%" x2="{part:.2f}%" y1="0" y2="{bottom}"/>')
        if not told:
            continue
        anchor = "start" if part < 4 else "end" if part > 96 else "middle"
        more = " alternate" if number % 2 else ""
        drawn.append(
            f'<text class="tick{more}" x="{part:.2f}%" y="{bottom + 17}" text-anchor="{anchor}">{label}</text>'
        )
    return "".join(drawn)


def bar_chart(title: str, bars: Sequence[Bar], *, height: int, every: int = 1, edges: bool = False) -> str:
    """Bars from zero, side by side; each ``every``-th has its label, under its middle or its left edge."""
    low = min(0.0, *(bar.value for bar in bars))
    high = max(0.0, *(bar.value for bar in bars))
    if high == low:
        high = 1.0
    room = (high - low) * 0.06
    low, high = low - room * (low < 0), high + room * (high > 0)
    top, bottom = 6, height - 22

    def down(value: float) -> float:
        return top + (high - value) / (high - low) * (bottom - top)

    steps = ticks(low, high, max(2, height // 45))
    grid = "".join(
        f'<line class="{"zero" if abs(v) < 1e-12 else "grid"}" x1="0" x2="100%" y1="{down(v):.1f}" y2="{down(v):.1f}"/>'
        for v in steps
    )
    labels = "".join(
        f'<text x="{AXIS_PX - 8}" y="{down(v) + 4:.1f}" text-anchor="end">{label}</text>'
        for v, label in zip(steps, short(steps), strict=True)
    )
    width = 100 / len(bars)
    drawn, told = [], 0
    for number, bar in enumerate(bars):
        upper, lower = sorted((down(0.0), down(bar.value)))
        left = number * width
        tall = max(lower - upper, 1.0 if bar.value else 0.0)
        drawn.append(
            f'<rect class="{bar.kind}" x="{left + width * 0.1:.3f}%" y="{upper:.1f}" width="{width * 0.8:.3f}%"'
            f' height="{tall:.1f}"><title>{escape(bar.title)}</title></rect>'
        )
        if number % every == 0 and bar.label:
            more = " alternate" if told % 2 else ""
            told += 1
            drawn.append(
                f'<text class="tick{more}" x="{left + (0 if edges else width / 2):.3f}%" y="{height - 5}"'
                ' text-anchor="middle">'
                f"{escape(bar.label)}</text>"
            )
    return (
        f'<div class="plot"><svg class="axis" width="{AXIS_PX}" height="{height}" aria-hidden="true">{labels}</svg>'
        f'<svg class="area" height="{height}" role="img" aria-label="{escape(title)}">{grid}{"".join(drawn)}</svg>'
        "</div>"
    )
