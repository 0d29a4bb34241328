"""The page of a report: one file that asks nobody for anything.

Its policy allows the one script and the one style sheet in it, by their hashes, and nothing else: no address, no inline
style, no handler in markup. What comes from a definition or a command line is escaped where it enters.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files

from tbh.backtest.figures import Figures
from tbh.backtest.report import sections
from tbh.backtest.report.pack import TRADES_MAX, pack_run
from tbh.backtest.report.periods import daily, monthly
from tbh.backtest.report.scales import duration
from tbh.backtest.report.spread import distributions
from tbh.backtest.report.subject import Subject
from tbh.backtest.trades import CAUSES

SCRIPTS = ("unpack.js", "chart.js", "marks.js", "page.js")

_CHART = """
<div class="bar" role="toolbar" aria-label="The chart's view">
<select id="market" aria-label="Market" hidden></select>
<button data-days="0">all</button><button data-days="30">30 d</button><button data-days="7">7 d</button>
<button data-days="1">1 d</button><span class="gap"></span>
<button data-zoom="0.5" aria-label="zoom in">+</button><button data-zoom="2" aria-label="zoom out">−</button>
<button data-move="-0.5" aria-label="earlier">←</button><button data-move="0.5" aria-label="later">→</button>
<span class="gap"></span><button data-trade="-1">‹ trade</button><button data-trade="1">trade ›</button></div>
<p class="readout" id="readout" aria-live="off"></p>
<div id="stage"><canvas id="chart" tabindex="0" role="img" aria-label="Candles with entries and exits, PnL of the trades
 and equity. Arrow keys move, plus and minus zoom, Home and End go to the ends, 0 shows all, n and p step from trade to
 trade."></canvas></div>
<ul class="legend marks" aria-label="Signs in the chart">
<li><svg width="14" height="14"><path class="long" d="M7 2L12 11H2Z"/></svg>long entry</li>
<li><svg width="14" height="14"><path class="short" d="M7 12L12 3H2Z"/></svg>short entry</li>
<li><svg width="14" height="14"><path class="ink" d="M3 3L11 11M11 3L3 11"/></svg>exit by rule</li>
<li><svg width="14" height="14"><rect class="ink" x="3" y="3" width="8" height="8"/></svg>stop</li>
<li><svg width="14" height="14"><path class="ink" d="M7 1.5L12.5 7L7 12.5L1.5 7Z"/></svg>trailing stop</li>
<li><svg width="14" height="14"><circle class="ink" cx="7" cy="7" r="4.5"/></svg>target</li>
<li><svg width="22" height="14"><path class="win" d="M1 7H21"/></svg>won</li>
<li><svg width="22" height="14"><path class="loss" d="M1 7H21"/></svg>lost</li>
<li><svg width="22" height="14"><path class="loss level" d="M1 7H21"/></svg>stop level</li>
<li><svg width="22" height="14"><path class="win level" d="M1 7H21"/></svg>target level</li></ul>
"""

_LINKS = ("Equity", "Prices", "Periods", "Spread", "Drawdowns", "Statistics", "Trades", "How it was made")

_TRADES = """
<div class="bar"><label>show <select id="filter"><option value="">all trades</option><option value="win">won</option>
<option value="loss">lost</option></select></label><span class="gap"></span><button id="before">‹ before</button>
<span id="where"></span><button id="after">after ›</button></div>
<div class="wide" role="region" tabindex="0" aria-label="Trades"><table class="plain" id="trades"><thead></thead><tbody>
</tbody></table></div>
"""


def page(subject: Subject, figures: Figures) -> str:
    """The whole page, HTML in UTF-8."""
    told, packed = pack_run(subject.made, subject.markets)
    style, script = _resource("report.css"), "\n".join(_resource(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    facts = json.dumps(told | _facts(subject), allow_nan=False).replace("<", "\\u003c")
    name = escape(str(subject.told["strategy"]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{name} on {escape(', '.join(subject.symbols))}: backtest</title><style>{style}</style></head>\n"
        f"<body>{_body(subject, figures, told['merged'])}\n"
        f'<script type="application/json" id="facts">{facts}</script>\n'
        f'<script type="text/plain" id="packed">{packed}</script>\n<script>{script}</script></body></html>\n'
    )


def _body(subject: Subject, figures: Figures, merged: int) -> str:
    calendars = [monthly(subject).html("Returns by month, in per cent (UTC)")]
    if (days := daily(subject)) is not None:
        calendars.append(days.html("Returns by day, in per cent; each week from its Monday (UTC)"))
    count = len(subject.made.trades)
    listed = "" if count <= TRADES_MAX else f" The chart and the list hold the last {TRADES_MAX:,} of {count:,}."
    bars = "" if merged == 1 else f" Each bar here is {duration(merged * subject.timeframe_s)}, {merged} of the run's."
    hint = (
        "Drag to move. Click the chart, then the wheel zooms; or use the keys ← → + − 0, and n or p for the next or the"
        f" former trade. Candles grow with the view.{bars}{listed} "
    )
    charts = f'{_CHART}<p class="note">{hint}{sections.stops_in_words(subject)}</p>'
    parts = (
        ("equity-section", "Equity and drawdown", sections.equity_charts(subject)),
        ("price", "Price and trades", charts),
        ("periods", "Returns by period", "".join(calendars)),
        ("spread", "How the trades are spread", distributions(subject)),
        ("drawdowns", "Deepest drawdowns", sections.drawdown_table(figures)),
        ("statistics", "Statistics and what they mean", sections.statistics_table(figures)),
        ("list", "Trades", _TRADES if count else "<p>No position was closed.</p>"),
        ("made", "How this was made", sections.made_of(subject)),
    )
    links = "".join(f'<a href="#{key}">{name}</a>' for (key, *_), name in zip(parts, _LINKS, strict=True))
    shown = "".join(f'<section id="{key}"><h2>{title}</h2>{content}</section>' for key, title, content in parts)
    return (
        f'<header><div>{sections.head(subject)}</div><button id="theme" aria-label="light or dark">◐</button></header>'
        f'<nav aria-label="Parts of this page">{links}</nav><main>{sections.cards(subject, figures)}'
        f'<noscript><p class="note">The chart of prices and the list of trades need scripts.</p></noscript>{shown}'
        "</main><footer><p>Past results over recorded candles; what a market would have done with these orders is an"
        " assumption.</p></footer>"
    )


def _facts(subject: Subject) -> dict[str, object]:
    return {
        "symbols": list(subject.symbols),
        "cash": float(subject.options.cash),
        "causes": CAUSES,
        "stops": dict(subject.levels),
        "delay": subject.options.delay(subject.timeframe_s)[0] + 1,
        "timeframe_ms": subject.timeframe_s * 1000,
    }


def _resource(name: str) -> str:
    return files("tbh.backtest.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
