"""``tbh status``: how one bot stands: which entries were refused, why it ended, what a start found last."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tbh.cli.bot_view import Facts, controls_line, event_line, finding_lines, position_line, second, since
from tbh.cli.operators import bot_id_of, operator_rpc, print_json
from tbh.cli.parser import one_line

ORDERS_READ = 100
EVENTS_SHOWN = 5
ENTRIES_JUDGED = 10
ENDED = ("stopped", "silent", "never started")
DONE = frozenset({"filled", "canceled", "expired", "rejected", "absent", "simulated"})
GATE_HELP = {
    "position_mismatch": "tbh bot adopt",
    "order_unknown": "an order is being looked for",
    "observe_only": "see the events; tbh bot resolve",
    "paused": "tbh bot control resume",
    "killed": "tbh bot control release",
}


def run(args: argparse.Namespace) -> int:
    """A line each for phase, gate, entries, position, orders and controls, then what was found last."""
    with operator_rpc() as rpc:
        shown = rpc.call("bot_admin_show", bot_id=bot_id_of(rpc, args.bot), limit=str(ORDERS_READ))
    told = facts(shown)
    if args.json:
        print_json(told)
    else:
        for line in lines(told):
            print(one_line(line))
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
        "ended": ended(shown),
        "gate": state.get("gate") or [],
        "entries": entries(shown),
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


def entries(shown: Facts) -> dict[str, Any]:
    """What risk has said to the last entries and additions, ``decided`` of them: how many were ``refused``, by which
    ``rules`` how often, and the last such decision or None."""
    judged: dict[str, Facts] = {}
    for one in reversed(shown.get("decisions", ())):
        judged.setdefault(one["proposal_id"], one)  # of one that was judged twice the first word counts
    newest = list(reversed(judged.values()))[:ENTRIES_JUDGED]
    refused = [one for one in newest if one["verdict"] == "refused"]
    return {
        "decided": len(newest),
        "refused": len(refused),
        "rules": dict(Counter(str(one["rule"]) for one in refused).most_common()),
        "last_refused": refused[0] if refused else None,
    }


def ended(shown: Facts) -> Facts | None:
    """The notice that says why a bot that runs no more has stopped itself, or could not start: None when it was told to
    stop, was killed, or runs."""
    if phase(shown) not in ENDED:
        return None
    last_boot = None
    for notice in shown.get("notices", ()):
        boot = str(notice["key"]).rpartition(":")[2]
        # What a short life has said at its beginning may arrive after what it said at its end.
        if notice["exit_code"] is not None and last_boot in (None, boot):
            return dict(notice)
        if notice["kind"] == "started":
            if last_boot is not None:
                break
            last_boot = boot
    return None


def lines(told: Facts) -> Iterator[str]:
    """The same for people."""
    gate = told["gate"]
    why = [f"{reason} ({GATE_HELP[reason]})" if reason in GATE_HELP else str(reason) for reason in gate]
    orders = [f"{order['event']} {order['side']} {order['qty']} {order['status']}" for order in told["open_orders"]]
    rows = [
        ("bot", f"{told['name']} ({told['bot_id']}), {told['phase']}, heartbeat {told['heartbeat']}"),
        *([("ended", _ended_line(told["ended"]))] if told["ended"] else []),
        ("gate", ", ".join(why) or "open"),
        *([("entries", _entries_line(told["entries"]))] if told["entries"]["refused"] else []),
        ("position", "; ".join(map(position_line, told["positions"])) or "flat"),
        ("compared", told["position_sync"] or "not yet"),
        ("orders", "; ".join(orders) or "none open"),
        ("controls", controls_line(told["controls"])),
    ]
    yield from (f"{label:<13} {text}" for label, text in rows)
    for place, line in enumerate(finding_lines(told["recovery"])):
        yield f"{'last found' if not place else '':<13} {line}"
    for place, event in enumerate(told["events"]):
        yield f"{'events' if not place else '':<13} {event_line(event)}"


def _ended_line(notice: Facts) -> str:
    return f"{second(notice['at'])}, exit {notice['exit_code']}: {notice['text']}"


def _entries_line(entries: Facts) -> str:
    rules = ", ".join(f"{rule} ({count})" for rule, count in entries["rules"].items())
    last = entries["last_refused"]
    told = f"refused {entries['refused']} of the last {entries['decided']}: {rules}"
    return f"{told}; last on the bar of {second(last['bar_open'])}: {last['rule']} ({last['detail']})"
