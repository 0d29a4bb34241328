"""Where the compiled loop keeps what: the places of its arrays, and the codes in them.

A price is held twice, as the float of the candle (``_F``) and as a whole number of ``10^-D`` quote, D being the
market's ``decimals``; a quantity is a whole number of amount steps. A pair of places (``_H``, ``_L``) is one number in
31 digits (``exact.py``).
"""

from __future__ import annotations

# Rules, one bit each: what is wished on a bar's close.
ENTRY_LONG, ENTRY_SHORT, EXIT_LONG, EXIT_SHORT, MORE_LONG, MORE_SHORT = 1, 2, 4, 8, 16, 32

# Columns of the candles.
OPEN, HIGH, LOW, CLOSE, VOLUME = 0, 1, 2, 3, 4

# One row of the trades.
T_SIDE = 0
T_ENTRY_BAR = 1
T_EXIT_BAR = 2
T_QTY = 3
T_PAID_H, T_PAID_L = 4, 5
T_GOT_H, T_GOT_L = 6, 7
T_FEES_H, T_FEES_L = 8, 9
T_FUNDING_H, T_FUNDING_L = 10, 11
T_CAUSE = 12
T_SYMBOL = 13
T_LAYERS = 14
TRADE_PLACES = 15

# Why a position was left.
BY_EXIT, BY_STOP, BY_TRAILING, BY_TARGET = 0.0, 1.0, 2.0, 3.0

# The state of one market: the position, the orders, the bar.
QTY = 0
AVERAGE_H, AVERAGE_L = 1, 2
LAYERS = 3
BASIS = 4
BEST_F = 5
TIGHTEST = 6
STOP, STOP_F, STOP_QTY, STOP_LIVE, STOP_SEQ, STOP_CAUSE = 7, 8, 9, 10, 11, 12
TARGET, TARGET_F, TARGET_QTY, TARGET_LIVE, TARGET_SEQ = 13, 14, 15, 16, 17
EXIT_QTY, EXIT_DUE, EXIT_SEQ = 18, 19, 20
ENTRY_QTY, ENTRY_DUE, ENTRY_SEQ, ENTRY_LAYER, ENTRY_BASIS = 21, 22, 23, 24, 25
LEFT = 26
LAST_F = 27
MOVED = 28
ROW = 29
FUNDED = 30
MARKET = 31
BAR_VOLUME, CHANCE = 32, 33
LOW_GUARD, HIGH_GUARD = 34, 35
NOW_MS, ENTRY_MS = 36, 37
BEGUN_AS = 38
ENDED_MS = 39
ENTRY_PRICE, ENTRY_F, ENTRY_LIVE, ENTRY_UNTIL = 40, 41, 42, 43
ENDED_SIDE = 44
TRIP = 45
"""The round trip under way, as a row of the trades."""
STATE_PLACES = TRIP + TRADE_PLACES

# The account, which all markets share.
CASH_H, CASH_L = 0, 1
SEQ = 2
TRADES = 3
HELD_BARS = 4
FILLS = 5
REFUSED_FUNDS, REFUSED_SIZE, REFUSED_OPEN, REFUSED_COUNT, REFUSED_COOLDOWN = 6, 7, 8, 9, 10
ACCOUNT_PLACES = 11

# The terms of one market.
PRICE_SCALE = 0
STEP_UNITS = 1
CASH_UNITS = 2
FEE_SCALE = 3
FEE = 4
SIZE_KIND = 5
SIZE_H, SIZE_L = 6, 7
SIZE_SCALE = 8
FRACTIONS = 9
STOP_LOSS = 10
TAKE_PROFIT = 11
TRAILING = 12
ACTIVATE = 13
FROM_CLOSE = 14
MAX_LAYERS = 15
SLIP_KIND, SLIP, SLIP_MORE = 16, 17, 18
DELAY_BARS, DELAY_PART = 19, 20
SHARE, SHARE_SCALE = 21, 22
AMOUNT_SCALE = 23
FUNDING_RATE, FUNDING_MS = 24, 25
POSITIONS_MAX = 26
CASH_SCALE = 27
BAR_MS = 28
COOL_BARS, COOL_AFTER = 29, 30
REST_BARS, REST_OFFSET = 31, 32
TERM_PLACES = 33

# How much an entry is for, after which end a cool-down follows, and how prices slip.
FIXED_QUANTITY, FIXED_NOTIONAL, EQUITY_FRACTION, RISK_FRACTION = 0, 1, 2, 3
ANY_END, A_LOSS, A_STOP = 0.0, 1.0, 2.0
NO_SLIP, FIXED_SLIP, PROPORTIONAL_SLIP, RANDOM_SLIP, SHARE_SLIP = 0, 1, 2, 3, 4
