"""Short words for what the histories of the promises are told with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from tbh.messages.account import SyncStatus
from tbh.messages.orders import Order, OrderStatus, Purpose
from tbh.ports import Batch
from tbh.simulation import steps
from tests.simulation.story import BOOT, NOW, RIVAL, Story, order, state

Tell = Callable[[Story], object]
Case = tuple[str, Tell, Tell]
"""The promise, a history that breaks it, and the nearest one that does not."""

ENTRY, EXIT = order("e0"), order("x0", Purpose.EXIT)
AGAIN = replace(ENTRY, client_order_id="e1", attempt=1)
ENTRY_F = order("f0")
LATER = NOW + timedelta(seconds=1)
STOP = order("s0", Purpose.STOP, qty=Decimal("0.5"))
DOUBLE = replace(STOP, qty=Decimal(1))
RECORDED, FILLED = state(ENTRY, OrderStatus.RECORDED), state(ENTRY, OrderStatus.FILLED, version=2, filled="1")
CANCELED = state(ENTRY, OrderStatus.CANCELED)


def committed(*keys: str, first: int = 1) -> steps.Committed:
    return steps.Committed(boot=BOOT, store_id="d", batch=NOTHING, keys=dict(enumerate(keys, first)))


def synced(*keys: str, first: int = 1, refused: tuple[int, ...] = ()) -> steps.Synced:
    return steps.Synced(boot=BOOT, store_id="d", keys=dict(enumerate(keys, first)), refused=refused)


def gated(*reasons: str) -> steps.GateMoved:
    return steps.GateMoved(boot=BOOT, reasons=reasons)


def lease(boot: str, epoch: int, **fields: object) -> steps.LeaseTaken:
    return steps.LeaseTaken(boot=boot, epoch=epoch, **fields)  # type: ignore[arg-type]


def owns(for_s: float, *, left_s: float = 60.0, given_back: bool = False) -> steps.LeaseBelieved:
    return steps.LeaseBelieved(boot=BOOT, for_s=for_s, left_s=left_s, given_back=given_back)


def drafts(*orders: Order) -> steps.Committed:
    """The disk has come to write them down."""
    states = [state(each, OrderStatus.DRAFTED) for each in orders]
    return steps.Committed(boot=BOOT, store_id="d", batch=Batch(drafts=states), keys={})


def unrecorded(story: Story) -> Story:
    """An exit does not wait for a disk that has failed."""
    return story.signs(EXIT, recorded=False, store_faulted=True)


def again(story: Story, of: Order, boot: str = BOOT) -> Story:
    """A request for what the exchange knows under that id."""
    return story.arrives(of, boot=boot, effect=steps.Effect.REPEATED)


def over(story: Story) -> Story:
    return story.ends(STOP, OrderStatus.CANCELED)


def ousted(story: Story, of: Order) -> Story:
    """Sent by a process that does not know yet that another has the bot."""
    return story.tell(lease(RIVAL, 1)).signs(of).arrives(of)


def forgets(story: Story, of: Order) -> Story:
    """The same, of an order that has arrived."""
    return story.signs(of, recorded=False, store_faulted=True).arrives(of)


def lie(name: str) -> steps.Lied:
    return steps.Lied(client_order_id=name, intent_id=name[:-1], qty=Decimal(1))


def later(story: Story, seconds: float) -> Story:
    story.now_s += seconds
    return story


def approved(story: Story) -> Story:
    return story.tell(steps.EntryApproved(boot=BOOT, proposal_id="p"))


def restarted(story: Story) -> Story:
    """On the disk of the first process."""
    return story.tell(steps.BootStarted(boot="b3", machine="m1"))


def believes(story: Story, status: SyncStatus) -> Story:
    return story.tell(steps.PositionTold(boot=BOOT, status=status))


def controls(story: Story, *, paused: bool = False, killed: bool = False) -> Story:
    return story.tell(steps.ControlsSet(version=2, paused=paused, killed=killed))


def acknowledged(story: Story) -> Story:
    if story.watch.history.owner is None:
        story.tell(lease(BOOT, 1))
    return story.tell(steps.FlattenAcknowledged(boot=BOOT, version=2))


def ended(story: Story, code: int | None) -> Story:
    return story.tell(steps.BootEnded(boot=BOOT, exit_code=code))


def failed(story: Story, error: str = "KeyError: 1", *, injected: bool = False) -> Story:
    return story.tell(steps.ActorFailed(boot=BOOT, actor="risk", error=error, injected=injected))


NOTHING = Batch()
DAMAGED = steps.FaultHappened(kind="store_damaged", detail="m1")
FOREIGN = steps.ForeignTrade(trade_id="f1", qty=Decimal(-1), cash=Decimal(100))
HALF_SOLD = steps.ForeignTrade(trade_id="f2", qty=Decimal("-0.5"), cash=Decimal(50))


def breaks(tell: Tell) -> set[str]:
    """The names of the promises that a history breaks."""
    story = Story()
    tell(story)
    return story.broken


def keeps(tell: Tell, name: str) -> bool:
    """Whether a history breaks nothing, and the promise was held against it."""
    story = Story()
    tell(story)
    return not story.broken and story.watch.coverage.checks[name] > 0
