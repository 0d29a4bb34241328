"""The one composer: what a process is told becomes a session (``tbh/session.py``) over a tree (``tbh/tree.py``)."""

from __future__ import annotations

import os
import sys

from tbh.infra.settings import load_settings
from tbh.plan import DemoPlan
from tbh.ports import Fatal
from tbh.session import DemoSession

__all__ = ["DemoPlan", "DemoSession", "main"]


def main() -> int:
    """``python -m tbh.actors.main``: check the environment, then run the bot it describes; the exit code."""
    try:
        load_settings(os.environ)
        raise Fatal(
            "no_database_adapter",
            exit_code=78,
            detail="this version trades recorded or simulated markets only: run `tbh demo`",
        )
    except Fatal as fatal:
        for line in str(fatal).splitlines():
            print(f"tbh: {line}", file=sys.stderr)  # noqa: T201  # there is no log before there are settings
        return fatal.exit_code
    except Exception as fault:  # noqa: BLE001 - the last net: one line for people instead of a traceback
        text = " ".join(f"{type(fault).__name__}: {fault}".split())
        print(f"tbh: {text}; this is a mistake in TBH, please report it", file=sys.stderr)  # noqa: T201  # as above
        return 70
