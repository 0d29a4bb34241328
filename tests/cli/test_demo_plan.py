"""What ``tbh demo`` makes of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbh.cli.arguments import build_parser
from tbh.cli.demo_plan import plan_of

if TYPE_CHECKING:
    from tbh.plan import PaperPlan
    from tests.cli.conftest import Rows

Plan = Callable[..., "PaperPlan"]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def make(*arguments: object, watched: bool = False) -> PaperPlan:
        return plan_of(build_parser().parse_args(["demo", *map(str, arguments)]), watched=watched, warn=print)

    return make


def test_by_default_it_is_a_simulated_market_in_a_new_folder(plan: Plan, tmp_path: Path) -> None:
    first, second = plan(), plan()
    assert (first.simulated, first.symbol, len(first.candles)) == (True, "SIM/USD", 1_500)
    assert (first.cash, first.fee, first.volume_share) == (Decimal(10_000), Decimal("0.001"), None)
    assert first.root != second.root
    assert {Path(first.root).parent, Path(second.root).parent} == {tmp_path}


def test_nobody_looking_on_means_as_fast_as_it_goes(plan: Plan) -> None:
    assert plan().bars_per_s is None
    assert plan("--speed", "max", watched=True).bars_per_s is None


def test_somebody_looking_on_gets_about_15_seconds_and_never_a_crawl(plan: Plan) -> None:
    assert plan(watched=True).bars_per_s == pytest.approx(100)
    assert plan("--bars", 30, watched=True).bars_per_s == pytest.approx(20)


def test_speed_is_bars_per_second_or_the_pace_of_real_time(plan: Plan) -> None:
    assert plan("--speed", "2.5").bars_per_s == pytest.approx(2.5)
    assert plan("--speed", "realtime").bars_per_s == pytest.approx(1 / 60)


def test_money_is_taken_to_the_last_digit(plan: Plan) -> None:
    exact = plan("--cash", "0.1", "--fee", "0.00075", "--volume-share", "0.05")
    assert (exact.cash, exact.fee, exact.volume_share) == (Decimal("0.1"), Decimal("0.00075"), Decimal("0.05"))


def test_the_same_seed_is_the_same_market(plan: Plan) -> None:
    shorter, longer = plan("--bars", 50, "--seed", 7).candles, plan("--bars", 60, "--seed", 7).candles
    assert [shorter[index] for index in range(50)] == [longer[index] for index in range(50)]


def test_a_recording_without_a_symbol_claims_none(plan: Plan, candle_file: Callable[[Rows], Path]) -> None:
    rows = [(1_700_000_100_000 + 300_000 * row, 100, 101, 99, 100, 5) for row in range(4)]
    recorded = plan("--candles", candle_file(rows))
    assert (recorded.simulated, recorded.symbol) == (False, "BASE/QUOTE")
    assert recorded.definition.timeframe == "5m"


def test_a_folder_that_was_named_is_taken_as_it_is(plan: Plan, tmp_path: Path) -> None:
    assert plan("--dir", tmp_path / "a" / "b").root == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
