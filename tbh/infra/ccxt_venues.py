"""The exchanges that are served, and what is particular to each: data, beside the shapes of requests and replies.

The library evens out much, and wrongly where it matters most: client ids that it drops, floats for money, errors that
mean two things. So each exchange is spoken to in its own terms, through the library's endpoints and signing. A further
exchange is a ``Dialect`` and an entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from tbh.infra.ccxt_binance import BinanceSpot
from tbh.infra.ccxt_errors import Verdict
from tbh.infra.ccxt_shapes import Fees, Venue
from tbh.ports import Fatal

_R, _K, _U = Verdict.REFUSED, Verdict.KEY, Verdict.UNKNOWN

# https://developers.binance.com/docs/binance-spot-api-docs/errors
_BINANCE_CODES: Final = {
    "-1000": _U,
    "-1001": _U,
    "-1002": _K,
    "-1003": Verdict.LIMITED,
    "-1004": _U,
    "-1006": _U,  # "execution status unknown"
    "-1007": _U,  # the same, after a time-out behind the gateway
    "-1008": _U,
    "-1010": _U,
    "-1013": _R,  # a filter of the market
    "-1014": _R,
    "-1015": Verdict.LIMITED,
    "-1016": _U,
    "-1020": _R,
    "-1021": Verdict.CLOCK,
    "-1022": _K,
    "-1034": _U,
    "-1099": _K,
    **dict.fromkeys(("-1100", "-1101", "-1102", "-1103", "-1104", "-1105", "-1106", "-1108", "-1111"), _R),
    **dict.fromkeys(("-1114", "-1115", "-1116", "-1117", "-1118", "-1119", "-1120", "-1121", "-1128", "-1130"), _R),
    **dict.fromkeys(("-1131", "-1135", "-1139", "-1145", "-1151"), _R),
    "-2008": _K,
    "-2010": _R,
    "-2011": Verdict.NOT_FOUND,
    "-2013": Verdict.NOT_FOUND,
    "-2014": _K,
    "-2015": _K,
    "-2016": _R,
    "-2026": _U,  # archived: it did exist, and it is not told how it ended
}
_BINANCE_TEXTS: Final = {
    ("-2010", "Duplicate order sent"): Verdict.DUPLICATE,
    ("-2010", "not enabled"): _K,
    ("-2010", "may not place or cancel orders"): _K,
    ("-2011", "may not place or cancel orders"): _K,
    ("-2011", "disabled on this account"): _K,
    ("-2011", "not enabled"): _K,
}

_BINANCE_INTERVALS: Final = {
    1: "1s",
    60: "1m",
    180: "3m",
    300: "5m",
    900: "15m",
    1_800: "30m",
    3_600: "1h",
    7_200: "2h",
    14_400: "4h",
    21_600: "6h",
    28_800: "8h",
    43_200: "12h",
    86_400: "1d",
    259_200: "3d",
    604_800: "1w",
}

BINANCE: Final = Venue(
    id="binance",
    ccxt_class="binance",
    dialect=BinanceSpot(),
    endpoints=MappingProxyType(
        {
            "time": "publicGetTime",
            "market": "publicGetExchangeInfo",
            "candles": "publicGetKlines",
            "account": "privateGetAccount",
            "place": "privatePostOrder",
            "cancel": "privateDeleteOrder",
            "order": "privateGetOrder",
            "open_orders": "privateGetOpenOrders",
            "orders": "privateGetAllOrders",
            "trades": "privateGetMyTrades",
        }
    ),
    codes=MappingProxyType(_BINANCE_CODES),
    texts=MappingProxyType(_BINANCE_TEXTS),
    weight_header="x-mbx-used-weight-1m",
    weight_max=6_000,
    page_max=1_000,
    # An order that waits longer than this on its way is refused by the exchange, on arrival and again before matching.
    # The shorter, the sooner a lost one is proven absent; the exchange's own default is 5 s.
    receive_window_s=3.0,
    clock_tolerance_s=1.0,
    # How long an accepted order may be missing from every answer.
    arrival_margin_s=1.0,
    fees=Fees(maker=Decimal("0.001"), taker=Decimal("0.001")),
    intervals=MappingProxyType(_BINANCE_INTERVALS),
    ccxt_options=MappingProxyType({"defaultType": "spot", "fetchCurrencies": False}),
)

VENUES: Mapping[str, Venue] = MappingProxyType({BINANCE.id: BINANCE})


def venue_of(venue_id: str) -> Venue:
    """The exchange's entry. ``Fatal(78)`` names those that are served."""
    venue = VENUES.get(venue_id)
    if venue is None:
        served = ", ".join(sorted(VENUES))
        raise Fatal(
            "exchange_not_served",
            exit_code=78,
            detail=f"the bot's exchange is {venue_id!r}; live bots run on: {served}; paper bots on `paper`",
        )
    return venue
