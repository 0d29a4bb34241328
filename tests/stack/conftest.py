"""A local stack for the whole run, and bots on it as processes of their own: what a platform and its operators see."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench._stack import MadeBot, Stack, running_stack, wait_until
from tests.stack.strategies import BUSY

WITHIN_S = 30.0


@dataclass
class Fleet:
    """The stack and the processes that a test starts on it; none outlives its test."""

    stack: Stack
    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def make(self, strategy: dict[str, Any] = BUSY, **options: Any) -> MadeBot:
        """A bot whose account and market outlive its state directory, as a real exchange's do."""
        given = {
            "bars_per_second": 20,
            "account": str(self.folder / "account.sqlite"),
            "opened_at": datetime.now(UTC).isoformat(),
            **options,
        }
        return self.stack.make_bot(exchange_options=given, strategy=strategy)

    def start(self, bot: MadeBot, state: str = "state", **environment: str) -> subprocess.Popen[str]:
        more = {"TBH_LEASE_S": "2", **environment}
        process = self.stack.start_bot(bot, self.folder / state, **more)
        self.running.append(process)
        return process

    def state_of(self, bot: MadeBot) -> dict[str, Any]:
        """The row of ``bot_state``; empty before the first heartbeat."""
        rows = self.stack.query("select to_jsonb(s) from bot_runtime.bot_state s where bot_id = %s", bot.bot_id)
        return rows[0][0] if rows else {}

    def lease_of(self, bot: MadeBot) -> tuple[str | None, int]:
        ((boot_id, epoch),) = self.stack.query(
            "select boot_id, epoch from bot_runtime.bot_leases where bot_id = %s", bot.bot_id
        )
        return boot_id, epoch

    def cycles_of(self, bot: MadeBot) -> int:
        ((cycles,),) = self.stack.query("select count(*) from bot_runtime.cycle_trace where bot_id = %s", bot.bot_id)
        return int(cycles)

    def trades(self, bot: MadeBot, *, more_than: int = 0) -> int:
        """Wait until the bot has decided bars, so that the database knows of ``more_than`` of them; how many."""
        return int(
            wait_until(
                lambda: (count := self.cycles_of(bot)) > more_than and count, within_s=WITHIN_S, what="decided bars"
            )
        )

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """How the process ended by itself: code, stdout, stderr."""
        out, errors = process.communicate(timeout=WITHIN_S)
        return process.returncode, out, errors

    def stop(self, process: subprocess.Popen[str]) -> tuple[int, float]:
        """SIGTERM; the exit code and how long it took."""
        began_s = time.monotonic()
        process.terminate()
        process.communicate(timeout=WITHIN_S)
        return process.returncode, time.monotonic() - began_s


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with running_stack(fast=True) as running:
        yield running


@pytest.fixture
def fleet(stack: Stack, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(stack, tmp_path)
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


@pytest.fixture
def control(stack: Stack) -> Callable[..., dict[str, Any]]:
    """What an operator tells a bot."""

    def tell(bot: MadeBot, action: str) -> dict[str, Any]:
        with stack.operator() as operator:
            return operator.call("bot_admin_control", bot_id=bot.bot_id, action=action, reason="a test")

    return tell
