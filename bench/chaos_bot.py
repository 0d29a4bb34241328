"""A live bot on the stand-in exchange, as a process that gets killed: made, started, watched, asked."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench._stack import MadeBot, Stack
from bench.binance.process import FakeBinance
from bench.chaos_judge import Journal
from tbh.infra.crypto import seal
from tbh.infra.store_reader import SqliteReader
from tbh.messages.orders import OrderStatus

LEASE_S = 2.0
STORE = "store.sqlite"
LOG = Path("logs") / "tradebothub.log"
PID = "pid"

STRATEGY: dict[str, Any] = {
    "name": "restless",
    "timeframe": "1s",
    "indicators": [],
    "entry": {"long": {"all": [{"left": "close", "op": ">", "right": 0}]}},
    "exit": {"long": {"all": [{"left": "close", "op": ">", "right": 0}]}},
    "stops": {"basis": "entry", "stop_loss": "0.0015"},
    "sizing": {"kind": "fixed_notional", "value": "400"},
}
"""In on one bar, out on the next, with a stop near enough to be hit now and then: three orders in two seconds."""

_SETTLED = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


@dataclass(slots=True, kw_only=True)
class Life:
    """One process. ``unknown`` says that an order's outcome was open when it began."""

    process: subprocess.Popen[bytes]
    state: Path
    began_s: float
    log_from: int
    unknown: bool = False
    ready_s: float | None = None

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def ready(self) -> bool:
        """Whether entries are ready; the first time it is seen gives ``ready_s``, seconds since the start."""
        if self.ready_s is None and any(line.get("event") == "trading" for line in self.lines()):
            self.ready_s = time.monotonic() - self.began_s
        return self.ready_s is not None

    def lines(self) -> Iterator[dict[str, Any]]:
        """What this life has logged, whole lines."""
        path = self.state / LOG
        if not path.exists():
            return
        with path.open("rb") as log:
            log.seek(min(self.log_from, path.stat().st_size))
            for line in log.read().split(b"\n")[:-1]:
                yield json.loads(line)


def end_leftover(folder: Path) -> None:
    """Kill the bot of a campaign that was itself killed: it would trade on for as long as its exchange lives."""
    kept = folder / PID
    if not kept.exists():
        return
    process = Path("/proc") / kept.read_text()
    try:
        ours = str(folder).encode() in (process / "environ").read_bytes()
    except OSError:
        return
    if ours:
        os.kill(int(process.name), signal.SIGKILL)


class ChaosBot:
    """The bot's row and its processes, one at a time, in ``folder``. ``reserved`` base coins are not its own."""

    def __init__(self, stack: Stack, exchange: FakeBinance, folder: Path, *, reserved: Decimal) -> None:
        self._stack = stack
        self._exchange = exchange
        self._folder = folder
        self._reserved = reserved
        self._credentials_key = secrets.token_hex(32)
        self._machines = 0
        self.bot = self._make()
        self.state = self._new_machine()

    def _make(self) -> MadeBot:
        bot_id = str(uuid.uuid4())
        base = self._exchange.symbol.partition("/")[0]
        credentials = {"api_key": self._exchange.api_key, "api_secret": self._exchange.api_secret}
        payload = {
            "name": "chaos",
            "exchange": "binance",
            "symbols": [self._exchange.symbol],
            "strategy": STRATEGY,
            "mode": "live",
            "polling_tier": "fast_5s",
            "exchange_options": self._exchange.exchange_options(reserved={base: str(self._reserved)}),
            "ciphertext": seal(credentials, self._credentials_key, bot_id=bot_id),
            "lease_s": LEASE_S,
        }
        with self._stack.operator() as operator:
            made = operator.call("bot_admin_create", bot_id=bot_id, payload=payload)
        return MadeBot(bot_id=made["bot_id"], token=made["runtime_token"])

    def _new_machine(self) -> Path:
        self._machines += 1
        return self._folder / f"machine-{self._machines}"

    def move(self) -> None:
        """The next life begins on another machine: an empty state directory."""
        self.state = self._new_machine()

    def start(self) -> Life:
        log = self.state / LOG
        log_from = log.stat().st_size if log.exists() else 0
        unknown = self.unsettled()
        environment = self._stack.environment(
            self.bot,
            self.state,
            TBH_LEASE_S=f"{LEASE_S:g}",
            TBH_CREDENTIALS_KEY=self._credentials_key,
            LIVE_TRADING="true",
            LIVE_TRADING_ACK="I_UNDERSTAND",
        )
        with (self._folder / "stdout.txt").open("ab") as out, (self._folder / "stderr.txt").open("ab") as errors:
            began_s = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "tbh.actors.main"],
                cwd=Path(__file__).resolve().parents[1],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
        (self._folder / PID).write_text(str(process.pid))
        return Life(process=process, state=self.state, began_s=began_s, log_from=log_from, unknown=unknown)

    def unsettled(self) -> bool:
        """Whether the last life left an order of which it could not know what became."""
        if not self._has_store:
            return False
        with closing(SqliteReader(self.state / STORE)) as store:
            return any(state.status not in _SETTLED for state in store.orders(open_only=True))

    def pending(self) -> int:
        """Entries of the present store that the database does not have yet."""
        if not self._has_store:
            return 0
        with closing(SqliteReader(self.state / STORE)) as store:
            return store.counts().pending

    def control(self, action: str) -> None:
        with self._stack.operator() as operator:
            operator.call("bot_admin_control", bot_id=self.bot.bot_id, action=action, reason="the campaign's end")

    def journal(self) -> Journal:
        """What the database holds of the bot, and what the present store does."""
        stored, stored_position = self._stored()
        return Journal(
            orders=self._rows("bot_trades"),
            fills=self._rows("bot_fills"),
            position=sum((_signed(row) for row in self._rows("bot_positions") if row["status"] == "open"), Decimal(0)),
            cash=next((Decimal(row["cash"]) for row in self._rows("bot_state") if row["cash"] is not None), None),
            stored=stored,
            stored_position=stored_position,
            whole=self._machines == 1,
        )

    @property
    def _has_store(self) -> bool:
        return (self.state / STORE).exists()

    def _stored(self) -> tuple[list[dict[str, Any]], Decimal]:
        if not self._has_store:
            return [], Decimal(0)
        with closing(SqliteReader(self.state / STORE)) as store:
            fills = [asdict(fill) for fill in store.fills()]
            position = store.positions().get(self._exchange.symbol)
        return fills, Decimal(0) if position is None else position.qty

    def refused(self) -> list[str]:
        """What the database did not take of the journal: function and reason."""
        return [f"{row['fn']}: {row['reason']}" for row in self._rows("dead_letters")]

    def state_row(self) -> dict[str, Any]:
        """The row of ``bot_state``; empty before the first heartbeat."""
        return next(iter(self._rows("bot_state")), {})

    def _rows(self, table: str) -> list[dict[str, Any]]:
        """A table's rows of this bot, numbers as text."""
        # json_each_text would turn objects into text as well, which no reader here minds.
        query = (
            "select (select json_object_agg(key, value) from json_each_text(row_to_json(t)))"  # noqa: S608 - own names
            f" from bot_runtime.{table} t where bot_id = %s"
        )
        return [row[0] for row in self._stack.query(query, self.bot.bot_id)]


def _signed(row: dict[str, Any]) -> Decimal:
    qty = Decimal(row["qty"])
    return -qty if row["position_side"] == "short" else qty
