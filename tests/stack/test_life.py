"""The life of a bot's process on a real database: it starts, trades, stops, is killed, is taken over, is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from bench._stack import wait_until
from tests.stack.strategies import BUSY, HOLD


def one_line(errors: str) -> str:
    (line,) = errors.splitlines()
    assert line.startswith("tbh: ")
    assert "Traceback" not in line
    return line


def test_it_trades_and_sigterm_ends_it_in_order(fleet: Any) -> None:
    bot = fleet.make()
    process = fleet.start(bot)
    fleet.trades(bot, more_than=10)
    wait_until(lambda: fleet.state_of(bot).get("in_position"), within_s=30, what="a position")
    exit_code, seconds = fleet.stop(process)
    assert exit_code == 0
    assert seconds < 5
    assert fleet.lease_of(bot)[0] is None
    tables = {
        "bot_state", "bot_trades", "bot_fills", "bot_positions", "bot_events", "bot_health_evidence", "sessions",
        "notifications", "risk_decisions", "cycle_trace", "run_metrics",
    }  # fmt: skip
    with fleet.stack.operator() as operator:
        shown = operator.call("bot_admin_show", bot_id=bot.bot_id)
    assert {table for table in tables if not shown["rows"].get(table)} == set()
    rows = fleet.stack.query("select end_reason from bot_runtime.sessions where bot_id = %s", bot.bot_id)
    assert rows == [("stopped",)]


def test_after_a_kill_the_same_state_directory_takes_over_at_once(fleet: Any) -> None:
    bot = fleet.make()
    first = fleet.start(bot, TBH_LEASE_S="60")
    fleet.trades(bot, more_than=5)
    first.kill()
    first.communicate()
    holder, epoch = fleet.lease_of(bot)
    assert holder is not None
    second = fleet.start(bot, TBH_LEASE_S="60")
    wait_until(lambda: fleet.lease_of(bot)[1] == epoch + 1, within_s=30, what="a takeover")
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 5)
    assert fleet.stop(second)[0] == 0
    ((open_orders,),) = fleet.stack.query("select count(*) from bot_runtime.dead_letters where bot_id = %s", bot.bot_id)
    assert open_orders == 0


@pytest.mark.alone
def test_after_a_kill_another_machine_takes_over_when_the_lease_has_run_out(fleet: Any) -> None:
    bot = fleet.make()
    first = fleet.start(bot)
    fleet.trades(bot, more_than=5)
    first.kill()
    first.communicate()
    epoch = fleet.lease_of(bot)[1]
    second = fleet.start(bot, "elsewhere")
    wait_until(lambda: fleet.lease_of(bot)[1] == epoch + 1, within_s=30, what="a takeover")
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 5)
    (said,) = [line for line in log_of(fleet.folder / "elsewhere") if line["event"] == "trading"]
    assert said["after_s"] < 2 + 1 + 2  # the lease, what the issue allows, and a start on a busy machine
    assert fleet.stop(second)[0] == 0


def test_a_rival_of_a_living_owner_ends_with_one_line_and_75(fleet: Any) -> None:
    bot = fleet.make()
    owner = fleet.start(bot)
    fleet.trades(bot, more_than=2)
    exit_code, _, errors = fleet.ended(fleet.start(bot, "elsewhere"))
    assert exit_code == 75
    assert "another runtime owns the bot" in one_line(errors)
    assert owner.poll() is None


def test_a_second_process_on_the_same_state_directory_ends_with_75(fleet: Any) -> None:
    bot = fleet.make()
    fleet.start(bot)
    fleet.trades(bot)
    exit_code, _, errors = fleet.ended(fleet.start(bot))
    assert exit_code == 75
    assert "belongs to the running process" in one_line(errors)


def test_an_owner_that_was_taken_over_ends_with_75(fleet: Any) -> None:
    bot = fleet.make()
    owner = fleet.start(bot)
    fleet.trades(bot)
    owner.send_signal(signal.SIGSTOP)
    rival = fleet.start(bot, "elsewhere")
    wait_until(lambda: "trades SIM/USD" in said(rival), within_s=30, what="the rival's start")
    owner.send_signal(signal.SIGCONT)
    exit_code, _, _ = fleet.ended(owner)
    assert exit_code == 75


def said(process: Any) -> str:
    return str(process.stdout.readline())


def test_a_token_that_is_rotated_goes_on_beyond_its_life(fleet: Any) -> None:
    bot = fleet.stack.make_bot(strategy=BUSY, ttl_s=10, exchange_options={"bars_per_second": 20})
    process = fleet.start(bot)
    ((born,),) = fleet.stack.query(
        "select runtime_token_hash from bot_runtime.bot_runtime where bot_id = %s", bot.bot_id
    )
    fleet.trades(bot)

    def rotated_out() -> bool:
        ((present, alive),) = fleet.stack.query(
            "select runtime_token_hash, token_expires_at > now() from bot_runtime.bot_runtime where bot_id = %s",
            bot.bot_id,
        )
        return bytes(present) != bytes(born) and bool(alive)

    wait_until(rotated_out, within_s=20, what="a rotation")
    # The runtime's own clock is left alone: the first token's life is over when as many bars have gone by.
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 20 * 5)
    assert process.poll() is None
    assert fleet.stop(process)[0] == 0


def test_a_token_that_is_revoked_ends_the_bot_with_77(fleet: Any) -> None:
    bot = fleet.make()
    process = fleet.start(bot)
    fleet.trades(bot)
    with fleet.stack.operator() as operator:
        operator.call("bot_runtime_revoke", bot_id=bot.bot_id, reason="a test")
    exit_code, _, errors = fleet.ended(process)
    assert exit_code == 77
    assert "token" in one_line(errors)
    again, _, errors = fleet.ended(fleet.start(bot))
    assert again == 77
    assert "tbh token issue" in one_line(errors)


@pytest.mark.parametrize(
    ("variable", "value", "exit_code", "words"),
    [
        ("SUPABASE_URL", "http://127.0.0.1:9", 69, "no usable answer"),
        ("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_that_is_none", 78, "key"),
        ("SUPABASE_SERVICE_ROLE_KEY", "anon", 78, "role anon"),
        ("RUNTIME_TOKEN", "tbh_rt_" + "0" * 64, 77, "tbh token issue"),
        ("TBH_OPERATOR_TOKEN", "tbh_op_" + "0" * 64, 78, "operators"),
    ],
)
def test_what_is_wrong_with_the_environment_is_one_line_and_its_code(
    fleet: Any, variable: str, value: str, exit_code: int, words: str
) -> None:
    bot = fleet.make()
    value = fleet.stack.keys.anon_key if value == "anon" else value
    code, out, errors = fleet.ended(fleet.start(bot, **{variable: value}))
    assert (code, out) == (exit_code, "")
    assert words in one_line(errors)


def test_without_the_database_a_position_is_protected_and_trading_goes_on_when_it_is_back(fleet: Any) -> None:
    bot = fleet.make(HOLD)
    process = fleet.start(bot)
    wait_until(lambda: fleet.state_of(bot).get("in_position"), within_s=30, what="a position")
    fleet.stop(process)
    # Nothing listens here, so the start has only what it kept.
    away = fleet.start(bot, SUPABASE_URL="http://127.0.0.1:9")
    assert "protecting what is open" in said(away)
    assert "without the lease" in said(away)
    exit_code, _ = fleet.stop(away)
    assert exit_code == 0


def log_of(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "logs" / "tradebothub.log").read_text().splitlines()]
