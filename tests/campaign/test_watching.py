"""What the observer hears of a process that has given its lease back."""

from __future__ import annotations

from typing import Any

import pytest

from tbh.campaign.boot import Boot
from tbh.campaign.database import DatabaseClient
from tbh.campaign.watching import heard_by
from tbh.campaign.world import World
from tbh.messages.controls import LeaseRenewed
from tbh.simulation import steps
from tbh.simulation.script import Scenario

CALM = Scenario(name="calm", lessons=(), title="nothing fails", strikes={})
RENEWED = LeaseRenewed(epoch=1, deadline_s=5.0, renewals=1)


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Boot:
    """A process whose database answers at once."""
    monkeypatch.setattr(DatabaseClient, "_call", lambda _self, _name, effect: effect())
    world = World(1, CALM, None)
    return Boot(world, world.new_disk(), 1)


def _told(boot: Boot) -> steps.LeaseBelieved:
    told: list[Any] = []
    boot.world.tell = told.append  # type: ignore[assignment]
    heard_by(boot)[LeaseRenewed](RENEWED)
    (believed,) = told
    assert isinstance(believed, steps.LeaseBelieved)
    return believed


def test_a_renewal_that_is_heard_by_who_has_the_lease_is_one_of_its_own(boot: Boot) -> None:
    DatabaseClient(boot).claim(previous_boot_id=None, seen_renewals=None, lease_s=10.0)
    assert (_told(boot).given_back, _told(boot).left_s) == (False, 10.0)


def test_a_renewal_that_is_heard_after_the_lease_was_given_back_is_told_as_such(boot: Boot) -> None:
    rpc = DatabaseClient(boot)
    rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=10.0)
    rpc.release()
    assert (_told(boot).given_back, _told(boot).left_s) == (True, 0.0)


def test_who_has_lost_the_lease_to_another_gives_nothing_back(boot: Boot) -> None:
    rpc = DatabaseClient(boot)
    rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=10.0)
    boot.world.tables.lease.holder = "boot2"
    rpc.release()
    assert (_told(boot).given_back, _told(boot).left_s) == (False, 0.0)
