"""From what the database says of a bot, and what the environment allows it, to a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tbh.infra.candles import CandleError, load_candles
from tbh.infra.context import BotContext
from tbh.infra.plugins import parse_strategy
from tbh.infra.settings import Settings
from tbh.infra.simmarket import OpenMarket
from tbh.infra.statedir import StatePaths
from tbh.plan import Bot, LivePlan, PaperPlan, Recording
from tbh.ports import Fatal
from tbh.strategies.definition import DefinitionError
from tbh.strategies.runner import AnyDefinition

EXIT_CONFIGURATION = 78
PAPER = "paper"
PACKAGE_WANTED = (
    "install here the package that the bot was made with, and start again: until then a position has only the stop "
    "that stands at the exchange"
)
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
) -> PaperPlan | LivePlan:
    """What the bot of ``context`` does. ``Fatal`` (78) for what can't be run, with the field that says so."""
    bot = context.bot
    if (bot.exchange == PAPER) is not (bot.mode == "paper"):
        detail = f"bot {bot.name} trades {bot.mode} on {bot.exchange}: paper goes with 'paper', live with a real one"
        raise Fatal("exchange_unsupported", exit_code=EXIT_CONFIGURATION, detail=detail)
    if len(context.symbols) != 1:
        detail = f"bot {bot.name} has {len(context.symbols)} symbols: one each is traded so far"
        raise Fatal("symbols_unsupported", exit_code=EXIT_CONFIGURATION, detail=detail)
    definition = _definition(context)
    common: dict[str, Any] = {
        "definition": definition,
        "symbol": context.symbols[0],
        "root": state.root,
        "bot": _bot(context, settings),
        "bars_max": bars_max,
        "tier_s": tier_s,
        "jitter_s": jitter_s,
        "lease_s": settings.tbh_lease_s or context.lease_s(),
    }
    if bot.exchange == PAPER:
        return _paper_plan(context, now=now, flags=settings.gate_flags(), **common)
    return _live_plan(context, settings, **common)


def _bot(context: BotContext, settings: Settings) -> Bot:
    bot = context.bot
    return Bot(
        bot_id=bot.id,
        name=bot.name,
        user_id=bot.user_id or "",
        mode=bot.mode,
        exchange=bot.exchange,
        provider=context.runtime.provider or "",
        region=context.runtime.region or "",
        machine_id=context.runtime.machine_id or "",
        polling_tier=settings.polling_tier or bot.polling_tier or "standard",
    )


def _paper_plan(context: BotContext, *, now: datetime, **common: Any) -> PaperPlan:
    options = paper_options(context.bot.exchange_options)
    definition: AnyDefinition = common["definition"]
    return PaperPlan(
        candles=_candles(options, definition),
        simulated=options.candles is None,
        cash=options.cash,
        fee=options.fee,
        bars_per_s=options.bars_per_second or 1 / definition.timeframe_s,
        seed=options.seed,
        account=options.account,
        account_made=now,
        opened_at=options.opened_at,
        **common,
    )


def _live_plan(context: BotContext, settings: Settings, **common: Any) -> LivePlan:
    key = settings.tbh_credentials_key
    unarmed = settings.not_armed_because()
    flags = settings.gate_flags()
    return LivePlan(
        credentials=context.credentials(None if key is None else key.get_secret_value()),
        options=context.bot.exchange_options,
        # A kill ends entries alone: the position keeps what guards it.
        silent_because="" if settings.only_killed() else "; ".join(unarmed),
        since=context.bot.created_at,
        # Without its acknowledgement a bot looks on, as in safe mode.
        flags=flags if flags or not unarmed else ("observe_only",),
        **common,
    )


def _definition(context: BotContext) -> AnyDefinition:
    try:
        return parse_strategy(context.strategy.definition_text())
    except DefinitionError as error:
        detail = f"context.strategy.definition: {error.problems[0]}"
        if "custom" in context.strategy.definition:
            detail += f"; {PACKAGE_WANTED}"
        raise Fatal("strategy_invalid", exit_code=EXIT_CONFIGURATION, detail=detail) from error


def _candles(options: PaperOptions, definition: AnyDefinition) -> Recording:
    if options.candles is None:
        return OpenMarket(options.seed, timeframe_s=definition.timeframe_s)
    try:
        return load_candles(options.candles, timeframe_s=definition.timeframe_s)
    except CandleError as error:
        raise Fatal("candles_unusable", exit_code=EXIT_CONFIGURATION, detail=str(error)) from error
