"""The supervisor: what happens when the tree can't go on.

An escalation is a list of steps, each with a deadline and each on its own: none asks anything of the actor that failed,
and one that fails or takes too long does not keep the next from being tried. What must be said to the outside world
goes over connections of the supervisor's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from tbh.domain import ids
from tbh.domain.money import floor_to_step, plain
from tbh.domain.protection import guards
from tbh.messages.account import Position
from tbh.messages.market import Market
from tbh.messages.orders import Order, OrderType, Purpose, Side
from tbh.ports import Exchange, Rpc, StoreReader
from tbh.runtime.actor import Log

CALL_TIMEOUT_S = 3.0


class PositionPolicy(StrEnum):
    """What becomes of the position: ``protect`` sees to its stop, ``flatten`` closes it, ``hold`` leaves it alone."""

    PROTECT = "protect"
    FLATTEN = "flatten"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One act of an escalation; ``act`` returns a line for the log."""

    name: str
    deadline_s: float
    act: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The supervisor's own connections. ``exchange`` and ``rpc`` open one when called; ``store`` is a reader."""

    exchange: Callable[[], Exchange]
    rpc: Callable[[], Rpc]
    store: Callable[[], StoreReader]
    halt: Callable[[str], None]
    drain: Callable[[str, float], bool]
    now: Callable[[], datetime]


Runner = Callable[[float, Callable[[], str]], str]
"""Runs an act within a deadline (seconds) and returns its line; ``TimeoutError`` when it did not end in time."""


class Supervisor:
    """Escalates for one bot and one market (ARCHITECTURE §4)."""

    def __init__(
        self, *, bot_id: str, boot_id: str, market: Market, policy: PositionPolicy, outside: Outside, log: Log
    ) -> None:
        self._bot_id = bot_id
        self._boot_id = boot_id
        self._market = market
        self._policy = policy
        self._outside = outside
        self._log = log

    def escalate(self, actor: str, reason: str, exit_code: int, *, run: Runner) -> int:
        """Carry out every step; the exit code. Nothing is sent to the exchange when the bot is another's (75)."""
        for step in self._steps(actor, reason, exit_code):
            try:
                line = run(step.deadline_s, step.act)
            except Exception as fault:  # noqa: BLE001 - whatever it was, the next step is still worth doing
                self._log.error("escalation_step_failed", step=step.name, error=f"{type(fault).__name__}: {fault}")
            else:
                self._log.warning("escalation_step", step=step.name, result=line)
        return exit_code

    def _steps(self, actor: str, reason: str, exit_code: int) -> Sequence[Step]:
        steps = [
            Step(name="entries_off", deadline_s=1.0, act=lambda: self._entries_off(reason)),
            Step(name="health", deadline_s=CALL_TIMEOUT_S, act=lambda: self._health(actor, reason)),
            Step(name="journal", deadline_s=CALL_TIMEOUT_S, act=lambda: self._journal(actor)),
            Step(name="notice", deadline_s=CALL_TIMEOUT_S, act=lambda: self._notice(actor, reason, exit_code)),
        ]
        if exit_code != 75:  # whoever owns the bot now owns its position too
            steps.append(Step(name=f"position_{self._policy}", deadline_s=10.0, act=self._position))
        return steps

    def _entries_off(self, reason: str) -> str:
        self._outside.halt(reason)
        return "every actor was told"

    def _health(self, actor: str, reason: str) -> str:
        patch = {
            "bot_id": self._bot_id,
            "boot_id": self._boot_id,
            "flushed_at": self._outside.now().isoformat(),
            "reason": f"escalated: {actor}: {reason}"[:500],
        }
        self._outside.rpc().upsert_health(patch)
        return "flushed"

    def _journal(self, actor: str) -> str:
        if actor == "journaler":
            return "left alone: it is the journaler that failed"
        return "flushed" if self._outside.drain("journaler", CALL_TIMEOUT_S) else "not flushed in time"

    def _notice(self, actor: str, reason: str, exit_code: int) -> str:
        payload = {"severity": "critical", "text": f"{actor}: {reason}", "exit_code": exit_code}
        self._outside.rpc().notify(channel="in_app", payload=payload, key=f"escalated:{self._boot_id}")
        return "sent"

    # The position

    def _position(self) -> str:
        if self._policy is PositionPolicy.HOLD:
            return "held"
        exchange = self._outside.exchange()
        try:
            self._cancel_entries(exchange)
            report = exchange.position(self._market.symbol, timeout_s=CALL_TIMEOUT_S)
            qty = floor_to_step(abs(report.qty), self._market.amount_step)
            if not qty:
                return "flat"
            side = Side.SELL if report.qty > 0 else Side.BUY
            if self._policy is PositionPolicy.FLATTEN:
                return self._flatten(exchange, side, qty)
            return self._protect(exchange)
        finally:
            exchange.close()

    def _cancel_entries(self, exchange: Exchange) -> None:
        for report in exchange.open_orders(self._market.symbol, timeout_s=CALL_TIMEOUT_S):
            parts = ids.parse(report.client_order_id, self._bot_id)
            if parts is not None and parts.purpose.increases_risk:
                exchange.cancel(report.client_order_id, self._market.symbol, timeout_s=CALL_TIMEOUT_S)

    def _flatten(self, exchange: Exchange, side: Side, qty: Decimal) -> str:
        request_id = f"escalation:{self._boot_id}"
        order = self._order(
            ids.flatten_order_id(self._bot_id, request_id, 0, purpose=Purpose.EMERGENCY),
            ids.intent_id(Purpose.EMERGENCY, request_id),
            side=side,
            qty=qty,
            purpose=Purpose.EMERGENCY,
        )
        accepted = exchange.place(order, timeout_s=CALL_TIMEOUT_S)
        return f"{side} {plain(qty)} at market: {accepted.status}"

    def _protect(self, exchange: Exchange) -> str:
        position = self._outside.store().positions().get(self._market.symbol)
        for report in exchange.open_orders(self._market.symbol, timeout_s=CALL_TIMEOUT_S):
            parts = ids.parse(report.client_order_id, self._bot_id)
            if parts is not None and parts.purpose is Purpose.STOP:
                return f"its stop stands: {report.client_order_id}"
        guard = guards(position, self._market, best_price=None).get(Purpose.STOP)
        if position is None or guard is None:
            return "no stop is defined for it"
        revision = self._next_revision(exchange, position)
        order = self._order(
            ids.protection_order_id(self._bot_id, position.position_id, Purpose.STOP, revision),
            ids.intent_id(Purpose.STOP, position.position_id, revision),
            side=guard.side,
            qty=guard.qty,
            purpose=Purpose.STOP,
            stop_price=guard.price,
        )
        accepted = exchange.place(order, timeout_s=CALL_TIMEOUT_S)
        return f"stop {guard.side} {plain(guard.qty)} at {plain(guard.price)}: {accepted.status}"

    def _next_revision(self, exchange: Exchange, position: Position) -> int:
        """The first revision whose id the exchange has never seen."""
        for revision in range(10_000):
            client_order_id = ids.protection_order_id(self._bot_id, position.position_id, Purpose.STOP, revision)
            if exchange.order(client_order_id, self._market.symbol, timeout_s=CALL_TIMEOUT_S) is None:
                return revision
        raise LookupError("10,000 revisions of one stop")

    def _order(
        self,
        client_order_id: str,
        intent_id: str,
        *,
        side: Side,
        qty: Decimal,
        purpose: Purpose,
        stop_price: Decimal | None = None,
    ) -> Order:
        now = self._outside.now()
        return Order(
            client_order_id=client_order_id,
            intent_id=intent_id,
            symbol=self._market.symbol,
            side=side,
            type=OrderType.MARKET if stop_price is None else OrderType.STOP_MARKET,
            qty=qty,
            stop_price=stop_price,
            reduce_only=True,
            purpose=purpose,
            strategy="",
            bar_open=now,
            created_at=now,
        )
