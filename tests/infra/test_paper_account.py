"""The account's file when the disk, another process or another version is in the way; and after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.paper import PaperExchange
from tbh.infra.paper_account import FORMAT_VERSION, AccountFile, read_account
from tbh.infra.replay import MarketClock
from tbh.messages.market import Candle, Market, Phase
from tbh.messages.orders import Order, OrderType, Purpose, Side
from tbh.ports import Failure, Fatal, Unavailable, Unknown

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
SYMBOL = "BTC/USDT"
MARKET = Market(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    price_step=D("0.1"),
    amount_step=D("0.01"),
    taker_fee=D("0.001"),
    maker_fee=D("0.0004"),
)
REPOSITORY = Path(__file__).resolve().parents[2]


def order(client_order_id: str) -> Order:
    return Order(
        client_order_id=client_order_id,
        intent_id="i",
        symbol=SYMBOL,
        side=Side.BUY,
        type=OrderType.MARKET,
        qty=D("0.01"),
        purpose=Purpose.ENTRY,
        strategy="s",
        bar_open=START,
        created_at=START,
    )


def candle(index: int) -> Candle:
    at = START + index * timedelta(minutes=1)
    return Candle(open_time=at, open=D(100), high=D(101), low=D(99), close=D(100), volume=D(100))


def opened(path: Path, *, cash: str = "10000", market: Market = MARKET, **more: Any) -> PaperExchange:
    return PaperExchange(path, market, cash=D(cash), clock=MarketClock(START), **more)


def fails(path: Path, **settings: Any) -> Failure:
    with pytest.raises(Failure) as failure:
        opened(path, **settings)
    assert "\n" not in str(failure.value)
    assert str(path) in str(failure.value)
    return failure.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.db"


@pytest.fixture
def exchange(path: Path) -> Iterator[PaperExchange]:
    exchange = opened(path)
    exchange.play(0, Phase.OPEN, candle(0))
    yield exchange
    exchange._file.close()


@pytest.fixture
def full_disk(exchange: PaperExchange) -> Iterator[None]:
    """Not a page more than the file has: what SQLite then says is what it says when the disk is full."""
    file = exchange._file
    assert isinstance(file, AccountFile)
    db = file._db
    db.execute("PRAGMA max_page_count = 1")
    yield
    db.execute("PRAGMA max_page_count = 1000000")


def fill_pages(exchange: PaperExchange) -> int:
    """Place orders until one does not fit the file any more; how many were accepted."""
    for number in range(1_000):
        try:
            exchange.place(order(f"a{number}"), timeout_s=1)
        except Unavailable as failure:
            if failure.reason != "disk_full":
                raise
            return number
    raise AssertionError("the file grew without limit")


def test_a_full_disk_refuses_the_order_and_leaves_the_account_as_it_was(exchange, path, full_disk):
    accepted = fill_pages(exchange)
    assert exchange.account_summary().orders_accepted == accepted
    assert len(exchange.open_orders(SYMBOL, timeout_s=1)) == accepted
    assert exchange.order(f"a{accepted}", SYMBOL, timeout_s=1) is None
    assert len(read_account(path).orders) == accepted


def test_the_account_goes_on_when_there_is_space_again(exchange, path, full_disk):
    accepted = fill_pages(exchange)
    exchange._file._db.execute("PRAGMA max_page_count = 1000000")
    report = exchange.place(order(f"a{accepted}"), timeout_s=1)
    assert report.exchange_order_id == f"P{accepted + 1:08d}"


def test_a_phase_that_could_not_be_committed_is_played_again(exchange, path):
    exchange.place(order("a"), timeout_s=1)
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as failure:
        exchange.play(0, Phase.RANGE, candle(0))
    assert failure.value.reason == "locked"
    assert exchange.last_seq() == 0
    assert exchange.position(SYMBOL, timeout_s=1).qty == 0
    rival.execute("ROLLBACK")
    rival.close()
    (fill,) = exchange.play(0, Phase.RANGE, candle(0))
    assert fill.seq == exchange.last_seq() == 1


def test_a_failed_sync_at_the_commit_leaves_the_outcome_open(exchange, monkeypatch):
    class BadDisk:
        """A connection whose COMMIT meets a disk error."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self.db = db

        def execute(self, sql: str, *args: Any) -> Any:
            if sql == "COMMIT":
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
            return self.db.execute(sql, *args)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

    with monkeypatch.context() as patch:
        patch.setattr(exchange._file, "_db", BadDisk(exchange._file._db))
        with pytest.raises(Unknown):
            exchange.place(order("a"), timeout_s=1)
    assert exchange.order("a", SYMBOL, timeout_s=1) is None
    assert exchange.place(order("a"), timeout_s=1).exchange_order_id == "P00000001"


def test_a_second_writer_is_noticed_before_anything_is_overwritten(exchange, path):
    rival = opened(path)
    rival.play(0, Phase.OPEN, candle(0))
    rival.place(order("theirs"), timeout_s=1)
    with pytest.raises(Fatal, match="another process") as failure:
        exchange.place(order("ours"), timeout_s=1)
    assert failure.value.exit_code == 75
    assert [row.standing.client_order_id for row in read_account(path).orders] == ["theirs"]
    rival.close()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_an_account_that_is_removed_under_it_takes_no_order(exchange, path, how):
    path.rename(path.with_suffix(".moved"))
    if how == "replaced":
        path.write_bytes(path.with_suffix(".moved").read_bytes())
    with pytest.raises(Fatal, match="paper_account_lost") as failure:
        exchange.place(order("a"), timeout_s=1)
    assert failure.value.exit_code == 70
    assert str(path) in str(failure.value)


def test_every_commit_waits_for_the_disk(exchange):
    (level,) = exchange._file._db.execute("PRAGMA synchronous").fetchone()
    (mode,) = exchange._file._db.execute("PRAGMA journal_mode").fetchone()
    assert (level, mode) == (2, "wal")


def test_a_missing_folder_is_refused(tmp_path):
    failure = fails(tmp_path / "nowhere" / "account.db")
    assert isinstance(failure, Fatal)
    assert (failure.reason, failure.exit_code) == ("paper_account_unwritable", 78)


def test_a_locked_file_is_unavailable(path):
    opened(path).close()
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    assert isinstance(fails(path), Unavailable)
    rival.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, whatever its name may say" * 100, b"SQLite format 3\0" * 99]
)
def test_a_damaged_file_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    failure = fails(path)
    assert isinstance(failure, Fatal)
    assert failure.exit_code == 78
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE state SET venue = '{}'",
        "UPDATE state SET venue = 'x'",
        "UPDATE state SET cursor = '[1]'",
        "UPDATE state SET venue = replace(venue, '10000', 'NaN')",
        "UPDATE settings SET json = '{'",
        "DELETE FROM state",
        "DROP TABLE state",
    ],
)
def test_an_account_that_does_not_read_back_is_refused(path, damage):
    opened(path).close()
    db = sqlite3.connect(path)
    db.execute(damage)
    db.commit()
    db.close()
    failure = fails(path)
    assert isinstance(failure, Fatal)
    assert failure.reason == "paper_account_corrupt"


def test_another_kind_of_database_is_refused_and_left_alone(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    assert fails(path).reason == "paper_account_foreign"
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(path):
    opened(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    db.close()
    failure = fails(path)
    assert isinstance(failure, Fatal)
    assert (failure.reason, failure.exit_code) == ("paper_account_newer", 78)


def test_an_account_of_the_first_format_goes_on_without_a_tag(path):
    exchange = opened(path)
    exchange.play(0, Phase.OPEN, candle(0))
    exchange.place(order("a"), timeout_s=1)
    exchange.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE state SET venue = json_remove(venue, '$.account.tag', '$.account.first_seq')")
    db.commit()
    db.execute("PRAGMA user_version = 1")
    db.close()
    assert [row.standing.exchange_order_id for row in read_account(path).orders] == ["P00000001"]
    exchange = opened(path, tag="late", first_seq=70)
    assert exchange.last_seq() == 0
    assert exchange.place(order("b"), timeout_s=1).exchange_order_id == "P00000002"
    assert isinstance(exchange._file, AccountFile)
    assert exchange._file._db.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
    exchange.close()


@pytest.mark.parametrize("changed", [{"cash": "9999"}, {"volume_share": D("0.5")}, {"fee_in": "received"}])
def test_other_settings_than_the_accounts_are_refused_by_name(path, changed):
    opened(path).close()
    failure = fails(path, **changed)
    assert failure.reason == "paper_account_mismatch"
    assert next(iter(changed)) in failure.detail


def test_an_empty_file_is_taken(path):
    path.touch()
    opened(path).close()
    assert read_account(path).venue.account.cash == 10_000


def test_reading_an_account_that_is_not_there_makes_no_file(path):
    with pytest.raises(Fatal):
        read_account(path)
    assert not path.exists()


def test_a_closed_account_says_so(path):
    exchange = opened(path)
    exchange.play(0, Phase.OPEN, candle(0))
    exchange.close()
    with pytest.raises(Unavailable, match="closed"):
        exchange.place(order("a"), timeout_s=1)


def test_what_was_accepted_before_a_kill_is_there_afterwards(path, tmp_path):
    program = textwrap.dedent(f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("account_test", {__file__!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        exchange = module.opened(module.Path({str(path)!r}))
        exchange.play(0, module.Phase.OPEN, module.candle(0))
        for number in range(200):
            exchange.place(module.order(f"a{{number}}"), timeout_s=1)
            print(number, flush=True)
    """)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=tmp_path, text=True
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    kept = [row.standing.client_order_id for row in read_account(path).orders]
    exchange = opened(path)
    assert kept[: len(told)] == [f"a{number}" for number in told]
    assert len(kept) - len(told) in (0, 1)
    assert [report.client_order_id for report in exchange.open_orders(SYMBOL, timeout_s=1)] == kept
    exchange.close()
