"""The database takes every heartbeat that the control poller sends: a key it did not know would end the bot's lease."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tbh.actors.control_poller import ControlPollerActor
from tbh.actors.identity import BotIdentity
from tbh.infra.memory_rpc import MemoryRpc
from tbh.messages.account import Marked, Position, PositionChanged, PositionSynced, SyncStatus
from tbh.messages.base import Message
from tbh.messages.health import GateChanged
from tbh.ports import Lease
from tbh.runtime.probe import EPOCH, Probe
from tests.database.conftest import Database

IDENTITY = BotIdentity(
    bot_id="bot", bot_name="demo", user_id="u", strategy="s", mode="paper", exchange="paper", symbol="BTC/USDT",
    boot_id="boot-1", run_id="run-1", version="1", provider="local", region="here", machine_id="m",
    polling_tier="standard", timeframe_s=60,
)  # fmt: skip
TOLD: list[Message] = [
    PositionSynced(
        symbol="BTC/USDT", status=SyncStatus.OK, book_qty=Decimal(0), exchange_qty=None, at=EPOCH, reconcile_ms=1.0
    ),
    Marked(
        symbol="BTC/USDT", bar_index=3, at=EPOCH, mark=Decimal(101), cash=Decimal(900), equity=Decimal("1000.50"),
        realised_pnl=Decimal(0), unrealised_pnl=Decimal("-0.5"), fees=Decimal(0), drawdown=Decimal(0),
        day_pnl=Decimal(1),
    ),
    PositionChanged(
        symbol="BTC/USDT", seq=1,
        position=Position(
            symbol="BTC/USDT", strategy="s", position_id="c1", qty=Decimal("-0.5"), entry_price=Decimal(100),
            opened_at=EPOCH, bar_open=EPOCH,
        ),
    ),
    GateChanged(reasons=("paused", "warmup"), exits_allowed=True),
]  # fmt: skip


class Overheard(MemoryRpc):
    """Keeps what the poller says."""

    said: list[dict[str, Any]]

    def heartbeat(self, payload: Mapping[str, Any]) -> tuple[Lease, int]:
        self.said.append(dict(payload))
        return super().heartbeat(payload)


def heartbeats() -> list[dict[str, Any]]:
    """Those of a poller that was first told nothing, and then everything."""
    probe: Probe | None = None
    rpc = Overheard("bot", monotonic=lambda: 0.0 if probe is None else probe.monotonic())
    rpc.said = []
    probe = Probe(
        ControlPollerActor,
        lambda ctx: ControlPollerActor(
            ctx, rpc=rpc, identity=IDENTITY, tier_s=5, lease_s=30, margin_s=5, previous_boot_ids=(),
            killed_locally=lambda: False, environment_killed=False,
        ),
        name="control_poller",
    )  # fmt: skip
    probe.advance(0)
    for message in TOLD:
        probe.tell(message)
    probe.advance(5)
    return rpc.said


def test_the_database_takes_every_heartbeat_of_the_control_poller(database: Database) -> None:
    said, bot_id = heartbeats(), str(uuid.uuid4())
    assert len(said) == 2
    database.query(
        "insert into bot_runtime.bots (id, name, mode, exchange, symbols) values (%s, 'b', 'paper', 'paper', '{S}')",
        (bot_id,),
    )
    database.query(
        "insert into bot_runtime.bot_runtime (bot_id, runtime_token_hash, token_expires_at)"
        " values (%s, %s, clock_timestamp() + interval '1 hour')",
        (bot_id, hashlib.sha256(b"token").digest()),
    )
    headers = {"x-runtime-token": "token", "x-runtime-boot-id": "boot-1", "x-runtime-epoch": "1"}
    database.call("bot_runtime_claim", {"p_bot_id": bot_id, "p_boot_id": "boot-1"}, headers)
    for payload in said:
        database.call("bot_runtime_heartbeat", {"p_bot_id": bot_id, "p_payload": payload}, headers)
    rows = database.query("select boot_id, exchange_sync_status, unrealized_pnl, payload from bot_runtime.bot_state")
    assert rows == [("boot-1", "ok", Decimal("-0.5"), said[-1])]
