"""The options of ``tbh run``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from tbh.cli.parser import path, whole

CYCLES_MAX = 1_000_000_000
SECONDS_MAX = 3_600.0

_EXAMPLES = """examples:
  tbh run                                   until SIGTERM or Ctrl-C
  tbh run --max-cycles 100 --json           one hundred bars, then one JSON object
  tbh run --env-file bot-7.env --jitter 2

What the bot is comes from the environment: BOT_ID, SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY and RUNTIME_TOKEN, as
`tbh local env` and `tbh bot create` print them. Names from an env file stand back behind the environment's."""


def add_run_command(commands: Any, *, add: Callable[..., Any]) -> None:
    """Register ``tbh run``."""
    run = add(
        commands,
        "run",
        run="run:run",
        does="run the bot that the environment describes, as python -m tbh.actors.main does",
        examples=_EXAMPLES,
    )
    cycles = run.add_mutually_exclusive_group()
    cycles.add_argument("--once", action="store_true", help="one cycle (bar), then stop in order")
    cycles.add_argument("--loop", action="store_true", help="go on until told to stop (the default)")
    cycles.add_argument("--max-cycles", metavar="N", type=whole(1, CYCLES_MAX), help="stop after N cycles (bars)")
    run.add_argument(
        "--cycle-seconds", metavar="S", type=_seconds, help="report every S seconds (default: the bot's polling tier)"
    )
    run.add_argument(
        "--jitter", metavar="S", type=_seconds, default=0.0, help="report up to S seconds later (default: %(default)s)"
    )
    run.add_argument("--dry-run", action="store_true", help="as DRY_RUN=true: no entries leave the process")
    run.add_argument("--env-file", metavar="F", type=path, help="NAME=value lines (default: .env, then .env.live)")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: must be seconds, above 0 and at most {SECONDS_MAX:g}")
    return value
