"""The operator's part of the command line: ``tbh bot``, ``tbh token`` and ``tbh dead-letters``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tbh.cli.parser import path, symbol, whole

TTL_S_MAX = 31_536_000
ROWS_MAX = 1_000
ID_MAX = 10**18 - 1
TIERS = ("fast_5s", "ultra_15s", "fast_30s", "standard")
OUTCOMES = ("absent", "canceled", "expired", "rejected", "filled")
ACTIONS = ("pause", "resume", "kill", "release", "flatten")

_BOT = "its id, or its name when no other bot has it"
_ENVIRONMENT = (
    "The database is the one of SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY; TBH_OPERATOR_TOKEN says who asks."
)

_CREATE_EXAMPLES = """examples:
  tbh bot create --name trend --exchange paper --symbols BTC/USDT --strategy my.json --mode paper
  tbh bot create --name trend --exchange binance --symbols BTC/USDT,ETH/USDT --strategy my.json --mode live

A live bot's credentials come from EXCHANGE_API_KEY, EXCHANGE_API_SECRET and EXCHANGE_API_PASSPHRASE, or as JSON with
api_key, api_secret and api_passphrase on stdin; TBH_CREDENTIALS_KEY seals them before they leave this machine.
The paper exchange takes the options account, candles, bars_per_second, opened_at, cash, fee and seed."""

_AMOUNT = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)

Add = Callable[..., argparse.ArgumentParser]
Group = Callable[..., Any]


def add_operator_commands(commands: Any, *, group: Group, add: Add) -> None:
    """Add them to ``commands``; ``group`` and ``add`` make a command with verbs, and one that does something."""
    verbs = group(commands, "bot", does="make, watch and steer bots (for operators)", example="tbh bot list")
    _add_create(verbs, add)
    _add_reading(verbs, add)
    _add_trade(verbs, add)
    _add_control(verbs, add)
    _add_settling(verbs, add)
    status = add(
        commands,
        "status",
        run="status:run",
        does="how a bot stands, at a glance: which entries were refused, why it ended, what a start found last",
        examples="  tbh status trend\n  tbh status trend --json",
    )
    _bot(status)
    _add_token(
        group(commands, "token", does="give a bot's runtime a token, or end it", example="tbh token issue trend"), add
    )
    _add_dead_letters(
        group(
            commands,
            "dead-letters",
            does="settle what the database would not take from a bot",
            example="tbh dead-letters list trend",
        ),
        add,
    )


def _add_create(verbs: Any, add: Add) -> None:
    create = add(verbs, "create", run="bot_create:run", does="make a bot with its token", examples=_CREATE_EXAMPLES)
    create.add_argument("--name", metavar="N", required=True, help="what to call it")
    create.add_argument("--exchange", metavar="X", required=True, help="paper, or an exchange as ccxt calls it")
    create.add_argument("--symbols", metavar="A[,B]", required=True, help="the markets, such as BTC/USDT")
    create.add_argument("--strategy", metavar="FILE", type=path, required=True, help="a definition in JSON")
    create.add_argument("--mode", choices=("paper", "live"), required=True, help="whether its orders are real")
    create.add_argument("--exchange-options", metavar="JSON", help="an object; for ccxt's constructor, or the paper's")
    create.add_argument("--settings", metavar="FILE", type=path, help="session settings, a JSON object")
    create.add_argument("--tier", choices=TIERS, default="standard", help="how often it reports (%(default)s)")
    create.add_argument("--credentials-stdin", action="store_true", help="read the exchange's credentials from stdin")
    _ttl(create)


def _add_reading(verbs: Any, add: Add) -> None:
    add(verbs, "list", run="bot:run_list", does="list the bots", examples=f"  tbh bot list --json\n\n{_ENVIRONMENT}")
    show = add(
        verbs,
        "show",
        run="bot:run_show",
        does="show a bot: state, lease, controls, health, position, orders, fills",
        examples="  tbh bot show trend --limit 20",
    )
    _bot(show)
    show.add_argument(
        "--limit",
        metavar="N",
        type=whole(1, ROWS_MAX),
        default=100,
        help="the newest N orders and fills of --json (%(default)s)",
    )


def _add_trade(verbs: Any, add: Add) -> None:
    trade = add(
        verbs,
        "trade",
        run="bot:run_trade",
        does="record a trade that a person made on the bot's account; nothing is sent to the exchange",
        examples="  tbh bot trade trend --side sell --symbol BTC/USDT --qty 0.5 --price 61200 --reason 'by hand'",
    )
    _bot(trade)
    trade.add_argument("--side", choices=("buy", "sell"), required=True)
    trade.add_argument("--symbol", metavar="S", type=symbol, required=True, help="one of the bot's markets")
    trade.add_argument("--qty", metavar="N", type=_amount, required=True, help="in base")
    trade.add_argument("--price", metavar="P", type=_amount, required=True, help="average, in quote")
    trade.add_argument("--exchange-order-id", metavar="ID", help="the exchange's name for the order")
    trade.add_argument(
        "--id", metavar="ID", help="a name of your own; the same again changes nothing (default: a new one)"
    )
    trade.add_argument("--reason", metavar="R", help="for the record, one line")


def _add_control(verbs: Any, add: Add) -> None:
    control = add(
        verbs,
        "control",
        run="bot:run_control",
        does="pause, resume, kill, release or flatten a bot",
        examples="  tbh bot control trend pause --reason 'exchange maintenance'\n"
        "  tbh bot control trend kill --local --dir /var/lib/tbh/trend",
    )
    _bot(control)
    control.add_argument(
        "action",
        choices=ACTIONS,
        metavar="|".join(ACTIONS),
        help="pause and resume entries; kill it (no entries until it is released, positions keep their protection);"
        " flatten: close its positions at market",
    )
    control.add_argument("--reason", metavar="R", help="for the audit log, one line")
    control.add_argument("--request-id", metavar="ID", help="names the request; a repeat is carried out once")
    control.add_argument(
        "--local", action="store_true", help="kill and release by a file on this machine, without the database"
    )
    control.add_argument(
        "--dir", metavar="STATE", type=path, help="with --local: the bot's state directory (default: TBH_STATE_DIR)"
    )


def _add_settling(verbs: Any, add: Add) -> None:
    adopt = add(
        verbs,
        "adopt",
        run="bot_settle:run_adopt",
        does="make a bot's book follow the exchange's position, by a correction that is no trade",
        examples="  tbh bot adopt trend --reason 'coins withdrawn by hand'",
    )
    _bot(adopt)
    adopt.add_argument("--reason", metavar="R", help="for the audit log and the correction, one line")
    resolve = add(
        verbs,
        "resolve",
        run="bot_settle:run_resolve",
        does="end an order whose outcome stays unknown, by your word",
        examples="  tbh bot resolve trend 0b3f7c6a695fc24001100012ab34cd56 --as absent --reason 'the exchange says so'",
    )
    _bot(resolve)
    resolve.add_argument("order", metavar="CLIENT_ORDER_ID", help="the order, as tbh bot show names it")
    resolve.add_argument("--as", dest="outcome", choices=OUTCOMES, required=True, help="how it has ended")
    resolve.add_argument(
        "--reason", metavar="R", required=True, help="how you know; it is the order's reason, one line"
    )
    for verb in (adopt, resolve):
        verb.add_argument("--request-id", metavar="ID", help="names the request; a repeat is carried out once")


def _add_token(verbs: Any, add: Add) -> None:
    issue = add(
        verbs,
        "issue",
        run="token:run_issue",
        does="give a bot's runtime a new token; the former one dies at once",
        examples="  tbh token issue trend --ttl 86400",
    )
    _bot(issue)
    _ttl(issue)
    issue.add_argument("--provider", metavar="P", help="who hosts the runtime")
    issue.add_argument("--region", metavar="R", help="where")
    issue.add_argument("--machine", metavar="M", help="on which machine")
    revoke = add(
        verbs,
        "revoke",
        run="token:run_revoke",
        does="end a bot's token; what runs with it protects its position and stops",
        examples="  tbh token revoke trend --reason 'machine lost'",
    )
    _bot(revoke)
    revoke.add_argument("--reason", metavar="R", required=True, help="for the audit log, one line")


def _add_dead_letters(verbs: Any, add: Add) -> None:
    listed = add(
        verbs,
        "list",
        run="dead_letters:run_list",
        does="list the entries of a bot that the database has refused for good",
        examples="  tbh dead-letters list trend --json",
    )
    _bot(listed)
    for name, does in (("retry", "apply one again"), ("drop", "give one up; it stays on record")):
        settle = add(
            verbs, name, run=f"dead_letters:run_{name}", does=does, examples=f"  tbh dead-letters {name} trend 17"
        )
        _bot(settle)
        settle.add_argument("id", metavar="ID", type=whole(1, ID_MAX), help="its number in the list")


def _bot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bot", metavar="BOT", help=_BOT)


def _ttl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ttl", metavar="S", type=whole(1, TTL_S_MAX), help="seconds that the token lives (default: 30 days)"
    )


def _amount(text: str) -> Decimal:
    """A quantity or price, as the database takes them: digits alone."""
    if not _AMOUNT.fullmatch(text) or not Decimal(text):
        raise argparse.ArgumentTypeError(f"{text[:64]!r}: must be a number above 0, written in digits")
    return Decimal(text)
