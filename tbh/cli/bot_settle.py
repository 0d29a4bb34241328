"""``tbh bot adopt`` and ``resolve``: what a bot can't settle by itself, settled by its operator.

The bot reads a request with its next heartbeat, carries it out once and acknowledges the version. What came of it is an
event, which ``tbh status`` shows.
"""

from __future__ import annotations

import argparse
import uuid
from typing import Any

from tbh.cli.bot import said_twice_if_need_be
from tbh.cli.bot_view import controls_line
from tbh.cli.operators import bot_id_of, operator_rpc, print_json


def run_adopt(args: argparse.Namespace) -> int:
    """Have the bot's book follow the exchange's position."""
    return _ask(args, {"action": "adopt"}, "the book follows the exchange once two of its answers agree")


def run_resolve(args: argparse.Namespace) -> int:
    """Have an order of unknown outcome end as the operator says."""
    wanted = {"action": "resolve", "client_order_id": args.order, "outcome": args.outcome}
    return _ask(args, wanted, f"{args.order} ends as {args.outcome}, if it is still unknown")


def _ask(args: argparse.Namespace, wanted: dict[str, Any], then: str) -> int:
    request_id = args.request_id or f"cli-{uuid.uuid4()}"
    with operator_rpc(asking=f"repeat it with --request-id {request_id}") as rpc:
        bot_id = bot_id_of(rpc, args.bot)
        wanted |= {"bot_id": bot_id, "reason": args.reason, "request_id": request_id}
        answer = said_twice_if_need_be(rpc, wanted)
    facts = {"bot_id": bot_id, "action": wanted["action"], "request_id": request_id, **answer}
    if args.json:
        print_json(facts)
    else:
        print(f"{wanted['action']}: version {answer['version']} of the controls ({controls_line(answer['controls'])})")
        print(f"with its next heartbeat: {then}; what came of it: tbh status {args.bot}")
    return 0
