"""What the omniscient observer hears of a process: messages as they are sent, failures, and each move of an order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tbh.domain import order as order_rules
from tbh.messages.account import PositionSynced
from tbh.messages.base import Message
from tbh.messages.controls import LeaseRenewed
from tbh.messages.health import GateChanged, Notice
from tbh.messages.orders import Approved
from tbh.runtime.actor import NullLog
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.wiring import Routes, check_wiring
from tbh.simulation import steps

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot

REPORTERS: Final = frozenset({"telemetry", "health_reporter"})

_PROVEN: dict[tuple[Any, ...], Routes] = {}


def routes_of(specs: Sequence[ChildSpec], external: Iterable[type[Message]]) -> Routes:
    """The routes of a tree, proven once for the same actors."""
    key = tuple((spec.name, spec.actor) for spec in specs)
    if key not in _PROVEN:
        _PROVEN[key] = check_wiring(specs, external=external)
    return _PROVEN[key]


def without_reporters(specs: Sequence[ChildSpec], routes: Routes) -> tuple[tuple[ChildSpec, ...], Routes]:
    """The tree less the actors that only report: nothing that trades hears of them."""
    left = tuple(spec for spec in specs if spec.name not in REPORTERS)
    return left, {kind: tuple(name for name in names if name not in REPORTERS) for kind, names in routes.items()}


def heard_by(boot: Boot) -> Mapping[type[Message], Callable[[Any], None]]:
    """What is told of each message that the process sends, by its type."""
    tell, boot_id = boot.world.tell, boot.boot_id

    def approved(message: Approved) -> None:
        if message.purpose.increases_risk:
            tell(steps.EntryApproved(boot=boot_id, proposal_id=message.proposal_id))

    def gate(message: GateChanged) -> None:
        boot.gate = message.reasons
        tell(steps.GateMoved(boot=boot_id, reasons=message.reasons))

    def notice(message: Notice) -> None:
        tell(steps.NoticeDue(boot=boot_id, kind=message.kind, key=message.key))

    def synced(message: PositionSynced) -> None:
        tell(steps.PositionTold(boot=boot_id, status=message.status, at=message.at))

    def renewed(message: LeaseRenewed) -> None:
        world = boot.world
        left_s = world.lease_left_s() if world.tables.lease.holder == boot_id else 0.0
        for_s = message.deadline_s - boot.monotonic()
        tell(steps.LeaseBelieved(boot=boot_id, for_s=for_s, left_s=left_s, given_back=boot.gave_back))

    return {
        Approved: approved,
        GateChanged: gate,
        Notice: notice,
        PositionSynced: synced,
        LeaseRenewed: renewed,
    }


class BootLog:
    """Keeps nothing but tells of actors that failed."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot

    def of(self, name: str) -> _ActorLog:
        return _ActorLog(self._boot, name)


class _ActorLog(NullLog):
    def __init__(self, boot: Boot, name: str) -> None:
        self._boot = boot
        self._name = name

    def error(self, event: str, **fields: Any) -> None:
        boot = self._boot
        if event == "actor_failed":
            injected, boot.injected = boot.injected, False
            error = str(fields.get("error", ""))
            boot.world.tell(steps.ActorFailed(boot=boot.boot_id, actor=self._name, error=error, injected=injected))


@contextmanager
def moves_told(tell: Callable[[str, Any, Any], None]) -> Iterator[None]:
    """Tell each use of a row of the order table: (event, state before, state after or None)."""
    move = order_rules._move
    table = order_rules.TABLE

    def told(state: Any, event: Any, now: Any, **more: Any) -> Any:
        after = move(state, event, now, **more)
        if after is not None or (state.status, event) in table:
            tell(event._value_, state, after)
        return after

    order_rules._move = told
    try:
        yield
    finally:
        order_rules._move = move
