"""Positions: what facts and snapshots may say, and that bot_state follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tbh.infra.localdb import LocalDatabase
from tests.database.conftest import Database, copy_of
from tests.database.journal import Bot, refused

OPEN = {
    "position_id": "c1",
    "symbol": "BTC/USDT",
    "strategy": "ema",
    "status": "open",
    "position_side": "long",
    "qty": "1.50",
    "entry_price": "100",
}
CLOSED = {"position_id": "c1", "symbol": "BTC/USDT", "strategy": "ema", "status": "closed", "qty": "0"}


@pytest.fixture(scope="module")
def database(server: LocalDatabase, migrated: str) -> Iterator[Database]:
    """One for all: each test has a bot of its own, and no bot sees another's rows."""
    with copy_of(server, migrated) as made:
        yield made


@pytest.fixture
def bot(database: Database) -> Iterator[Bot]:
    with database.connected() as connection:
        yield Bot(database, connection)


def state(bot: Bot) -> dict[str, Any]:
    return bot.rows("bot_state")[0]


class TestFacts:
    def test_a_fact_of_a_higher_seq_replaces_the_row(self, bot: Bot) -> None:
        bot.position(**OPEN, seq=5)
        row = bot.position(**OPEN | {"qty": "2", "entry_price": "101"}, seq=6)
        assert (row["qty"], row["entry_price"], row["seq"]) == ("2", "101", 6)

    def test_a_fact_of_a_lower_seq_returns_the_standing_row(self, bot: Bot) -> None:
        standing = bot.position(**OPEN, seq=5)
        assert bot.position(**OPEN | {"qty": "9"}, seq=4) == standing

    def test_a_repeated_fact_changes_nothing(self, bot: Bot) -> None:
        assert bot.position(**OPEN, seq=5) == bot.position(**OPEN, seq=5)

    def test_a_fill_that_reverses_the_position_closes_one_and_opens_the_next_under_one_seq(self, bot: Bot) -> None:
        bot.position(**OPEN, seq=5)
        bot.position(**CLOSED, seq=6)
        row = bot.position(**OPEN | {"position_id": "c2", "position_side": "short", "qty": "-1"}, seq=6)
        assert (row["position_id"], row["status"], row["qty"]) == ("c2", "open", "-1")
        assert bot.position(**CLOSED, seq=6) == row

    def test_a_close_that_overtook_its_opening_gets_the_entry_filled_in(self, bot: Bot) -> None:
        bot.position(**CLOSED, seq=9)
        row = bot.position(**OPEN, seq=5)
        assert (row["status"], row["qty"], row["entry_price"], row["seq"]) == ("closed", "0", "100", 9)

    @pytest.mark.parametrize("seqs", [(5, 9), (9, 5)])
    def test_a_close_without_a_quantity_leaves_none_in_either_order(self, bot: Bot, seqs: tuple[int, int]) -> None:
        closed = {key: value for key, value in CLOSED.items() if key != "qty"}
        facts = {5: OPEN, 9: closed}
        for seq in seqs:
            row = bot.position(**facts[seq], seq=seq)
        assert (row["status"], row["qty"], row["entry_price"]) == ("closed", "0", "100")

    def test_what_every_fact_tells_is_the_newest_one_s_in_any_order(self, bot: Bot) -> None:
        for seq in (6, 7, 5):
            row = bot.position(**OPEN, seq=seq, mark_price=str(seq), entry_exchange_order_id=f"x{seq}")
        assert (row["mark_price"], row["entry_exchange_order_id"]) == ("7", "x7")

    def test_a_fenced_epoch_may_still_deliver_its_facts(self, bot: Bot) -> None:
        bot.claim("boot-1")
        fenced = dict(bot.headers)
        bot.claim("boot-2", previous="boot-1")
        bot.headers = fenced
        assert bot.position(**OPEN, seq=5)["status"] == "open"

    def test_an_epoch_that_never_was_is_refused(self, bot: Bot) -> None:
        bot.claim()
        bot.headers |= {"x-runtime-epoch": "99"}
        with refused("PT409", "stale_epoch"):
            bot.position(**OPEN, seq=5)

    @pytest.mark.parametrize("missing", ["position_id", "status", "qty", "symbol"])
    def test_a_fact_says_which_position_and_how_it_stands(self, bot: Bot, missing: str) -> None:
        payload = {key: value for key, value in OPEN.items() if key != missing}
        with refused("PT422", "payload_invalid", f"p_payload.{missing}"):
            bot.position(**payload, seq=5)

    def test_a_position_id_of_another_symbol_is_refused(self, bot: Bot) -> None:
        bot.position(**OPEN, seq=5)
        with refused("PT422", "payload_invalid", "p_payload.symbol"):
            bot.position(**OPEN | {"symbol": "ETH/USDT"}, seq=6)

    def test_amounts_as_long_as_the_runtimes_own_are_kept_to_the_last_digit(self, bot: Bot) -> None:
        third = "0.3333333333333333333333333333333333"
        assert bot.position(**OPEN | {"entry_price": third}, seq=5)["entry_price"] == third


class TestSnapshots:
    def test_only_the_present_owner_may_tell_one(self, bot: Bot) -> None:
        with refused("PT409", "stale_epoch"):
            bot.position(**OPEN)
        bot.claim("boot-1")
        fenced = dict(bot.headers)
        bot.claim("boot-2", previous="boot-1")
        bot.headers = fenced
        with refused("PT409", "stale_epoch"):
            bot.position(**OPEN)

    def test_one_without_an_id_opens_a_position_under_a_new_id(self, bot: Bot) -> None:
        bot.claim()
        row = bot.position(**{key: value for key, value in OPEN.items() if key != "position_id"})
        assert row["status"] == "open"
        assert row["position_id"]
        assert row["opened_at"]

    @pytest.mark.parametrize("position_id", [None, "c2"])
    def test_a_second_open_position_of_a_symbol_and_strategy_is_refused(self, bot: Bot, position_id: Any) -> None:
        bot.claim()
        bot.position(**OPEN)
        with refused("PT422", "position_already_open", "p_payload.position_id"):
            bot.position(**OPEN | {"position_id": position_id})

    def test_one_changes_what_it_holds_and_leaves_the_rest(self, bot: Bot) -> None:
        bot.claim()
        bot.position(**OPEN, seq=5)
        row = bot.position(position_id="c1", mark_price="110", exchange_payload={"leverage": "3"})
        assert (row["mark_price"], row["entry_price"], row["seq"]) == ("110", "100", 5)
        assert row["exchange_payload"] == {"leverage": "3"}

    def test_a_new_position_takes_the_place_of_the_closed_one(self, bot: Bot) -> None:
        bot.claim()
        bot.position(**OPEN, seq=5)
        bot.position(**CLOSED, seq=6)
        row = bot.position(**OPEN | {"position_id": "c2"})
        assert (row["position_id"], row["status"]) == ("c2", "open")
        assert bot.position(**CLOSED, seq=6) == row

    def test_a_closed_position_is_not_opened_again(self, bot: Bot) -> None:
        bot.position(**CLOSED, seq=6)
        bot.claim()
        with refused("PT422", "payload_invalid", "p_payload.status"):
            bot.position(**OPEN)

    @pytest.mark.parametrize("missing", ["position_id", "symbol"])
    def test_closing_without_an_identity_is_refused(self, bot: Bot, missing: str) -> None:
        bot.claim()
        payload = {key: value for key, value in CLOSED.items() if key != missing}
        with refused("PT422", "position_identity_missing", f"p_payload.{missing}"):
            bot.position(**payload)

    def test_a_known_position_is_closed_by_its_id_alone(self, bot: Bot) -> None:
        bot.claim()
        bot.position(**OPEN)
        row = bot.position(position_id="c1", status="closed", realized_pnl="-3.5")
        assert (row["status"], row["qty"], row["realized_pnl"]) == ("closed", "0", "-3.5")


class TestDocumentThree:
    def test_a_caller_without_a_lease_may_write_while_nobody_holds_one(self, bot: Bot) -> None:
        assert bot.call("upsert_bot_position", p_payload=OPEN)["status"] == "open"
        bot.claim()
        bot.headers = {"x-runtime-token": bot.token}
        with refused("PT409", "stale_epoch"):
            bot.call("upsert_bot_position", p_payload={"position_id": "c1", "mark_price": "1"})

    def test_get_bot_position_raises_for_an_open_one_that_is_not_there(self, bot: Bot) -> None:
        with refused("PT404", "position_not_found"):
            bot.call("get_bot_position")
        assert bot.call("get_bot_position", p_status="closed") is None

    def test_get_bot_position_gives_the_row(self, bot: Bot) -> None:
        row = bot.position(**OPEN, seq=5)
        assert bot.call("get_bot_position") == row
        assert bot.call("bot_runtime_get_position", p_symbol="BTC/USDT") == row
        assert bot.call("bot_runtime_get_position", p_symbol="ETH/USDT") is None


class TestState:
    def test_state_follows_the_position(self, bot: Bot) -> None:
        bot.position(**OPEN, seq=5)
        shown = state(bot)
        assert (shown["in_position"], shown["position_id"], shown["position_side"]) == (True, "c1", "long")
        assert (shown["position_qty"], shown["position_entry"], shown["open_positions"]) == (1.5, 100, 1)
        bot.position(**CLOSED, seq=6)
        shown = state(bot)
        assert (shown["in_position"], shown["open_positions"]) == (False, 0)
        assert {shown[f"position_{name}"] for name in ("id", "symbol", "side", "qty", "entry")} == {None}

    def test_of_several_positions_the_latest_opened_is_shown(self, bot: Bot) -> None:
        bot.position(**OPEN, seq=1, opened_at="2026-01-01T00:00:00Z")
        eth = OPEN | {"symbol": "ETH/USDT", "position_id": "c2"}
        bot.position(**eth, seq=2, opened_at="2026-01-02T00:00:00Z")
        assert (state(bot)["open_positions"], state(bot)["position_symbol"]) == (2, "ETH/USDT")

    def test_a_snapshot_of_the_mark_reaches_the_state(self, bot: Bot) -> None:
        bot.claim()
        bot.position(**OPEN)
        bot.position(position_id="c1", mark_price="110", unrealized_pnl="15")
        assert (state(bot)["mark_price"], state(bot)["unrealized_pnl"]) == (110, 15)
