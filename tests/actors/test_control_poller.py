"""The control poller: the lease from the time of sending, the operator's word once, and what ends the bot."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from tbh.actors.control_poller import ControlPollerActor, _Deadline
from tbh.actors.identity import BotIdentity
from tbh.infra.memory_rpc import MemoryRpc
from tbh.messages.account import Marked, Position, PositionChanged, PositionSynced, SyncStatus
from tbh.messages.base import Message
from tbh.messages.controls import (
    ControlsChanged,
    DatabaseAway,
    DatabaseBack,
    HeartbeatSent,
    LeaseLapsed,
    LeaseLost,
    LeaseRenewed,
    TokenRefused,
)
from tbh.messages.health import GateChanged, Notice
from tbh.messages.orders import Flatten, Flattened
from tbh.messages.system import Restarted
from tbh.ports import Defer, Fatal, Lease, Rejected, Unavailable, Unknown
from tbh.runtime.probe import EPOCH, Probe

IDENTITY = BotIdentity(
    bot_id="bot", bot_name="demo", user_id="u", strategy="s", mode="paper", exchange="paper", symbol="BTC/USDT",
    boot_id="boot-1", run_id="run-1", version="1", provider="local", region="here", machine_id="m",
    polling_tier="standard", timeframe_s=60,
)  # fmt: skip
MARKED = Marked(
    symbol="BTC/USDT", bar_index=3, at=EPOCH, mark=Decimal(101), cash=Decimal(900), equity=Decimal("1000.50"),
    realised_pnl=Decimal(0), unrealised_pnl=Decimal("0.5"), fees=Decimal(0), drawdown=Decimal(0), day_pnl=Decimal(1),
)  # fmt: skip
POSITION = Position(
    symbol="BTC/USDT", strategy="s", position_id="c1", qty=Decimal("0.5"), entry_price=Decimal(100),
    opened_at=EPOCH, bar_open=EPOCH,
)  # fmt: skip
SYNCED = PositionSynced(
    symbol="BTC/USDT", status=SyncStatus.OK, book_qty=Decimal(0), exchange_qty=None, at=EPOCH, reconcile_ms=1.0
)
RISK_RESTARTED = Restarted(actor="risk", incarnation=1, reason="x")
RECEIVED: list[Message] = [
    SYNCED, MARKED, PositionChanged(symbol="BTC/USDT", position=POSITION, seq=1),
    GateChanged(reasons=("paused",), exits_allowed=True), Flattened(request_id="flatten:9"), RISK_RESTARTED,
]  # fmt: skip


class SlowReplies(MemoryRpc):
    """Carries a heartbeat out at once and answers ``reply_after_s`` later, on the poller's clock."""

    reply_after_s = 0.0
    probe: Probe | None = None

    def heartbeat(self, payload: Mapping[str, Any]) -> tuple[Lease, int]:
        answer = super().heartbeat(payload)
        if self.probe is not None:
            self.probe._move(self.reply_after_s, True)
        return answer


class Bench:
    """A poller with a lease of 30 s and a margin of 5, and its database on the same clock."""

    def __init__(self, *, tier_s: float = 60.0, prepare: Any = None, previous: str | None = None) -> None:
        self.rpc: SlowReplies = SlowReplies("bot", monotonic=self._now_s)
        self.killed = False
        if prepare is not None:
            prepare(self.rpc)
        self.probe = Probe(
            ControlPollerActor,
            lambda ctx: ControlPollerActor(
                ctx, rpc=self.rpc, identity=IDENTITY, tier_s=tier_s, lease_s=30, margin_s=5,
                previous_boot_ids=() if previous is None else (previous,),
                killed_locally=lambda: self.killed, environment_killed=False,
            ),
            name="control_poller",
        )  # fmt: skip
        self.rpc.probe = self.probe

    def _now_s(self) -> float:
        return self.rpc.probe.monotonic() if self.rpc.probe is not None else 0.0

    def take(self, *kinds: type[Message]) -> list[Any]:
        return [sent for sent in self.probe.take() if isinstance(sent, kinds)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


class TestStart:
    def test_the_lease_and_the_controls_are_told_before_anything_else(self, bench: Bench) -> None:
        renewed, controls = bench.probe.take()
        assert renewed == LeaseRenewed(epoch=1, deadline_s=25.0, renewals=1)
        assert controls == ControlsChanged(
            version=1, paused=False, killed=False, observe_only=False, subscription_active=True
        )

    def test_the_first_heartbeat_goes_at_once(self, bench: Bench) -> None:
        bench.probe.advance(0)
        assert bench.rpc.tables.state["event"] == "started"
        assert bench.take(HeartbeatSent) == [HeartbeatSent(beat=1, latency_ms=0.0)]

    def test_a_bot_whose_other_runtime_lives_gives_way(self) -> None:
        rivals: list[MemoryRpc] = []

        def held(rpc: MemoryRpc) -> None:
            rivals.append(rpc.connect("boot-0"))
            rivals[0].claim(previous_boot_id=None, seen_renewals=None, lease_s=30)

        bench = Bench(prepare=held)
        assert [type(sent) for sent in bench.take(LeaseLapsed, LeaseRenewed)] == [LeaseLapsed]
        rivals[0].heartbeat({})
        bench.probe.advance(10)
        assert bench.probe.escalation is not None
        assert bench.probe.escalation[2] == 75
        assert "another runtime owns the bot" in bench.probe.escalation[1]

    def test_a_bot_whose_other_runtime_is_silent_is_taken_after_one_lease(self) -> None:
        def held(rpc: MemoryRpc) -> None:
            rpc.connect("boot-0").claim(previous_boot_id=None, seen_renewals=None, lease_s=30)

        bench = Bench(prepare=held)
        bench.probe.advance(29)
        assert bench.take(LeaseRenewed) == []
        bench.probe.advance(11)
        assert bench.take(LeaseRenewed)[0].epoch == 2

    def test_a_restart_on_the_same_state_takes_over_from_its_former_boot(self) -> None:
        def held(rpc: MemoryRpc) -> None:
            rpc.connect("boot-0").claim(previous_boot_id=None, seen_renewals=None, lease_s=30)

        bench = Bench(prepare=held, previous="boot-0")
        assert bench.take(LeaseRenewed)[0].epoch == 2

    def test_without_the_database_entries_are_off_and_exits_need_not_wait(self) -> None:
        bench = Bench(prepare=lambda rpc: rpc.fail_next(Unavailable("refused"), times=3))
        away, lapsed, controls = bench.probe.take()
        assert isinstance(away, DatabaseAway)
        assert isinstance(lapsed, LeaseLapsed)
        assert (controls.version, controls.paused, controls.killed) == (0, True, False)

    def test_a_database_that_comes_back_is_claimed_then(self) -> None:
        bench = Bench(prepare=lambda rpc: rpc.fail_next(Unavailable("refused"), times=3))
        bench.probe.take()
        bench.probe.advance(10)
        told = [type(sent) for sent in bench.take(DatabaseBack, LeaseRenewed, ControlsChanged, HeartbeatSent)]
        assert told[:2] == [DatabaseBack, LeaseRenewed]
        assert {ControlsChanged, HeartbeatSent} <= set(told)

    def test_a_claim_whose_reply_was_lost_is_repeated_without_harm(self) -> None:
        bench = Bench(prepare=lambda rpc: rpc.lose_reply_next(on="claim"))
        bench.probe.advance(5)
        assert bench.take(LeaseRenewed)[0].epoch == 1

    def test_a_lease_within_its_margin_is_refused(self, bench: Bench) -> None:
        with pytest.raises(ValueError, match="longer than its margin"):
            ControlPollerActor(
                bench.probe.cell.context or pytest.fail("no context"), rpc=bench.rpc, identity=IDENTITY, tier_s=5,
                lease_s=5, margin_s=5, previous_boot_ids=(), killed_locally=lambda: False, environment_killed=False,
            )  # fmt: skip


class TestLease:
    def test_heartbeats_outpace_the_lease_whatever_the_tier(self, bench: Bench) -> None:
        bench.probe.advance(120)
        assert bench.take(LeaseLapsed) == []
        assert bench.rpc.tables.heartbeats == 15

    def test_a_fast_tier_beats_at_its_own_pace(self) -> None:
        bench = Bench(tier_s=5)
        bench.probe.advance(60)
        assert bench.rpc.tables.heartbeats == 13

    def test_it_runs_from_the_time_of_sending(self) -> None:
        bench = Bench()
        bench.probe.take()
        bench.rpc.reply_after_s = 4.0
        bench.probe.advance(0)
        renewed, *_ = bench.take(LeaseRenewed)
        assert (bench.probe.monotonic(), renewed.deadline_s) == (4.0, 25.0)

    def test_an_answer_that_comes_after_its_end_renews_nothing(self, bench: Bench) -> None:
        bench.probe.take()
        bench.rpc.reply_after_s = 26.0
        bench.probe.advance(0)
        bench.rpc.reply_after_s = 0.0
        bench.probe.advance(0.01)
        assert [type(sent) for sent in bench.take(LeaseRenewed, LeaseLapsed)] == [LeaseRenewed, LeaseLapsed]

    def test_a_timer_that_is_early_does_not_end_the_lease(self, bench: Bench) -> None:
        bench.rpc.fail_next(Unavailable("refused"), times=1000)
        bench.probe.advance(0)
        bench.probe.take()
        bench.probe.tell(_Deadline())
        assert bench.take(LeaseLapsed) == []
        bench.probe.advance(26)
        assert bench.take(LeaseLapsed) == [LeaseLapsed(epoch=1)]

    def test_it_lapses_by_itself_when_the_database_is_silent(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.fail_next(Unknown("timeout"), times=100)
        bench.probe.take()
        bench.probe.advance(24.9)
        assert bench.take(LeaseLapsed) == []
        bench.probe.advance(0.2)
        assert bench.take(LeaseLapsed) == [LeaseLapsed(epoch=1)]

    def test_two_heartbeats_in_a_row_may_fail(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.fail_next(Unavailable("refused"), times=2)
        bench.probe.take()
        bench.probe.advance(60)
        assert bench.take(LeaseLapsed) == []

    def test_a_lapsed_lease_is_renewed_when_the_database_answers_again(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.fail_next(Unavailable("refused"), times=6)
        bench.probe.take()
        bench.probe.advance(60)
        told = [type(sent) for sent in bench.take(LeaseLapsed, LeaseRenewed, DatabaseAway, DatabaseBack)]
        assert told[:4] == [DatabaseAway, LeaseLapsed, DatabaseBack, LeaseRenewed]

    def test_a_rival_that_took_over_ends_the_bot(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.connect("rival").claim(previous_boot_id="boot-1", seen_renewals=None, lease_s=30)
        bench.probe.take()
        bench.probe.advance(10)
        assert len(bench.take(LeaseLost)) == 1
        assert bench.probe.escalation is not None
        assert bench.probe.escalation[2] == 75

    def test_a_service_key_that_is_refused_in_mid_run_ends_no_bot(self, bench: Bench) -> None:
        bench.rpc.fail_next(Fatal("service_key_refused", exit_code=78), times=10)
        bench.probe.advance(50)
        assert bench.probe.escalation is None
        told = bench.take(LeaseLapsed, Notice)
        assert {getattr(each, "kind", "lapsed") for each in told} == {"lapsed", "database_refused"}
        bench.probe.advance(60)
        assert bench.take(LeaseRenewed) != []

    @pytest.mark.parametrize(
        "refusal", [Rejected("runtime_token_invalid"), Fatal("runtime_token_invalid", exit_code=77)], ids=repr
    )
    def test_a_refused_token_ends_the_bot(self, bench: Bench, refusal: Rejected | Fatal) -> None:
        bench.rpc.fail_next(refusal)
        bench.probe.advance(1)
        assert len(bench.take(TokenRefused)) == 1
        assert bench.probe.escalation is not None
        assert bench.probe.escalation[2] == 77

    def test_another_refusal_is_told_to_people_and_not_taken_for_silence(self, bench: Bench) -> None:
        bench.rpc.fail_next(Rejected("bot_inactive"))
        bench.probe.advance(0)
        assert [type(sent) for sent in bench.take(Notice, DatabaseAway)] == [Notice]
        assert bench.probe.escalation is None

    def test_it_waits_as_long_as_the_database_asks_for(self, bench: Bench) -> None:
        bench.rpc.fail_next(Defer("rate_limit", after_s=3))
        bench.probe.advance(2.9)
        assert bench.rpc.tables.heartbeats == 0
        bench.probe.advance(0.2)
        assert bench.rpc.tables.heartbeats == 1


class TestControls:
    def test_a_new_version_is_fetched_told_and_acknowledged(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.probe.take()
        bench.rpc.set_controls(paused=True)
        bench.probe.advance(10)
        assert [(sent.version, sent.paused) for sent in bench.take(ControlsChanged)] == [(2, True)]
        assert bench.rpc.tables.acknowledged == [1, 2]

    def test_unchanged_controls_are_told_once(self, bench: Bench) -> None:
        bench.probe.advance(60)
        assert len(bench.take(ControlsChanged)) == 1
        assert bench.rpc.calls["refresh_controls"] == 1

    def test_a_refresh_that_failed_is_repeated(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.set_controls(observe_only=True)
        bench.rpc.fail_next(Unknown("timeout"), on="refresh_controls")
        bench.probe.advance(20)
        assert [sent.observe_only for sent in bench.take(ControlsChanged)] == [False, True]

    def test_an_acknowledgement_that_failed_is_repeated(self, bench: Bench) -> None:
        bench.rpc.fail_next(Unknown("timeout"), on="acknowledge", times=2)
        bench.probe.advance(30)
        assert bench.rpc.tables.acknowledged == [1]

    def test_a_local_kill_needs_no_database(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.fail_next(Unavailable("refused"), times=100)
        bench.probe.take()
        bench.killed = True
        bench.probe.advance(1)
        assert [sent.killed for sent in bench.take(ControlsChanged)] == [True]
        bench.killed = False
        bench.probe.advance(1)
        assert [sent.killed for sent in bench.take(ControlsChanged)] == [False]

    def test_a_kill_is_told_to_people_once(self, bench: Bench) -> None:
        bench.killed = True
        bench.probe.advance(60)
        assert [sent.kind for sent in bench.take(Notice)] == ["started", "killed"]

    def test_a_flatten_is_asked_for_until_it_is_done_and_only_then_acknowledged(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.set_controls(flatten_version=2)
        bench.probe.advance(30)
        asked = bench.take(Flatten)
        assert len(asked) >= 2
        assert {sent.request_id for sent in asked} == {"flatten:2"}
        assert bench.rpc.tables.acknowledged == [1]
        bench.probe.tell(Flattened(request_id="flatten:2"))
        bench.probe.take()
        bench.probe.advance(30)
        assert bench.take(Flatten) == []
        assert bench.rpc.tables.acknowledged == [1, 2]

    def test_a_flatten_that_another_one_overtook_is_not_asked_for_for_ever(self, bench: Bench) -> None:
        bench.rpc.set_controls(flatten_version=2)
        bench.probe.advance(9)
        bench.rpc.set_controls(flatten_version=3)
        bench.probe.advance(9)
        bench.probe.tell(Flattened(request_id="flatten:2"), Flattened(request_id="flatten:3"))
        assert bench.probe.asking == []

    def test_another_requests_end_is_not_taken_for_it(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.set_controls(flatten_version=2)
        bench.probe.advance(10)
        bench.probe.tell(Flattened(request_id="manual:1"))
        assert bench.probe.asking == ["flatten:2"]


class TestHeartbeat:
    def test_it_says_how_the_account_stands(self, bench: Bench) -> None:
        bench.probe.tell(*RECEIVED[:4])
        bench.probe.advance(0)
        state = bench.rpc.tables.state
        assert state["heartbeat_at"] == "2026-01-01T00:00:00Z"
        assert (state["exchange_sync_status"], state["equity"], state["mark_price"]) == ("ok", "1000.5", "101")
        assert (state["in_position"], state["position_qty"]) == (True, "0.5")
        assert state["gate"] == ["paused"]

    def test_nothing_is_claimed_that_was_never_told(self, bench: Bench) -> None:
        bench.probe.advance(0)
        assert bench.rpc.tables.state["exchange_sync_status"] == "unknown"
        assert bench.rpc.tables.state["gate"] == ["starting"]
        assert not {"in_position", "equity"} & set(bench.rpc.tables.state)


class TestRestart:
    def test_a_restart_goes_on_under_the_epoch_it_had(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.probe.take()
        bench.probe.restart()
        assert bench.take(LeaseRenewed)[0].epoch == 1
        assert bench.rpc.calls["claim"] == 1

    def test_a_restart_finds_out_that_another_runtime_had_the_bot_meanwhile(self, bench: Bench) -> None:
        bench.probe.advance(0)
        rival = bench.rpc.connect("rival")
        rival.claim(previous_boot_id="boot-1", seen_renewals=None, lease_s=30)
        rival.release()
        bench.probe.restart()
        assert bench.probe.escalation is not None
        assert bench.probe.escalation[2] == 75

    def test_the_numbers_of_heartbeats_rise_across_a_restart(self, bench: Bench) -> None:
        bench.probe.advance(20)
        before = bench.rpc.tables.state["heartbeat_seq"]
        bench.probe.restart()
        bench.probe.advance(0)
        assert bench.rpc.tables.state["heartbeat_seq"] > before

    @pytest.mark.parametrize("told", RECEIVED, ids=lambda told: type(told).__name__)
    def test_a_crash_on_any_message_keeps_the_lease(self, bench: Bench, told: Message) -> None:
        bench.probe.advance(0)
        bench.probe.fail_next()
        bench.probe.tell(told)
        bench.probe.take()
        bench.probe.advance(30)
        assert bench.probe.restarts == 1
        renewed = bench.take(LeaseRenewed)
        assert {sent.epoch for sent in renewed} == {1}
        assert bench.probe.escalation is None

    def test_others_are_told_again_when_they_restart(self, bench: Bench) -> None:
        bench.probe.take()
        bench.probe.tell(RISK_RESTARTED)
        assert [type(sent) for sent in bench.probe.take()] == [LeaseRenewed, ControlsChanged]

    def test_a_restart_takes_back_what_the_former_incarnation_said_of_the_database(self, bench: Bench) -> None:
        bench.probe.advance(0)
        bench.rpc.fail_next(Unavailable("refused"))
        bench.probe.advance(9)
        bench.probe.take()
        bench.probe.restart()
        assert len(bench.take(DatabaseBack)) == 1

    def test_a_flatten_that_was_asked_for_is_asked_for_again(self, bench: Bench) -> None:
        bench.rpc.set_controls(flatten_version=2)
        bench.probe.advance(10)
        bench.probe.take()
        bench.probe.restart()
        assert {sent.request_id for sent in bench.take(Flatten)} == {"flatten:2"}
