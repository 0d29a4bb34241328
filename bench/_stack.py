"""What the database's benchmarks share: a local stack whose replies can be lost, and bots on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_roles import MIGRATOR
from tbh.infra.localkeys import LocalKeys
from tbh.infra.migrate import connect, migrate
from tbh.infra.operator_rpc import OperatorRpc
from tbh.infra.operator_tokens import store_operator_token
from tbh.infra.rpcgateway.server import Gateway
from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.supabase import SupabaseRpc

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class MadeBot:
    """A bot as ``tbh bot create`` makes one."""

    bot_id: str
    token: str


@dataclass(kw_only=True)
class Stack:
    """A running stack. ``lose`` says of each reply, by the function's name, whether it gets lost; ``away`` and
    ``back`` stop and start PostgreSQL alone."""

    root: Path
    server: LocalDatabase
    keys: LocalKeys
    lose: Callable[[str], bool] | None = None
    url: str = ""
    lost: int = 0
    bots: int = 0
    _made: list[MadeBot] = field(default_factory=list)

    def before_reply(self, fn: str) -> bool:
        """The gateway's question."""
        if self.lose is None or not self.lose(fn):
            return True
        self.lost += 1
        return False

    def query(self, statement: str, *values: object) -> Rows:
        """Rows, read as the owner of the tables."""
        with psycopg.connect(self.server.dsn(MIGRATOR)) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def operator(self) -> OperatorRpc:
        """An admin at the gateway."""
        return OperatorRpc(url=self.url, service_key=self.keys.service_key, operator_token=self.keys.operator_token)

    def make_bot(self, **payload: Any) -> MadeBot:
        """A paper bot with the built-in strategy."""
        self.bots += 1
        given: dict[str, Any] = {
            "name": f"bench-{self.bots}",
            "exchange": "paper",
            "symbols": ["SIM/USD"],
            "strategy": DEFAULT_STRATEGY,
            "mode": "paper",
            "polling_tier": "fast_5s",
        }
        with self.operator() as operator:
            made = operator.call("bot_admin_create", bot_id=str(uuid.uuid4()), payload=given | payload)
        return MadeBot(bot_id=made["bot_id"], token=made["runtime_token"])

    def rpc(self, bot: MadeBot, boot_id: str, state: Path) -> SupabaseRpc:
        """A runtime's client."""
        return SupabaseRpc(
            url=self.url,
            service_key=self.keys.service_key,
            bot_id=bot.bot_id,
            boot_id=boot_id,
            tokens=TokenKeeper(state / "token.sealed", env_token=bot.token, bot_id=bot.bot_id),
        )

    def environment(self, bot: MadeBot, state: Path, **more: str) -> dict[str, str]:
        """What a process of the bot finds in its environment."""
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")}
        return inherited | {
            "BOT_ID": bot.bot_id,
            "RUNTIME_TOKEN": bot.token,
            "SUPABASE_URL": self.url,
            "SUPABASE_SERVICE_ROLE_KEY": self.keys.service_key,
            "TBH_STATE_DIR": str(state),
            **more,
        }

    def start_bot(self, bot: MadeBot, state: Path, **more: str) -> subprocess.Popen[str]:
        """``python -m tbh.actors.main`` as the bot."""
        return subprocess.Popen(
            [sys.executable, "-m", "tbh.actors.main"],
            cwd=Path(__file__).resolve().parents[1],
            env=self.environment(bot, state, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def running_stack(*, fast: bool = False, access_log: Callable[[str], None] | None = None) -> Iterator[Stack]:
    """A migrated stack in a folder of its own, removed at the end. ``access_log`` is the gateway's."""
    root = Path(tempfile.mkdtemp(prefix="tbh-bench-"))
    server = LocalDatabase(root / "database", fast=fast)
    try:
        server.start()
        migrate(server.dsn(MIGRATOR))
        stack = Stack(root=root, server=server, keys=LocalKeys.kept_in(root / "keys.json"))
        with connect(server.dsn(MIGRATOR)) as connection:
            store_operator_token(connection, stack.keys.operator_token, name="bench", role="admin")
        gateway = Gateway(
            server.dsn(), jwt_secret=stack.keys.jwt_secret, before_reply=stack.before_reply, access_log=access_log
        )
        gateway.start()
        try:
            stack.url = gateway.url
            yield stack
        finally:
            gateway.stop()
    finally:
        server.close()
        shutil.rmtree(root, ignore_errors=True)


def wait_until(true: Callable[[], Any], *, within_s: float, what: str, every_s: float = 0.02) -> Any:
    """What ``true`` gives once it is true. ``TimeoutError`` with ``what`` after ``within_s``."""
    deadline_s = time.monotonic() + within_s
    while not (found := true()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what} not within {within_s:g} s")
        time.sleep(every_s)
    return found


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie, the nearest one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
