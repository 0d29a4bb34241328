"""How one call to the exchange fares: when it arrives, whether it takes effect, and what the caller hears of it.

The fate is drawn when the call is made. Times are virtual nanoseconds from then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from tbh.messages.base import frozen
from tbh.ports import Defer, Failure, Unavailable, Unknown
from tbh.simulation.faults import FaultKind

NS: Final = 1_000_000_000

READS_SCALE: Final = 0.5
"""How often a call is struck that only reads, as a part of the rate."""

Strikes = Callable[..., bool]
"""(kind, ``scale``) -> whether it strikes at this opportunity, with so many times its rate."""


@frozen
class Fate:
    """``arrives_ns`` None: the request never arrives. ``answer_ns`` is the way of the answer after the effect, None: it
    is lost. ``instead``: what the caller is told ``answer_ns`` after the arrival (or after the call, for one that never
    arrives), whatever the effect was. ``again_ns``: when it arrives a second time. ``kinds`` are the faults in it.
    """

    arrives_ns: int | None
    answer_ns: int | None
    instead: Failure | None = None
    again_ns: int | None = None
    empty: bool = False
    kinds: tuple[FaultKind, ...] = ()


class Network:
    """The way to the exchange and back. ``latency_s`` is the seed's usual one way; ``window_s`` the exchange's receive
    window, by which late requests are measured; ``knows`` says which faults may strike at all; ``away``: for now the
    exchange takes no requests."""

    def __init__(
        self,
        rng: random.Random,
        strikes: Strikes,
        *,
        latency_s: float,
        window_s: float,
        knows: Callable[[FaultKind], bool] = lambda _: True,
    ) -> None:
        self._rng = rng
        self._strikes = strikes
        self._latency_ns = int(latency_s * NS)
        self._window_s = window_s
        self._may = frozenset(kind for kind in _KINDS if knows(kind))
        self._fails = tuple((kind, fare) for kind, fare in _FAILS if kind in self._may)
        self.faulty = True
        self.away = False

    def fate(self, *, writes: bool, places: bool, timeout_s: float) -> Fate:
        """What becomes of a call; ``writes``: one that changes the account, ``places``: one that brings an order."""
        random_ = self._rng.random
        out_ns = int(self._latency_ns * (0.5 + random_()))
        back_ns = int(self._latency_ns * (0.5 + random_()))
        if not self.faulty:
            return Fate(arrives_ns=out_ns, answer_ns=back_ns)
        if self.away:
            gone: Failure = Unavailable("maintenance", detail="simulated")
            if random_() < 0.5:
                gone = Unknown("connection_reset", detail="simulated")
            return Fate(arrives_ns=None, answer_ns=back_ns, instead=gone)
        scale = 1.0 if writes else READS_SCALE
        for kind, fare in self._fails:
            if self._strikes(kind, scale=scale):
                return fare(self, out_ns, back_ns, timeout_s)
        if self._may.isdisjoint(_SLOWS):
            return Fate(arrives_ns=out_ns, answer_ns=back_ns)
        return self._slow(out_ns, back_ns, partial(self._strikes, scale=scale), writes=writes, places=places)

    def _refused(self, _out_ns: int, back_ns: int, _timeout_s: float) -> Fate:
        refused = Unavailable("connection_refused", detail="simulated")
        return Fate(arrives_ns=None, answer_ns=back_ns, instead=refused, kinds=(FaultKind.REQUEST_REFUSED,))

    def _limited(self, _out_ns: int, back_ns: int, _timeout_s: float) -> Fate:
        defer = Defer("rate_limited", after_s=round(self._rng.uniform(0.2, 2.0), 3))
        return Fate(arrives_ns=None, answer_ns=back_ns, instead=defer, kinds=(FaultKind.RATE_LIMITED,))

    def _server_error(self, out_ns: int, back_ns: int, _timeout_s: float) -> Fate:
        error, effective = Unknown("server_error", detail="503"), self._rng.random() < 0.5
        arrives_ns = out_ns if effective else None
        return Fate(arrives_ns=arrives_ns, answer_ns=back_ns, instead=error, kinds=(FaultKind.SERVER_ERROR,))

    def _request_lost(self, _out_ns: int, _back_ns: int, timeout_s: float) -> Fate:
        return self._silence(None, timeout_s, FaultKind.REQUEST_LOST)

    def _reply_lost(self, out_ns: int, _back_ns: int, timeout_s: float) -> Fate:
        return self._silence(out_ns, timeout_s, FaultKind.REPLY_LOST)

    def _slow(self, out_ns: int, back_ns: int, strikes: Strikes, *, writes: bool, places: bool) -> Fate:
        kinds: list[FaultKind] = []
        again_ns: int | None = None
        if strikes(FaultKind.REQUEST_LATE):
            kinds.append(FaultKind.REQUEST_LATE)
            out_ns += int(self._rng.uniform(0.2, 1.6) * self._window_s * NS)
        if strikes(FaultKind.REPLY_LATE):
            kinds.append(FaultKind.REPLY_LATE)
            back_ns += int(self._rng.uniform(0.1, 3.0) * NS)
        if writes and strikes(FaultKind.REQUEST_DOUBLED):
            kinds.append(FaultKind.REQUEST_DOUBLED)
            again_ns = out_ns + int(self._rng.uniform(0.0, 1.2) * self._window_s * NS)
        empty = places and strikes(FaultKind.EMPTY_ANSWER)
        if empty:
            kinds.append(FaultKind.EMPTY_ANSWER)
        return Fate(arrives_ns=out_ns, answer_ns=back_ns, again_ns=again_ns, empty=empty, kinds=tuple(kinds))

    def _silence(self, arrives_ns: int | None, timeout_s: float, kind: FaultKind) -> Fate:
        """Nobody answers: the caller gives up, or its connection breaks before that."""
        if self._rng.random() < 0.12:
            return Fate(arrives_ns=arrives_ns, answer_ns=None, kinds=(kind,))
        broken_ns = int(self._rng.uniform(0.01, min(timeout_s, 1.5)) * NS)
        reset = Unknown("connection_reset", detail="simulated")
        return Fate(arrives_ns=arrives_ns, answer_ns=broken_ns, instead=reset, kinds=(kind,))


_FAILS: Final[tuple[tuple[FaultKind, Callable[[Network, int, int, float], Fate]], ...]] = (
    (FaultKind.REQUEST_REFUSED, Network._refused),
    (FaultKind.RATE_LIMITED, Network._limited),
    (FaultKind.SERVER_ERROR, Network._server_error),
    (FaultKind.REQUEST_LOST, Network._request_lost),
    (FaultKind.REPLY_LOST, Network._reply_lost),
)
"""What keeps a call from its answer, in the order in which it is asked for; each (out, back, time-out) -> its fate."""
_SLOWS: Final = frozenset(
    {FaultKind.REQUEST_LATE, FaultKind.REPLY_LATE, FaultKind.REQUEST_DOUBLED, FaultKind.EMPTY_ANSWER}
)
_KINDS: Final = _SLOWS | {kind for kind, _ in _FAILS}
