"""Whole worlds: that they repeat, that they trade, and that what strikes in them is what their seed drew."""

from __future__ import annotations

import random
from dataclasses import replace

import greenlet
import pytest

from tbh.campaign import setup as setups
from tbh.campaign.boot import Boot
from tbh.campaign.disk import Disk
from tbh.campaign.world import World, run_seed
from tbh.ports import Batch
from tbh.simulation import dice as dice_of
from tbh.simulation.dice import Dice, Mix
from tbh.simulation.faults import RULES, FaultKind
from tbh.simulation.script import Scenario, Strike

CALM = Scenario(name="calm", lessons=(), title="nothing fails", strikes={})


def with_(kind: FaultKind, **strike: object) -> Scenario:
    return Scenario(name="one", lessons=(), title="one fault", strikes={kind.value: Strike(**strike)})  # type: ignore[arg-type]


def test_a_seed_is_the_same_run_twice_and_another_seed_is_not() -> None:
    first, again, other = run_seed(11), run_seed(11), run_seed(12)
    assert (first.digest, first.messages, first.orders) == (again.digest, again.messages, again.orders)
    assert first.digest != other.digest


@pytest.mark.parametrize("seed", range(6))
def test_a_world_without_faults_trades_and_comes_to_rest(seed: int) -> None:
    outcome = run_seed(seed, scenario=CALM)
    assert outcome.violations == []
    assert outcome.boots == 1
    assert outcome.orders >= 5
    assert not outcome.coverage.faults.keys() - {FaultKind.REQUESTS_REORDERED.value}


def test_a_scenarios_fault_strikes_at_its_opportunity() -> None:
    outcome = run_seed(3, scenario=with_(FaultKind.REPLY_LOST, at=(40,)))
    assert outcome.coverage.faults[FaultKind.REPLY_LOST.value] == 1


def test_a_killed_process_is_started_again_and_a_lost_disk_is_a_new_machine() -> None:
    lines: list[str] = []
    strikes = {
        FaultKind.OPERATOR_RESTARTS.value: Strike(at=(4,)),
        FaultKind.DISK_LOST.value: Strike(at=(0,)),
    }
    outcome = run_seed(5, scenario=Scenario(name="two", lessons=(), title="two", strikes=strikes), trace=lines.append)
    assert outcome.boots == 2
    assert any("machine2" in line for line in lines)


def test_two_processes_live_on_one_timeline_and_one_of_them_has_the_lease() -> None:
    outcome = run_seed(7, scenario=with_(FaultKind.RIVAL_STARTED, at=(5,)))
    assert outcome.boots >= 2
    assert outcome.violations == []


def test_the_trace_holds_deliveries_and_steps() -> None:
    lines: list[str] = []
    outcome = run_seed(2, scenario=CALM, trace=lines.append)
    assert sum(" -> " in line for line in lines) >= outcome.messages
    assert any("OrderArrived" in line for line in lines)
    assert "AtRest" in lines[-1]


def test_every_kind_of_fault_has_its_rule_and_a_rate() -> None:
    assert set(RULES) == set(FaultKind)
    assert all(0 < rule.rate[0] <= rule.rate[1] <= 1 for rule in RULES.values())


def test_each_seed_has_a_mix_of_its_own_and_some_have_none() -> None:
    mixes = [dice_of.draw(random.Random(f"{seed}/mix")) for seed in range(200)]
    sizes = {len(mix.rates) for mix in mixes}
    assert 0 in sizes
    assert max(sizes) > len(FaultKind) / 3
    assert {kind for mix in mixes for kind in mix.rates} == set(FaultKind)


def test_waiting_for_a_fault_counts_the_opportunities_that_a_rate_leaves_free() -> None:
    dice = Dice(random.Random("a"), Mix({FaultKind.ACTOR_FAILED: 0.01}))
    waits = [dice.wait(FaultKind.ACTOR_FAILED) for _ in range(2_000)]
    assert 80 < sum(waits) / len(waits) < 120
    assert dice.wait(FaultKind.PROCESS_KILLED) == -1


def test_what_was_not_flushed_is_gone_with_the_power() -> None:
    disk = Disk("m")
    disk.store.commit(Batch(meta={"a": "1"}))
    disk.store.commit(Batch(meta={"b": "1"}, flushed=False))
    assert disk.store.meta("b") == "1"
    assert disk.lose_power() == 1
    assert (disk.store.meta("a"), disk.store.meta("b")) == ("1", None)


def test_what_was_given_out_was_flushed() -> None:
    disk = Disk("m")
    entry = ("bot_runtime_write_event", {"p_kind": "k"}, "key")
    disk.store.commit(Batch(outbox=[entry], flushed=False))
    assert len(disk.store.outbox(0, limit=10, max_bytes=1_000)) == 1
    assert disk.lose_power() == 0


def test_a_dead_process_reaches_nothing() -> None:
    world = World(1, CALM, None)
    boot = Boot(world, world.new_disk(), 1)
    boot.check_alive()
    boot.process.end()
    with pytest.raises(greenlet.GreenletExit):
        boot.check_alive()


def test_a_market_is_one_that_its_trader_can_afford() -> None:
    for seed in range(50):
        setup = setups.draw(seed, Mix({}), {})
        assert setup.exposure_max * setup.price * 5 / 4 < setup.cash
        assert setup.habits.qty * setup.price > (setup.market.notional_min or 0)


def test_some_exchanges_tell_no_cancels_and_nothing_else_is_drawn_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [setups.draw(seed, Mix({}), None) for seed in range(300)]
    monkeypatch.setattr(setups, "SILENT_SHARE", 0.0)
    told = [setups.draw(seed, Mix({}), None) for seed in range(300)]
    assert 15 < sum(not setup.tells_cancels for setup in drawn) < 45
    assert all(setup.tells_cancels for setup in told)
    assert [replace(setup, tells_cancels=True) for setup in drawn] == told
