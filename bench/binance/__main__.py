"""``python -m bench.binance``: serve one account on loopback until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from decimal import Decimal

from bench.binance.door import Door
from bench.binance.exchange import Exchange
from bench.binance.path import TICK_MS
from bench.binance.rules import Market
from bench.binance.wire import Wire


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.binance", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--seed", type=int, default=1, help="of the price, the ids, the keys and the faults")
    parser.add_argument("--base", default="BTC")
    parser.add_argument("--quote", default="USDT")
    parser.add_argument("--bar-ms", type=int, default=1000, help="the market's pace: a dozen of these are a swing")
    parser.add_argument("--price", type=Decimal, default=Decimal(50_000), help="around which the market moves")
    parser.add_argument("--base-coins", type=Decimal, default=Decimal(0), help="what the account begins with")
    parser.add_argument("--quote-coins", type=Decimal, default=Decimal(10_000))
    parser.add_argument("--fee", type=Decimal, default=Decimal("0.001"), help="of makers and takers")
    parser.add_argument("--weight-max", type=int, default=6000, help="request weight per minute")
    parser.add_argument("--weight-share", type=float, default=1.0, help="what counts of each request's weight")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin does, so also when the parent dies")
    args = parser.parse_args(arguments)
    exchange = Exchange(
        seed=args.seed,
        market=Market(base=args.base, quote=args.quote, maker_fee=args.fee, taker_fee=args.fee),
        coins={args.base: args.base_coins, args.quote: args.quote_coins},
        bar_ms=args.bar_ms,
        price=args.price,
        weight_max=args.weight_max,
        weight_share=args.weight_share,
    )
    asyncio.run(_serve(exchange, args.port, with_parent=args.with_parent))
    return 0


async def _serve(exchange: Exchange, port: int, *, with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    wire = Wire(Door(exchange))
    port = await wire.listen(port)
    told = {
        "url": f"http://127.0.0.1:{port}",
        "pid": os.getpid(),
        "symbol": f"{exchange.market.base}/{exchange.market.quote}",
        "api_key": exchange.api_key,
        "api_secret": exchange.api_secret,
    }
    print(json.dumps(told), flush=True)
    ticking = asyncio.create_task(_tick(exchange))
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({ticking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        ticking.cancel()
        waiting.cancel()
        await wire.close()


async def _tick(exchange: Exchange) -> None:
    while True:
        exchange.tick()
        await asyncio.sleep(TICK_MS / 1000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
