"""What risk lets through.

Entries need everything: no gate closed, no limit reached, nothing of the strategy open already, and funds for the worst
case. What reduces risk needs nothing but the right to send at all, which ends with the lease.

Exposure is always the worst case: every order that may still fill does, in full, on the side where it hurts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Final

from tbh.domain.book import is_dust
from tbh.domain.money import EXACT, ONE, ZERO, divide, floor_to_step, plain
from tbh.domain.order import is_terminal, remaining
from tbh.domain.sizing import GROWS_WITH_EQUITY, SizeRefusal, limit_price, quantity
from tbh.messages.account import Position
from tbh.messages.base import message
from tbh.messages.market import Market
from tbh.messages.orders import OrderState, Purpose, Side
from tbh.messages.strategy import CooldownAfter, Proposal, Sizing

GATE_REASONS: Final = (
    "paused", "killed", "kill_switch", "subscription_inactive", "lease_lapsed", "lease_lost", "token_refused",
    "stale_data", "position_mismatch", "order_unknown", "daily_loss", "drawdown", "defence_mode", "observe_only",
    "session_closed", "database_away", "disk_full", "dry_run", "warmup",
)  # fmt: skip
"""Why entries may be closed; the words of the structured events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """The limits of a session; ``None`` is no limit. Fractions are of equity, the daily loss of the day's first equity.

    In defence mode ``total_allocation`` is replaced, the two counts are scaled by ``defence_trade_limit`` and floored.
    Raises ``ValueError`` for what can't be a limit.
    """

    max_open_positions: int = 1
    max_trades: int | None = None
    max_risk_per_trade: Decimal | None = None
    daily_loss_limit: Decimal | None = None
    max_drawdown: Decimal | None = None
    total_allocation: Decimal = ONE
    defence_mode: bool = False
    defence_total_allocation: Decimal = ZERO
    defence_trade_limit: Decimal = ZERO

    def __post_init__(self) -> None:
        for name in ("max_open_positions", "max_trades", "total_allocation", "defence_total_allocation"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is not negative: {value}")
        for name in ("max_risk_per_trade", "daily_loss_limit", "max_drawdown"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is a fraction above 0 and up to 1: {value}")
        if not 0 <= self.defence_trade_limit <= 1:
            raise ValueError(f"defence_trade_limit is a fraction within 0 and 1: {self.defence_trade_limit}")

    @property
    def rest_on_value(self) -> bool:
        """Whether an entry can be judged only once the account is valued at its bar."""
        return self.daily_loss_limit is not None or self.max_drawdown is not None

    def in_force(self) -> RiskLimits:
        """These limits, or what defence mode makes of them."""
        if not self.defence_mode:
            return self
        return replace(
            self,
            total_allocation=min(self.total_allocation, self.defence_total_allocation),
            max_open_positions=self._scaled(self.max_open_positions),
            max_trades=None if self.max_trades is None else self._scaled(self.max_trades),
            defence_mode=False,
        )

    def _scaled(self, count: int) -> int:
        scaled = EXACT.multiply(Decimal(count), self.defence_trade_limit)
        return int(scaled.to_integral_value(ROUND_DOWN))


@message
class Standing:
    """How the account stands when a proposal comes.

    ``position`` and ``open_orders`` are of the proposal's symbol; ``other_exposure`` (quote) and ``other_positions``
    (entries under way included) of all other symbols. ``trades_today`` counts entries of the UTC day.
    ``exit_approved``: an exit of the whole position is under way, so that an opposite entry reverses it.
    ``layers_filled`` are the pyramids' layers that the position is made of; ``ended`` is when positions of the symbol
    ended last, by how.
    """

    equity: Decimal
    position: Position | None = None
    open_orders: Sequence[OrderState] = ()
    other_exposure: Decimal = ZERO
    other_positions: int = 0
    trades_today: int = 0
    exit_approved: bool = False
    layers_filled: Collection[int] = ()
    ended: Mapping[CooldownAfter, datetime] | None = None


@message
class Approval:
    """Go ahead with ``qty`` base, at ``price`` quote where it is to rest, both on the market's steps."""

    qty: Decimal
    price: Decimal | None = None


@message
class Refusal:
    """``rule`` is a gate reason or the name of the limit, ``detail`` a line for people."""

    rule: str
    detail: str


Verdict = Approval | Refusal


def limit_reasons(
    limits: RiskLimits, *, day_pnl: Decimal, day_start_equity: Decimal, drawdown: Decimal
) -> tuple[str, ...]:
    """The gate reasons that the account's own results give: a limit closes the gate when it is reached."""
    reasons = []
    loss = -day_pnl
    if limits.daily_loss_limit is not None and loss > 0:
        allowed = EXACT.multiply(limits.daily_loss_limit, day_start_equity)
        reasons += ["daily_loss"] if loss >= allowed else []
    if limits.max_drawdown is not None and drawdown >= limits.max_drawdown:
        reasons.append("drawdown")
    if limits.defence_mode:
        in_force = limits.in_force()
        if not (in_force.total_allocation and in_force.max_open_positions):
            reasons.append("defence_mode")
    return tuple(reasons)


def worst_exposure(
    position_qty: Decimal, open_orders: Iterable[OrderState], *, enforces_reduce_only: bool = True
) -> tuple[Decimal, Decimal]:
    """The greatest long and the greatest short (base, both unsigned) that the open orders could lead to.

    A reduce-only order can't lead through zero where the exchange enforces that.
    """
    buys = sells = ZERO
    with localcontext(EXACT):
        for state in open_orders:
            if state.order.reduce_only and enforces_reduce_only:
                continue
            if state.order.side is Side.BUY:
                buys += remaining(state)
            else:
                sells += remaining(state)
        return max(position_qty + buys, ZERO), max(sells - position_qty, ZERO)


def exitable(position_qty: Decimal, open_orders: Iterable[OrderState], enforces_reduce_only: bool) -> Decimal:
    """What may be sent to close the position (base, unsigned): all of it where the exchange enforces reduce-only.

    Elsewhere it is the position less every order that may still close it, for each of them may fill after all.
    """
    if enforces_reduce_only or not position_qty:
        return abs(position_qty)
    closing = Side.SELL if position_qty > 0 else Side.BUY
    with localcontext(EXACT):
        under_way = sum((remaining(state) for state in open_orders if state.order.side is closing), ZERO)
        return max(abs(position_qty) - under_way, ZERO)


def judge(
    proposal: Proposal, *, gate: tuple[str, ...], limits: RiskLimits, standing: Standing, market: Market
) -> Verdict:
    """Whether a strategy may do what it wants, and how much of it. ``gate`` holds the reasons that close entries.

    An exit is let through whatever the gate says, except ``lease_lost``: another process owns the account then. Its
    quantity is the position on the market's step; what of it may be sent now is ``exitable``.
    """
    if not proposal.purpose.increases_risk:
        return _judge_exit(proposal, gate, standing, market)
    if gate:
        return Refusal(rule=gate[0], detail=f"entries are closed: {', '.join(gate)}")
    limits = limits.in_force()
    refused = (
        _check_open(proposal, standing, market)
        or _check_cooldown(proposal, standing)
        or _check_counts(proposal, limits, standing)
    )
    if refused is not None:
        return refused
    return _sized(proposal, limits, standing, market)


def _judge_exit(proposal: Proposal, gate: tuple[str, ...], standing: Standing, market: Market) -> Verdict:
    if "lease_lost" in gate:
        return Refusal(rule="lease_lost", detail="another runtime owns the bot: nothing is sent")
    position = standing.position
    if position is None or (position.qty > 0) is (proposal.side is Side.BUY):
        return Refusal(rule="nothing_to_exit", detail=f"no position that a {proposal.side} would close")
    qty = floor_to_step(abs(position.qty), market.amount_step)
    if not qty or is_dust(qty, market, proposal.reference_price):
        return Refusal(rule="dust", detail=f"{plain(position.qty)} {market.base} is below what {market.symbol} takes")
    return Approval(qty=qty)


def _check_open(proposal: Proposal, standing: Standing, market: Market) -> Refusal | None:
    if proposal.side is Side.SELL and not market.allows_short:
        return Refusal(rule="short_not_allowed", detail=f"{market.symbol} can't be sold short")
    for state in standing.open_orders:
        order = state.order
        if order.purpose.increases_risk and order.strategy == proposal.strategy and not is_terminal(state.status):
            return Refusal(rule="entry_open", detail=f"order {order.client_order_id} is {state.status}")
    position = standing.position
    if position is not None and is_dust(position.qty, market, proposal.reference_price):
        position = None
    same_side = position is not None and (position.qty > 0) is (proposal.side is Side.BUY)
    if proposal.purpose is Purpose.PYRAMID:
        if not same_side or standing.exit_approved:
            return Refusal(rule="nothing_to_add_to", detail=f"no position that a {proposal.side} would add to")
        if proposal.layer in standing.layers_filled:  # it was decided before the last layer was known of
            return Refusal(rule="layer_filled", detail=f"the position has its layer {proposal.layer} already")
    elif position is not None and (same_side or not standing.exit_approved):
        return Refusal(rule="position_open", detail=f"{plain(position.qty)} {market.base} is held already")
    return None


def _check_cooldown(proposal: Proposal, standing: Standing) -> Refusal | None:
    cooldown = proposal.cooldown
    if cooldown is None or proposal.purpose is not Purpose.ENTRY:
        return None
    ended = None if standing.ended is None else standing.ended.get(cooldown.after)
    if ended is None or ended < cooldown.since:
        return None
    how = {CooldownAfter.ANY: "", CooldownAfter.LOSS: " with a loss", CooldownAfter.STOP: " by a stop"}[cooldown.after]
    detail = f"the last position ended{how} at {ended:%Y-%m-%dT%H:%M:%SZ}; {cooldown.bars} bars must close after that"
    return Refusal(rule="cooldown", detail=detail)


def _check_counts(proposal: Proposal, limits: RiskLimits, standing: Standing) -> Refusal | None:
    if proposal.purpose is Purpose.ENTRY and standing.other_positions >= limits.max_open_positions:
        detail = f"{standing.other_positions} positions of {limits.max_open_positions} are open"
        return Refusal(rule="max_open_positions", detail=detail)
    if limits.max_trades is not None and standing.trades_today >= limits.max_trades:
        detail = f"{standing.trades_today} trades of {limits.max_trades} were made this UTC day"
        return Refusal(rule="max_trades", detail=detail)
    return None


def _sized(proposal: Proposal, limits: RiskLimits, standing: Standing, market: Market) -> Verdict:
    sizing = proposal.sizing
    if sizing is None:
        return Refusal(rule="sizing_missing", detail="an entry says how much it wants")
    reference = price = proposal.reference_price
    limit = None
    if proposal.limit is not None:  # what it may cost is what it rests at, whatever the market does meanwhile
        limit = price = limit_price(proposal.limit, reference_price=reference, side=proposal.side, market=market)
        if not price > 0:
            return Refusal(rule="price_step", detail=f"a limit below one step of {plain(market.price_step)}")
    stop_fraction = None if proposal.protection is None else proposal.protection.stop_loss
    with localcontext(EXACT):
        room = standing.equity * limits.total_allocation - _exposure(standing, market, reference)
        cost = ONE + market.taker_fee
        if not room > 0:
            return Refusal(rule="funds", detail=f"no {market.quote} is free within the allocation")
        qty = quantity(
            sizing,
            reference_price=price,
            equity=standing.equity,
            stop_fraction=stop_fraction,
            market=market,
            max_notional=_cap(sizing, room, cost),
        )
        if isinstance(qty, SizeRefusal):
            return Refusal(rule=qty.rule, detail=qty.detail)
        held = ZERO if standing.position is None or proposal.purpose is not Purpose.PYRAMID else standing.position.qty
        if held and market.amount_max is not None and abs(held) + qty > market.amount_max:
            # One stop guards all of a position.
            detail = f"{plain(abs(held))} {market.base} held and {plain(qty)} more are beyond the largest order"
            return Refusal(rule="amount_max", detail=detail)
        needed = qty * price * cost
        if needed > room:
            detail = f"{plain(needed)} {market.quote} needed with its fee, {plain(room)} free within the allocation"
            return Refusal(rule="funds", detail=detail)
        # Without a stop nothing bounds the loss but the whole of what was bought.
        at_risk = qty * price * (ONE if stop_fraction is None else stop_fraction)
        if limits.max_risk_per_trade is not None and at_risk > standing.equity * limits.max_risk_per_trade:
            detail = f"{plain(at_risk)} {market.quote} at risk, {plain(limits.max_risk_per_trade)} of equity allowed"
            return Refusal(rule="max_risk_per_trade", detail=detail)
    return Approval(qty=qty, price=limit)


def _cap(sizing: Sizing, room: Decimal, cost: Decimal) -> Decimal | None:
    # A fraction of equity means as much as there is room for: all of it must leave some for its fee. A fixed size is
    # meant as it stands, and trading less of it would be another strategy.
    return divide(room, cost) if sizing.kind in GROWS_WITH_EQUITY else None


def _exposure(standing: Standing, market: Market, price: Decimal) -> Decimal:
    position_qty = ZERO if standing.position is None else standing.position.qty
    open_orders: Iterable[OrderState] = standing.open_orders
    if standing.exit_approved:
        position_qty = ZERO
        open_orders = [state for state in open_orders if state.order.purpose.increases_risk]
    both = worst_exposure(position_qty, open_orders, enforces_reduce_only=market.enforces_reduce_only)
    return max(both) * price + standing.other_exposure
