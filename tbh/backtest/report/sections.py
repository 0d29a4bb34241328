"""The parts of a report's page that are words and tables."""

from __future__ import annotations

import json
from html import escape

import numpy as np

from tbh import __version__
from tbh.backtest.figures import Figure, Figures
from tbh.backtest.options import Options, SlippageKind
from tbh.backtest.report.charts import time_chart
from tbh.backtest.report.scales import amount, duration, minus, percent, stamp, timeframe
from tbh.backtest.report.subject import Subject, candles_told
from tbh.backtest.stats import drawdowns

NONE = "–"
_PARTS = ("name", "timeframe", "indicators", "entry", "exit", "pyramid", "stops", "cooldown", "orders", "sizing")
"""A definition reads in this order."""
_REFUSED = {
    "funds": "for want of cash",
    "size": "of no size",
    "entry_open": "while one was under way",
    "max_open_positions": "beyond the positions allowed",
    "cooldown": "during a cool-down",
}
HOLD_MAX = 6.0
"""How many times as far buying and holding may move before the equity beside it would be a flat line."""


def value_of(figure: Figure) -> str:
    """A statistic for people."""
    if figure.value is None:
        return NONE
    number = float(figure.value)
    if figure.unit == "fraction":
        return percent(number, signed=figure.key in ("return", "cagr", "buy_and_hold", "average_return"))
    if figure.unit == "seconds":
        return duration(number)
    if figure.unit == "count":
        return f"{number:,.0f}"
    return amount(number) if figure.unit == "quote" else amount(number, 1 if figure.unit == "bars" else 2)


def head(subject: Subject) -> str:
    """What was run, over what."""
    made = subject.made
    last_close = int(made.stamps[-1]) + subject.timeframe_s * 1000
    return (
        f"<h1>{escape(str(subject.told['strategy']))}</h1><p>{escape(', '.join(subject.symbols))} · {made.bars:,} bars"
        f" of {timeframe(subject.timeframe_s)} · {stamp(int(made.stamps[0]))} to {stamp(last_close)} UTC"
        f" · {duration((last_close - int(made.stamps[0])) / 1000)}</p>"
    )


def cards(subject: Subject, figures: Figures) -> str:
    """The figures that are looked for first, each with one beside it."""

    def shown(key: str) -> str:
        return value_of(figures[key])

    made = subject.made
    wanted = (
        ("Return", shown("return"), f"buy and hold {shown('buy_and_hold')}", "return"),
        ("Last equity", shown("equity"), f"from {amount(float(subject.options.cash))}", "equity"),
        ("Deepest drawdown", shown("max_drawdown"), f"longest {shown('longest_drawdown_s')}", "max_drawdown"),
        ("Sharpe ratio", shown("sharpe"), f"Sortino {shown('sortino')}", "sharpe"),
        ("Closed trades", shown("trades"), f"{shown('win_rate')} won", "trades"),
        ("Profit factor", shown("profit_factor"), f"{shown('expectancy')} a trade", "profit_factor"),
        ("Exposure", shown("exposure"), f"{shown('average_s')} a trade", "exposure"),
        ("Fees", shown("fees"), f"{shown('fees_of_cash')} of the cash", "fees"),
    )
    items = "".join(
        f'<div title="{escape(figures[key].definition)}"><dt>{label}</dt><dd>{value}<small>{more}</small></dd></div>'
        for label, value, more, key in wanted
    )
    still = "".join(
        f"<p>Still open at the end: {escape(minus(one['qty']))} {escape(one['symbol'])}, entered at"
        f" {escape(one['entry_price'][:16])}; it counts in the equity and in no trade.</p>"
        for one in subject.told["open_positions"]
    )
    return f'<dl class="cards">{items}</dl>{still}' + ("" if made.fills else "<p>Nothing was traded.</p>")


def equity_charts(subject: Subject) -> str:
    """Equity beside buying and holding, and the drawdown, over the whole run."""
    made, cash = subject.made, float(subject.options.cash)
    lines = [("equity", made.equity)]
    legend = '<span class="key equity">equity</span>'
    if len(subject.markets) == 1:
        market = subject.markets[0]
        hold = cash * market.values[3] / market.values[0, 0]
        further = float(np.ptp(hold)) / max(float(np.ptp(made.equity)), 1e-9)
        if further <= HOLD_MAX:
            lines.insert(0, ("hold", hold))
            legend += ' <span class="key hold">bought and held, without fees</span>'
        else:
            shown = percent(float(hold[-1]) / cash - 1.0, signed=True)
            legend += f" bought and held, without fees: {shown}, not drawn, for it moves so much further"
    fallen = -drawdowns(made.equity, cash)
    equity = time_chart("equity", "Equity over time", made.stamps, lines, height=240)
    below = time_chart("drawdown", "Drawdown over time", made.stamps, [("drop", fallen)], height=130, filled=True)
    return (
        f'<p class="legend">{legend}</p>{equity}<p class="legend">drawdown: how far below its highest so far</p>{below}'
        '<p class="readout" id="overview" aria-live="polite"></p>'
    )


def statistics_table(figures: Figures) -> str:
    """All statistics with their definitions, by group."""
    rows, group = [], ""
    for figure in figures.figures:
        if figure.group != group:
            group = figure.group
            rows.append(f'<tr class="group"><th colspan="3" scope="rowgroup">{group}</th></tr>')
        rows.append(
            f'<tr><th scope="row">{figure.label}</th><td class="number">{value_of(figure)}</td>'
            f"<td>{escape(figure.definition)}</td></tr>"
        )
    return f'<table class="plain figures"><tbody>{"".join(rows)}</tbody></table>'


def drawdown_table(figures: Figures) -> str:
    """The deepest drawdowns; each is a link into the chart of prices."""
    if not figures.drawdowns:
        return "<p>The equity never fell below its highest.</p>"
    rows = "".join(
        f'<tr><td class="number">{percent(one.depth)}</td><td><button class="go" data-from="{one.began_ms}"'
        f' data-to="{one.ended_ms}">{stamp(one.began_ms)}</button></td><td>{stamp(one.deepest_ms)}</td>'
        f"<td>{stamp(one.ended_ms) if one.recovered else 'not yet'}</td>"
        f'<td class="number">{duration(one.seconds)}</td></tr>'
        for one in figures.drawdowns
    )
    heads = "".join(
        f'<th scope="col"{more}>{head}</th>'
        for head, more in (
            ("depth", ' class="number"'),
            ("began", ""),
            ("deepest", ""),
            ("made good", ""),
            ("lasted", ' class="number"'),
        )
    )
    return (
        '<div class="wide" role="region" tabindex="0" aria-label="Deepest drawdowns"><table class="plain"><thead><tr>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def made_of(subject: Subject) -> str:
    """The definition, the assumptions and the candles, and by what hash to know the result again."""
    assumed = _pairs(assumptions(subject.options))
    candles = "".join(
        f"<h3>{escape(one['symbol'])}</h3>"
        + _pairs(
            [
                ("file", escape(one["file"])),
                ("sha256", f"<code>{one['sha256']}</code>"),
                ("bars", f"{one['bars']:,} of {timeframe(one['timeframe_s'])}"),
                ("first and last open", f"{one['first_open']} and {one['last_open']}"),
                (
                    "missing bars",
                    f"{one['missing_bars']:,} in {one['gaps']} gap(s), not filled in" if one["gaps"] else "none",
                ),
            ]
        )
        for one in candles_told(subject)
    )
    places = {name: place for place, name in enumerate(_PARTS)}
    parts = sorted(subject.definition.items(), key=lambda part: places.get(part[0], len(places)))
    text = escape(json.dumps(dict(parts), indent=2, ensure_ascii=False))
    refused = ", ".join(f"{count:,} {_REFUSED.get(why, why)}" for why, count in subject.made.refused.items() if count)
    result = _pairs(
        [
            ("fingerprint of the trades", f"<code>{escape(str(subject.told['fingerprint']))}</code>"),
            ("entries not sent", refused or "none"),
            ("engine", escape(str(subject.told["engine"]))),
            ("TBH", escape(__version__)),
        ]
    )
    return (
        f'<div class="grid2"><div><h3>Assumptions</h3>{assumed}{candles}<h3>Result</h3>{result}</div>'
        f'<div><h3>Definition</h3><pre tabindex="0">{text}</pre></div></div>'
    )


def assumptions(options: Options) -> list[tuple[str, str]]:
    """The options in words; plain markup."""
    slips = options.slippage
    words = {
        SlippageKind.NONE: "none",
        SlippageKind.FIXED: f"{slips.rate} quote against each market order and stop",
        SlippageKind.PROPORTIONAL: f"{percent(float(slips.rate))} of the price, market orders and stops",
        SlippageKind.RANDOM: f"normal, mean {percent(float(slips.rate))}, deviation {percent(float(slips.deviation))},"
        f" seed {slips.seed}",
        SlippageKind.VOLUME_SHARE: f"{slips.rate} × (share of the bar's volume)²",
    }
    late = [f"{options.latency_bars} bars"] * bool(options.latency_bars)
    late += [f"{options.latency_ms} ms"] * bool(options.latency_ms)
    share, positions = options.volume_share, options.positions_max
    return [
        ("start cash", amount(float(options.cash))),
        ("fee", f"{percent(float(options.fee))} of the notional, each side"),
        ("slippage", words[slips.kind]),
        ("latency", " and ".join(late) or "none: orders fill at the next open"),
        ("volume", "no limit" if share is None else f"at most {percent(float(share))} of a bar's volume"),
        (
            "funding",
            f"{percent(float(options.funding_rate))} each {options.funding_hours} h"
            if options.funding_rate
            else "none",
        ),
        ("positions at a time", "one for each market" if positions is None else f"at most {positions}"),
    ]


def _pairs(pairs: list[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{label}</th><td>{value}</td></tr>' for label, value in pairs)
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def stops_in_words(subject: Subject) -> str:
    """What the levels in the chart are, where there are any; empty for a strategy without stops."""
    stops = subject.levels
    if not any(stops.get(name) for name in ("stop_loss", "take_profit", "trailing")):
        return ""
    basis = "close of the signal" if stops["basis"] == "signal_close" else "average entry price"
    moved = stops["basis"] == "entry" and bool(np.any(subject.made.trades.layers > 1))
    rest = ", which moved while layers were added" if moved else ""
    return f"Levels are drawn from the {basis}{rest}; the exits are where the engine filled them."
