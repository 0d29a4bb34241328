"""Processes racing for one bot's lease: is there one owner each time, and do the epochs rise?

Each round all of them claim at once, over HTTP, in one of three situations in turn: nobody holds the lease; its holder
is the boot that all of them name as their own former one; its holder is silent and its lease has run out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench._stack import MadeBot, Stack, percentile, running_stack
from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.supabase import SupabaseRpc
from tbh.ports import Failure, LeaseHeld

HELP = "32 processes claim one bot's lease at once, 200 times: owners, epochs, deadlocks"

SITUATIONS = ("free", "former boot", "expired")
LEASE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a racer is to do: claim as ``boot_id`` at the database of ``url``."""

    url: str
    service_key: str
    bot: MadeBot
    boot_id: str
    previous_boot_id: str | None
    seen_renewals: int | None


def options(parser: argparse.ArgumentParser) -> None:
    """How many race, and how often."""
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Owners by round, epochs, and how long the slowest claim of a round took."""
    rounds = 6 if args.quick else args.rounds
    # Forked before the gateway's thread begins: a fork of a process with threads may hang.
    racers = [_Racer() for _ in range(8 if args.quick else args.processes)]
    try:
        with running_stack(fast=args.quick) as stack:
            return _race(stack, racers, rounds)
    finally:
        for racer in racers:
            racer.end()


def _race(stack: Stack, racers: list[_Racer], rounds: int) -> dict[str, Any]:
    bot = stack.make_bot()
    holder = _client(stack.url, stack.keys.service_key, bot, "holder-0")
    epochs: list[int] = []
    slowest_ms: list[float] = []
    wrong: list[str] = []
    for number in range(rounds):
        previous, seen = _prepare(holder, SITUATIONS[number % 3])
        started_s = time.perf_counter()
        for index, racer in enumerate(racers):
            racer.pipe.send(
                Claim(
                    url=stack.url,
                    service_key=stack.keys.service_key,
                    bot=bot,
                    boot_id=f"r{number}-{index}",
                    previous_boot_id=previous,
                    seen_renewals=seen,
                )
            )
        answers = [racer.pipe.recv() for racer in racers]
        slowest_ms.append((time.perf_counter() - started_s) * 1000)
        won = [epoch for kind, epoch in answers if kind == "won"]
        if len(won) != 1 or any(kind not in ("won", "held") for kind, _ in answers):
            wrong.append(f"round {number}: {answers}")
        epochs += won
        winner = next((f"r{number}-{index}" for index, (kind, _) in enumerate(answers) if kind == "won"), None)
        holder.close()
        holder = _client(stack.url, stack.keys.service_key, bot, f"holder-{number + 1}")
        holder.claim(previous_boot_id=winner, seen_renewals=None, lease_s=LEASE_S)
    holder.close()
    ((deadlocks,),) = stack.query("select deadlocks from pg_stat_database where datname = current_database()")
    return {
        "rounds": rounds,
        "processes": len(racers),
        "rounds_with_one_owner": rounds - len(wrong),
        "wrong": wrong[:3],
        "epochs_strictly_rising": all(a < b for a, b in pairwise(epochs)),
        "deadlocks": deadlocks,
        "round_ms_p50": round(percentile(slowest_ms, 0.5), 1),
        "round_ms_p99": round(percentile(slowest_ms, 0.99), 1),
    }


def _prepare(holder: SupabaseRpc, situation: str) -> tuple[str | None, int | None]:
    """Bring the lease into the situation; the former boot and the renewals that the racers know of."""
    lease = holder.claim(previous_boot_id=None, seen_renewals=None, lease_s=LEASE_S)
    if situation == "free":
        holder.release()
        return None, None
    if situation == "former boot":
        return holder.boot_id, None
    time.sleep(LEASE_S + 0.05)
    return None, lease.renewals


def _client(url: str, service_key: str, bot: MadeBot, boot_id: str) -> SupabaseRpc:
    tokens = TokenKeeper(Path("/nonexistent/token"), env_token=bot.token, bot_id=bot.bot_id)
    return SupabaseRpc(url=url, service_key=service_key, bot_id=bot.bot_id, boot_id=boot_id, tokens=tokens)


class _Racer:
    """A process that claims when it is told to."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_claims, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def end(self) -> None:
        self.pipe.send(None)
        self._process.join(5)
        self._process.kill()


def _claims(pipe: Connection) -> None:
    while True:
        claim: Claim | None = pipe.recv()
        if claim is None:
            return
        rpc = _client(claim.url, claim.service_key, claim.bot, claim.boot_id)
        try:
            lease = rpc.claim(
                previous_boot_id=claim.previous_boot_id, seen_renewals=claim.seen_renewals, lease_s=LEASE_S
            )
            pipe.send(("won", lease.epoch))
        except LeaseHeld:
            pipe.send(("held", 0))
        except Failure as failure:
            pipe.send((f"{type(failure).__name__}: {failure}", 0))
        finally:
            rpc.close()
