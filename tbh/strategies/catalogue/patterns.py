"""TA-Lib's 61 candle patterns: 100 where one is bullish, -100 where it is bearish, 0 where there is none.

The patterns that wait for a confirmation (hikkake) give 200 and -200 for it. All judge a candle against the ones just
before it, at most 14, so a window is enough.
"""

from __future__ import annotations

import talib

from tbh.strategies.catalogue.base import OHLC, Indicator, real
from tbh.strategies.catalogue.rows import fixed
from tbh.strategies.catalogue.talibs import talib_entry

# Name, alias, what it is called, leading nulls.
_PATTERNS = (
    ("cdl2crows", "two_crows", "two crows", 12),
    ("cdl3blackcrows", "three_black_crows", "three black crows", 13),
    ("cdl3inside", "three_inside", "three inside up or down", 12),
    ("cdl3linestrike", "three_line_strike", "three-line strike", 8),
    ("cdl3outside", "three_outside", "three outside up or down", 3),
    ("cdl3starsinsouth", "three_stars_in_the_south", "three stars in the south", 12),
    ("cdl3whitesoldiers", "three_white_soldiers", "three advancing white soldiers", 12),
    ("cdladvanceblock", "advance_block", "advance block", 12),
    ("cdlbelthold", "belt_hold", "belt hold", 10),
    ("cdlbreakaway", "breakaway", "breakaway", 14),
    ("cdlclosingmarubozu", "closing_marubozu", "closing marubozu", 10),
    ("cdlconcealbabyswall", "concealing_baby_swallow", "concealing baby swallow", 13),
    ("cdlcounterattack", "counterattack", "counterattack", 11),
    ("cdldoji", "doji", "doji", 10),
    ("cdldojistar", "doji_star", "doji star", 11),
    ("cdldragonflydoji", "dragonfly_doji", "dragonfly doji", 10),
    ("cdlengulfing", "engulfing", "engulfing", 2),
    ("cdlgapsidesidewhite", "gap_side_by_side_white", "white lines side by side after a gap", 7),
    ("cdlgravestonedoji", "gravestone_doji", "gravestone doji", 10),
    ("cdlhammer", "hammer", "hammer", 11),
    ("cdlhangingman", "hanging_man", "hanging man", 11),
    ("cdlharami", "harami", "harami", 11),
    ("cdlharamicross", "harami_cross", "harami cross", 11),
    ("cdlhighwave", "high_wave", "high wave", 10),
    ("cdlhikkake", "hikkake", "hikkake", 5),
    ("cdlhikkakemod", "modified_hikkake", "modified hikkake", 10),
    ("cdlhomingpigeon", "homing_pigeon", "homing pigeon", 11),
    ("cdlidentical3crows", "identical_three_crows", "identical three crows", 12),
    ("cdlinneck", "in_neck", "in-neck", 11),
    ("cdlinvertedhammer", "inverted_hammer", "inverted hammer", 11),
    ("cdlkicking", "kicking", "kicking", 11),
    ("cdlkickingbylength", "kicking_by_length", "kicking, its direction the longer marubozu's", 11),
    ("cdlladderbottom", "ladder_bottom", "ladder bottom", 14),
    ("cdllongleggeddoji", "long_legged_doji", "long-legged doji", 10),
    ("cdllongline", "long_line", "long line", 10),
    ("cdlmarubozu", "marubozu", "marubozu", 10),
    ("cdlmatchinglow", "matching_low", "matching low", 6),
    ("cdlonneck", "on_neck", "on-neck", 11),
    ("cdlpiercing", "piercing", "piercing", 11),
    ("cdlrickshawman", "rickshaw_man", "rickshaw man", 10),
    ("cdlrisefall3methods", "rising_falling_three_methods", "rising or falling three methods", 14),
    ("cdlseparatinglines", "separating_lines", "separating lines", 11),
    ("cdlshootingstar", "shooting_star", "shooting star", 11),
    ("cdlshortline", "short_line", "short line", 10),
    ("cdlspinningtop", "spinning_top", "spinning top", 10),
    ("cdlstalledpattern", "stalled", "stalled", 12),
    ("cdlsticksandwich", "stick_sandwich", "stick sandwich", 7),
    ("cdltakuri", "takuri", "takuri: a dragonfly doji with a very long lower shadow", 10),
    ("cdltasukigap", "tasuki_gap", "tasuki gap", 7),
    ("cdlthrusting", "thrusting", "thrusting", 11),
    ("cdltristar", "tristar", "tristar", 12),
    ("cdlunique3river", "unique_three_river", "unique three river", 12),
    ("cdlupsidegap2crows", "upside_gap_two_crows", "upside gap with two crows", 12),
    ("cdlxsidegap3methods", "gap_three_methods", "upside or downside gap three methods", 2),
)
# The same, and how far the last candle must reach into the body of the first.
_PENETRATING = (
    ("cdlabandonedbaby", "abandoned_baby", "abandoned baby", 12, "0.3"),
    ("cdldarkcloudcover", "dark_cloud_cover", "dark cloud cover", 11, "0.5"),
    ("cdleveningdojistar", "evening_doji_star", "evening doji star", 12, "0.3"),
    ("cdleveningstar", "evening_star", "evening star", 12, "0.3"),
    ("cdlmathold", "mat_hold", "mat hold", 14, "0.5"),
    ("cdlmorningdojistar", "morning_doji_star", "morning doji star", 12, "0.3"),
    ("cdlmorningstar", "morning_star", "morning star", 12, "0.3"),
)


def _pattern(name: str, alias: str, called: str, nulls: int, penetration: str | None = None) -> Indicator:
    return talib_entry(
        name,
        getattr(talib, name.upper()),
        f"candle pattern: {called}",
        group="pattern",
        aliases=(alias,),
        parameters=() if penetration is None else (real("penetration", penetration, "0", "1"),),
        inputs=OHLC,
        nulls=fixed(nulls),
        whole=True,
    )


ENTRIES = (
    *(_pattern(*row) for row in _PATTERNS),
    *(_pattern(*row) for row in _PENETRATING),
)
