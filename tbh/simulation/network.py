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
    window, by which late requests are measured; ``away``: for now the exchange takes none."""

    def __init__(self, rng: random.Random, strikes: Strikes, *, latency_s: float, window_s: float) -> None:
        self._rng = rng
        self._strikes = strikes
        self._latency_ns = int(latency_s * NS)
        self._window_s = window_s
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
        strikes = partial(self._strikes, scale=1.0 if writes else READS_SCALE)
        if strikes(FaultKind.REQUEST_REFUSED):
            refused = Unavailable("connection_refused", detail="simulated")
            return Fate(arrives_ns=None, answer_ns=back_ns, instead=refused, kinds=(FaultKind.REQUEST_REFUSED,))
        if strikes(FaultKind.RATE_LIMITED):
            defer = Defer("rate_limited", after_s=round(self._rng.uniform(0.2, 2.0), 3))
            return Fate(arrives_ns=None, answer_ns=back_ns, instead=defer, kinds=(FaultKind.RATE_LIMITED,))
        if strikes(FaultKind.SERVER_ERROR):
            error, effective = Unknown("server_error", detail="503"), random_() < 0.5
            arrives_ns = out_ns if effective else None
            return Fate(arrives_ns=arrives_ns, answer_ns=back_ns, instead=error, kinds=(FaultKind.SERVER_ERROR,))
        if strikes(FaultKind.REQUEST_LOST):
            return self._silence(None, timeout_s, FaultKind.REQUEST_LOST)
        if strikes(FaultKind.REPLY_LOST):
            return self._silence(out_ns, timeout_s, FaultKind.REPLY_LOST)
        return self._slow(out_ns, back_ns, strikes, writes=writes, places=places)

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
