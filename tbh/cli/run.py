"""``tbh run``: the bot that the environment describes, with the options that the plain process does without."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tbh.app import RunOptions
from tbh.app import run as run_session

ENV_FILES = (".env", ".env.live")


def run(args: argparse.Namespace) -> int:
    """Run until the market ends, the cycles are done or a signal comes; the exit code (CONTRACTS §1)."""
    ended: dict[str, Any] = {}

    def keep(result: Mapping[str, Any]) -> None:
        ended.update(result)

    options = RunOptions(
        bars_max=1 if args.once else args.max_cycles,
        cycle_s=args.cycle_seconds,
        jitter_s=args.jitter,
        dry_run=args.dry_run,
        env_file=args.env_file or _env_file(),
        on_result=keep,
    )
    exit_code = run_session(os.environ, options, quiet=args.json)
    if args.json and ended:
        print(json.dumps(ended | {"exit_code": exit_code}))
    return exit_code


def _env_file() -> Path | None:
    """The first of the usual files that is there."""
    return next((path for name in ENV_FILES if (path := Path(name)).is_file()), None)
