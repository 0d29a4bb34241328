"""``tbh bot``: see how bots stand, steer them, record what a person has traded. ``create`` is in ``bot_create.py``."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from tbh.cli.bot_view import columns, controls_line, since
from tbh.cli.operators import as_uuid, bot_id_of, operator_rpc, print_json
from tbh.cli.parser import EXIT_USAGE, CommandError
from tbh.infra.operator_rpc import OperatorRpc
from tbh.infra.statedir import StatePaths
from tbh.ports import Unknown

LOCAL_ACTIONS = ("kill", "release")
STATE_DIR_DEFAULT = "state"


def run_list(args: argparse.Namespace) -> int:
    """One line for each bot."""
    with operator_rpc() as rpc:
        answer = rpc.call("bot_admin_list")
    if args.json:
        print_json(answer)
        return 0
    rows = [
        (
            bot["id"],
            bot["name"],
            bot["mode"],
            bot["exchange"],
            ",".join(bot["symbols"]),
            "inactive" if not bot["active"] else controls_line(bot["controls"]),
            since(bot["state"]),
        )
        for bot in answer["bots"]
    ]
    for line in columns(("id", "name", "mode", "exchange", "symbols", "controls", "heartbeat"), rows):
        print(line)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Everything about one bot."""
    with operator_rpc() as rpc:
        shown = rpc.call("bot_admin_show", bot_id=bot_id_of(rpc, args.bot), limit=args.limit)
    if args.json:
        print_json(shown)
    elif sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb"):
        from tbh.cli.bot_table import print_bot  # noqa: PLC0415 - rich is for terminals only

        print_bot(shown)
    else:
        from tbh.cli.bot_view import lines  # noqa: PLC0415 - the twin of the above

        for line in lines(shown):
            print(line)
    return 0


def run_trade(args: argparse.Namespace) -> int:
    """Record a trade that a person made on the bot's account. The same ``--id`` again changes nothing."""
    payload = {
        "client_order_id": args.id or f"manual-{uuid.uuid4()}",
        "symbol": args.symbol,
        "side": args.side,
        "qty": format(args.qty, "f"),
        "price": format(args.price, "f"),
    }
    payload |= {
        name: value
        for name, value in (("exchange_order_id", args.exchange_order_id), ("reason", args.reason))
        if value is not None
    }
    with operator_rpc(asking=f"--id {payload['client_order_id']}") as rpc:
        row = rpc.call("bot_admin_trade", bot_id=bot_id_of(rpc, args.bot), payload=payload)
    if args.json:
        print_json(row)
    else:
        told = f"{args.side} {payload['qty']} {args.symbol} at {payload['price']}"
        print(f"recorded: {told}, as {payload['client_order_id']}; nothing was sent to the exchange")
    return 0


def run_control(args: argparse.Namespace) -> int:
    """Tell a bot what its operator wants of it; with ``--local`` by a file, without any database."""
    if args.local:
        return _control_locally(args)
    if args.dir is not None:
        raise CommandError("--dir goes with --local; leave it out, or add --local", exit_code=EXIT_USAGE)
    request_id = args.request_id or f"cli-{uuid.uuid4()}"
    with operator_rpc(asking=f"repeat it with --request-id {request_id}") as rpc:
        bot_id = bot_id_of(rpc, args.bot)
        wanted = {"bot_id": bot_id, "action": args.action, "reason": args.reason, "request_id": request_id}
        answer = said_twice_if_need_be(rpc, wanted)
    facts = {"bot_id": bot_id, "action": args.action, "request_id": request_id, **answer}
    if args.json:
        print_json(facts)
    else:
        print(f"{args.action}: version {answer['version']} of the controls ({controls_line(answer['controls'])})")
        print("the bot takes it with its next heartbeat and acknowledges the version: tbh bot show")
    return 0


def said_twice_if_need_be(rpc: OperatorRpc, wanted: dict[str, Any]) -> dict[str, Any]:
    """A lost answer is asked for again: the request id makes sure that the bot is told once."""
    try:
        return rpc.call("bot_admin_control", **wanted)
    except Unknown:
        return rpc.call("bot_admin_control", **wanted)


def _control_locally(args: argparse.Namespace) -> int:
    if args.action not in LOCAL_ACTIONS:
        raise CommandError(
            f"--local: {args.action} needs the database; only {' and '.join(LOCAL_ACTIONS)} work without",
            exit_code=EXIT_USAGE,
        )
    paths = StatePaths(args.dir or Path(os.environ.get("TBH_STATE_DIR", "").strip() or STATE_DIR_DEFAULT))
    if not paths.root.is_dir():
        raise CommandError(f"{paths.root}: no such state directory; name the bot's own with --dir")
    try:
        if args.action == "kill":
            paths.mark_killed(args.reason or "killed by its operator")
        else:
            paths.clear_killed()
    except OSError as error:
        raise CommandError(f"{paths.kill}: can't be changed ({error.strerror}); check the rights") from error
    facts = {"bot": args.bot, "action": args.action, "killed": paths.killed, "file": str(paths.kill)}
    bot_id = as_uuid(args.bot)
    if bot_id is not None:
        facts["bot_id"] = bot_id
    if args.json:
        print_json(facts)
    elif paths.killed:
        print(f"killed by {paths.kill}; 'release --local' takes it back")
    else:
        print(f"released: there is no {paths.kill} any more")
    return 0
