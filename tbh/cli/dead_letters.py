"""``tbh dead-letters``: what a bot told the database and the database refused for good."""

from __future__ import annotations

import argparse

from tbh.cli.bot_view import columns
from tbh.cli.operators import bot_id_of, operator_rpc, print_json

KEY_LENGTH_SHOWN = 40


def run_list(args: argparse.Namespace) -> int:
    """One line for each, the newest first."""
    with operator_rpc() as rpc:
        answer = rpc.call("bot_admin_dead_letters", bot_id=bot_id_of(rpc, args.bot), action="list")
    if args.json:
        print_json(answer)
        return 0
    if not answer["dead_letters"]:
        print("none: the database has taken everything")
        return 0
    rows = [
        (
            str(letter["id"]),
            letter["status"],
            letter["at"],
            letter["fn"] or "-",
            (letter["key"] or "-")[:KEY_LENGTH_SHOWN],
            letter["reason"],
        )
        for letter in answer["dead_letters"]
    ]
    for line in columns(("id", "status", "at", "function", "key", "reason"), rows):
        print(line)
    return 0


def run_retry(args: argparse.Namespace) -> int:
    """Apply one again; refused once more, it waits on."""
    return _settle(args, "retry")


def run_drop(args: argparse.Namespace) -> int:
    """Give one up; it stays on record."""
    return _settle(args, "drop")


def _settle(args: argparse.Namespace, action: str) -> int:
    with operator_rpc() as rpc:
        letter = rpc.call("bot_admin_dead_letters", bot_id=bot_id_of(rpc, args.bot), action=action, id=args.id)
    if args.json:
        print_json(letter)
    else:
        print(f"{letter['status']}: {letter['id']}, {letter['fn']} {letter['key']}")
    return 0
