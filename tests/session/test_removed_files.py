"""What is removed under a running bot stops it with one reason; it never trades on into files that nobody will find."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from tbh import session as sessions
from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.infra.simmarket import simulated_market
from tbh.plan import PaperPlan
from tbh.session import PaperSession
from tbh.strategies.definition import parse_definition


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PaperSession:
    """A session that has begun to trade, far from the end of its market."""
    monkeypatch.setattr(sessions, "DISK_FULL_AFTER_S", 0.2)
    plan = PaperPlan(
        candles=simulated_market(1, 50_000),
        simulated=True,
        definition=parse_definition(DEFAULT_STRATEGY),
        symbol="SIM/USD",
        cash=Decimal(10_000),
        fee=Decimal("0.001"),
        bars_per_s=None,
        seed=1,
        root=tmp_path / "state",
    )
    session = PaperSession.open(plan)
    session.start()
    while session.snapshot().bar_index < 20:
        assert not session.wait(0.01)
    return session


def test_a_folder_that_is_removed_stops_the_bot(running: PaperSession) -> None:
    shutil.rmtree(running.state.root)
    assert running.wait(20)
    assert running.close() == 70
    assert running.trouble is not None
    assert "the store has been removed at bar " in running.trouble[1]


def test_an_account_that_is_removed_stops_the_bot(running: PaperSession) -> None:
    running.state.paper.unlink()
    assert running.wait(20)
    assert running.close() == 70
    assert running.trouble is not None
    assert "paper_account_lost" in running.trouble[1]
