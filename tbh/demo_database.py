"""The local database of a demo: a stack of its own in the state directory, which begins and ends with the demo.

The stack is a child process, so that the bot's process is as light as any bot's, and ends when the demo is gone,
however that ends. What a kill leaves behind, the next start takes over.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from tbh.infra.operator_rpc import OperatorRpc
from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.stackfolder import StackFolder
from tbh.infra.statedir import StateDir
from tbh.infra.supabase import SupabaseRpc
from tbh.plan import PaperPlan
from tbh.ports import Fatal, Rejected

READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0
HERE = "local"
"""Provider, region and machine of a demo's runtime."""


class DemoDatabase:
    """``start`` returns at once; ``connect`` waits until the stack serves."""

    def __init__(self, root: Path, stack: subprocess.Popen[bytes]) -> None:
        self._root = root
        self._stack = stack
        self._operator: OperatorRpc | None = None
        self._rpc: SupabaseRpc | None = None

    @classmethod
    def start(cls, root: Path) -> Self:
        """Start the stack in ``root``."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tbh", "local", "up", "--dir", str(root), "--port", "0", "--json"]
        with (root / "stack.log").open("ab") as log:
            stack = subprocess.Popen(  # noqa: S603  # our own command
                [*command, "--with-parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which needs its database until its own end
                bufsize=0,  # what a buffer had read ahead, select would not see
            )
        return cls(root, stack)

    def connect(self, plan: PaperPlan, state: StateDir) -> SupabaseRpc:
        """The bot of ``plan`` at the database, made known to it if need be. ``Fatal`` when the stack doesn't start."""
        url = self._url()
        keys = StackFolder(self._root).environment(operator=True)
        service_key = keys["SUPABASE_SERVICE_ROLE_KEY"]
        self._operator = OperatorRpc(url=url, service_key=service_key, operator_token=keys["TBH_OPERATOR_TOKEN"])
        token = _admitted(self._operator, plan)
        self._rpc = SupabaseRpc(
            url=url,
            service_key=service_key,
            bot_id=plan.bot.bot_id,
            boot_id=state.boot_id,
            tokens=TokenKeeper(state.token, env_token=token, bot_id=plan.bot.bot_id),
        )
        return self._rpc

    def rows(self, bot_id: str) -> dict[str, int]:
        """How many rows each table has of the bot."""
        assert self._operator is not None, "not connected"
        counted = self._operator.call("bot_admin_show", bot_id=bot_id, limit="1")["rows"]
        return {str(table): int(count) for table, count in counted.items()}

    def close(self) -> None:
        """Stop the stack; returns when it is gone."""
        for client in (self._rpc, self._operator):
            if client is not None:
                client.close()
        self._stack.terminate()
        try:
            self._stack.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._stack.kill()
            self._stack.wait()
        if self._stack.stdout is not None:
            self._stack.stdout.close()

    def _url(self) -> str:
        assert self._stack.stdout is not None
        line = _first_line(self._stack.stdout, within_s=READY_WITHIN_S)
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(line)["url"])
        complaints = (self._root / "stack.log").read_text(errors="replace").strip().splitlines()
        why = complaints[-1].removeprefix("tbh: ") if complaints else f"no word within {READY_WITHIN_S:g} s"
        raise Fatal("local_database", exit_code=78, detail=f"{why} (or run without one: --database memory)")


def _admitted(operator: OperatorRpc, plan: PaperPlan) -> str:
    """A fresh runtime token for the bot of ``plan``."""
    bot = plan.bot
    payload = {
        "name": bot.name,
        "exchange": bot.exchange,
        "symbols": [plan.symbol],
        "strategy": json.loads(plan.definition.canonical_json()),
        "fingerprint": plan.definition.fingerprint(),
        "mode": bot.mode,
        "polling_tier": bot.polling_tier,
        "provider": HERE,
        "region": HERE,
        "machine_id": HERE,
    }
    try:
        made = operator.call("bot_admin_create", bot_id=bot.bot_id, payload=payload)
    except Rejected as refusal:
        if refusal.reason != "bot_exists":
            raise
        made = operator.call("bot_runtime_register", bot_id=bot.bot_id, provider=HERE, region=HERE, machine_id=HERE)
    return str(made["runtime_token"])


def _first_line(stream: IO[bytes], *, within_s: float) -> bytes:
    """The first line, as far as there is one within the time."""
    deadline_s = time.monotonic() + within_s
    line = b""
    while not line.endswith(b"\n") and (left_s := deadline_s - time.monotonic()) > 0:
        if not select.select([stream], [], [], left_s)[0]:
            break
        byte = stream.read(1)
        if not byte:
            break
        line += byte
    return line
