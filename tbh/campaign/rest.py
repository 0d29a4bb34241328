"""Whether a world has come to rest, and the whole picture once it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbh.domain.money import ZERO
from tbh.messages.account import Position, SyncStatus
from tbh.messages.orders import Order, OrderStatus
from tbh.simulation import steps
from tbh.simulation.at_rest import out_of_reach

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot
    from tbh.campaign.world import World

_STANDING = (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)


def unsettled(world: World) -> str | None:
    """What is still under way, the first of it; None at rest."""
    boot = last_boot(world)
    if boot is None or boot.tree is None:
        return "no process has come up"
    if len(world.living) > 1:
        return f"{len(world.living)} processes live"
    standing = {order.client_order_id for order in _ours(world)}
    store = boot.disk.store
    for state in store.orders(open_only=True):
        client_order_id = state.order.client_order_id
        if state.status not in _STANDING or not state.order.purpose.is_protection:
            return f"{state.order.purpose} {client_order_id} is {state.status}"
        if client_order_id not in standing:
            return f"{state.order.purpose} {client_order_id} is {state.status} and not on the book"
        standing.discard(client_order_id)
    position = book_of(boot)
    history = world.watch.history
    if strays := standing - history.lied_about - out_of_reach(history, position, _ours(world)):
        return f"on the exchange and not in the store: {sorted(strays)}"
    held = ZERO if position is None else position.qty
    if held != world.floor.venue.qty:
        return f"the book says {held}, the exchange {world.floor.venue.qty}"
    if pending := store.counts().pending:
        return f"{pending} entries are not in the database"
    return None


def last_boot(world: World) -> Boot | None:
    """The process that has the bot."""
    return world.living[-1] if world.living else None


def actor_of(boot: Boot, name: str) -> Any:
    """The actor as it lives in the process's tree; None when it does not."""
    cell = None if boot.tree is None else boot.tree.cell(name)
    return None if cell is None else cell.actor


def book_of(boot: Boot) -> Position | None:
    """The position by the process's own book."""
    manager = actor_of(boot, "order_manager")
    position: Position | None = None if manager is None else manager._book.position
    return position


def at_rest(world: World, reason: str | None) -> steps.AtRest:
    """The whole picture; ``reason`` is what kept it from coming to rest."""
    venue, tables = world.floor.venue, world.tables
    boot = last_boot(world)
    return steps.AtRest(
        venue=steps.VenueRest(qty=venue.qty, cash=venue.cash, standing=tuple(_ours(world))),
        bot=None if boot is None else _bot(world, boot, reason),
        database=steps.DatabaseRest(
            trades=tables.trades,
            fills=tables.fills,
            positions={symbol: row for (symbol, _), row in tables.positions.items()},
            flatten_version=tables.controls.flatten_version,
        ),
    )


def _bot(world: World, boot: Boot, reason: str | None) -> steps.BotRest:
    store = boot.disk.store
    accountant = actor_of(boot, "accountant")
    return steps.BotRest(
        boot=boot.boot_id,
        unsettled=reason,
        orders=tuple(store.orders()),
        fills=tuple(store.fills()),
        position=book_of(boot),
        cash=None if accountant is None or accountant._heard is not None else accountant._account.cash,
        sync_status=world.watch.history.believed.get(boot.boot_id, SyncStatus.UNKNOWN),
        gate=boot.gate,
        pending=store.counts().pending,
        last_seq=store.last_seq,
        undelivered=_undelivered(boot),
    )


def _undelivered(boot: Boot) -> frozenset[str]:
    notifier = actor_of(boot, "notifier")
    queues = () if notifier is None else notifier._queues
    return frozenset(notice.key for queue in queues for notice in (*queue._critical, *queue._routine))


def _ours(world: World) -> list[Order]:
    return [order for order in world.floor.venue.standing() if world.floor.is_ours(order.client_order_id)]
