"""How a session ends when it can't go on: the supervisor over its tree, and the lease given back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tbh.actors.supervisor import Outside, Supervisor
from tbh.messages.market import Market
from tbh.plan import PaperPlan
from tbh.ports import Exchange, Failure, Rpc, Store
from tbh.runtime.actor import Log
from tbh.wires import Borrowed


def supervisor_of(
    plan: PaperPlan,
    *,
    boot_id: str,
    market: Market,
    exchange: Exchange,
    rpc: Rpc,
    store: Store,
    host: Any,
    now: Callable[[], datetime],
    log: Log,
) -> Supervisor:
    """The supervisor of a session's tree. The paper account is in this process, so it borrows the exchange as it is."""

    def drain(name: str, timeout_s: float) -> bool:
        if plan.host == "threads":
            return bool(host.wait_drained(name, timeout_s))
        cell = next(cell for cell in host.cells if cell.name == name)
        host.run(for_s=timeout_s, done=lambda: cell.settled)
        return bool(cell.settled)

    outside = Outside(
        exchange=lambda: Borrowed(exchange),
        rpc=lambda: rpc,
        store=store.reader,
        halt=host.halt,
        drain=drain,
        now=now,
    )
    return Supervisor(
        bot_id=plan.bot.bot_id, boot_id=boot_id, market=market, policy=plan.policy, outside=outside, log=log
    )


def release_lease(rpc: Rpc, exit_code: int, log: Log) -> None:
    """The last actor has stopped, so that a rival may have the bot; one that has it already (75) needs no release."""
    if exit_code == 75:
        return
    try:
        rpc.release()
    except Failure as failure:
        log.warning("lease_not_released", reason=str(failure))
