"""What there is to see of a session: at a glance while it runs, and as one object when it is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tbh.report import Snapshot, actor_lines, order_counts, paths_of, result_of

if TYPE_CHECKING:
    from tbh.life import Session


def snapshot_of(session: Session[Any]) -> Snapshot:
    """The session as it stands."""
    session.tally.update()
    account = session.tally.account
    price = session.mark
    elapsed_s = session.run_s or (time.monotonic() - session.started_s)
    released = session.bars - session.bars_at_start
    return Snapshot(
        phase=_phase(session),
        bar_index=session.bars,
        bars_total=session.bars_total,
        bar_time=session.now(),
        price=price,
        position_qty=account.qty,
        entry_price=account.entry_price,
        cash=account.cash,
        equity=account.cash if price is None else account.equity(price),
        realised_pnl=account.realised,
        fees=account.fees,
        orders=order_counts(session.store.orders_by_status()),
        fills=session.tally.fills,
        trades=len(session.tally.trades),
        gate=session.board.gate,
        heartbeats=session.rpc.calls["heartbeat"],
        health_flushes=session.rpc.calls["upsert_health"],
        actors=actor_lines(session.host.cells),
        bars_per_s=released / elapsed_s if elapsed_s > 0 else 0.0,
        elapsed_s=elapsed_s,
    )


def report_of(session: Session[Any]) -> dict[str, Any]:
    """What ``tbh demo --json`` prints of a session that has ended."""
    plan = session.plan
    report = result_of(store=session.store, tally=session.tally, mark=session.mark, cells=session.host.cells)
    bars = session.bars
    seconds = session.run_s or 0.0
    return {
        "strategy": plan.definition.name,
        "symbol": plan.symbol,
        "timeframe_s": plan.timeframe_s,
        "bars": bars,
        **session.about(),
        **report,
        "health_flushes": session.rpc.calls["upsert_health"],
        "heartbeats": session.rpc.calls["heartbeat"],
        "gate": list(session.board.gate),
        "escalation": None if session.trouble is None else list(session.trouble),
        "exit_code": session.exit_code,
        "trading_after_s": session.trading_after_s,
        "seconds": round(seconds, 3),
        "bars_per_s": round((bars - session.bars_at_start) / seconds, 1) if seconds else 0.0,
        "paths": paths_of(session.state),
    }


def _phase(session: Session[Any]) -> str:
    if session.trouble is not None:
        return "escalated"
    if session.ended:
        return "ended"
    return "stopping" if session.stop_asked.is_set() else "running"
