"""A fault in any actor, at any message it takes: the actor restarts, and the trades are as if nothing had happened."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tbh.actors.supervisor import PositionPolicy
from tbh.domain.ids import parse
from tbh.infra.paper_account import read_account
from tbh.messages.orders import Purpose
from tbh.plan import DEMO_BOT, PaperPlan
from tbh.runtime.mailbox import Envelope

ACTORS = (
    *("journaler", "relay", "telemetry", "notifier", "health_reporter", "watchdog", "gateway", "accountant"),
    *("position_syncer", "order_manager", "risk", "strategy", "feed", "control_poller"),
)

Plan = Callable[..., PaperPlan]
Replay = Callable[..., dict[str, Any]]


class Faults:
    """Counts deliveries by (actor, type) and raises at the chosen ones of one type."""

    def __init__(self, actor: str = "", kind: str = "", *numbers: int) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.raised = 0
        self._target = (actor, kind)
        self._numbers = numbers

    def __call__(self, actor: str, envelope: Envelope) -> None:
        key = (actor, type(envelope.message).__name__)
        self.seen[key] += 1
        if key == self._target and self.seen[key] in self._numbers:
            self.raised += 1
            raise RuntimeError(f"planned fault in {actor} at {key[1]} number {self.seen[key]}")


@pytest.fixture(scope="module")
def baseline(
    plan_in: Plan, replay: Replay, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Counter[tuple[str, str]]]:
    """The undisturbed replay and what was delivered in it."""
    faults = Faults()
    return replay(plan_in(tmp_path_factory.mktemp("baseline")), intercept=faults), faults.seen


@pytest.mark.parametrize("actor", ACTORS)
def test_a_fault_at_any_message_of_an_actor_changes_no_trade(
    actor: str, plan: Plan, replay: Replay, baseline: tuple[dict[str, Any], Counter[tuple[str, str]]]
) -> None:
    undisturbed, delivered = baseline
    kinds = {kind: count for (name, kind), count in delivered.items() if name == actor}
    assert kinds, f"{actor} took no message at all"
    for kind, count in kinds.items():
        # A fault may change how many come after it: what is missed is tried by itself.
        wanted = list(dict.fromkeys([(1, (count + 1) // 2), (count,)] if count > 2 else [(1,), (count,)]))
        while wanted:
            numbers = wanted.pop()
            case = f"{kind} {numbers} of {count}"
            faults = Faults(actor, kind, *numbers)
            result = replay(plan(f"{actor}-{kind}-{numbers}"), intercept=faults)
            assert result["exit_code"] == 0, case
            assert result["trades"] == undisturbed["trades"], case
            assert result["equity"] == undisturbed["equity"], case
            assert result["position"] == undisturbed["position"], case
            assert result["orders"]["unknown"] == 0, case
            assert 0 < faults.raised == result["actor_restarts"], case
            if faults.raised < len(numbers):
                wanted.append(numbers[faults.raised :])


@pytest.mark.parametrize("actor", ACTORS)
def test_a_fault_on_threads_changes_no_trade(
    actor: str, plan: Plan, replay: Replay, baseline: tuple[dict[str, Any], Counter[tuple[str, str]]]
) -> None:
    undisturbed, delivered = baseline
    kind, _ = max(((kind, count) for (name, kind), count in delivered.items() if name == actor), key=lambda k: k[1])
    faults = Faults(actor, kind, 1)  # on threads fewer may come: what is committed together is told at once
    result = replay(plan("threads", host="threads"), intercept=faults)
    assert result["trades"] == undisturbed["trades"]
    assert result["equity"] == undisturbed["equity"]
    assert (result["exit_code"], result["actor_restarts"]) == (0, 1)


def test_the_campaign_meets_every_kind_of_order(baseline: tuple[dict[str, Any], Counter[tuple[str, str]]]) -> None:
    """Without stops, targets, exits and reversals in it, the campaign would prove little."""
    trades = baseline[0]["trades"]
    assert {trade["exit_reason"] for trade in trades} >= {"stop", "target", "exit"}
    assert {trade["side"] for trade in trades} == {"long", "short"}
    assert any(one["exit_time"] == other["entry_time"] for one, other in itertools.pairwise(trades))


class Troubled:
    """Two faults in one replay: the gateway fails at an order on its way, so that there is doubt to be resolved, and
    then the chosen actor fails at the first message of a kind that only doubt brings about."""

    def __init__(self, actor: str = "", kind: str = "") -> None:
        self.first = Faults("gateway", "PlaceOrder", 5)
        self.second = Faults(actor, kind, 1)

    def __call__(self, actor: str, envelope: Envelope) -> None:
        self.first(actor, envelope)
        if self.first.raised:
            self.second(actor, envelope)


def test_a_fault_while_an_order_is_in_doubt_changes_no_trade(
    plan: Plan, replay: Replay, baseline: tuple[dict[str, Any], Counter[tuple[str, str]]]
) -> None:
    undisturbed, delivered = baseline
    troubled = Troubled()
    result = replay(plan("troubled"), intercept=troubled)
    assert result["trades"] == undisturbed["trades"]
    new = sorted(set(troubled.second.seen) - set(delivered))
    assert {kind for _, kind in new} >= {"Restarted", "DeadLettered", "QueryOrder", "OrderNotFound"}
    for actor, kind in new:
        case = f"{actor} at {kind}"
        troubled = Troubled(actor, kind)
        result = replay(plan(f"{actor}-{kind}"), intercept=troubled)
        assert troubled.second.raised, case
        assert result["exit_code"] == 0, case
        assert result["trades"] == undisturbed["trades"], case
        assert result["equity"] == undisturbed["equity"], case
        assert result["orders"]["unknown"] == 0, case


class Broken:
    """Once the account holds a position, every delivery to one actor fails."""

    def __init__(self, actor: str, *, after: int) -> None:
        self._actor = actor
        self._fills = 0
        self._after = after

    def __call__(self, actor: str, envelope: Envelope) -> None:
        if actor == "risk" and type(envelope.message).__name__ == "Fill":
            self._fills += 1
        if actor == self._actor and self._fills >= self._after:
            raise RuntimeError("broken for good")


def check_escalated(result: dict[str, Any], actor: str, policy: PositionPolicy, state: Path) -> None:
    """Exit code 70, and on the exchange what the policy says for the position that is held."""
    assert (result["exit_code"], result["escalation"][0]) == (70, actor)
    account = read_account(state / "paper.sqlite")
    purposes = [parts.purpose for row in account.orders if (parts := parse(row.standing.client_order_id, DEMO_BOT))]
    resting = {parts.purpose for order in account.venue.orders if (parts := parse(order.client_order_id, DEMO_BOT))}
    assert account.venue.account.qty, "nothing is held: the case proves nothing"
    assert not any(purpose.increases_risk for purpose in resting)
    if policy is PositionPolicy.FLATTEN:
        assert Purpose.EMERGENCY in resting, "the position is not being closed"
    if policy is PositionPolicy.PROTECT:
        assert Purpose.STOP in resting, "no stop stands"
    if policy is not PositionPolicy.FLATTEN:
        assert Purpose.EMERGENCY not in purposes


@pytest.mark.parametrize("policy", list(PositionPolicy))
@pytest.mark.parametrize("actor", ["strategy", "order_manager", "gateway", "journaler", "risk"])
def test_too_many_failures_escalate_with_the_position_seen_to(
    actor: str, policy: PositionPolicy, plan: Plan, replay: Replay, tmp_path: Path
) -> None:
    result = replay(plan("state", policy=policy), intercept=Broken(actor, after=1))
    check_escalated(result, actor, policy, tmp_path / "state")


@pytest.mark.parametrize("policy", [PositionPolicy.PROTECT, PositionPolicy.FLATTEN])
@pytest.mark.parametrize("actor", ["strategy", "order_manager", "gateway"])
def test_too_many_failures_escalate_on_threads_too(
    actor: str, policy: PositionPolicy, plan: Plan, replay: Replay, tmp_path: Path
) -> None:
    result = replay(plan("state", host="threads", policy=policy), intercept=Broken(actor, after=1))
    check_escalated(result, actor, policy, tmp_path / "state")
