"""Which bot this is, and which run of it: the attributes that every event, heartbeat and evidence carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POLLING_TIERS_S: Final = {"fast_5s": 5.0, "ultra_15s": 15.0, "fast_30s": 30.0, "standard": 60.0}
"""How often a bot of each tier reports, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BotIdentity:
    """``boot_id`` names the process, ``run_id`` the session; ``package`` says what installed package the code of the
    strategy is from. ``ValueError`` for a polling tier that is none."""

    bot_id: str
    bot_name: str
    user_id: str
    strategy: str
    mode: str
    exchange: str
    symbol: str
    boot_id: str
    run_id: str
    version: str
    provider: str
    region: str
    machine_id: str
    polling_tier: str
    timeframe_s: int
    package: str = ""

    def __post_init__(self) -> None:
        if self.polling_tier not in POLLING_TIERS_S:
            raise ValueError(f"polling_tier is one of {', '.join(POLLING_TIERS_S)}, not {self.polling_tier!r}")

    @property
    def strategy_told(self) -> str:
        """The strategy as people are told of it."""
        return f"{self.strategy} ({self.package})" if self.package else self.strategy

    @property
    def tier_s(self) -> float:
        """Seconds between two reports."""
        return POLLING_TIERS_S[self.polling_tier]
