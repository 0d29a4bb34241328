"""``kill -9`` of a live bot, again and again: is any order lost or doubled, and is every fill and every coin booked?

The bot trades through the real ccxt client on an exchange of its own process (``bench.binance``), with PostgreSQL
behind it. Half of the kills are fired by the exchange on receiving an order: before its effect, after it, or before
the reply; the others come at random, also during a start. Between them faults come in bursts, PostgreSQL is killed, and
some lives begin on another machine with nothing but the database and the exchange. The campaign runs in legs; at the
end of each the exchange's ledger is compared with what the bot has written down.

``--resume DIR`` keeps the results of finished legs in DIR and goes on with the first one that is not there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench._stack import percentile
from bench.chaos_judge import WRONG
from bench.chaos_leg import Leg, progress

HELP = "kill -9 of a live bot, its database and its orders: duplicates, losses, drift, recovery (--kills 200)"

KILLS_PER_LEG = 25


def options(parser: argparse.ArgumentParser) -> None:
    """How often, from which seed, and where an interrupted campaign goes on."""
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="keep finished legs there, and do not run them again"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole campaign's figures."""
    kills = 5 if args.quick else args.kills
    folder = args.resume or Path(tempfile.mkdtemp(prefix="tbh-chaos-"))
    with _stopped_in_order(folder):
        sizes = enumerate(_sizes(kills))
        legs = [_leg(folder, seed=args.seed + number, kills=size, fast=args.quick) for number, size in sizes]
    if args.resume is None and all(leg["clean"] for leg in legs):
        shutil.rmtree(folder)
    return summary(legs) | {"kept": str(folder) if folder.exists() else None}


@contextmanager
def _stopped_in_order(folder: Path) -> Iterator[None]:
    """SIGTERM ends the campaign as Ctrl-C does, so that no bot, exchange or database is left behind."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"bench chaos: stopped; with --resume {folder} it goes on after the last leg that was finished")
    finally:
        signal.signal(signal.SIGTERM, former)


def _sizes(kills: int) -> list[int]:
    whole, rest = divmod(kills, KILLS_PER_LEG)
    return [KILLS_PER_LEG] * whole + ([rest] if rest else [])


def _leg(folder: Path, *, seed: int, kills: int, fast: bool) -> dict[str, Any]:
    """The leg's result: the one that is kept, or of a run of it now."""
    kept = folder / f"leg-{seed}-{kills}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    work = folder / f"leg-{seed}-{kills}"
    leg = Leg(seed=seed, kills=kills, folder=work, fast=fast, say=lambda line: progress(f"leg {seed}: {line}"))
    result = leg.run().to_json()
    made = kept.with_suffix(".part")
    made.write_text(json.dumps(result))
    made.rename(kept)
    progress(f"leg {seed}: {'clean' if result['clean'] else json.dumps(result['verdict'])}, {result['orders']} orders")
    return result


def summary(legs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All legs as one: what went wrong is counted, with the first few in words."""
    verdicts = [leg["verdict"] for leg in legs]
    recoveries = [recovery for leg in legs for recovery in leg["recoveries"]]
    calm = [recovery for recovery in recoveries if not recovery["disturbed"]]
    plain = [each["seconds"] for each in calm if not each["unknown"] and not each["moved"]]
    unknown = [each["seconds"] for each in calm if each["unknown"] and not each["moved"]]
    moved = [each["seconds"] for each in calm if each["moved"]]
    figures: dict[str, Any] = {
        "kills": _sum(legs, "kills"),
        "kills_in_flight": _sum(legs, "kills_in_flight"),
        "database_kills": _sum(legs, "database_kills"),
        "orders": _sum(legs, "orders"),
        "fills": _sum(legs, "fills"),
        **{name: sum(len(verdict[name]) for verdict in verdicts) for name in WRONG},
        "position_drift": max(verdict["position_drift"] for verdict in verdicts),
        "cash_drift": max(verdict["cash_drift"] for verdict in verdicts),
        **_percentiles("recovery", plain),
        **_percentiles("recovery_unknown", unknown),
        **_percentiles("recovery_elsewhere", moved),
        "recoveries_disturbed": len(recoveries) - len(calm),
        "exits": _added(leg["exits"] for leg in legs),
        "faults": _added(leg["faults"] for leg in legs),
        "stalls": [stall for leg in legs for stall in leg["stalls"]],
        "refused_entries": [line for leg in legs for line in leg["refused"]],
        "unscoped_questions": _sum(legs, "unscoped"),
        "wrong": [line for verdict in verdicts for name in WRONG for line in verdict[name]][:10],
        "legs_clean": sum(leg["clean"] for leg in legs),
        "legs": len(legs),
        "seconds": round(_sum(legs, "seconds"), 1),
    }
    return figures


def _percentiles(name: str, seconds: list[float]) -> dict[str, Any]:
    """Median and 99th percentile, None without a case, and how many there were."""
    found = {share: round(percentile(seconds, share), 3) if seconds else None for share in (0.5, 0.99)}
    return {f"{name}_s_p50": found[0.5], f"{name}_s_p99": found[0.99], f"{name}_cases": len(seconds)}


def _sum(legs: Iterable[Mapping[str, Any]], name: str) -> Any:
    return sum(leg[name] for leg in legs)


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
