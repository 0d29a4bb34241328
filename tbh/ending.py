"""How a session ends when it can't go on: the supervisor over its tree, and the lease given back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from tbh.actors.supervisor import Outside, Supervisor
from tbh.messages.market import Market
from tbh.messages.orders import WithdrawEntries
from tbh.plan import Plan
from tbh.ports import Exchange, Failure, Rpc, Store
from tbh.runtime.actor import Log
from tbh.runtime.within import within

RELEASE_S = 2.0
WITHDRAW_S, WITHDRAW_LOOK_S = 2.5, 0.1
SENDERS = frozenset({"gateway", "order_manager"})


def supervisor_of(
    plan: Plan,
    *,
    boot_id: str,
    market: Market,
    exchange: Callable[[], Exchange],
    rpc: Rpc,
    store: Store,
    host: Any,
    now: Callable[[], datetime],
    log: Log,
    lease_holds: Callable[[], bool],
) -> Supervisor:
    """The supervisor of a session's tree. ``exchange`` opens a connection of its own; without the lease a
    position is guarded and no more."""

    def drain(name: str, timeout_s: float) -> bool:
        if plan.host == "threads":
            return bool(host.wait_drained(name, timeout_s))
        cell = next(cell for cell in host.cells if cell.name == name)
        host.run(for_s=timeout_s, done=lambda: cell.settled)
        return bool(cell.settled)

    outside = Outside(
        exchange=exchange,
        rpc=lambda: rpc,
        store=store.reader,
        halt=host.halt,
        drain=drain,
        now=now,
        lease_holds=lease_holds,
    )
    return Supervisor(
        bot_id=plan.bot.bot_id, boot_id=boot_id, market=market, policy=plan.policy, outside=outside, log=log
    )


def withdraw_entries(host: Any, store: Store, log: Log) -> None:
    """Have the order manager take off what rests to open a position, and wait for its end: once the bot is away nobody
    would guard what fills. What has not ended within ``WITHDRAW_S`` is left, and the log says so."""
    deadline_s = time.monotonic() + WITHDRAW_S
    while resting := [one for one in store.orders(open_only=True) if one.order.good_until is not None]:
        if time.monotonic() > deadline_s or host.escalation is not None:
            log.warning("entries_left_resting", orders=[one.order.client_order_id for one in resting])
            return
        host.publish(WithdrawEntries(reason="the bot stops"))
        time.sleep(WITHDRAW_LOOK_S)


def release_lease(rpc: Rpc, exit_code: int, log: Log, *, left_behind: Sequence[str]) -> None:
    """Let a rival have the bot at once. Not if it has it already (75), and not while an actor that may still send an
    order has not stopped: then the lease ends by itself, after what is under way has."""
    if exit_code == 75 or SENDERS & set(left_behind):
        return
    try:
        within(RELEASE_S, rpc.release)
    except (Failure, TimeoutError) as failure:
        log.warning("lease_not_released", reason=str(failure))
