"""The straight host: in the order of sending, the background later, and time only where somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tbh.messages.base import Fact, Timer, message
from tbh.runtime.actor import Actor, Context, receive
from tbh.runtime.straight import BACKGROUND_MAX, TURN_S, StraightHost
from tbh.runtime.supervise import ChildSpec


@message
class Said(Fact):
    n: int


@message
class Echoed(Fact):
    n: int


@message
class Tick(Timer):
    pass


class Echo(Actor):
    """Notes what it hears, and says it again to the others; waits ``delay_s`` where that is set."""

    sends = (Echoed,)

    def __init__(self, ctx: Context, log: list[Any], delay_s: float | None = None) -> None:
        super().__init__(ctx)
        self._log = log
        if delay_s is not None:
            ctx.expect("tick")
            ctx.after(delay_s, Tick())

    @receive
    def on_said(self, said: Said) -> None:
        self._log.append((self.ctx.name, said.n))
        self.ctx.send(Echoed(n=said.n))

    @receive
    def on_echoed(self, echoed: Echoed) -> None:
        self._log.append((self.ctx.name, -echoed.n))

    @receive
    def on_tick(self, _: Tick) -> None:
        self.ctx.answered("tick")
        self._log.append((self.ctx.name, self.ctx.monotonic()))


def echo(name: str, log: list[Any], *, background: bool = False, delay_s: float | None = None) -> ChildSpec:
    return ChildSpec(name=name, actor=Echo, factory=lambda ctx: Echo(ctx, log, delay_s), background=background)


def started(specs: list[ChildSpec], on_settled: Callable[[], None] | None = None) -> StraightHost:
    host = StraightHost(specs, external=(Said,), on_settled=on_settled)
    host.start()
    return host


def test_everything_is_delivered_in_the_order_of_its_sending() -> None:
    log: list[Any] = []
    host = started([echo("a", log), echo("b", log)])
    host.publish(Said(n=1))
    host.run()
    assert log == [("a", 1), ("b", 1), ("a", -1), ("b", -1), ("a", -1), ("b", -1)]
    assert host.messages == len(log)
    assert host.stop() == []


def test_the_background_hears_when_the_others_have_nothing_left() -> None:
    log: list[Any] = []
    host = started([echo("behind", log, background=True), echo("a", log)])
    host.publish(Said(n=1))
    host.run()
    assert log[:2] == [("a", 1), ("a", -1)]
    assert ("behind", 1) in log


def test_the_background_waits_while_the_market_goes_on_but_not_for_ever() -> None:
    log: list[Any] = []
    left = iter(range(1, 2 * BACKGROUND_MAX + 1))

    def advance() -> None:
        n = next(left, None)
        if n is not None:
            host.publish(Said(n=n))

    host = started([echo("behind", log, background=True), echo("a", log)], advance)
    host.run()
    first = next(place for place, (name, _) in enumerate(log) if name == "behind")
    assert BACKGROUND_MAX / 2 < first < 3 * BACKGROUND_MAX
    assert sum(name == "behind" and n > 0 for name, n in log) == 2 * BACKGROUND_MAX


def test_a_turn_takes_its_time_and_a_wait_leaps() -> None:
    log: list[Any] = []
    turns: list[float] = []

    def advance() -> None:
        turns.append(host.monotonic())
        if len(turns) < 4:
            host.publish(Said(n=len(turns)))

    host = started([echo("a", log, delay_s=5.0)], advance)
    host.run()
    assert ("a", 5.0) in log
    assert [round(at - 5.0, 9) for at in turns] == [round(TURN_S * n, 9) for n in (1, 2, 3, 4)]


def test_no_time_passes_beyond_what_was_asked_for() -> None:
    log: list[Any] = []
    host = started([echo("a", log, delay_s=5.0)])
    host.run(for_s=4.0)
    assert log == []
    host.run(for_s=6.0)
    assert log == [("a", 5.0)]


def test_who_listens_in_hears_what_is_sent() -> None:
    heard: list[Any] = []
    log: list[Any] = []
    host = StraightHost([echo("a", log)], external=(Said,), heard={Echoed: heard.append})
    host.start()
    host.publish(Said(n=3))
    host.run()
    assert heard == [Echoed(n=3)]
