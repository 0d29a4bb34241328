"""The part of the command line for databases: ``tbh local`` and ``tbh db``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from tbh.cli.parser import path, whole

PORT_MAX = 65_535
PID_MAX = 2**31 - 1
NAME_LENGTH_MAX = 128
OPERATOR_ROLES = ("admin", "operator", "auditor", "viewer")

_UP_EXAMPLES = """examples:
  tbh local up                        stop it with Ctrl-C; what is in it stays
  tbh local up --dir ~/try --port 0   a second one beside it

Bots and operators use it as they use a hosted project:
  eval "$(tbh local env)"             in the shell that starts a bot
  eval "$(tbh local env --operator)"  in the shell of an operator; a bot refuses to start there

Only this machine can reach it, and only you its files."""

_MIGRATE_EXAMPLES = """examples:
  DATABASE_URL=postgresql://postgres@db.example.com:5432/postgres tbh db migrate
  tbh db migrate --url 'host=/run/postgresql dbname=tbh' --json

A password in an argument is visible to every user of this machine: put the URL in DATABASE_URL or SUPABASE_DB_URL, or
leave the password out and set PGPASSWORD. tbh local up migrates its own database."""

_URL = "the database, as its owner (default: DATABASE_URL, then SUPABASE_DB_URL)"

Add = Callable[..., argparse.ArgumentParser]
Group = Callable[..., Any]


def add_database_commands(commands: Any, *, group: Group, add: Add) -> None:
    """Add them to ``commands``; ``group`` and ``add`` make a command with verbs, and one that does something."""
    _add_local(group(commands, "local", does="run a database on this machine", example="tbh local up"), add)
    _add_db(group(commands, "db", does="prepare a database for bots", example="tbh db migrate"), add)


def _add_local(verbs: Any, add: Add) -> None:
    up = add(
        verbs,
        "up",
        run="local:run_up",
        does="run PostgreSQL and its RPC gateway until Ctrl-C or SIGTERM",
        examples=_UP_EXAMPLES,
    )
    up.add_argument(
        "--port",
        metavar="P",
        type=whole(0, PORT_MAX),
        help="serve here, 0 for any that is free (default: where it served last, at first 54321 or any)",
    )
    up.add_argument(
        "--with-parent",
        metavar="PID",
        nargs="?",
        const=0,
        type=whole(1, PID_MAX),
        help="end when the process that started this one has gone; PID names it, if it may go before this has begun",
    )
    env = add(
        verbs,
        "env",
        run="local:run_env",
        does="print what to export to use the running one",
        examples='  eval "$(tbh local env)"',
    )
    env.add_argument(
        "--operator", action="store_true", help="with TBH_OPERATOR_TOKEN, which a bot must not find in its environment"
    )
    down = add(verbs, "down", run="local:run_down", does="stop the running one", examples="  tbh local down")
    for each in (up, env, down):
        each.add_argument(
            "--dir", metavar="DIR", type=path, help="where it keeps everything (default: ~/.local/state/tbh/local)"
        )


def _add_db(verbs: Any, add: Add) -> None:
    migrate = add(
        verbs,
        "migrate",
        run="db:run_migrate",
        does="bring a database up to date, each migration once",
        examples=_MIGRATE_EXAMPLES,
    )
    migrate.add_argument(
        "--migrations", metavar="DIR", type=path, help="a folder of <digits>_<name>.sql (default: the project's own)"
    )
    operator = add(
        verbs,
        "operator",
        run="db:run_operator",
        does="make an operator's token and print it, this once",
        examples="  DATABASE_URL=postgresql://... tbh db operator --name alice --role operator",
    )
    operator.add_argument("--name", metavar="N", type=_name, required=True, help="whose token it is")
    operator.add_argument("--role", choices=OPERATOR_ROLES, required=True, help="what it allows")
    for each in (migrate, operator):
        each.add_argument("--url", metavar="URL", help=_URL)


def _name(text: str) -> str:
    if not 0 < len(text.strip()) <= NAME_LENGTH_MAX or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: must be 1 to {NAME_LENGTH_MAX} printable characters")
    return text.strip()
