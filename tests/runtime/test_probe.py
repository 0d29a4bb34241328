"""The probe, and through it the context: timers, requests, time, what an actor may not do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tbh.messages.base import Fact, Timer, message
from tbh.messages.system import Restarted
from tbh.runtime.actor import Actor, Context, WiringError, receive
from tbh.runtime.cell import CellState
from tbh.runtime.probe import EPOCH, Probe


@message
class Do(Fact):
    """What the actor shall do: a method of ``Actions``."""

    what: str


@message
class Asked(Fact):
    n: int = 0


@message
class Foreign(Fact):
    pass


@message
class Tick(Timer):
    n: int = 0


@message
class Unhandled(Timer):
    pass


class Acting(Actor):
    sends = (Asked,)

    def __init__(self, ctx: Context, actions: dict[str, Any]) -> None:
        super().__init__(ctx)
        self._actions = actions
        self.ticks: list[tuple[int, float]] = []
        self.halted = ""

    @receive
    def on_do(self, do: Do) -> None:
        self._actions[do.what](self.ctx)

    @receive
    def on_tick(self, tick: Tick) -> None:
        self.ticks.append((tick.n, self.ctx.monotonic()))

    def on_halt(self, reason: str, exit_code: int) -> None:
        self.halted = reason

    def on_stop(self) -> None:
        self.ctx.send(Asked(n=-1))


def probe_of(**actions: Any) -> Probe:
    return Probe(Acting, lambda ctx: Acting(ctx, actions))


def reason(probe: Probe) -> str:
    return probe.dead_letters[-1].reason


def test_take_returns_what_was_sent_and_forgets_it() -> None:
    probe = probe_of(send=lambda ctx: ctx.send(Asked(n=1)))
    probe.tell(Do(what="send"))
    assert probe.take() == [Asked(n=1)]
    assert probe.take() == []


def test_take_may_be_narrowed_to_a_type() -> None:
    probe = probe_of(send=lambda ctx: ctx.send(Asked(n=1)))
    probe.tell(Do(what="send"))
    assert probe.take(Foreign) == []


def test_sending_what_sends_does_not_list_is_a_failure() -> None:
    probe = probe_of(send=lambda ctx: ctx.send(Foreign()))
    probe.tell(Do(what="send"))
    assert "Foreign, which its `sends` does not list" in reason(probe)


def test_a_timer_without_a_handler_is_a_failure() -> None:
    probe = probe_of(arm=lambda ctx: ctx.after(1, Unhandled()))
    probe.tell(Do(what="arm"))
    assert "Unhandled, for which it has no handler" in reason(probe)


def test_a_message_without_a_handler_is_a_dead_letter_and_no_failure() -> None:
    probe = probe_of()
    probe.tell(Foreign())
    assert (reason(probe), probe.restarts) == ("no handler", 0)


def test_after_fires_once_and_every_again_and_again() -> None:
    def arm(ctx: Context) -> None:
        ctx.after(1.5, Tick(n=1))
        ctx.every(1.0, Tick(n=2))

    probe = probe_of(arm=arm)
    probe.tell(Do(what="arm"))
    probe.advance(3)
    assert probe.actor.ticks == [(2, 1.0), (1, 1.5), (2, 2.0), (2, 3.0)]


def test_a_cancelled_timer_never_fires() -> None:
    handles: list[int] = []
    probe = probe_of(
        arm=lambda ctx: handles.extend([ctx.after(1, Tick(n=1)), ctx.every(1, Tick(n=2))]),
        cancel=lambda ctx: [ctx.cancel(handle) for handle in handles],
    )
    probe.tell(Do(what="arm"), Do(what="cancel"), Do(what="cancel"))
    probe.advance(5)
    assert probe.actor.ticks == []


def test_timers_that_have_fired_leave_nothing_behind() -> None:
    probe = probe_of(arm=lambda ctx: ctx.after(0.001, Tick()))
    for _ in range(100):
        probe.tell(Do(what="arm"))
        probe.advance(0.01)
    assert len(probe.actor.ticks) == 100
    assert probe.cell.context is not None
    assert probe.cell.context._timers == {}


@pytest.mark.parametrize("period_s", [0, -1])
def test_a_period_of_nothing_is_refused(period_s: float) -> None:
    probe = probe_of(arm=lambda ctx: ctx.every(period_s, Tick()), ask=lambda ctx: ask(ctx, every_s=period_s))
    probe.tell(Do(what="arm"))
    probe.advance(1)
    probe.tell(Do(what="ask"))
    assert [letter.reason.split(":")[0] for letter in probe.dead_letters] == ["ValueError", "ValueError"]


def ask(ctx: Context, key: str = "key", *, n: int = 0, every_s: float = 1.0, until: datetime | None = None) -> None:
    ctx.keep_asking(key, Asked(n=n), every_s=every_s, until=until)


def test_keep_asking_asks_at_once_and_again_until_answered() -> None:
    answers: list[bool] = []
    probe = probe_of(ask=ask, answer=lambda ctx: answers.append(ctx.answered("key")))
    probe.tell(Do(what="ask"))
    assert probe.take() == [Asked()]
    probe.advance(2.5)
    assert probe.take() == [Asked(), Asked()]
    assert probe.asking == ["key"]
    probe.tell(Do(what="answer"), Do(what="answer"))
    probe.advance(10)
    assert (probe.take(), probe.asking, answers) == ([], [], [True, False])


def test_requests_keep_their_own_pace_and_one_timer_serves_them_all() -> None:
    def both(ctx: Context) -> None:
        ask(ctx, "slow", n=1, every_s=10.0)
        for i in range(20):
            ask(ctx, f"quick{i}", n=2, every_s=1.0)

    probe = probe_of(ask=both)
    probe.tell(Do(what="ask"))
    probe.take()
    probe.advance(10)
    sent = probe.take()
    assert (sent.count(Asked(n=1)), sent.count(Asked(n=2))) == (1, 200)
    assert sum(slot[0] is not None for _, _, slot in probe._heap) == 1


def test_an_open_request_under_the_same_key_is_replaced() -> None:
    probe = probe_of(one=lambda ctx: ask(ctx, n=1), two=lambda ctx: ask(ctx, n=2))
    probe.tell(Do(what="one"), Do(what="two"))
    probe.take()
    probe.advance(1)
    assert probe.take() == [Asked(n=2)]


def test_a_request_lapses_when_market_time_passes_its_until() -> None:
    probe = probe_of(ask=lambda ctx: ask(ctx, until=EPOCH + timedelta(seconds=2)))
    probe.tell(Do(what="ask"))
    probe.advance(2.0)
    assert len(probe.take()) == 3
    probe.advance(5.0, market=False)
    assert len(probe.take()) == 5, "process time alone lets nothing lapse"
    probe.advance(2.0)
    assert (probe.take(), probe.asking) == ([], [])


def test_an_expected_answer_is_waited_for_and_never_asked_for() -> None:
    probe = probe_of(expect=lambda ctx: ctx.expect("order"), answer=lambda ctx: ctx.answered("order"))
    probe.tell(Do(what="expect"))
    probe.advance(100)
    assert (probe.take(), probe.asking, probe.cell.settled) == ([], ["order"], False)
    probe.tell(Do(what="answer"))
    assert probe.cell.settled


def test_the_two_clocks_move_apart_when_asked_to() -> None:
    times: list[tuple[datetime, float]] = []
    probe = probe_of(look=lambda ctx: times.append((ctx.now(), ctx.monotonic())))
    probe.advance(5, market=False)
    probe.tell(Do(what="look"))
    probe.set_now(datetime(2026, 6, 1, tzinfo=UTC))
    probe.tell(Do(what="look"))
    assert times == [(EPOCH, 5.0), (datetime(2026, 6, 1, tzinfo=UTC), 5.0)]


def test_fail_next_sets_the_message_aside_and_the_actor_comes_back() -> None:
    probe = probe_of(send=lambda ctx: ctx.send(Asked()))
    probe.fail_next()
    probe.tell(Do(what="send"), Do(what="send"))
    assert probe.cell.state is CellState.BACKING_OFF
    assert probe.take() == []
    probe.advance(1)
    assert probe.take() == [Asked()]
    assert [letter.payload for letter in probe.dead_letters] == ["Do(what='send')"]
    assert [fact for fact in probe.kernel if isinstance(fact, Restarted)] == [
        Restarted(actor="acting", incarnation=1, reason="RuntimeError: planned fault")
    ]


def test_fail_next_reaches_a_timers_handler_too() -> None:
    probe = probe_of(arm=lambda ctx: ctx.after(1, Tick(n=7)))
    probe.tell(Do(what="arm"))
    probe.fail_next()
    probe.advance(1)
    assert probe.dead_letters[0].payload == "Tick(n=7)"


def test_restart_rebuilds_through_the_constructor() -> None:
    probe = probe_of()
    before = probe.actor
    probe.restart()
    assert probe.actor is not before
    assert probe.restarts == 1


def test_halt_and_stop_reach_the_actor() -> None:
    probe = probe_of()
    probe.halt("drawdown")
    assert probe.actor.halted == "drawdown"
    probe.stop()
    assert probe.take() == [Asked(n=-1)]
    assert probe.cell.state is CellState.STOPPED


def test_a_dead_context_does_nothing() -> None:
    kept: list[Context] = []
    probe = probe_of(keep=kept.append)
    probe.tell(Do(what="keep"))
    probe.restart()
    dead = kept[0]
    dead.send(Asked())
    ask(dead)
    dead.expect("key")
    dead.halt("no")
    dead.after(1, Tick())
    dead.unstash()
    probe.advance(5)
    assert (probe.take(), probe.asking, probe.escalation, probe.actor.ticks) == ([], [], None, [])


def test_stash_outside_a_handler_is_refused() -> None:
    refused: list[str] = []

    def factory(ctx: Context) -> Acting:
        try:
            ctx.stash()
        except WiringError as fault:
            refused.append(str(fault))
        return Acting(ctx, {})

    Probe(Acting, factory)
    assert refused == ["acting: stash() outside a handler"]


def test_halt_by_an_actor_escalates_with_its_exit_code() -> None:
    probe = probe_of(halt=lambda ctx: ctx.halt("lost", exit_code=75))
    probe.tell(Do(what="halt"))
    assert probe.escalation == ("acting", "lost", 75)
