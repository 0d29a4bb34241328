"""``tbh token``: a new token for a bot's runtime, or an end to the one it has."""

from __future__ import annotations

import argparse

from tbh.cli.operators import bot_id_of, exports, operator_rpc, print_json


def run_issue(args: argparse.Namespace) -> int:
    """Register the bot's runtime anew: a new token, shown this once; the former one dies and the lease is free."""
    with operator_rpc(asking="a token that nobody saw is replaced by issuing another one") as rpc:
        bot_id = bot_id_of(rpc, args.bot)
        made = rpc.call(
            "bot_runtime_register",
            bot_id=bot_id,
            provider=args.provider,
            region=args.region,
            machine_id=args.machine,
            **({} if args.ttl is None else {"ttl_s": args.ttl}),
        )
    if args.json:
        print_json({name: made[name] for name in ("bot_id", "runtime_token", "epoch", "expires_at")})
    else:
        print(f"# epoch {made['epoch']}; the former token is dead, this one is good until {made['expires_at']}")
        print(exports(BOT_ID=made["bot_id"], RUNTIME_TOKEN=made["runtime_token"]))
    return 0


def run_revoke(args: argparse.Namespace) -> int:
    """End the runtime's token: whatever runs with it protects its position and stops."""
    with operator_rpc() as rpc:
        done = rpc.call("bot_runtime_revoke", bot_id=bot_id_of(rpc, args.bot), reason=args.reason)
    if args.json:
        print_json(done)
    else:
        print(f"revoked at {done['revoked_at']}; 'tbh token issue' makes a new one")
    return 0
