"""Another machine takes a bot over in mid-trade: its position keeps what guards it, and the books stay one."""

from __future__ import annotations

from typing import Any

import pytest

from bench._stack import wait_until
from tests.stack.strategies import BUSY, HOLD


def guards(fleet: Any, bot: Any) -> list[tuple[str, str]]:
    """(event, client order id) of the protective orders that stand, as the database knows."""
    return sorted(
        fleet.stack.query(
            "select event, client_order_id from bot_runtime.bot_trades where bot_id = %s and is_open"
            " and event in ('stop', 'target') and order_status = 'accepted'",
            bot.bot_id,
        )
    )


@pytest.mark.parametrize("known", [True, False], ids=["known to the database", "lost with the old disk"])
def test_the_guards_of_an_open_position_outlive_a_takeover(fleet: Any, known: bool) -> None:
    # So slow that nothing is decided anew between two looks, on a busy machine either.
    bot = fleet.make(HOLD, bars_per_second=10)
    first = fleet.start(bot)
    wait_until(
        lambda: fleet.state_of(bot).get("in_position") and len(guards(fleet, bot)) == 2,
        within_s=30,
        what="a guarded position",
    )
    first.kill()
    first.communicate()
    before = guards(fleet, bot)
    if not known:
        fleet.stack.query("delete from bot_runtime.bot_trades where bot_id = %s returning id", bot.bot_id)
    second = fleet.start(bot, "elsewhere")
    fleet.trades(bot, more_than=fleet.cycles_of(bot) + 5)
    log = (fleet.folder / "elsewhere" / "logs" / "tradebothub.log").read_text()
    if fleet.state_of(bot).get("in_position"):
        standing = set(guards(fleet, bot))
        assert not known or standing == set(before)
    if known:
        assert "stray_order" not in log
    else:
        assert "is left as it stands" in log
    assert second.poll() is None
    assert fleet.stop(second)[0] == 0
    ((dead,),) = fleet.stack.query("select count(*) from bot_runtime.dead_letters where bot_id = %s", bot.bot_id)
    assert dead == 0


def test_a_stop_that_the_old_machine_placed_closes_the_position_under_the_new_one(fleet: Any) -> None:
    tight = HOLD | {"stops": {"basis": "entry", "stop_loss": "0.002"}}
    bot = fleet.make(tight, bars_per_second=10)
    first = fleet.start(bot)
    ((_, stop),) = wait_until(lambda: guards(fleet, bot), within_s=30, what="a stop")
    first.kill()
    first.communicate()
    second = fleet.start(bot, "elsewhere")
    fleet.trades(bot, more_than=fleet.cycles_of(bot))
    wait_until(
        lambda: fleet.stack.query(
            "select 1 from bot_runtime.bot_trades where client_order_id = %s and order_status = 'filled'",
            stop,
        ),
        within_s=30,
        what="a stop that was hit",
    )
    wait_until(lambda: fleet.state_of(bot).get("exchange_sync_status") == "ok", within_s=15, what="one truth")
    assert second.poll() is None
    assert fleet.stop(second)[0] == 0
    ((dead,),) = fleet.stack.query("select count(*) from bot_runtime.dead_letters where bot_id = %s", bot.bot_id)
    assert dead == 0


def test_a_new_account_of_the_same_bot_collides_with_nothing_of_the_old_one(fleet: Any) -> None:
    bot = fleet.stack.make_bot(strategy=BUSY, exchange_options={"bars_per_second": 20, "seed": 4})
    first = fleet.start(bot)
    wait_until(lambda: fleet.state_of(bot).get("in_position"), within_s=30, what="a position")
    fleet.stop(first)
    ((fills,),) = fleet.stack.query("select count(*) from bot_runtime.bot_fills where bot_id = %s", bot.bot_id)
    second = fleet.start(bot, "elsewhere")  # and with it a new account, flat and with all its cash
    wait_until(
        lambda: (
            fleet.stack.query("select count(*) from bot_runtime.bot_fills where bot_id = %s", bot.bot_id)[0][0] > fills
        ),
        within_s=40,
        what="a fill of the new account",
    )
    assert fleet.stop(second)[0] == 0
    letters = fleet.stack.query("select fn, reason from bot_runtime.dead_letters where bot_id = %s", bot.bot_id)
    assert letters == []


def test_a_database_clock_that_jumps_takes_no_bot_from_a_living_owner(fleet: Any) -> None:
    bot = fleet.make()
    owner = fleet.start(bot)
    decided = fleet.trades(bot)
    rival = fleet.start(bot, "elsewhere")
    # What a jump by an hour does to a lease: by the database's clock it is long over.
    fleet.stack.query(
        "update bot_runtime.bot_leases set expires_at = expires_at - interval '1 hour' where bot_id = %s returning 1",
        bot.bot_id,
    )
    exit_code, _, errors = fleet.ended(rival)
    assert exit_code == 75
    assert "another runtime owns the bot" in errors
    fleet.trades(bot, more_than=decided + 5)
    assert fleet.stop(owner)[0] == 0
