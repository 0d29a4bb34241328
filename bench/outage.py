"""The database away in mid-replay, then its replies lost at random: what does the journal look like afterwards?

A bot trades a simulated market; PostgreSQL is stopped for a while, later every second reply of the gateway gets lost.
In the end each entry of the bot's outbox is compared with the rows of the database: all there, once, in order.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench._stack import MadeBot, Stack, running_stack
from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.infra.simmarket import simulated_market
from tbh.infra.statedir import StateDir
from tbh.plan import Bot, PaperPlan
from tbh.ports import Batch
from tbh.session import PaperSession
from tbh.strategies.definition import parse_definition

HELP = "the journal after 60 s without the database and 60 s of lost replies (60 s each; --quick: 3 s each)"

LOSS = 0.5
BARS_PER_S = 40.0
SETTLE_S = 120.0

_ORDER_OF = {
    "bot_runtime_record_fill": "select trade_id from bot_runtime.bot_fills where bot_id = %s order by seq",
    "bot_runtime_write_event": "select key from bot_runtime.bot_events where bot_id = %s and key = any(%s)"
    " order by recorded_at, id",
}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """What was written, what arrived, and what the bot noticed of it all."""
    seconds = 3.0 if args.quick else 60.0
    with running_stack(fast=args.quick) as stack:
        return ordeal(stack, away_s=seconds, loss_s=seconds, lease_s=2.0 if args.quick else 10.0)


def ordeal(stack: Stack, *, away_s: float, loss_s: float, lease_s: float) -> dict[str, Any]:
    """The whole course; the figures."""
    bot = stack.make_bot()
    definition = parse_definition(DEFAULT_STRATEGY)
    back_s = away_s + 3.0  # the pauses between two attempts have grown to at most as long as the database was away
    bars = int((2.0 + away_s + back_s + loss_s + 1.0) * BARS_PER_S)
    plan = PaperPlan(
        candles=simulated_market(11, bars, timeframe_s=definition.timeframe_s),
        simulated=True,
        definition=definition,
        symbol="SIM/USD",
        cash=Decimal(10_000),
        fee=Decimal("0.001"),
        bars_per_s=BARS_PER_S,
        seed=11,
        root=stack.root / "state",
        bot=Bot(bot_id=bot.bot_id, name="outage"),
        lease_s=lease_s,
    )
    state = StateDir.open(plan.root)
    rpc = stack.rpc(bot, state.boot_id, Path(plan.root))
    session = PaperSession.open(plan, state=state, rpc=rpc)
    written = _recorded(session)
    rng = random.Random(7)
    began_s = time.monotonic()
    try:
        session.start()
        _trade_for(session, 2.0)
        stack.server.stop()
        _trade_for(session, away_s)
        before = session.store.counts().relayed
        stack.server.start()
        _trade_for(session, back_s, until=lambda: session.store.counts().relayed > before)
        stack.lose = lambda _fn: rng.random() < LOSS
        _trade_for(session, loss_s)
        stack.lose = None
        while not session.wait(0.1):
            pass
        caught_up_s = _drained(session)
    finally:
        stack.lose = None
        if not stack.server.running:
            stack.server.start()
        exit_code = session.close()
        rpc.close()
    result = session.result()
    return {
        "seconds": round(time.monotonic() - began_s, 1),
        "away_s": away_s,
        "lost_replies": stack.lost,
        "bars": result["bars"],
        "exit_code": exit_code,
        "escalation": result["escalation"],
        "dead_letters": result["dead_letters"],
        "actor_restarts": result["actor_restarts"],
        "strategy_errors": _strategy_errors(stack, bot),
        "entries_written": len(written),
        "caught_up_s": round(caught_up_s, 2),
        **compare(stack, bot, written),
    }


def _recorded(session: PaperSession) -> list[tuple[str, Mapping[str, Any], str]]:
    """Every entry that the store takes from now on, in order, each key once."""
    written: list[tuple[str, Mapping[str, Any], str]] = []
    known: set[str] = set()
    commit = session.store.commit

    def recording(batch: Batch) -> int:
        last_seq = commit(batch)
        for entry in batch.outbox:
            if entry[2] not in known:
                known.add(entry[2])
                written.append(entry)
        return last_seq

    session.store.commit = recording  # type: ignore[method-assign]
    return written


def _trade_for(session: PaperSession, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s and not until() and not session.wait(0.1):
        pass


def _drained(session: PaperSession) -> float:
    started_s = time.monotonic()
    while session.store.counts().pending and time.monotonic() - started_s < SETTLE_S:
        time.sleep(0.05)
    return time.monotonic() - started_s


def _strategy_errors(stack: Stack, bot: MadeBot) -> int:
    rows = stack.query(
        "select evidence -> 'strategy' ->> 'errors_15m' from bot_runtime.bot_health_evidence where bot_id = %s",
        bot.bot_id,
    )
    return int(rows[0][0]) if rows else -1


def compare(stack: Stack, bot: MadeBot, written: list[tuple[str, Mapping[str, Any], str]]) -> dict[str, Any]:
    """The outbox against the rows: ``missing``, ``doubled``, ``out_of_order`` and ``refused`` must all be 0."""
    payloads: dict[str, list[Mapping[str, Any]]] = {}
    keys: list[str] = []
    for fn, args, _ in written:
        payloads.setdefault(fn, []).append(args.get("p_payload", {}))
        if fn == "bot_runtime_write_event":
            keys.append(str(args["p_key"]))
    fills = [row["trade_id"] for row in payloads.get("bot_runtime_record_fill", [])]
    orders = {row["client_order_id"]: row["order_status"] for row in payloads.get("bot_runtime_upsert_trade", [])}
    there_fills = [row[0] for row in stack.query(_ORDER_OF["bot_runtime_record_fill"], bot.bot_id)]
    there_keys = [row[0] for row in stack.query(_ORDER_OF["bot_runtime_write_event"], bot.bot_id, keys)]
    there_orders: dict[str, str] = dict(
        stack.query("select client_order_id, order_status from bot_runtime.bot_trades where bot_id = %s", bot.bot_id)
    )
    counted = {
        "bot_runtime_record_cycle": "select count(*) from bot_runtime.cycle_trace where bot_id = %s",
        "bot_runtime_record_decision": "select count(*) from bot_runtime.risk_decisions where bot_id = %s",
    }
    missing = (
        len(set(fills) - set(there_fills)) + len(set(keys) - set(there_keys)) + len(orders.keys() - there_orders.keys())
    )
    doubled = len(there_fills) - len(set(there_fills)) + len(there_keys) - len(set(there_keys))
    for fn, count in counted.items():
        ((there,),) = stack.query(count, bot.bot_id)
        difference = len(payloads.get(fn, [])) - there
        missing += max(difference, 0)
        doubled += max(-difference, 0)
    ((refused,),) = stack.query("select count(*) from bot_runtime.dead_letters where bot_id = %s", bot.bot_id)
    ((last_seq,),) = stack.query("select max(last_seq) from bot_runtime.sync_streams where bot_id = %s", bot.bot_id)
    return {
        "missing": missing,
        "doubled": doubled,
        "out_of_order": int(there_fills != fills) + int(there_keys != keys),
        "refused": refused,
        "orders_differing": sum(there_orders.get(name) != status for name, status in orders.items()),
        "last_seq": last_seq,
    }
