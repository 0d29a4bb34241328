"""What the kernel costs, beside bare pykka and a bare queue.

Throughput: one thread sends, one actor receives. One way: the sender's clock is in the message and the receiver reads
it again; the sender pauses between messages, so the receiver is asleep each time. Busy: the same, beside a thread that
computes in pure Python and gives the interpreter away only when asked to.

The rounds of a pair follow each other closely and the medians of the rounds are reported, so that what else the
machine does hits both.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pykka

from tbh.messages.base import Fact, message
from tbh.runtime.actor import Actor, receive
from tbh.runtime.simulate import Simulator
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.threads import SWITCH_INTERVAL_S, ThreadHost

HELP = "message rate and one-way latency of a cell on pykka, and the simulator's rate"

PAUSE_S = 0.0005
DEADLINE_S = 60.0
INTERPRETERS_INTERVAL_S = 0.005
WAITING_MAX = 1_000_000
RING = 8
"""Actors in the simulated tree."""


@message
class Sample(Fact):
    """``at_ns``: when it was sent, on the performance counter."""

    at_ns: int


class _Sink:
    """Records what arrives, and says when all of it has."""

    def __init__(self, awaited: int) -> None:
        self.latencies_us: list[float] = []
        self.complete = threading.Event()
        self._awaited = awaited
        self._count = 0

    def count(self) -> None:
        self._count += 1
        if self._count == self._awaited:
            self.complete.set()

    def record(self, sample: Sample) -> None:
        self.latencies_us.append((time.perf_counter_ns() - sample.at_ns) / 1_000)
        self.count()


Deliver = Callable[[Sample], None]


@contextmanager
def _cell(take: Deliver) -> Iterator[Deliver]:
    class Receiver(Actor):
        @receive
        def on_sample(self, sample: Sample) -> None:
            take(sample)

    spec = ChildSpec(name="receiver", actor=Receiver, factory=Receiver, max_waiting=WAITING_MAX)
    host = ThreadHost([spec], external=(Sample,))
    host.start()
    yield host.publish
    host.stop()


@contextmanager
def _pykka(take: Deliver, *, interval_s: float = SWITCH_INTERVAL_S) -> Iterator[Deliver]:
    class Receiver(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_receive(self, message: Sample) -> None:
            take(message)

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    ref = Receiver.start()
    yield ref.tell
    ref.stop()
    sys.setswitchinterval(before_s)


@contextmanager
def _pykka_unhurried(take: Deliver) -> Iterator[Deliver]:
    with _pykka(take, interval_s=INTERPRETERS_INTERVAL_S) as deliver:
        yield deliver


@contextmanager
def _queue(take: Deliver) -> Iterator[Deliver]:
    items: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()

    def read() -> None:
        while (sample := items.get()) is not None:
            take(sample)

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield items.put
    items.put(None)
    reader.join()
    sys.setswitchinterval(before_s)


@contextmanager
def _computing() -> Iterator[None]:
    ended = False

    def compute() -> None:
        x = 1
        while not ended:
            x = x * 31 % 1_000_003

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    yield
    ended = True
    thread.join()


Peer = Callable[[Deliver], AbstractContextManager[Deliver]]


def _rate(peer: Peer, count: int) -> float:
    sink = _Sink(count)
    sample = Sample(at_ns=0)
    with peer(lambda _sample: sink.count()) as deliver:
        started_s = time.perf_counter()
        for _ in range(count):
            deliver(sample)
        if not sink.complete.wait(DEADLINE_S):
            raise TimeoutError(f"{count} messages did not arrive within {DEADLINE_S:g} s")
        return count / (time.perf_counter() - started_s)


def _latencies_us(peer: Peer, count: int) -> list[float]:
    sink = _Sink(count)
    with peer(sink.record) as deliver:
        for _ in range(count):
            time.sleep(PAUSE_S)
            deliver(Sample(at_ns=time.perf_counter_ns()))
        if not sink.complete.wait(DEADLINE_S):
            raise TimeoutError(f"{count} messages did not arrive within {DEADLINE_S:g} s")
    return sink.latencies_us


def _node(takes: type[Fact], gives: type[Fact]) -> type[Actor]:
    outgoing = gives()

    class Node(Actor):
        sends = (gives,)

        def on_hop(self, hop: Fact) -> None:
            self.ctx.send(outgoing)

    Node.on_hop.__annotations__ = {"hop": takes, "return": None}
    receive(Node.on_hop)
    return Node


def _simulator_rate(seconds: float) -> float:
    """Messages per second around a ring of actors, each passing on what it gets; the hash is always on."""
    hops: list[type[Fact]] = [message(type(f"Hop{i}", (Fact,), {})) for i in range(RING)]
    nodes = [_node(hops[i], hops[(i + 1) % RING]) for i in range(RING)]
    specs = [ChildSpec(name=f"node{i}", actor=node, factory=node) for i, node in enumerate(nodes)]
    simulator = Simulator(specs, external=hops)
    simulator.start()
    for hop in hops:
        simulator.publish(hop())
    started_s = time.perf_counter()
    simulator.run(for_s=1e9, done=lambda: simulator.messages % 1_000 == 0 and time.perf_counter() - started_s > seconds)
    return simulator.messages / (time.perf_counter() - started_s)


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Rates in messages per second, latencies in µs."""
    rounds, messages, samples = (3, 5_000, 100) if args.quick else (7, 40_000, 400)
    rates: dict[str, list[float]] = {"cell": [], "pykka": []}
    idle: dict[str, list[float]] = {"cell": [], "pykka": [], "queue": []}
    busy: dict[str, list[float]] = {"cell": [], "pykka": [], "unhurried": []}
    for _ in range(rounds):
        for name, peer in (("cell", _cell), ("pykka", _pykka)):
            rates[name].append(_rate(peer, messages))
        for name, peer in (("cell", _cell), ("pykka", _pykka), ("queue", _queue)):
            idle[name] += _latencies_us(peer, samples)
        with _computing():
            for name, peer in (("cell", _cell), ("pykka", _pykka)):
                busy[name] += _latencies_us(peer, samples)
            busy["unhurried"] += _latencies_us(_pykka_unhurried, max(samples // 10, 10))
    simulated = [_simulator_rate(0.1 if args.quick else 0.4) for _ in range(rounds)]
    return {
        "cell_msgs_per_s": round(statistics.median(rates["cell"])),
        "pykka_msgs_per_s": round(statistics.median(rates["pykka"])),
        "rate_ratio": round(statistics.median(a / b for a, b in zip(rates["cell"], rates["pykka"], strict=True)), 3),
        "one_way_us_p50": round(_percentile(idle["cell"], 0.5), 1),
        "one_way_us_p99": round(_percentile(idle["cell"], 0.99), 1),
        "pykka_us_p50": round(_percentile(idle["pykka"], 0.5), 1),
        "queue_us_p50": round(_percentile(idle["queue"], 0.5), 1),
        "busy_us_p99": round(_percentile(busy["cell"], 0.99), 1),
        "busy_pykka_us_p99": round(_percentile(busy["pykka"], 0.99), 1),
        "busy_pykka_5ms_us_p99": round(_percentile(busy["unhurried"], 0.99), 1),
        "switch_interval_us": round(SWITCH_INTERVAL_S * 1e6),
        "simulator_msgs_per_s": round(statistics.median(simulated)),
    }
