"""From what the database says of a bot, and what the environment allows it, to a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tbh.domain.takeover import LEASE_S
from tbh.infra.candles import CandleError, load_candles
from tbh.infra.context import BotContext
from tbh.infra.settings import Settings
from tbh.infra.simmarket import OpenMarket
from tbh.infra.statedir import StatePaths
from tbh.plan import Bot, PaperPlan, Recording
from tbh.ports import Fatal
from tbh.strategies.definition import Definition, DefinitionError, parse_definition

EXIT_CONFIGURATION = 78
LEASE_MIN_S, LEASE_MAX_S = 0.2, 600.0
_MONEY = re.compile(r"\d{1,15}(\.\d{1,12})?")


class PaperOptions(BaseModel):
    """``exchange_options`` of a bot on the paper exchange (CONTRACTS §2). ``bars_per_second`` None is real time;
    without ``candles`` the market is simulated from ``seed``; money is text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: Path | None = None
    candles: Path | None = None
    bars_per_second: float | None = Field(default=None, gt=0, le=1_000_000, allow_inf_nan=False)
    opened_at: datetime
    cash: Decimal = Decimal(10_000)
    fee: Decimal = Decimal("0.001")
    seed: int = Field(default=1, ge=0, lt=2**63)

    @field_validator("cash", "fee", mode="before")
    @classmethod
    def _money(cls, value: object) -> Decimal:
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        if not _MONEY.fullmatch(text):
            raise ValueError("must be an amount as text, such as '10000' or '0.001'")
        return Decimal(text)

    @field_validator("opened_at")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("must name its zone, such as 2026-01-01T00:00:00Z")
        return value.astimezone(UTC)


def paper_options(given: Mapping[str, Any]) -> PaperOptions:
    """The options, checked. ``Fatal`` (78) with the first that is wrong."""
    try:
        options = PaperOptions.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(["exchange_options", *map(str, first["loc"])])
        known = ", ".join(PaperOptions.model_fields)
        why = f"unknown; known: {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise Fatal("exchange_options_invalid", exit_code=EXIT_CONFIGURATION, detail=f"{path}: {why}") from None
    if not 0 < options.cash <= 10**15 or options.fee >= 1:
        detail = "exchange_options: cash must be above 0, and fee a fraction below 1"
        raise Fatal("exchange_options_invalid", exit_code=EXIT_CONFIGURATION, detail=detail)
    return options


def plan_of_bot(
    context: BotContext,
    settings: Settings,
    state: StatePaths,
    *,
    now: datetime,
    bars_max: int | None = None,
    tier_s: float | None = None,
    jitter_s: float = 0.0,
) -> PaperPlan:
    """What the bot of ``context`` does. ``Fatal`` (78) for what can't be run, with the field that says so."""
    bot = context.bot
    if bot.exchange != "paper" or bot.mode != "paper":
        detail = f"bot {bot.name} trades {bot.mode} on {bot.exchange}: this version trades on the paper exchange only"
        raise Fatal("exchange_unsupported", exit_code=EXIT_CONFIGURATION, detail=detail)
    if len(context.symbols) != 1:
        detail = f"bot {bot.name} has {len(context.symbols)} symbols: the paper exchange trades one each"
        raise Fatal("symbols_unsupported", exit_code=EXIT_CONFIGURATION, detail=detail)
    definition = _definition(context)
    options = paper_options(bot.exchange_options)
    bars_per_s = options.bars_per_second or 1 / definition.timeframe_s
    return PaperPlan(
        candles=_candles(options, definition),
        simulated=options.candles is None,
        definition=definition,
        symbol=context.symbols[0],
        cash=options.cash,
        fee=options.fee,
        bars_per_s=bars_per_s,
        seed=options.seed,
        root=state.root,
        bot=Bot(
            bot_id=bot.id,
            name=bot.name,
            user_id=bot.user_id or "",
            mode=bot.mode,
            exchange=bot.exchange,
            provider=context.runtime.provider or "",
            region=context.runtime.region or "",
            machine_id=context.runtime.machine_id or "",
            polling_tier=settings.polling_tier or bot.polling_tier or "standard",
        ),
        account=options.account,
        account_made=now,
        opened_at=options.opened_at,
        flags=settings.gate_flags(),
        bars_max=bars_max,
        tier_s=tier_s,
        jitter_s=jitter_s,
        lease_s=settings.tbh_lease_s or _lease_s(bot.execution_config),
    )


def _lease_s(execution_config: Mapping[str, Any]) -> float:
    """What the bot was created with, as text or a number; the default where nothing is said."""
    given = execution_config.get("lease_s", LEASE_S)
    try:
        lease_s = float(given)
    except (TypeError, ValueError):
        lease_s = -1.0
    if not LEASE_MIN_S <= lease_s <= LEASE_MAX_S:
        detail = (
            f"context.bot.execution_config.lease_s: {given!r:.40} is not {LEASE_MIN_S:g} to {LEASE_MAX_S:g} seconds"
        )
        raise Fatal("lease_invalid", exit_code=EXIT_CONFIGURATION, detail=detail)
    return lease_s


def _definition(context: BotContext) -> Definition:
    try:
        return parse_definition(context.strategy.definition_text())
    except DefinitionError as error:
        detail = f"context.strategy.definition: {error.problems[0]}"
        raise Fatal("strategy_invalid", exit_code=EXIT_CONFIGURATION, detail=detail) from error


def _candles(options: PaperOptions, definition: Definition) -> Recording:
    if options.candles is None:
        return OpenMarket(options.seed, timeframe_s=definition.timeframe_s)
    try:
        return load_candles(options.candles, timeframe_s=definition.timeframe_s)
    except CandleError as error:
        raise Fatal("candles_unusable", exit_code=EXIT_CONFIGURATION, detail=str(error)) from error
