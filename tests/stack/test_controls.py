"""What an operator asks for takes effect within a tick, once, and outlives the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bench._stack import MadeBot, wait_until
from tests.stack.strategies import HOLD

Control = Callable[..., dict[str, Any]]
TICK_S = 5.0


def gate(fleet: Any, bot: MadeBot) -> list[str]:
    return list((fleet.state_of(bot).get("payload") or {}).get("gate") or [])


def acknowledged(fleet: Any, bot: MadeBot) -> tuple[int, int, int | None]:
    ((version, done, flatten),) = fleet.stack.query(
        "select controls_version, controls_acknowledged, flatten_version from bot_runtime.bots where id = %s",
        bot.bot_id,
    )
    return version, done, flatten


def entries(fleet: Any, bot: MadeBot) -> int:
    ((count,),) = fleet.stack.query(
        "select count(*) from bot_runtime.bot_trades where bot_id = %s and event = 'entry'", bot.bot_id
    )
    return int(count)


def test_a_pause_is_acknowledged_within_a_tick_and_survives_a_restart(fleet: Any, control: Control) -> None:
    bot = fleet.make()
    process = fleet.start(bot)
    wait_until(lambda: entries(fleet, bot), within_s=30, what="an entry")
    version = control(bot, "pause")["version"]
    wait_until(lambda: acknowledged(fleet, bot)[1] == version, within_s=TICK_S, what="the acknowledgement")
    wait_until(lambda: "paused" in gate(fleet, bot), within_s=TICK_S, what="the gate")
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 20)  # until all that was decided before the pause is told
    before = entries(fleet, bot)
    process.kill()
    process.communicate()
    again = fleet.start(bot)
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 20)
    assert entries(fleet, bot) == before
    control(bot, "resume")
    wait_until(lambda: entries(fleet, bot) > before, within_s=30, what="an entry after the pause")
    assert fleet.stop(again)[0] == 0


def test_flatten_closes_the_position_once_and_is_acknowledged(fleet: Any, control: Control) -> None:
    bot = fleet.make(HOLD)
    process = fleet.start(bot)
    wait_until(lambda: fleet.state_of(bot).get("in_position"), within_s=30, what="a position")
    control(bot, "pause")
    version = control(bot, "flatten")["version"]
    wait_until(lambda: acknowledged(fleet, bot) == (version, version, None), within_s=15, what="the acknowledgement")
    wait_until(lambda: fleet.state_of(bot).get("in_position") is False, within_s=15, what="a flat account")
    process.kill()
    process.communicate()
    again = fleet.start(bot)
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 20)
    ((flattened,),) = fleet.stack.query(
        "select count(*) from bot_runtime.bot_trades where bot_id = %s and event = 'flatten'", bot.bot_id
    )
    assert flattened == 1
    assert fleet.stop(again)[0] == 0


def test_a_kill_stops_entries_until_it_is_released(fleet: Any, control: Control) -> None:
    bot = fleet.make()
    process = fleet.start(bot)
    wait_until(lambda: entries(fleet, bot), within_s=30, what="an entry")
    version = control(bot, "kill")["version"]
    wait_until(lambda: acknowledged(fleet, bot)[1] == version, within_s=TICK_S, what="the acknowledgement")
    wait_until(lambda: "killed" in gate(fleet, bot), within_s=TICK_S, what="the gate")
    ((mails,),) = fleet.stack.query(
        "select count(*) from bot_runtime.notification_queue where bot_id = %s and channel = 'email'", bot.bot_id
    )
    assert mails == 1
    control(bot, "release")
    wait_until(lambda: "killed" not in gate(fleet, bot), within_s=2 * TICK_S, what="the release")
    assert fleet.stop(process)[0] == 0


def test_a_local_kill_needs_no_database(fleet: Any, control: Control) -> None:
    bot = fleet.make()
    process = fleet.start(bot)
    wait_until(lambda: entries(fleet, bot), within_s=30, what="an entry")
    command = [sys.executable, "-m", "tbh", "bot", "control", bot.bot_id, "kill", "--local"]
    subprocess.run([*command, "--dir", str(fleet.folder / "state")], check=True, capture_output=True, timeout=30)
    wait_until(lambda: "killed" in gate(fleet, bot), within_s=2 * TICK_S, what="the gate")
    assert fleet.stop(process)[0] == 0
