"""Defects of what is known of the account: its events, its snapshots, the exposure that risk sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tbh.actors import risk
from tbh.actors.account_reader import AccountReader
from tbh.actors.gateway import GatewayActor
from tbh.actors.position_syncer import PositionSyncerActor
from tbh.actors.risk import RiskActor
from tbh.actors.standing import AccountView
from tbh.domain.reconcile import Reconciler
from tbh.messages.account import SyncStatus
from tbh.messages.orders import OrderStatus
from tbh.ports import AccountEvent, Exchange
from tests.mutants.mutation import also, defect

# Events


class _FirstOnly:
    """An account of whose news only the first is heard."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def events(self, after: int, *, timeout_s: float) -> Sequence[AccountEvent]:
        return self._exchange.events(after, timeout_s=timeout_s)[:1]


@defect("of several events that are read at once only the first is told", AccountReader, "_poll")
def events_skipped(original, self):
    exchange, self._exchange = self._exchange, _FirstOnly(self._exchange)
    try:
        return original(self)
    finally:
        self._exchange = exchange


@defect("an account is told from where the gateway stands, not from where the asker does", AccountReader, "on_resync")
def resync_from_wrong_seq(original, self, command):
    original(self, replace(command, after=max(self._seq, command.after)))


@defect("open orders are not told to one that has started anew", AccountReader, "on_resync")
def open_orders_not_told(original, self, command):
    original(self, replace(command, symbol=None))


# Snapshots


@defect("one disagreement with the exchange is enough", Reconciler, "_compare")
def one_disagreement_believed(original, self, exchange_qty, book_qty, now_s, asked_s):
    original(self, exchange_qty, book_qty, now_s, asked_s)
    original(self, exchange_qty, book_qty, now_s, now_s + self._confirm_after_s)


@also("one_disagreement_believed", Reconciler, "judge")
def _across_events(original, self, snapshot, book_qty, book_seq, **rest):
    level = max(book_seq, snapshot.seq_after)
    return original(self, replace(snapshot, seq_before=level, seq_after=level), book_qty, level, **rest)


@defect("entries go on while book and exchange disagree", RiskActor, "on_position_synced")
def mismatch_does_not_gate(original, self, synced):
    original(self, replace(synced, status=SyncStatus.OK))


@defect("book and exchange are never compared", PositionSyncerActor, "_ask")
def never_compared(original, self):
    """No question."""


# Exposure


@defect("an order whose fate is unknown counts as none", AccountView, "has_unknown")
def unknown_orders_not_counted(original, self):
    return False


@also("unknown_orders_not_counted", risk, "judge")
def _without_unknown(original, proposal, *, standing, **rest):
    known = [state for state in standing.open_orders if state.status is not OrderStatus.UNKNOWN]
    return original(proposal, standing=replace(standing, open_orders=known), **rest)


@defect("an order under way counts as none", risk, "judge")
def open_orders_not_counted(original, proposal, *, standing, **rest):
    return original(proposal, standing=replace(standing, open_orders=[]), **rest)


@defect("what is held already counts as nothing", risk, "judge")
def position_not_counted(original, proposal, *, standing, **rest):
    return original(proposal, standing=replace(standing, position=None), **rest)


@defect("what closes entries is told and not heeded", risk, "judge")
def gate_not_heeded(original, proposal, *, gate, **rest):
    return original(proposal, gate=(), **rest)


@also("gate_not_heeded", RiskActor, "_obstacle")
def _no_obstacle(original, self, proposal):
    return None


@also("gate_not_heeded", GatewayActor, "on_gate_changed")
def _gateway_deaf(original, self, gate):
    original(self, replace(gate, reasons=()))
