"""Many seeds over several processes, and what they came to together.

Each worker takes chunks of seeds from a pipe until it is closed, so that none outlives the process that started it,
however that ended. A seed depends on nothing but itself: the result is the same with any number of workers.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from tbh.campaign.scenarios import SCENARIOS
from tbh.simulation.outcome import Coverage, Outcome, Violation

CHUNK_MAX: Final = 25
"""Seeds that a worker runs before it reports: some two seconds of work."""
VIOLATIONS_MAX: Final = 200
"""Violations kept in full; more are only counted."""
LOOK_S: Final = 0.25


@dataclass(slots=True)
class Totals:
    """The seeds ``asked`` for, how many were run, and their sums.

    ``fingerprint`` is the sum of a hash of each seed and its digest: whatever the order of the runs, two campaigns went
    alike in every seed if and only if it is equal.
    ``violated`` counts the seeds with a violation, ``slowest_s`` and ``slowest_seed`` name the one that took longest.
    """

    asked: int
    seeds: int = 0
    messages: int = 0
    orders: int = 0
    boots: int = 0
    virtual_s: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0
    violated: int = 0
    slowest_s: float = 0.0
    slowest_seed: int | None = None
    fingerprint: int = 0
    violations: list[Violation] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def digest(self) -> str:
        return f"{self.fingerprint % 2**256:064x}"

    def add(self, more: Totals) -> None:
        """Take in the sums of other seeds."""
        for name in ("seeds", "messages", "orders", "boots", "virtual_s", "cpu_s", "violated", "fingerprint"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        if more.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest_seed = more.slowest_s, more.slowest_seed
        self.violations += more.violations[: VIOLATIONS_MAX - len(self.violations)]
        self.coverage.add(more.coverage)

    def take(self, outcome: Outcome, cpu_s: float) -> None:
        """Take in one seed, which cost ``cpu_s`` of a processor's time."""
        self.seeds += 1
        self.messages += outcome.messages
        self.orders += outcome.orders
        self.boots += outcome.boots
        self.virtual_s += outcome.virtual_s
        self.cpu_s += cpu_s
        self.violated += bool(outcome.violations)
        hashed = hashlib.sha256(f"{outcome.seed}:{outcome.digest}".encode()).digest()
        self.fingerprint += int.from_bytes(hashed, "big")
        if cpu_s > self.slowest_s:
            self.slowest_s, self.slowest_seed = cpu_s, outcome.seed
        self.violations += outcome.violations
        self.coverage.add(outcome.coverage)


class WorkerDied(Exception):
    """A worker process ended before it had answered; ``str`` names the seeds that it was at."""


def run_seeds(
    seeds: range,
    *,
    scenario: str | None = None,
    jobs: int = 0,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[Totals], None] = lambda _: None,
) -> Totals:
    """Run ``seeds`` on ``jobs`` processes (0: one for each core that we may use; 1: this one).

    ``progress`` is told of the sums several times a second, ``stopped`` asked as often; what was run until then counts.
    Raises ``KeyError`` for a scenario that is none, ``WorkerDied`` when a process was lost.
    """
    if scenario is not None:
        SCENARIOS[scenario]
    began_s = time.monotonic()
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(seeds) or 1)
    size = max(1, min(CHUNK_MAX, len(seeds) // (jobs * 4)))
    chunks = deque(seeds[start : start + size] for start in range(0, len(seeds), size))
    totals = Totals(asked=len(seeds))
    for done in _results(chunks, scenario, jobs, stopped):
        if done is not None:
            totals.add(done)
        totals.seconds = time.monotonic() - began_s
        progress(totals)
    totals.violations.sort(key=lambda violation: (violation.seed, violation.at_ns))
    return totals


def run_chunk(seeds: range, scenario: str | None) -> Totals:
    """Run ``seeds`` in this process, one after the other."""
    totals = Totals(asked=len(seeds))
    for seed in seeds:
        began_s = time.process_time()
        outcome = outcome_of(seed, scenario)
        totals.take(outcome, time.process_time() - began_s)
    return totals


def outcome_of(seed: int, scenario: str | None = None) -> Outcome:
    """Run one seed. A simulation that fails itself is a violation like any other: the seed has shown nothing."""
    from tbh.campaign.world import run_seed  # noqa: PLC0415 - the parent of the workers needs no world

    try:
        return run_seed(seed, scenario=None if scenario is None else SCENARIOS[scenario])
    except Exception as error:  # noqa: BLE001 - one broken seed must not end the others, nor pass for a clean one
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else f" ({trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno})"
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
        failed = Violation(seed=seed, invariant="the_simulation_runs", detail=detail, at_ns=0)
        return Outcome(seed=seed, messages=0, orders=0, digest=detail, virtual_s=0.0, boots=0, violations=[failed])


# -- processes


def _results(
    chunks: deque[range], scenario: str | None, jobs: int, stopped: Callable[[], bool]
) -> Iterator[Totals | None]:
    """The sums of each chunk; now and then None, so that the caller can look around."""
    if jobs == 1:
        while chunks and not stopped():
            yield run_chunk(chunks.popleft(), scenario)
        return
    with _workers(jobs, scenario) as workers:
        under_way: dict[Connection, range] = {}
        for worker in workers:
            _hand_out(worker, chunks, under_way)
        while under_way and not stopped():
            ready = wait(list(under_way), timeout=LOOK_S)
            if not ready:
                yield None
            for worker in workers:
                if worker in ready:
                    done = _receive(worker, under_way.pop(worker))
                    _hand_out(worker, chunks, under_way)
                    yield done


def _hand_out(worker: Connection, chunks: deque[range], under_way: dict[Connection, range]) -> None:
    if chunks:
        under_way[worker] = chunks.popleft()
        worker.send(under_way[worker])


def _receive(worker: Connection, chunk: range) -> Totals:
    try:
        done: Totals = worker.recv()
    except (EOFError, OSError) as error:
        raise WorkerDied(f"a worker died at seeds {chunk.start} to {chunk.stop - 1}") from error
    return done


@contextmanager
def _workers(jobs: int, scenario: str | None) -> Iterator[list[Connection]]:
    """``jobs`` processes, each behind a pipe; they are gone when this ends, whatever they were at."""
    # A fresh interpreter each: a fork would take along threads and signal handlers of whoever calls.
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: list[Connection] = []
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, scenario), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.terminate()
            process.join()
            process.close()


def _work(pipe: Connection, scenario: str | None) -> None:
    import signal  # noqa: PLC0415 - for workers alone

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal's processes; the parent ends us
    while True:
        try:
            pipe.send(run_chunk(pipe.recv(), scenario))
        except (EOFError, BrokenPipeError):
            return  # nobody asks any more
