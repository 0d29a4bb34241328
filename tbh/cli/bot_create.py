"""``tbh bot create``: whatever can be refused is refused here, before the database is asked for anything."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tbh.cli.bot_options import PAPER, check_exchange, exchange_options, json_object, read_settings
from tbh.cli.operators import exports, failures_told, operator_rpc, print_json
from tbh.cli.parser import EXIT_USAGE, CommandError, symbol
from tbh.cli.strategy import is_name, load_definition
from tbh.infra.crypto import seal

CREDENTIALS = {
    "api_key": "EXCHANGE_API_KEY",
    "api_secret": "EXCHANGE_API_SECRET",
    "api_passphrase": "EXCHANGE_API_PASSPHRASE",
}
"""The names under which credentials are sealed and read from stdin, and those in the environment."""

CREDENTIALS_NEEDED = ("api_key", "api_secret")
CREDENTIALS_KEY = "TBH_CREDENTIALS_KEY"
CREDENTIALS_BYTES_MAX = 16_384
SYMBOLS_MAX = 100

_NAME = re.compile(r"\S(.{0,126}\S)?")


def run(args: argparse.Namespace) -> int:
    """Make a bot with its runtime token, which is shown this once."""
    _check_words(args)
    _check_strategy(args.strategy)
    definition = load_definition(args.strategy, any_code=False)
    now = datetime.now(UTC)
    bot_id = str(uuid.uuid4())
    payload: dict[str, Any] = {
        "name": args.name,
        "exchange": args.exchange,
        "symbols": symbols_of(args.symbols),
        "strategy": json.loads(definition.canonical_json()),
        "fingerprint": definition.fingerprint(),
        "mode": args.mode,
        "polling_tier": args.tier,
        "exchange_options": exchange_options(
            args.exchange_options, exchange=args.exchange, timeframe_s=definition.timeframe_s, now=now
        ),
        "settings": {} if args.settings is None else read_settings(args.settings),
        "ttl_s": args.ttl,
    }
    if args.mode == "live":
        payload["ciphertext"] = _sealed(args, os.environ, bot_id=bot_id)
    with operator_rpc(asking=f"the bot would be {bot_id}") as rpc:
        made = rpc.call("bot_admin_create", bot_id=bot_id, payload=payload)
    if args.json:
        print_json({name: made[name] for name in ("bot_id", "runtime_token", "epoch", "expires_at")})
    else:
        print(f"# {args.name}: {args.mode} bot on {args.exchange}, epoch {made['epoch']}")
        print(f"# Its token is shown this once and is good until {made['expires_at']}.")
        print(exports(BOT_ID=made["bot_id"], RUNTIME_TOKEN=made["runtime_token"]))
    return 0


def symbols_of(text: str) -> list[str]:
    """The symbols in a list with commas, each once. ``CommandError`` (64) for one that is none."""
    found = [each.strip() for each in text.split(",")]
    for each in found:
        try:
            symbol(each)
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"--symbols {error}", exit_code=EXIT_USAGE) from error
    if len(set(found)) < len(found) or len(found) > SYMBOLS_MAX:
        raise CommandError(f"--symbols {text}: must name 1 to {SYMBOLS_MAX} symbols, each once", exit_code=EXIT_USAGE)
    return found


def _check_words(args: argparse.Namespace) -> None:
    if not (_NAME.fullmatch(args.name) and args.name.isprintable()):
        raise CommandError(f"--name {args.name!r}: must be 1 to 128 characters in one line", exit_code=EXIT_USAGE)
    check_exchange(args.exchange)
    if args.mode == "live" and args.exchange == PAPER:
        raise CommandError(
            "--mode live: the paper exchange has no live account; use --mode paper", exit_code=EXIT_USAGE
        )
    if args.mode == "paper" and args.credentials_stdin:
        raise CommandError("--credentials-stdin: a paper bot needs no credentials; leave it out", exit_code=EXIT_USAGE)


def _check_strategy(given: Path) -> None:
    """A name works for ``tbh demo``, but says too little here: no timeframe, no parameters."""
    if is_name(given):
        told = (
            'a bot is given a file that holds {"custom": "NAME", "timeframe": "1m"}, and runs installed strategies only'
        )
        raise CommandError(f"--strategy {given}: {told}", exit_code=EXIT_USAGE)


def _sealed(args: argparse.Namespace, environ: Mapping[str, str], *, bot_id: str) -> str:
    if args.credentials_stdin:
        credentials = _from_stdin()
        missing = [f"{name} (on stdin)" for name in CREDENTIALS_NEEDED if not credentials.get(name)]
    else:
        given = {name: environ.get(variable, "").strip() for name, variable in CREDENTIALS.items()}
        credentials = {name: value for name, value in given.items() if value}
        missing = [CREDENTIALS[name] for name in CREDENTIALS_NEEDED if name not in credentials]
    key = environ.get(CREDENTIALS_KEY, "").strip()
    if not key:
        missing.append(f"{CREDENTIALS_KEY} (make one with 'openssl rand -hex 32', and keep it for the bot)")
    if missing:
        raise CommandError(f"a live bot needs {', '.join(missing)}; set what is missing")
    with failures_told():
        return seal(credentials, key, bot_id=bot_id)


def _from_stdin() -> dict[str, str]:
    what = "the credentials on stdin"
    if sys.stdin.isatty():
        raise CommandError(f"{what}: nobody types secrets here; pipe them in as JSON", exit_code=EXIT_USAGE)
    found = json_object(sys.stdin.buffer.read(CREDENTIALS_BYTES_MAX + 1), what, bytes_max=CREDENTIALS_BYTES_MAX)
    # Names and values alike may be secrets that stand in the wrong place: none is repeated.
    if not (found.keys() <= CREDENTIALS.keys() and all(isinstance(value, str) for value in found.values())):
        raise CommandError(
            f"{what}: must be texts named {', '.join(CREDENTIALS)} and nothing else", exit_code=EXIT_USAGE
        )
    return {name: value.strip() for name, value in found.items() if value.strip()}
