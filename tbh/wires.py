"""Small connections between parts that do not know each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from tbh.messages.health import Severity
from tbh.messages.market import Candle
from tbh.messages.orders import Order
from tbh.ports import Exchange, Feed, FeedStep, Lease, OrderReport, Rejected, Rpc
from tbh.runtime.clock import process_clock
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.threads import ThreadHost
from tbh.tree import LOCAL_CALLS

Through = Callable[[str, Any], Any]
"""(name of the port, the port) -> how an actor reaches it."""


class Counted:
    """A database that counts what it is asked, by method, and remembers how long its last lease lasts."""

    def __init__(self, rpc: Rpc) -> None:
        self.calls: Counter[str] = Counter()
        self._rpc = rpc
        self._leased_until_s: float | None = None

    def lease_holds(self) -> bool:
        """Whether the last lease that the database gave or renewed is not over; False before the first."""
        return self._leased_until_s is not None and process_clock() < self._leased_until_s

    def __getattr__(self, method: str) -> Any:
        asked = getattr(self._rpc, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[method] += 1
            asked_s = process_clock()
            answer = asked(*args, **kwargs)
            lease = answer[0] if method == "heartbeat" else answer
            if isinstance(lease, Lease):
                self._leased_until_s = asked_s + lease.expires_in_s
            return answer

        return call if callable(asked) else asked


class RpcNotices:
    """People are told through the database: the platform shows its notifications, and mails what is critical."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def send(self, *, severity: str, kind: str, text: str, key: str) -> None:
        payload = {"severity": severity, "kind": kind, "text": text}
        self._rpc.notify(channel="in_app", payload=payload, key=key)
        if severity == Severity.CRITICAL.value:
            self._rpc.notify(channel="email", payload=payload, key=key)


class SeenFeed:
    """A live feed that remembers the last price and counts the bars that closed under its eyes."""

    def __init__(self, feed: Feed) -> None:
        self.symbol = feed.symbol
        self.timeframe_s = feed.timeframe_s
        self.bars = 0
        self.price: Decimal | None = None
        self._feed = feed

    def history(self) -> Sequence[Candle]:
        return self._feed.history()

    def poll(self) -> Sequence[FeedStep] | None:
        steps = self._feed.poll()
        for step in steps or ():
            self.price = step.price
            self.bars += step.candle is not None
        return steps


class Unarmed:
    """An account that is only looked at: whatever would change it is refused, with the reason."""

    def __init__(self, exchange: Exchange, reason: str) -> None:
        self._exchange = exchange
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def place(self, order: Order, *, timeout_s: float, deadline_s: float | None = None) -> OrderReport:
        raise Rejected("not_armed", detail=self._reason)

    def cancel(self, client_order_id: str, symbol: str, *, timeout_s: float) -> OrderReport:
        raise Rejected("not_armed", detail=self._reason)


class Borrowed:
    """The paper account lives in this process: an escalation uses it as it is, and leaves it open."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def close(self) -> None:
        """Not ours to close."""


class LatePort:
    """A port whose simulator does not exist yet when the tree is described."""

    def __init__(self, simulator: Callable[[], Any], target: Any, name: str) -> None:
        self._simulator = simulator
        self._target = target
        self._name = name

    def __getattr__(self, method: str) -> Any:
        value = getattr(self._target, method)
        if method in LOCAL_CALLS[self._name] or not callable(value):
            return value
        simulator, name = self._simulator(), self._name
        return lambda *args, **kwargs: simulator.call(name, method, lambda: value(*args, **kwargs))


def make_host(kind: str, tree: Callable[[Through], tuple[ChildSpec, ...]], **arguments: Any) -> Any:
    """A host for ``tree``, which is given how to reach a port: directly (``threads``), or late (``simulator``).

    ``arguments`` are those that both hosts take.
    """
    if kind == "threads":
        return ThreadHost(tree(lambda _name, port: port), **arguments)
    from tbh.runtime.simulate import Simulator  # noqa: PLC0415  # greenlet is an extra: a live bot has none

    simulator: Simulator

    def late(name: str, port: Any) -> Any:
        return LatePort(lambda: simulator, port, name)

    simulator = Simulator(tree(late), **arguments)
    return simulator
