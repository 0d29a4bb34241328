"""``tbh status``: how one bot stands, at a glance, and what its last start has found."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from tbh.cli.bot_view import Facts, controls_line, event_line, finding_lines, position_line, since
from tbh.cli.operators import bot_id_of, operator_rpc, print_json

ORDERS_READ = 100
EVENTS_SHOWN = 5
DONE = frozenset({"filled", "canceled", "expired", "rejected", "absent", "simulated"})
GATE_HELP = {
    "position_mismatch": "tbh bot adopt",
    "order_unknown": "an order is being looked for",
    "observe_only": "see the events; tbh bot resolve",
    "paused": "tbh bot control resume",
    "killed": "tbh bot control release",
}


def run(args: argparse.Namespace) -> int:
    """A line each for phase, gate, position, orders and controls, then what was found last."""
    with operator_rpc() as rpc:
        shown = rpc.call("bot_admin_show", bot_id=bot_id_of(rpc, args.bot), limit=str(ORDERS_READ))
    told = facts(shown)
    if args.json:
        print_json(told)
    else:
        for line in lines(told):
            print(line)
    return 0


def facts(shown: Facts) -> dict[str, Any]:
    """What ``--json`` prints, from the answer of ``bot_admin_show``."""
    state = shown["state"] or {}
    events = shown["events"]
    recovery = next((event for event in events if event["kind"] == "recovery"), None)
    return {
        "bot_id": shown["bot"]["id"],
        "name": shown["bot"]["name"],
        "phase": phase(shown),
        "heartbeat": since(shown["state"]),
        "heartbeat_age_s": state.get("heartbeat_age_s"),
        "gate": state.get("gate") or [],
        "position_sync": state.get("exchange_sync_status"),
        "positions": shown["positions"],
        "open_orders": [order for order in shown["orders"] if order["status"] not in DONE],
        "controls": shown["controls"],
        "recovery": recovery,
        "adjustments": shown["adjustments"],
        "events": [event for event in events if event["kind"] != "recovery"][:EVENTS_SHOWN],
    }


def phase(shown: Facts) -> str:
    """``never started``, ``stopped``, ``silent`` (its lease has run out), ``gated`` or ``trading``."""
    if shown["state"] is None:
        return "never started"
    if not shown["lease"]["held"]:
        return "silent" if shown["lease"]["boot_id"] is not None else "stopped"
    return "gated" if shown["state"]["gate"] else "trading"


def lines(told: Facts) -> Iterator[str]:
    """The same for people."""
    gate = told["gate"]
    why = [f"{reason} ({GATE_HELP[reason]})" if reason in GATE_HELP else str(reason) for reason in gate]
    orders = [f"{order['event']} {order['side']} {order['qty']} {order['status']}" for order in told["open_orders"]]
    rows = [
        ("bot", f"{told['name']} ({told['bot_id']}), {told['phase']}, heartbeat {told['heartbeat']}"),
        ("gate", ", ".join(why) or "open"),
        ("position", "; ".join(map(position_line, told["positions"])) or "flat"),
        ("compared", told["position_sync"] or "not yet"),
        ("orders", "; ".join(orders) or "none open"),
        ("controls", controls_line(told["controls"])),
    ]
    yield from (f"{label:<13} {text}" for label, text in rows)
    for place, line in enumerate(finding_lines(told["recovery"])):
        yield f"{'last start' if not place else '':<13} {line}"
    for place, event in enumerate(told["events"]):
        yield f"{'events' if not place else '':<13} {event_line(event)}"
