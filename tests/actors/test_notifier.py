"""The notifier: once per key and channel, critical first, and a dead channel holds up nobody."""

from __future__ import annotations

import pytest

from tbh.actors import notifier
from tbh.actors.notifier import ATTEMPTS_MAX, NotifierActor
from tbh.messages.health import Notice, NoticeFailed, Severity
from tbh.ports import Defer, Failure, Fatal, Rejected, Unavailable, Unknown
from tbh.runtime.probe import Probe


def notice(key: str = "k1", severity: Severity = Severity.WARNING) -> Notice:
    return Notice(key=key, severity=severity, kind="test", text=f"text of {key}")


class Channel:
    """Keeps the keys it was sent; fails as scripted."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.calls = 0
        self.failures: list[Failure] = []

    def send(self, *, severity: str, kind: str, text: str, key: str) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        self.keys.append(key)


class Bench:
    def __init__(self) -> None:
        self.one, self.two = Channel(), Channel()
        self.probe = Probe(NotifierActor, lambda ctx: NotifierActor(ctx, channels=[self.one, self.two]))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_channel_gets_a_notice_once(bench: Bench) -> None:
    bench.probe.tell(notice(), notice(), notice("k2"))
    assert (bench.one.keys, bench.two.keys) == (["k1", "k2"], ["k1", "k2"])


@pytest.mark.parametrize("failure", [Unavailable("refused"), Unknown("timeout")], ids=repr)
def test_a_failed_delivery_is_tried_again(bench: Bench, failure: Failure) -> None:
    bench.one.failures = [failure] * 3
    bench.probe.tell(notice())
    bench.probe.advance(10)
    assert bench.one.keys == ["k1"]
    assert bench.probe.take() == []


def test_a_dead_channel_holds_up_no_other(bench: Bench) -> None:
    bench.one.failures = [Unavailable("refused")] * 1000
    bench.probe.tell(*(notice(f"k{number}") for number in range(20)))
    assert len(bench.two.keys) == 20
    assert bench.one.calls == 1


def test_after_the_last_attempt_it_is_given_up_and_said(bench: Bench) -> None:
    bench.one.failures = [Unavailable("refused")] * ATTEMPTS_MAX
    bench.probe.tell(notice(), notice("k2"))
    bench.probe.advance(600)
    assert bench.probe.take() == [NoticeFailed(key="k1", reason=f"{ATTEMPTS_MAX} attempts, the last one: refused")]
    assert bench.one.keys == ["k2"]


@pytest.mark.parametrize("failure", [Rejected("no_such_address"), Fatal("bad_config", exit_code=78)], ids=repr)
def test_what_can_not_succeed_is_given_up_at_once_and_stops_no_bot(bench: Bench, failure: Failure) -> None:
    bench.one.failures = [failure]
    bench.probe.tell(notice(), notice("k2"))
    assert [sent.key for sent in bench.probe.take(NoticeFailed)] == ["k1"]
    assert bench.one.keys == ["k2"]
    assert bench.probe.escalation is None


def test_it_waits_as_long_as_a_channel_asks_for(bench: Bench) -> None:
    bench.one.failures = [Defer("rate_limit", after_s=50)]
    bench.probe.tell(notice())
    bench.probe.advance(49)
    assert bench.one.calls == 1
    bench.probe.advance(2)
    assert bench.one.keys == ["k1"]


def test_critical_notices_go_first(bench: Bench) -> None:
    bench.one.failures = [Unavailable("refused")]
    bench.probe.tell(notice("routine"), notice("critical", Severity.CRITICAL))
    bench.probe.advance(5)
    assert bench.one.keys == ["critical", "routine"]


def test_a_full_queue_gives_up_the_oldest_routine_notice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "QUEUE_MAX", 3)
    bench.one.failures = [Unavailable("refused")]
    bench.probe.tell(notice("c", Severity.CRITICAL), notice("r1"), notice("r2"), notice("r3"))
    assert [sent.key for sent in bench.probe.take(NoticeFailed)] == ["r1"]
    bench.probe.advance(5)
    assert bench.one.keys == ["c", "r2", "r3"]


def test_a_crash_leaves_a_notifier_that_works(bench: Bench) -> None:
    bench.probe.fail_next()
    bench.probe.tell(notice())
    bench.probe.advance(1)
    bench.probe.tell(notice(), notice("k2"))
    assert bench.probe.restarts == 1
    assert [letter.message_type for letter in bench.probe.dead_letters] == ["Notice"]
    assert bench.one.keys == ["k1", "k2"]


def test_without_channels_the_log_has_it_all() -> None:
    probe = Probe(NotifierActor, lambda ctx: NotifierActor(ctx, channels=[]))
    probe.tell(notice())
    assert probe.take() == []
