"""``tbh db``: what the owner of a database does before bots can use it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tbh.cli.parser import CommandError
from tbh.ports import Unavailable

try:
    from tbh.infra.migrate import connect, migrate
    from tbh.infra.operator_tokens import new_operator_token, store_operator_token
except ModuleNotFoundError as error:
    raise CommandError(f"{error.name} is not installed, which tbh db needs: pip install 'tbh[local]'") from error

EXIT_UNREACHABLE = 69
URL_NAMES = ("DATABASE_URL", "SUPABASE_DB_URL")


def run_migrate(args: argparse.Namespace) -> int:
    """Apply what is missing and say so. 69 when the database can't be reached, 78 for files or a URL that can't be
    used, 70 for SQL that fails; the files before it stay applied."""
    with _unreachable_told():
        done = migrate(_url(args), args.migrations, report=None if args.json else lambda name: print(f"applied {name}"))
    if args.json:
        print(json.dumps({"applied": done.applied, "skipped": done.skipped}))
    else:
        print(f"up to date: {len(done.applied)} applied, {len(done.skipped)} were applied before")
    return 0


def run_operator(args: argparse.Namespace) -> int:
    """Make a token, store its digest, print the token. Exit codes as above."""
    token = new_operator_token()
    with _unreachable_told(), connect(_url(args)) as connection:
        store_operator_token(connection, token, name=args.name, role=args.role)
    if args.json:
        print(json.dumps({"name": args.name, "role": args.role, "token": token}))
        return 0
    print(token)
    print(f"tbh: that is the token of {args.role} {args.name}; it can't be shown again", file=sys.stderr)
    return 0


def _url(args: argparse.Namespace) -> str:
    found = args.url or next((value for name in URL_NAMES if (value := os.environ.get(name, "").strip())), None)
    if not found:
        raise CommandError("no database is named; set DATABASE_URL, or give --url without a password")
    return str(found)


@contextmanager
def _unreachable_told() -> Iterator[None]:
    try:
        yield
    except Unavailable as failure:
        raise CommandError(f"{failure}; look at the URL and whether it runs", exit_code=EXIT_UNREACHABLE) from failure
