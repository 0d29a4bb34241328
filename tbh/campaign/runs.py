"""Many seeds over several processes, and what they came to together.

Each worker takes chunks of seeds from a pipe until it is closed, so that none outlives the process that started it by
more than a seed, however that ended. A seed depends on nothing but itself: the result is the same with any number of
workers.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from tbh.campaign.scenarios import SCENARIOS
from tbh.simulation.outcome import Coverage, Outcome, Violation

CHUNK_MAX: Final = 25
"""Seeds that a worker runs before it reports: some two seconds of work."""
CHUNKS_MAX: Final = 4
"""After so many a worker ends, and another takes its place: what its worlds leave behind (0.7 MB a seed) goes with it,
where to collect it took 7 % of the time."""
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


def run_chunk(seeds: range, scenario: str | None, *, stopped: Callable[[], bool] = lambda: False) -> Totals:
    """Run ``seeds`` in this process, one after the other, until ``stopped``, which is asked before each."""
    totals = Totals(asked=len(seeds))
    for seed in seeds:
        if stopped():
            break
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
    with _Workers(jobs, scenario) as workers:
        under_way: dict[Connection, range] = {}
        for _ in range(jobs):
            workers.hand_out(chunks, under_way)
        while under_way and not stopped():
            ready = wait(list(under_way), timeout=LOOK_S)
            if not ready:
                yield None
            for worker in [worker for worker in under_way if worker in ready]:
                done = _receive(worker, under_way.pop(worker))
                workers.give_back(worker)
                workers.hand_out(chunks, under_way)
                yield done


def _receive(worker: Connection, chunk: range) -> Totals:
    try:
        done: Totals = worker.recv()
    except (EOFError, OSError) as error:
        raise _died_at(chunk) from error
    return done


def _died_at(chunk: range) -> WorkerDied:
    return WorkerDied(f"a worker died at seeds {chunk.start} to {chunk.stop - 1}")


class _Workers:
    """At most ``jobs`` processes, each behind a pipe; they are gone when the context is left, whatever they were at."""

    def __init__(self, jobs: int, scenario: str | None) -> None:
        self._scenario = scenario
        self._processes: dict[Connection, BaseProcess] = {}
        self._left: dict[Connection, int] = {}
        self._free: list[Connection] = []
        self._context = _context()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in list(self._processes):
            self._end(pipe)

    def hand_out(self, chunks: deque[range], under_way: dict[Connection, range]) -> None:
        """The next chunk goes to one that is free, or to a new one."""
        if chunks:
            worker = self._free.pop() if self._free else self._start()
            under_way[worker] = chunk = chunks.popleft()
            try:
                worker.send(chunk)
            except OSError as error:
                raise _died_at(chunk) from error

    def give_back(self, worker: Connection) -> None:
        """It has answered."""
        self._left[worker] -= 1
        if self._left[worker]:
            self._free.append(worker)
        else:
            self._end(worker)

    def _start(self) -> Connection:
        ours: Connection
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._scenario), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours], self._left[ours] = process, CHUNKS_MAX
        return ours

    def _end(self, pipe: Connection) -> None:
        process = self._processes.pop(pipe)
        pipe.close()
        process.terminate()
        process.join()
        process.close()


def _context() -> Any:
    """Workers that are forked from a fresh process which has loaded all they need; where there is no such thing, each
    is a fresh interpreter. A fork of this process would take along threads and signal handlers of whoever calls."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tbh.campaign.world"])
    return context


def _work(pipe: Connection, scenario: str | None) -> None:
    import signal  # noqa: PLC0415 - for workers alone

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal's processes; the parent ends us
    gc.disable()  # it ends soon
    while True:
        try:
            # Nothing comes before the answer but the end of whoever asked.
            pipe.send(run_chunk(pipe.recv(), scenario, stopped=pipe.poll))
        except (EOFError, BrokenPipeError):
            return  # nobody asks any more
