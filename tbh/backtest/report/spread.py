"""How the trades of a run are spread: by return, length, cause, hour and day of the week."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from tbh.backtest.excursions import returns_of
from tbh.backtest.report.charts import Bar, bar_chart
from tbh.backtest.report.scales import amount, duration, percent, short, ticks
from tbh.backtest.report.subject import Subject
from tbh.backtest.trades import CAUSES
from tbh.strategies.base import BoolArray, FloatArray

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CAUSES = {"exit": "exit rule", "stop": "stop", "trailing": "trailing stop", "target": "target"}
_LENGTHS_MAX = 16


def distributions(subject: Subject) -> str:
    """The charts, each as a figure, and the table of groups."""
    trades = subject.made.trades
    if not len(trades):
        return "<p>No position was closed.</p>"
    figures = [
        ("Return of a trade", "trades by PnL after fees, in per cent of what the entry was worth", _by_return(subject)),
        ("Length of a trade", "trades by the number of bars they were open", _by_length(subject)),
    ]
    hours = trades.entry_time // 3_600_000 % 24
    days = (trades.entry_time // 86_400_000 + 3) % 7
    if subject.timeframe_s < 86_400:
        figures.append(
            ("Hour of the entry", "mean PnL of a trade, by hour in UTC", _by_time(trades.pnl, hours, range(24), "h"))
        )
    if subject.timeframe_s <= 86_400:
        figures.append(
            ("Day of the entry", "mean PnL of a trade, by day of the week", _by_time(trades.pnl, days, _DAYS, ""))
        )
    drawn = "".join(
        f"<figure><figcaption><b>{title}</b> {escape(text)}</figcaption>{chart}</figure>"
        for title, text, chart in figures
    )
    return f'{_groups(subject)}<div class="grid2">{drawn}</div>'


def _by_return(subject: Subject) -> str:
    gained = returns_of(subject.made.trades)
    low, high = (float(value) for value in np.quantile(gained, (0.005, 0.995)))
    marks = ticks(min(low, 0.0), max(high, 0.0), 28)
    step = marks[1] - marks[0] if len(marks) > 1 else 0.01
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    first, last = min(first, -1), max(last, 1)
    places = np.clip(np.floor(gained / step + 1e-9).astype(np.int64), first - 1, last)
    counts = np.bincount(places - (first - 1), minlength=last - first + 2)
    bars = []
    marked = max(1, -(-(last - first) // 8))
    for number, count in enumerate(counts.tolist()):
        place = number + first - 1
        begin, end = percent(place * step, signed=True), percent((place + 1) * step, signed=True)
        text = f"from {begin} to {end}"
        if place < first:
            text = f"below {end}"
        elif place == last:
            text = f"{begin} or more"
        label = short([round(place * step * 100, 6)])[0] if place >= first and place % marked == 0 else ""
        kind = "loss" if place < 0 else "win"
        bars.append(Bar(label, count, kind, f"{count:,} trades {text}"))
    return bar_chart("Histogram of the trades' returns", bars, height=200, edges=True)


def _by_length(subject: Subject) -> str:
    trades = subject.made.trades
    lengths = trades.exit_row - trades.entry_row
    tops = [0]
    while tops[-1] < int(lengths.max()) and len(tops) < _LENGTHS_MAX:
        tops.append(max(1, tops[-1] * 2))
    tops[-1] = max(tops[-1], int(lengths.max()))
    bars, before = [], -1
    for top in tops:
        count = int(np.count_nonzero((lengths > before) & (lengths <= top)))
        text = f"{top}" if top == before + 1 else f"{before + 1:,} to {top:,}"
        title = f"{count:,} trades of {text} bars (to {duration(top * subject.timeframe_s)})"
        bars.append(Bar(f"{top:,}", count, "tally", title))
        before = top
    return bar_chart("Histogram of the trades' lengths in bars", bars, height=200, every=max(1, len(bars) // 9))


def _by_time(
    pnl: FloatArray, places: np.ndarray[tuple[int], np.dtype[np.int64]], names: Sequence[object], unit: str
) -> str:
    counts = np.bincount(places, minlength=len(names))
    sums = np.bincount(places, weights=pnl, minlength=len(names))
    bars = []
    for name, count, total in zip(names, counts.tolist(), sums.tolist(), strict=True):
        mean = total / count if count else 0.0
        title = f"{name}{unit and ' ' + unit}: mean {amount(mean)}, {count:,} trades, {amount(total)} in all"
        bars.append(Bar(f"{name}", mean, "win" if mean >= 0 else "loss", title))
    return bar_chart("Mean PnL of the trades by the time of their entry", bars, height=180, every=3 if unit else 1)


def _groups(subject: Subject) -> str:
    rows = "".join(_group(name, mask, subject) for name, mask in _masks(subject))
    heads = "".join(
        f'<th scope="col" class="number">{head}</th>'
        for head in ("trades", "share", "won", "mean return", "mean PnL", "PnL")
    )
    return (
        '<div class="wide" role="region" tabindex="0" aria-label="Trades by group"><table class="plain"><thead><tr>'
        f'<th scope="col">group</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _masks(subject: Subject) -> Iterator[tuple[str, BoolArray]]:
    trades = subject.made.trades
    yield "all", np.ones(len(trades), dtype=np.bool_)
    if len(set(trades.side.tolist())) > 1:
        yield "long", trades.side > 0
        yield "short", trades.side < 0
    for code, cause in enumerate(CAUSES):
        if (mask := trades.cause == code).any():
            yield f"left by {_CAUSES[cause]}", mask
    if len(subject.symbols) > 1:
        for number, symbol in enumerate(subject.symbols):
            yield symbol, trades.symbol == number


def _group(name: str, mask: BoolArray, subject: Subject) -> str:
    pnl, gained = subject.made.trades.pnl[mask], returns_of(subject.made.trades)[mask]
    if not len(pnl):
        return f'<tr><th scope="row">{escape(name)}</th><td class="number">0</td>{"<td></td>" * 5}</tr>'
    cells = (
        f"{len(pnl):,}",
        percent(len(pnl) / len(mask)),
        percent(float((pnl > 0).mean())),
        percent(float(gained.mean()), signed=True),
        amount(float(pnl.mean())),
        amount(float(pnl.sum())),
    )
    shown = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>'
