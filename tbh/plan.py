"""What a session is: everything that decides its trades, and where it keeps its state."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from tbh import __version__
from tbh.actors.adjustments import ADJUSTMENTS, stored_adjustments
from tbh.actors.identity import BotIdentity
from tbh.actors.journaler import ACCOUNT_SEQ, RESTORED_POSITION
from tbh.actors.order_recovery import RESTORED
from tbh.actors.supervisor import PositionPolicy
from tbh.domain.adjustment import to_text
from tbh.infra.restored import Remembered
from tbh.infra.store import SqliteStore
from tbh.messages.market import Candle
from tbh.ports import Batch, Fatal, Store, Unavailable
from tbh.runtime.actor import Log
from tbh.strategies.runner import AnyDefinition, Custom

MARKET_BARS = 1_000
_MARKET = "market"
_PACKAGE = "strategy_package"

DEMO_BOT = str(uuid.uuid5(uuid.NAMESPACE_URL, "tbh:demo"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """Whom a session runs for, as the database names it."""

    bot_id: str
    name: str
    user_id: str = ""
    mode: str = "paper"
    exchange: str = "paper"
    provider: str = "local"
    region: str = ""
    machine_id: str = ""
    polling_tier: str = "fast_5s"


DEMO = Bot(bot_id=DEMO_BOT, name="demo")
"""The bot of every demo, so that its orders are its own after a restart too."""


class Recording(Protocol):
    """The bars of a market, oldest first, read one at a time. ``gaps`` lists where some are missing."""

    @property
    def name(self) -> str: ...
    @property
    def timeframe_s(self) -> int: ...
    @property
    def gaps(self) -> Sequence[object]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Candle: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every session is told: ``definition`` trades ``symbol`` for ``bot``, with its state under ``root``.

    ``policy`` is what an escalation does with the position; ``flags`` are gate reasons that hold throughout;
    ``bars_max`` ends the session after so many bars; ``tier_s`` is how often the bot reports, None for its tier's
    interval, each report up to ``jitter_s`` later; ``host`` is ``threads`` or ``simulator``.
    """

    definition: AnyDefinition
    symbol: str
    root: os.PathLike[str] | str
    bot: Bot
    seed: int = 1
    host: str = "threads"
    policy: PositionPolicy = PositionPolicy.PROTECT
    flags: tuple[str, ...] = ()
    bars_max: int | None = None
    tier_s: float | None = None
    jitter_s: float = 0.0
    lease_s: float = 30.0

    @property
    def timeframe_s(self) -> int:
        """Length of a bar."""
        return self.definition.timeframe_s

    @property
    def lease_margin_s(self) -> float:
        """What a lease is held shorter here than there: 5 s of 30, a sixth of any other."""
        return self.lease_s / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperPlan(Plan):
    """A session on the paper exchange: ``candles`` played to one strategy.

    ``bars_per_s`` None is as fast as it goes. With ``opened_at`` (aware UTC) the market's bar is a function of the time
    since then, also while no bot runs. ``account`` is the exchange's file, None for one in the state directory;
    ``account_made`` names an account that is made now, so that its ids are those of no other (None: they begin at 1).
    ``volume_share`` limits fills to a share of each bar's volume.
    """

    candles: Recording
    simulated: bool
    cash: Decimal
    fee: Decimal
    bars_per_s: float | None
    bot: Bot = DEMO
    account: Path | None = None
    account_made: datetime | None = None
    opened_at: datetime | None = None
    volume_share: Decimal | None = None

    @property
    def timeframe_s(self) -> int:
        """Length of a bar."""
        return self.candles.timeframe_s

    @property
    def account_tag(self) -> str:
        """What the ids of a new account carry."""
        return "" if self.account_made is None else f"{int(self.account_made.timestamp()):x}"

    @property
    def account_first_seq(self) -> int:
        """What the events of a new account are numbered from: above those of any account made before, in ms."""
        return 0 if self.account_made is None else int(self.account_made.timestamp() * 1000)

    def bars_due(self, now: datetime) -> int:
        """How many bars have closed at ``now`` on a market that runs by itself; 0 on one that waits for the bot."""
        if self.opened_at is None or self.bars_per_s is None:
            return 0
        return min(len(self.candles), max(0, int((now - self.opened_at).total_seconds() * self.bars_per_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlan(Plan):
    """A session on the exchange ``bot.exchange``, as ccxt names it, with the bot's ``options`` for it.

    ``silent_because`` says why the account may only be looked at; empty when orders may be sent (CONTRACTS §1).
    ``since`` (aware UTC) is when the bot was made, None where that is not known: what the account traded before it is
    none of its business.
    """

    credentials: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any]
    silent_because: str = ""
    since: datetime | None = None


def identity_of(plan: Plan, boot_id: str, *, package: str = "") -> BotIdentity:
    """Which bot this is, and which run of it; ``package`` is what ``package_of`` has told."""
    bot = plan.bot
    return BotIdentity(
        bot_id=bot.bot_id,
        bot_name=bot.name,
        user_id=bot.user_id,
        strategy=plan.definition.name,
        package=package,
        mode=bot.mode,
        exchange=bot.exchange,
        symbol=plan.symbol,
        boot_id=boot_id,
        run_id=boot_id,
        version=__version__,
        provider=bot.provider,
        region=bot.region,
        machine_id=bot.machine_id,
        polling_tier=bot.polling_tier,
        timeframe_s=plan.timeframe_s,
    )


def package_of(store: Store, plan: Plan, log: Log) -> str:
    """The installed package that a strategy in Python is from, with its version, and what the last start on this store
    had where that was another; empty for any other strategy. The definition says nothing of either."""
    package = plan.definition.package if isinstance(plan.definition, Custom) else ""
    before = store.meta(_PACKAGE) if package else None
    if before == package or not package:
        return package
    try:
        store.commit(Batch(meta={_PACKAGE: package}))
    except Unavailable as failure:  # it is told all the same, and once more by the next start
        log.warning("package_not_noted", reason=str(failure))
    if before is None:
        return package
    log.warning("strategy_package_changed", strategy=plan.definition.name, package=package, before=before)
    return f"{package}, the last start had {before}"


def check_account_kept(store: SqliteStore, account: Path) -> bool:
    """See that the paper account is still there; whether there is one at all.

    Raises ``Fatal`` (78) when the store has orders, and the file
    ``account`` that they went to is gone: a new account knows nothing of them, nor of the position they made."""
    kept = account.exists() and account.stat().st_size > 0
    if not kept and store.orders_by_status():
        detail = f"{account} is missing, while the store beside it has orders: restore it, or start in another folder"
        raise Fatal("paper_account_missing", exit_code=78, detail=detail)
    return kept


def restore(store: Store, remembered: Remembered) -> None:
    """Give the store what it lacks, or knows an older state of, and leave a mark that it was so: it had been left
    behind, or its disk is new. A position goes to an empty store alone: no other needs to be told of it."""
    news = []
    for state in remembered.orders:
        known = store.order(state.order.client_order_id)
        if known is None or known.version < state.version:
            news.append(state)
    batch = Batch(orders=news, meta={RESTORED: "from the database"} if news else {})
    stored = stored_adjustments(store)
    ids = {one.adjustment_id for one in stored}
    lacking = [one for one in remembered.adjustments if one.adjustment_id not in ids]
    if lacking:
        batch.meta[ADJUSTMENTS] = to_text((*stored, *lacking))
    position = remembered.position
    if position is not None and store.meta(ACCOUNT_SEQ) is None:
        batch.positions.append((position.symbol, position, remembered.position_seq))
        batch.meta[RESTORED_POSITION] = position.position_id
    if batch:
        store.commit(batch)


def check_same_market(store: Store, plan: PaperPlan) -> None:
    """Note the market that the state belongs to, or see that it is still the same one.

    The first bars are compared (as many as there were at the first start, 1,000 at most), so that a longer recording of
    the same market may follow. Raises ``Fatal`` (78) for another one: the account's position has no price in it.
    """
    noted = store.meta(_MARKET)
    bars = min(len(plan.candles), MARKET_BARS) if noted is None else int(noted.partition(":")[0])
    told = hashlib.sha256(f"{plan.symbol}|{plan.candles.timeframe_s}".encode())
    for index in range(min(bars, len(plan.candles))):
        told.update(repr(plan.candles[index]).encode())
    market = f"{bars}:{told.hexdigest()}"
    if noted is None:
        store.commit(Batch(meta={_MARKET: market}))
    elif noted != market:
        detail = f"{plan.root} belongs to another market: give the same candles (or seed) and symbol, or another --dir"
        raise Fatal("market_mismatch", exit_code=78, detail=detail)
