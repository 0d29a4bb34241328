"""The recorded reference runs, through `tbh demo` and both engines: every trade as another engine has it.

Each run is four things: candles, a definition, cash and a fee. A trade that is still open when the data ends is left
aside, since every engine has its own way with it. Needs the folder with the reference data beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HELP = "the reference runs through tbh demo, on both hosts, and both engines of tbh backtest, trade for trade"

CHECKOUT = Path(__file__).resolve().parent.parent
DATA = CHECKOUT.parent / "shared" / "data"
DEFINITIONS = CHECKOUT / "tests" / "strategies" / "definitions"
ENGINES = ("fast", "actors")
PRICE_TOLERANCE = 1e-9
"""Relative: the reference is in binary floats, the replay in decimals."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All runs on both hosts and by both engines (the first 3,000 bars when quick); raises ``SystemExit`` on a
    difference."""
    reports = []
    bars = 3_000 if args.quick else None
    for reference in references():
        for host in ("threads", "simulator", *ENGINES):
            with tempfile.TemporaryDirectory(prefix="tbh-reference-") as folder:
                if host in ENGINES:
                    report = backtest(reference, engine=host, bars=bars)
                else:
                    report = replay(reference, Path(folder), host=host, bars=bars)
            problems = differences(reference, report)
            reports.append(
                {
                    "run": reference["id"],
                    "host": host,
                    "bars": report["bars"],
                    "trades": len(report["trades"]),
                    "bars_per_s": report["bars_per_s"],
                    "differences": problems,
                }
            )
            print(json.dumps(reports[-1]), file=sys.stderr)
    if any(report["differences"] for report in reports):
        raise SystemExit(f"the trades differ: {[r for r in reports if r['differences']]}")
    return {
        "runs": reports,
        "bars_per_s_min": min(r["bars_per_s"] for r in reports if r["host"] == "threads"),
        "peer": "backtesting.py 0.6.6, as recorded",
    }


def references() -> list[dict[str, Any]]:
    """The reference runs, as recorded."""
    found: list[dict[str, Any]] = json.loads((DATA / "backtests" / "reference_runs.json").read_text())
    return found


def replay(reference: dict[str, Any], folder: Path, *, host: str, bars: int | None = None) -> dict[str, Any]:
    """What `tbh demo` prints for one run (all of its bars, or the first ``bars``)."""
    account = reference["account"]
    command = [
        *(sys.executable, "-m", "tbh", "demo", "--database", "memory", "--speed", "max", "--json"),
        *("--candles", str(DATA / reference["data"]["file"])),
        *("--strategy", str(DEFINITIONS / f"{reference['id']}.json")),
        *("--cash", str(account["start_cash"]), "--fee", str(account["commission_ratio_per_side"])),
        *("--dir", str(folder), "--host", host),
    ]
    if bars is not None:
        command += ["--bars", str(bars)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def backtest(reference: dict[str, Any], *, engine: str, bars: int | None = None) -> dict[str, Any]:
    """What `tbh backtest` prints for one run (all of its bars, or the first ``bars``)."""
    account = reference["account"]
    command = [
        *(sys.executable, "-m", "tbh", "backtest", "--json", "--engine", engine),
        *("--candles", str(DATA / reference["data"]["file"])),
        *("--strategy", str(DEFINITIONS / f"{reference['id']}.json")),
        *("--cash", str(account["start_cash"]), "--fee", str(account["commission_ratio_per_side"])),
    ]
    if bars is not None:
        command += ["--bars", str(bars)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def differences(reference: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Where the trades are not the reference's, one line each; those that end after the replayed bars are left out."""
    expected = [
        trade
        for trade in reference["expected"]["trades"]
        if not trade["closed_by_end_of_data"] and trade["exit_bar"] < report["bars"]
    ]
    got = report["trades"]
    lines = [] if len(expected) == len(got) else [f"{len(got)} trades instead of {len(expected)}"]
    for number, (want, have) in enumerate(zip(expected, got, strict=False)):
        size = float(have["qty"]) * (1 if have["side"] == "long" else -1)
        pairs = {
            "entry_time": (want["entry_time"], _ms(have["entry_time"])),
            "exit_time": (want["exit_time"], _ms(have["exit_time"])),
            "size": (want["size"], size),
            "entry_price": (want["entry_price"], float(have["entry_price"])),
            "exit_price": (want["exit_price"], float(have["exit_price"])),
            "pnl": (want["pnl"], float(have["pnl"])),
            "fees": (want["commission"], float(have["fees"])),
        }
        for name, (one, other) in pairs.items():
            scale = abs(want["entry_price"] * want["size"]) if name in ("pnl", "fees") else abs(one)
            if abs(one - other) > PRICE_TOLERANCE * max(scale, 1e-9):
                lines.append(f"trade {number}: {name} is {other}, not {one}")
    return lines


def _ms(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() * 1000)
