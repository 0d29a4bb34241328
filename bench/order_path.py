"""From a decision to its order on the wire, and what of that is neither the disk's nor the adapter's.

The path: the strategy has decided; risk, order manager, journaler and gateway hand the order on (five hops between
threads); decision and draft are committed (``synchronous=FULL``) before it goes; the adapter signs it and gives it to
the socket. ``us`` is all of that. ``overhead`` is what is left when two things are taken off: the commit that holds the
order's draft, as long as it took, and the adapter's own work, as long as it takes with nothing beside it. Only that
commit is waited for by the order all the time that it takes. Another one on the way (a decision committed by itself)
goes on beside the work of risk and order manager, and to take it off would count that work as the disk's; so it counts
as overhead. So does whatever the bot's threads take from each other.

The floors are measured between the rounds of the path, in the same process: the very batches of the round, committed to
a second store; orders placed by a second adapter; a message down a chain of bare threads.
"""

from __future__ import annotations

import argparse
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench._order_bot import QTY, Commit, OrderBot, StampedWire, connect
from bench.binance.process import FakeBinance, running_exchange
from tbh.infra.ccxt_exchange import CcxtExchange
from tbh.infra.store import SqliteStore
from tbh.messages.orders import Order, OrderType, Purpose, Side

HELP = "µs from a decision to its order on the wire, with the commits, the request and the hops it is made of"

PAUSE_S: Final = 0.11
"""Between two orders: the exchange takes a hundred in ten seconds."""

HOPS: Final = 5
_UNLIMITED: Final = 10**9


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Medians in µs over all rounds; ``commits`` is how many commits of decisions and drafts lie on an order's way,
    ``commit_us`` the one of its draft there, ``request_us`` the adapter's work up to the socket."""
    rounds, orders = (1, 12) if args.quick else (12, 20)
    paths: list[tuple[int, int]] = []
    commits, requests, round_trips, hops = [], [], [], []
    waits: list[float] = []
    counts: list[int] = []
    with (
        tempfile.TemporaryDirectory(prefix="tbh-bench-") as folder,
        running_exchange(seed=1, fee=0, weight_max=_UNLIMITED) as server,
        running_exchange(seed=2, fee=0, weight_max=_UNLIMITED) as beside,
        closing(SqliteStore.open(Path(folder) / "bare.db")) as bare,
    ):
        exchange, wire = connect(beside)
        bot = OrderBot(server, Path(folder))
        try:
            for number in range(-1, rounds):
                sample = [_paced(bot.trade) for _ in range(orders)]
                on_the_way = [_between(bot.store.commits, *one) for one in sample]
                bare_commits = [_commit_again(bare, few) for few in on_the_way]
                bare_requests = [_paced(lambda: _request(exchange, wire, beside)) for _ in range(orders)]
                bare_hops = _hops()
                bot.store.commits.clear()
                if number < 0:
                    continue  # connections, caches and statements are made in the first round
                paths += sample
                waits += [_waited(few) for few in on_the_way]
                counts += [len(few) for few in on_the_way]
                commits += bare_commits
                requests += [sent for sent, _ in bare_requests]
                round_trips += [answered for _, answered in bare_requests]
                hops += bare_hops
        finally:
            bot.close()
            exchange.close()
    took = [(sent - decided) / 1000 for decided, sent in paths]
    beyond_commits = [us - commit for us, commit in zip(took, waits, strict=True)]
    return {
        "us_p50": round(median(took), 1),
        "us_p99": round(sorted(took)[int(len(took) * 0.99)], 1),
        "commit_us_p50": round(median(waits), 1),
        "commits": median(counts),
        "request_us_p50": round(median(requests), 1),
        "overhead_us_p50": round(median(beyond_commits) - median(requests), 1),
        "bare_commit_us_p50": round(median(us for few in commits for us in few), 1),
        "round_trip_us_p50": round(median(round_trips), 1),
        "hops_us_p50": round(median(hops), 1),
        "hops": HOPS,
        "orders": len(took),
    }


def _paced(act: Callable[[], Any]) -> Any:
    began_s = time.monotonic()
    result = act()
    time.sleep(max(PAUSE_S - (time.monotonic() - began_s), 0.002))
    return result


def _between(commits: Sequence[Commit], decided_ns: int, sent_ns: int) -> list[Commit]:
    """The commits of an order's decision and draft. What else the journal did is no excuse."""
    return [
        one
        for one in commits
        if decided_ns <= one.began_ns and one.ended_ns <= sent_ns and (one.batch.decisions or one.batch.drafts)
    ]


def _waited(commits: Sequence[Commit]) -> float:
    """µs in the commit that holds the draft."""
    return sum((one.ended_ns - one.began_ns) / 1000 for one in commits if one.batch.drafts)


def _commit_again(store: SqliteStore, commits: Sequence[Commit]) -> list[float]:
    """The same batches, on an idle process, in µs each."""
    took = []
    time.sleep(0.002)
    for one in commits:
        began_ns = time.perf_counter_ns()
        store.commit(one.batch)
        took.append((time.perf_counter_ns() - began_ns) / 1000)
    return took


_numbers = iter(range(1 << 60))


def _request(exchange: CcxtExchange, wire: StampedWire, server: FakeBinance) -> tuple[float, float]:
    """(µs until it is on the wire, µs until it is answered) of one order that nothing runs beside."""
    number = next(_numbers)
    now = datetime.now(UTC)
    order = Order(
        client_order_id=f"{number:032x}",
        intent_id=f"bench|{number}",
        symbol=server.symbol,
        side=Side.SELL if number % 2 else Side.BUY,
        type=OrderType.MARKET,
        qty=QTY - Decimal("0.00001") if number % 2 else QTY,
        purpose=Purpose.MANUAL,
        strategy="bench",
        bar_open=now,
        created_at=now,
    )
    began_ns = time.perf_counter_ns()
    exchange.place(order, timeout_s=10.0)
    ended_ns = time.perf_counter_ns()
    return (wire.sent_ns - began_ns) / 1000, (ended_ns - began_ns) / 1000


def _hops(count: int = 50) -> list[float]:
    """µs of a message down a chain of ``HOPS`` bare threads, each asleep until it comes."""
    took: list[float] = []
    arrived = threading.Event()
    chain: list[queue.SimpleQueue[int | None]] = [queue.SimpleQueue() for _ in range(HOPS)]

    def hand_on(mine: queue.SimpleQueue[int | None], following: queue.SimpleQueue[int | None] | None) -> None:
        while (began_ns := mine.get()) is not None:
            if following is not None:
                following.put(began_ns)
            else:
                took.append((time.perf_counter_ns() - began_ns) / 1000)
                arrived.set()

    pairs = zip(chain, [*chain[1:], None], strict=True)
    threads = [threading.Thread(target=hand_on, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    for _ in range(count):
        arrived.clear()
        time.sleep(0.002)
        chain[0].put(time.perf_counter_ns())
        arrived.wait()
    for one, thread in zip(chain, threads, strict=True):
        one.put(None)
        thread.join()
    return took
