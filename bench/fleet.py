"""Many bots on one database: how long do their journals take, and does a row get lost?

Each bot is a process of its own on tier ``fast_5s``, trading a simulated market on paper; database and gateway share
the machine with all of them. The times are the gateway's, from request to reply, and those of one more client that
calls beside them. ``floor_ms_p50`` is the same client's call before the bots start: nothing here undercuts it.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench._stack import MadeBot, Stack, percentile, running_stack, wait_until
from tbh.infra.supabase import SupabaseRpc

HELP = "50 bots at fast_5s on the embedded database: p99 of bot_runtime_sync, rows lost"

BARS_PER_S = 0.2
PROBE_EVERY_S = 0.1


def options(parser: argparse.ArgumentParser) -> None:
    """How many bots, for how long."""
    parser.add_argument("--bots", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--bars-per-second", type=float, default=BARS_PER_S)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Times of the journal's calls, and the bots' own stores against the rows."""
    bots, seconds, idle_s = (3, 6.0, 0.5) if args.quick else (args.bots, args.seconds, 2.0)
    calls: dict[str, list[float]] = defaultdict(list)
    with running_stack(access_log=lambda line: _note(calls, line)) as stack:
        probe_bot = stack.make_bot()
        probe = stack.rpc(probe_bot, "probe", stack.root / "probe")
        floor = _probe_for(probe, idle_s)
        running = _start(stack, bots, args.bars_per_second)
        calls.clear()
        probed = _probe_for(probe, seconds)
        codes = _stop([process for _, _, process in running])
        probe.close()
        lost, written, dead = _lost(stack, [(bot, state) for bot, state, _ in running])
    sync = calls["bot_runtime_sync"]
    return {
        "bots": bots,
        "seconds": seconds,
        "sync_calls": len(sync),
        "sync_ms_p50": round(percentile(sync, 0.5), 1),
        "sync_ms_p99": round(percentile(sync, 0.99), 1),
        "heartbeat_ms_p99": round(percentile(calls["bot_runtime_heartbeat"], 0.99), 1),
        "probe_ms_p50": round(percentile(probed, 0.5), 1),
        "probe_ms_p99": round(percentile(probed, 0.99), 1),
        "floor_ms_p50": round(percentile(floor, 0.5), 1),
        "floor": "one client's bot_runtime_refresh_controls before the bots start",
        "calls_per_s": round(sum(map(len, calls.values())) / seconds, 1),
        "entries_written": written,
        "rows_lost": lost,
        "dead_letters": dead,
        "exit_codes": sorted(set(codes)),
    }


def _note(calls: dict[str, list[float]], line: str) -> None:
    _, fn, status, elapsed_ms, _ = line.split()
    if status == "200":
        calls[fn].append(float(elapsed_ms))


def _start(stack: Stack, count: int, bars_per_s: float) -> list[tuple[MadeBot, Path, subprocess.Popen[str]]]:
    running = []
    for number in range(count):
        bot = stack.make_bot(exchange_options={"bars_per_second": bars_per_s, "seed": number})
        state = stack.root / f"state-{number}"
        running.append((bot, state, stack.start_bot(bot, state)))
        if number % 4 == 3:  # a machine is not booted with all its bots at one instant
            time.sleep(1.0)
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {count} bots started", end="", file=sys.stderr, flush=True)
    wait_until(lambda: _beating(stack) >= count, within_s=60.0 + count, what="a heartbeat of each bot", every_s=0.5)
    return running


def _beating(stack: Stack) -> int:
    return int(stack.query("select count(*) from bot_runtime.bot_state")[0][0])


def _probe_for(rpc: SupabaseRpc, seconds: float) -> list[float]:
    took_ms = []
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        started_s = time.perf_counter()
        rpc.refresh_controls()
        took_ms.append((time.perf_counter() - started_s) * 1000)
        time.sleep(PROBE_EVERY_S)
    return took_ms


def _stop(processes: list[subprocess.Popen[str]]) -> list[int]:
    for process in processes:
        process.terminate()
    codes = []
    for process in processes:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    return codes


def _lost(stack: Stack, bots: list[tuple[MadeBot, Path]]) -> tuple[int, int, int]:
    """(rows that a store has written and the database lacks, entries written in all, refused entries). What still waits
    in an outbox is not lost: a bot that stops on a busy machine leaves the rest to its next start."""
    lost = written = 0
    for bot, state in bots:
        store = sqlite3.connect(f"file:{state / 'store.sqlite'}?mode=ro", uri=True)
        ((last_seq,),) = store.execute("SELECT last_seq FROM identity")
        waiting = [row[0].split(":") for row in store.execute("SELECT key FROM outbox")]
        fills = {row[0] for row in store.execute("SELECT trade_id FROM fills")}
        orders = {row[0] for row in store.execute("SELECT client_order_id FROM orders WHERE version > 1")}
        store.close()
        written += last_seq
        there = {
            row[0] for row in stack.query("select trade_id from bot_runtime.bot_fills where bot_id = %s", bot.bot_id)
        }
        known = {
            row[0]
            for row in stack.query("select client_order_id from bot_runtime.bot_trades where bot_id = %s", bot.bot_id)
        }
        rows = stack.query("select max(last_seq) from bot_runtime.sync_streams where bot_id = %s", bot.bot_id)
        behind = last_seq - (rows[0][0] or 0)
        waits = {key[1] for key in waiting if key[0] in ("fill", "order")}
        lost += len(fills - there - waits) + len(orders - known - waits) + max(behind - len(waiting), 0)
    ((dead,),) = stack.query("select count(*) from bot_runtime.dead_letters")
    return lost, written, int(dead)
