"""The one composer: what a process is told becomes a session (``tbh/session.py``) over a tree (``tbh/tree.py``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from tbh.bot import RunOptions, run_bot
from tbh.ports import Failure, Fatal
from tbh.stopping import stop_signals

__all__ = ["RunOptions", "main", "run"]

EXIT_FAULT = 70


def main() -> int:
    """``python -m tbh.actors.main``: run the bot that the environment describes; the exit code (CONTRACTS §1)."""
    return run(os.environ, RunOptions())


def run(environ: Mapping[str, str], options: RunOptions, *, quiet: bool = False) -> int:
    """The same with options. What keeps the bot from running is told in one line (one for each wrong name)."""
    with stop_signals() as stop:
        try:
            return run_bot(environ, options, stop=stop, say=_keep_quiet if quiet else _say)
        except Fatal as fatal:
            for line in str(fatal).splitlines():
                _complain(line)
            return fatal.exit_code
        except Failure as failure:
            _complain(str(failure))
        except Exception as fault:  # noqa: BLE001 - the last net: one line for people instead of a traceback
            text = " ".join(f"{type(fault).__name__}: {fault}".split())
            _complain(f"{text}; this is a mistake in TBH, please report it")
    return EXIT_FAULT


def _say(line: str) -> None:
    print(f"tbh: {line}", flush=True)  # noqa: T201  # a container's log begins with what its process is


def _keep_quiet(_line: str) -> None:
    """stdout is for one JSON object."""


def _complain(line: str) -> None:
    print(f"tbh: {line}", file=sys.stderr)  # noqa: T201  # the line that an operator reads first
