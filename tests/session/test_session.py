"""A session's edges: which market it goes on with, and how it ends when something does not let go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.infra.simmarket import simulated_market
from tbh.plan import PaperPlan
from tbh.ports import Fatal
from tbh.runtime.mailbox import Envelope
from tbh.session import PaperSession
from tbh.strategies.definition import parse_definition

Plan = Callable[..., PaperPlan]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    def make(*, seed: int = 1, bars: int = 60, **changes: Any) -> PaperPlan:
        settings: dict[str, Any] = {
            "candles": simulated_market(seed, bars),
            "simulated": True,
            "definition": parse_definition(DEFAULT_STRATEGY),
            "symbol": "SIM/USD",
            "cash": Decimal(10_000),
            "fee": Decimal("0.001"),
            "bars_per_s": None,
            "seed": seed,
            "root": tmp_path / "state",
        }
        return PaperPlan(**(settings | changes))

    return make


def run(plan: PaperPlan, **arguments: Any) -> dict[str, Any]:
    session = PaperSession.open(plan, **arguments)
    session.start()
    assert session.wait(30)
    session.close()
    return session.result()


def test_a_longer_recording_of_the_same_market_goes_on(plan: Plan) -> None:
    run(plan(bars=60))
    assert run(plan(bars=90))["bars"] == 90


@pytest.mark.parametrize("changes", [{"seed": 2}, {"symbol": "ELSE/USD"}, {"bars": 30}])
def test_another_market_on_the_same_state_is_refused(plan: Plan, changes: dict[str, Any]) -> None:
    run(plan())
    with pytest.raises(Fatal, match=r"another market|same candles|paper_account_mismatch") as refusal:
        PaperSession.open(plan(**changes))
    assert refusal.value.exit_code == 78


@pytest.mark.parametrize("actor", ["strategy", "order_manager"])
def test_the_market_stands_still_once_an_actor_has_escalated(plan: Plan, actor: str) -> None:
    stood: list[int] = []

    def broken(name: str, envelope: Envelope) -> None:
        if name == actor and type(envelope.message).__name__ == "Bar":
            stood.append(session.feed.position)
            raise RuntimeError("broken for good")

    session = PaperSession.open(plan(), intercept=broken)
    session.start()
    if actor == "strategy":
        assert session.wait(30)
        assert session.close() == 70
        assert session.result()["bars"] <= stood[-1] + 1
    else:
        session.wait(30)
        session.close()
        assert stood


def test_a_disk_that_hangs_does_not_keep_the_process(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbh.life.CLOSE_S", 0.05)
    session = PaperSession.open(plan())
    session.start()
    assert session.wait(30)
    release = threading.Event()
    close = session.exchange.close

    def hang() -> None:
        release.wait(30)
        close()

    monkeypatch.setattr(session.exchange, "close", hang)
    assert session.close() == 0
    release.set()


def test_a_tree_that_does_not_start_escalates(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    session = PaperSession.open(plan())

    def late() -> None:
        raise TimeoutError("gateway did not start within 10 s")

    monkeypatch.setattr(session.host, "start", late)
    session.start()
    assert session.wait(1)
    monkeypatch.setattr(session.host, "halt", lambda _reason: None)
    monkeypatch.setattr(session.host, "stop", list)
    monkeypatch.setattr(session.host, "wait_drained", lambda _name, _timeout_s: True)
    assert session.close() == 70
