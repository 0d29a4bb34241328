"""The strategy that ``tbh demo`` runs when none is named: in code, so that it is there wherever the package is."""

from __future__ import annotations

from typing import Any

DEFAULT_STRATEGY: dict[str, Any] = {
    "name": "ema-cross",
    "timeframe": "1m",
    "indicators": [
        {"id": "fast", "name": "ema", "params": {"period": 12}},
        {"id": "slow", "name": "ema", "params": {"period": 26}},
    ],
    "entry": {"long": {"all": [{"left": "fast__value", "op": "crosses_above", "right": "slow__value"}]}},
    "exit": {"long": {"all": [{"left": "fast__value", "op": "crosses_below", "right": "slow__value"}]}},
    "stops": {
        "basis": "entry",
        "stop_loss": "0.02",
        "take_profit": "0.05",
        "trailing": {"distance": "0.01", "activate_at": "0.02"},
    },
    "sizing": {"kind": "equity_fraction", "value": "0.5"},
}
