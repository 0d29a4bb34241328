"""Returns by month and by day, as tables that read like a calendar."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from tbh.backtest.report.scales import percent
from tbh.backtest.report.subject import Subject

DAILY_UP_TO = 100
"""Days; a longer run has its days in months."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONDAY = 3
"""1970 began on a Thursday."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Rows of cells under ``heads``: returns (None where there is none), the last of each row for the whole row."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]

    def html(self, caption: str) -> str:
        """As a table whose colours are by size; the last column is plain."""
        cells = [abs(value) for _, row in self.rows for value in row[:-1] if value is not None]
        most = float(np.quantile(cells, 0.95)) if cells else 0.0
        heads = "".join(f'<th scope="col">{head}</th>' for head in self.heads)
        lines = []
        for label, row in self.rows:
            shown = [_cell(value, most) for value in row[:-1]] + [_cell(row[-1], 0.0)]
            lines.append(f'<tr><th scope="row">{label}</th>{"".join(shown)}</tr>')
        return (
            f'<div class="wide" role="region" tabindex="0" aria-label="{caption}"><table class="heat"><caption>'
            f"{caption}</caption><thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        )


def _cell(value: float | None, most: float) -> str:
    if value is None:
        return "<td></td>"
    level = min(5, ceil(abs(value) / most * 5)) if most else 0
    kind = f"{'up' if value > 0 else 'down'}{level}" if level else "plain"
    return f'<td class="{kind}">{percent(value, signed=True)[:-2]}</td>'


def monthly(subject: Subject) -> Calendar:
    """Each year a row of its months."""
    returns = _returns(subject, "M")
    rows = []
    for year in range(min(returns) // 12, max(returns) // 12 + 1):
        row = tuple(returns.get(year * 12 + month) for month in range(12))
        rows.append((str(1970 + year), (*row, _together(row))))
    return Calendar((*_MONTHS, "Year"), tuple(rows))


def daily(subject: Subject) -> Calendar | None:
    """Each week a row of its days; None for a run too long for it, or of bars longer than a day."""
    if subject.timeframe_s > 86_400:
        return None
    returns = _returns(subject, "D")
    if max(returns) - min(returns) >= DAILY_UP_TO:
        return None
    rows = []
    for week in range((min(returns) + _MONDAY) // 7, (max(returns) + _MONDAY) // 7 + 1):
        monday = week * 7 - _MONDAY
        row = tuple(returns.get(monday + day) for day in range(7))
        rows.append((str(np.datetime64(monday, "D")), (*row, _together(row))))
    return Calendar((*_DAYS, "Week"), tuple(rows))


def _returns(subject: Subject, unit: str) -> dict[int, float | None]:
    """By the number of the period since 1970, from its bars that opened within it: from the last equity before it (the
    start cash) to the last in it; None where nothing was left before it."""
    made = subject.made
    periods = made.stamps.astype("datetime64[ms]").astype(f"datetime64[{unit}]").astype(np.int64)
    ends = np.append(np.flatnonzero(np.diff(periods)), len(periods) - 1)
    equity = np.concatenate(([float(subject.options.cash)], made.equity[ends]))
    before = np.where(equity[:-1] > 0.0, equity[:-1], np.nan)
    returns = equity[1:] / before - 1.0
    told = zip(periods[ends].tolist(), returns.tolist(), np.isfinite(returns).tolist(), strict=True)
    return {period: value if finite else None for period, value, finite in told}


def _together(row: tuple[float | None, ...]) -> float | None:
    given = [value for value in row if value is not None]
    return float(np.prod([1.0 + value for value in given])) - 1.0 if given else None
