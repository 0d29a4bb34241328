"""The way to the lease: at once where it is free or our own, after one silent lease where a rival's has run out."""

from __future__ import annotations

import pytest

from tbh.actors.claimant import Claimant
from tbh.infra.memory_rpc import MemoryRpc
from tbh.ports import Fatal, Unavailable


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def owner(clock: Clock) -> MemoryRpc:
    rpc = MemoryRpc("bot", monotonic=clock, boot_id="owner")
    rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=30)
    return rpc


def claimant(owner: MemoryRpc, clock: Clock, *previous: str) -> Claimant:
    return Claimant(owner.connect("rival"), previous_boot_ids=previous, lease_s=30, monotonic=clock)


def test_a_free_lease_is_taken_at_once(owner: MemoryRpc, clock: Clock) -> None:
    owner.release()
    lease = claimant(owner, clock).attempt()
    assert lease is not None
    assert lease.epoch == 2


@pytest.mark.parametrize("previous", [("owner",), ("newest", "older", "owner")])
def test_any_former_boot_of_the_state_directory_gives_way(
    owner: MemoryRpc, clock: Clock, previous: tuple[str, ...]
) -> None:
    assert claimant(owner, clock, *previous).attempt() is not None


def test_a_silent_rival_is_taken_over_after_one_lease(owner: MemoryRpc, clock: Clock) -> None:
    rival = claimant(owner, clock)
    waited_s = 0.0
    while (lease := rival.attempt()) is None:
        assert 0 < rival.wait_s() <= 3
        clock.now_s += rival.wait_s()
        waited_s += rival.wait_s()
        assert waited_s <= 31
    assert lease.epoch == 2


def test_a_rival_that_lives_is_found_out_and_kept(owner: MemoryRpc, clock: Clock) -> None:
    rival = claimant(owner, clock)
    assert rival.attempt() is None
    owner.heartbeat({})
    with pytest.raises(Fatal, match="another runtime owns the bot") as ended:
        rival.attempt()
    assert ended.value.exit_code == 75


def test_an_owner_that_wakes_at_the_last_moment_keeps_its_lease(owner: MemoryRpc, clock: Clock) -> None:
    rival = claimant(owner, clock)
    rival.attempt()
    clock.now_s += 30
    owner.heartbeat({})
    with pytest.raises(Fatal, match="lease_held"):
        rival.attempt()


def test_what_the_database_does_not_answer_is_passed_on(owner: MemoryRpc, clock: Clock) -> None:
    rpc = owner.connect("rival")
    rpc.fail_next(Unavailable("refused"))
    with pytest.raises(Unavailable):
        Claimant(rpc, previous_boot_ids=(), lease_s=30, monotonic=clock).attempt()
