"""What a market brings into a session: its account and its feed, its clock, and how it is driven."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from typing import Any

from tbh.infra.restored import Remembered
from tbh.messages.market import Market
from tbh.ports import Exchange, Feed, Rpc


class MarketSide(ABC):
    """``_connect`` sets ``market``, ``exchange``, ``feed`` and ``cash`` (quote, at the account's beginning)."""

    market: Market
    exchange: Exchange
    feed: Feed
    cash: Decimal

    @abstractmethod
    def now(self) -> datetime:
        """Market time."""

    @abstractmethod
    def _connect(self, opened: ExitStack, remembered: Remembered) -> None:
        """Open the account and the market; ``opened`` closes them when the rest can't be opened."""

    @abstractmethod
    def _own_rpc(self) -> Rpc:
        """What stands for the database where there is none."""

    @abstractmethod
    def _own_exchange(self) -> Exchange:
        """A connection for an escalation, which asks no actor and waits for none."""

    def _host_options(self) -> dict[str, Any]:
        """What else the host is told."""
        return {}

    def _parts(self) -> dict[str, Any]:
        """What else the tree is made of."""
        return {}

    @abstractmethod
    def _hold(self) -> None:
        """Let the market move on no more; safe in a signal handler."""

    @abstractmethod
    def _leave_market(self) -> None:
        """Before an ordered stop: take off the market what must not stand there while nobody watches."""

    @abstractmethod
    def _run_for(self, seconds: float) -> None:
        """Let the tree run for about so long, and see to the market."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the market is over, or as many bars have closed as were asked for."""

    @property
    @abstractmethod
    def bars(self) -> int:
        """Bars that have closed, the history included."""

    @property
    @abstractmethod
    def bars_at_start(self) -> int:
        """Those of them that had closed before the session."""

    @property
    @abstractmethod
    def bars_total(self) -> int:
        """How many there will be; 0 where nobody knows."""

    @property
    @abstractmethod
    def mark(self) -> Decimal | None:
        """The last price."""

    @abstractmethod
    def _close_market(self) -> None:
        """Close what ``_connect`` opened beside the account."""

    def about(self) -> dict[str, Any]:
        """What the report says of the market."""
        return {}
