"""Strategies that need no market to move: what a test waits for comes on the first bar."""

from __future__ import annotations

from typing import Any

from tbh.cli.default_strategy import DEFAULT_STRATEGY

_ALWAYS = {"long": {"all": [{"left": "close", "op": ">", "right": 0}]}}
_NEVER = {"long": {"all": [{"left": "close", "op": "<", "right": 0}]}}

BUSY: dict[str, Any] = DEFAULT_STRATEGY | {"name": "busy", "indicators": [], "entry": _ALWAYS, "exit": _ALWAYS}
"""In on one bar, out on the next."""

HOLD: dict[str, Any] = BUSY | {
    "name": "hold",
    "exit": _NEVER,
    "stops": {"basis": "entry", "stop_loss": "0.2", "take_profit": "0.4"},
}
"""In, and there to stay: nothing touches stops that are so wide."""
