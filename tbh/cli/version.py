"""``tbh version``."""

from __future__ import annotations

import argparse
import json
import platform

from tbh import __version__


def run(args: argparse.Namespace) -> int:
    """Print the version."""
    if args.json:
        print(json.dumps({"version": __version__, "python": platform.python_version()}))
    else:
        print(f"tbh {__version__}")
    return 0
