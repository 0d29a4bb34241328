"""How the bot stands, as each heartbeat tells the database: a part of the control poller."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from tbh.actors.identity import BotIdentity
from tbh.actors.rows import utc_text
from tbh.domain.money import plain
from tbh.messages.account import Marked, PositionChanged, SyncStatus

STARTING: Final = "starting"
"""The gate's reason while it is not known: no entry is sent before it is, and no reason at all would say open."""


class BotState:
    """The newest word on position, account and gate."""

    def __init__(self, identity: BotIdentity) -> None:
        self.sync = SyncStatus.UNKNOWN
        self.marked: Marked | None = None
        self.position: PositionChanged | None = None
        self.gate: tuple[str, ...] = (STARTING,)
        self._identity = identity

    def payload(self, *, now: datetime, number: int, first: bool) -> dict[str, Any]:
        """The heartbeat with that ``number`` at market time ``now``; JSON types, money as text."""
        payload: dict[str, Any] = {
            "heartbeat_at": utc_text(now),
            "exchange_sync_status": self.sync.value,
            "heartbeat_seq": number,
            "boot_id": self._identity.boot_id,
            "run_id": self._identity.run_id,
            "version": self._identity.version,
            "polling_tier": self._identity.polling_tier,
            "symbol": self._identity.symbol,
            "gate": list(self.gate),
        }
        if first:
            payload["event"] = "started"
        if self.position is not None:
            position = self.position.held
            payload["in_position"] = position is not None
            payload["position_qty"] = "0" if position is None else plain(position.qty)
            if position is not None:
                payload["position_side"] = "long" if position.qty > 0 else "short"
                payload["position_entry"] = plain(position.entry_price)
        if self.marked is not None:
            payload["mark_price"] = plain(self.marked.mark)
            for name in ("cash", "equity", "realised_pnl", "unrealised_pnl", "drawdown", "day_pnl"):
                payload[name] = plain(getattr(self.marked, name))
            payload["marked_at"] = utc_text(self.marked.at)
        return payload
