"""How a call to the simulated exchange fares, fault by fault."""

from __future__ import annotations

import random

import pytest

from tbh.ports import Defer, Unavailable, Unknown
from tbh.simulation.faults import FaultKind
from tbh.simulation.network import NS, Fate, Network


def network(*kinds: FaultKind, seed: str = "a") -> Network:
    return Network(random.Random(seed), lambda kind, scale: kind in kinds, latency_s=0.02, window_s=1.0)


def fate(*kinds: FaultKind, seed: str = "a", places: bool = True) -> Fate:
    return network(*kinds, seed=seed).fate(writes=True, places=places, timeout_s=10.0)


def test_without_faults_a_call_goes_there_and_back() -> None:
    usual = fate()
    assert usual.kinds == ()
    assert usual.instead is None
    for way_ns in (usual.arrives_ns, usual.answer_ns):
        assert way_ns is not None
        assert 0.01 * NS <= way_ns <= 0.03 * NS


@pytest.mark.parametrize(
    ("kind", "failure"),
    [(FaultKind.REQUEST_REFUSED, Unavailable), (FaultKind.RATE_LIMITED, Defer)],
)
def test_what_was_provably_not_served_never_arrives(kind: FaultKind, failure: type[Exception]) -> None:
    refused = fate(kind)
    assert refused.arrives_ns is None
    assert isinstance(refused.instead, failure)
    assert refused.kinds == (kind,)


def test_a_server_error_proves_nothing_for_it_comes_before_and_after_the_effect() -> None:
    fates = [fate(FaultKind.SERVER_ERROR, seed=str(seed)) for seed in range(40)]
    assert all(isinstance(one.instead, Unknown) for one in fates)
    assert {one.arrives_ns is None for one in fates} == {True, False}


@pytest.mark.parametrize(("kind", "arrives"), [(FaultKind.REQUEST_LOST, False), (FaultKind.REPLY_LOST, True)])
def test_silence_is_the_same_whether_the_request_or_the_reply_was_lost(kind: FaultKind, arrives: bool) -> None:
    for seed in range(40):
        silent = fate(kind, seed=str(seed))
        assert (silent.arrives_ns is not None) is arrives
        assert silent.answer_ns is None or isinstance(silent.instead, Unknown)


def test_late_requests_arrive_on_both_sides_of_the_receive_window() -> None:
    late = [fate(FaultKind.REQUEST_LATE, seed=str(seed)).arrives_ns or 0 for seed in range(60)]
    assert min(late) < NS < max(late)


def test_only_a_write_arrives_twice_and_only_an_order_is_answered_emptily() -> None:
    doubled = network(FaultKind.REQUEST_DOUBLED, FaultKind.EMPTY_ANSWER)
    read = doubled.fate(writes=False, places=False, timeout_s=10.0)
    order = doubled.fate(writes=True, places=True, timeout_s=10.0)
    assert (read.again_ns, read.empty) == (None, False)
    assert order.empty
    assert order.again_ns is not None
    assert order.again_ns >= (order.arrives_ns or 0)


def test_a_healed_network_has_no_faults() -> None:
    healed = network(*FaultKind)
    healed.faulty = False
    assert healed.fate(writes=True, places=True, timeout_s=10.0).kinds == ()
