"""The market of the paper account: what every demo and every backtest trades on."""

from __future__ import annotations

from decimal import Decimal

from tbh.messages.market import Market

STEP = Decimal("0.00000001")


def paper_market(symbol: str, fee: Decimal, *, price: Decimal = Decimal(1)) -> Market:
    """A paper market: prices and amounts in steps of 1e-8, long and short, one fee for maker and taker.

    ``price`` is one that it trades at. Below a thousand steps of 1e-8 the step is the price's eighth digit instead, so
    that a stop lies where it was meant to and not at the next of a few coarse steps.
    """
    base, _, rest = symbol.partition("/")
    return Market(
        symbol=symbol,
        base=base or symbol,
        quote=rest.partition(":")[0] or "USD",
        price_step=STEP if price >= 1_000 * STEP else Decimal(1).scaleb(price.adjusted() - 7),
        amount_step=STEP,
        taker_fee=fee,
        maker_fee=fee,
        cancels_are_final=True,
    )
