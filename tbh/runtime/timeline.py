"""Virtual time: what is due when, in an order that the seed decides and any run repeats."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from tbh.runtime.mailbox import Envelope

NS = 1_000_000_000
TIE_BITS = 12
_TIE_MASK = (1 << TIE_BITS) - 1
_HOP_MIN_NS = 5_000
_HOP_BITS = 16  # up to 65 µs more
_PORT_MIN_NS = 50_000
_PORT_BITS = 20  # up to 1 ms more

Entry = tuple[int, int, Any, Any]
"""(key, number, receiver, envelope) or (key, number, act, its arguments); the key is ``ns << TIE_BITS | tie``. The
number keeps two entries from being compared further: a delivery's is its seq, an act's is negative."""


class Timeline:
    """A heap of deliveries and acts. ``now_ns`` is moved by whoever pops it."""

    __slots__ = ("_acts", "_bits", "heap", "now_ns")

    def __init__(self, seed: int | str) -> None:
        self.now_ns = 0
        self.heap: list[Entry] = []
        self._bits = random.Random(f"{seed}/order").getrandbits
        self._acts = 0

    def send(self, receiver: Any, last_key: dict[str, int], envelope: Envelope) -> None:
        """Due after a hop of 5 to 70 µs, and behind the sender's last one to this receiver (``last_key``)."""
        bits = self._bits(_HOP_BITS + TIE_BITS)
        key = ((self.now_ns + _HOP_MIN_NS + (bits >> TIE_BITS)) << TIE_BITS) | (bits & _TIE_MASK)
        sender = envelope.sender
        last = last_key.get(sender, 0)
        if key <= last:
            key = last + 1
        last_key[sender] = key
        heapq.heappush(self.heap, (key, envelope.seq, receiver, envelope))

    def after(self, delay_ns: int, act: Callable[..., Any], *args: Any) -> None:
        """Call ``act`` when ``delay_ns`` have passed; acts due at the same instant come in any order."""
        self._acts -= 1
        key = ((self.now_ns + delay_ns) << TIE_BITS) | self._bits(TIE_BITS)
        heapq.heappush(self.heap, (key, self._acts, act, args))

    def after_port(self, act: Callable[..., Any], *args: Any) -> None:
        """One way of a port call: 50 µs to 1.1 ms."""
        self.after(_PORT_MIN_NS + self._bits(_PORT_BITS), act, *args)
