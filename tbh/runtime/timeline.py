"""Virtual time: what is due when, in an order that the seed decides and any run repeats."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from heapq import heappush
from typing import Any, Protocol

from tbh.messages.base import Message
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


class Taker(Protocol):
    """Who receives what is sent; ``last_key`` holds, by sender, where the last one lies on the heap."""

    name: str
    last_key: dict[str, int]


class Timeline:
    """A heap of deliveries and acts. ``now_ns`` is moved by whoever pops it; ``acting`` is the process whose code runs,
    None for the world's own."""

    __slots__ = ("_acts", "_bits", "acting", "heap", "now_ns")

    def __init__(self, seed: int | str) -> None:
        self.now_ns = 0
        self.acting: Process | None = None
        self.heap: list[Entry] = []
        self._bits = random.Random(f"{seed}/order").getrandbits
        self._acts = 0

    def send(self, takers: Iterable[Taker], sender: str, message: Message, cause: int, seq: int) -> int:
        """Due at each of the takers after a hop of 5 to 70 µs of its own, and behind the sender's last one to it. The
        envelopes are numbered from ``seq`` on; the last number."""
        heap, bits, soonest_ns = self.heap, self._bits, self.now_ns + _HOP_MIN_NS
        for taker in takers:
            seq += 1
            drawn = bits(_HOP_BITS + TIE_BITS)
            key = ((soonest_ns + (drawn >> TIE_BITS)) << TIE_BITS) | (drawn & _TIE_MASK)
            last_key = taker.last_key
            if sender in last_key and key <= last_key[sender]:
                key = last_key[sender] + 1
            last_key[sender] = key
            heappush(heap, (key, seq, taker, Envelope(seq, sender, taker.name, cause, message)))
        return seq

    def after(self, delay_ns: int, act: Callable[..., Any], *args: Any) -> None:
        """Call ``act`` when ``delay_ns`` have passed; acts due at the same instant come in any order."""
        self._acts -= 1
        key = ((self.now_ns + delay_ns) << TIE_BITS) | self._bits(TIE_BITS)
        heappush(self.heap, (key, self._acts, act, args))

    def exactly(self, delay_ns: int, act: Callable[..., Any], *args: Any) -> None:
        """The same, but before whatever else is due at that instant."""
        self._acts -= 1
        heappush(self.heap, ((self.now_ns + delay_ns) << TIE_BITS, self._acts, act, args))

    def after_port(self, act: Callable[..., Any], *args: Any) -> None:
        """One way of a port call: 50 µs to 1.1 ms."""
        self.after(_PORT_MIN_NS + self._bits(_PORT_BITS), act, *args)


class Process:
    """One simulated process on a timeline: it takes part, stands still (as after SIGSTOP), or is dead. ``out`` is true
    in the last two."""

    __slots__ = ("_late", "_time", "dead", "name", "out")

    def __init__(self, time: Timeline, name: str = "") -> None:
        self.name = name
        self.dead = False
        self.out = False
        self._time = time
        self._late: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def end(self) -> None:
        """It takes nothing any more."""
        self.dead = self.out = True
        self._late.clear()

    def stand_still(self) -> None:
        """Stop where it is: whatever comes to it waits, while the world and its clocks go on."""
        self.out = True

    def go_on(self) -> None:
        """The end of ``stand_still``: what has come is taken now, in its order. A dead one stays dead."""
        if self.dead:
            return
        self.out = False
        late, self._late = self._late, []
        for number, (act, args) in enumerate(late):
            self._time.exactly(number, act, *args)

    def misses(self, act: Callable[..., Any], *args: Any) -> bool:
        """Whether it does not take part in ``act`` now; when it stands still, it will as soon as it goes on."""
        if self.out and not self.dead:
            self._late.append((act, args))
        return self.out
