"""What a seed draws before it begins: market, account, bot, and how its world is timed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from tbh.campaign.traders import Habits
from tbh.domain.matching import FeeIn
from tbh.messages.market import Market
from tbh.simulation.dice import Mix
from tbh.simulation.faults import FaultKind
from tbh.simulation.market import START

BOT_ID = "6c1f6f2e-6f0b-5f52-9d0a-000000000001"
SYMBOL = "BTC/USDT"
_CENT = Decimal("0.01")
REPORTERS_SHARE = 0.1
KEEPING_SHARE = 0.4
RESTING_SHARE = 0.1
"""So many seeds have entries that rest, and ``LIMITS_SHARE`` of theirs do."""
LIMITS_SHARE = 0.8
SILENT_SHARE = 0.1
"""In so many seeds the exchange's account events hold fills alone: an order's end is learnt by asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Seconds are virtual; ``bars`` pass before everything heals. ``window_s`` is the exchange's receive window,
    ``latency_s`` the usual one way to it, ``tells_cancels`` whether its account events hold more than fills.
    ``keeps_reduce_only``: reduce-only orders outlive the position. ``reporters``: the tree has the actors that only
    report; they hear a third of all messages, and most seeds do without them."""

    market: Market
    cash: Decimal
    fee_in: FeeIn
    volume_share: Decimal | None
    price: Decimal
    volatility: float
    bar_s: int
    ticks_per_bar: int
    bars: int
    latency_s: float
    window_s: float
    tells_cancels: bool
    poll_s: float
    sync_s: float
    tier_s: float
    lease_s: float
    policy: str
    habits: Habits
    reporters: bool
    keeps_reduce_only: bool

    @property
    def exposure_max(self) -> Decimal:
        return self.habits.qty * self.habits.layers


def draw(seed: int, mix: Mix, fixed: Mapping[str, str] | None) -> Setup:
    """The seed's. A scenario has some of it ``fixed``: ``market`` (spot or linear), ``bars``, ``stops`` (always or
    never), ``layers``, ``lease_s``, ``reporters`` (some or none), ``cancels`` (told or silent), ``policy`` (protect,
    flatten or hold), ``entries`` (resting, or at market as all of a scenario's are otherwise)."""
    rng, settings = random.Random(f"{seed}/setup"), fixed or {}
    # Streams of their own: a seed whose entries are at market, and whose exchange tells of cancels, is what it was
    # before there were others.
    rests = fixed is None and random.Random(f"{seed}/entries").random() < RESTING_SHARE
    silent = fixed is None and random.Random(f"{seed}/cancels").random() < SILENT_SHARE
    spot = settings.get("market", "spot" if rng.random() < 0.5 else "linear") == "spot"
    fee = Decimal(rng.choice(("0.001", "0.0005", "0.00075", "0")))
    amount_step = Decimal(rng.choice(("0.001", "0.01")))
    market = Market(
        symbol=SYMBOL if spot else f"{SYMBOL}:USDT",
        base="BTC",
        quote="USDT",
        price_step=_CENT,
        amount_step=amount_step,
        amount_min=amount_step * rng.choice((1, 1, 5)),
        notional_min=Decimal(rng.choice((1, 5))),
        taker_fee=fee,
        maker_fee=fee,
        enforces_reduce_only=not spot,
        allows_short=not spot,
        cancels_are_final=FaultKind.FILL_AFTER_CANCEL not in mix,
    )
    share = Decimal(str(round(mix.rate(FaultKind.FILLS_IN_PARTS), 2))) or None
    bar_s = rng.choice((2, 2, 3, 3))
    bars = int(settings.get("bars", 50 // bar_s + rng.randint(1, 4)))
    stops = {"always": 1.0, "never": 0.0}.get(settings.get("stops", ""), rng.choice((0.3, 0.8, 1.0, 1.0, 1.0, 1.0)))
    lease_s = float(settings.get("lease_s", rng.choice((6, 9, 15))))
    return Setup(
        market=market,
        cash=Decimal(10_000),
        fee_in="received" if spot else "quote",
        volume_share=share,
        price=Decimal(rng.choice(("25.00", "100.00", "640.00"))),
        volatility=rng.choice((0.0008, 0.0015, 0.003)),
        bar_s=bar_s,
        ticks_per_bar=4,
        bars=bars,
        latency_s=rng.choice((0.005, 0.02, 0.08)),
        window_s=rng.choice((0.5, 1.0, 3.0)),
        tells_cancels=not silent and settings.get("cancels", "told") == "told",
        poll_s=rng.choice((1.0, 2.0, 3.0)),
        sync_s=15.0,
        tier_s=10.0,
        lease_s=lease_s,
        policy=settings.get("policy", rng.choice(("protect", "protect", "flatten", "hold"))),
        habits=Habits(
            qty=Decimal(rng.choice(("0.40", "1.13", "2.50"))),
            layers=int(settings.get("layers", rng.choice((1, 2, 3, 4)))),
            shorts=not spot,
            enters=rng.uniform(0.95, 1.0),
            exits=rng.uniform(0.25, 0.5),
            reverses=rng.uniform(0.2, 0.45),
            pyramids=rng.uniform(0.3, 0.7),
            stops=stops,
            targets=rng.choice((0.3, 0.8, 1.0, 1.0)),
            trails=rng.choice((0.0, 0.8, 1.0, 1.0)),
            rests_from=START + timedelta(seconds=bar_s * (bars - 1)),
            limits=LIMITS_SHARE if rests or settings.get("entries") == "resting" else 0.0,
        ),
        reporters=settings.get("reporters", "some" if rng.random() < REPORTERS_SHARE else "none") != "none",
        keeps_reduce_only=rng.random() < KEEPING_SHARE and not spot,
    )
