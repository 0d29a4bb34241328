"""One leg of the campaign: a bot, its exchange and its database, killed again and again, then judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench._stack import Stack, running_stack, wait_until
from bench.binance.process import FakeBinance, running_exchange
from bench.chaos_bot import ChaosBot, Life, end_leftover
from bench.chaos_judge import Verdict, judge
from bench.chaos_plan import Ending, endings

AMOUNT_STEP = Decimal("0.00001")
NOT_THE_BOTS = Decimal("0.5")
READY_WITHIN_S = 30.0
ORDERS_WITHIN_S = 30.0
SETTLED_WITHIN_S = 60.0
STOPPED_WITHIN_S = 15.0
FALSE_STARTS_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How long a start took until entries were ready, and what it had to deal with."""

    seconds: float
    unknown: bool
    moved: bool
    disturbed: bool


@dataclass(slots=True, kw_only=True)
class LegResult:
    """``exits`` counts the codes of processes that ended by themselves, ``stalls`` are the lives that did not get where
    they should have within their time, ``refused`` the entries of the journal that the database turned down for good.
    """

    seed: int
    kills: int = 0
    kills_in_flight: int = 0
    database_kills: int = 0
    orders: int = 0
    fills: int = 0
    recoveries: list[Recovery] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    stalls: list[str] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)
    clean: bool = False
    unscoped: int = 0
    refused: list[str] = field(default_factory=list)
    settled_s: float | None = None
    last_exit: int | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        # ``asdict`` makes pairs of what a Counter holds.
        counts = {"exits": dict(self.exits), "faults": dict(self.faults)}
        return asdict(replace(self, exits=Counter(), faults=Counter())) | counts


class Leg:
    """``run`` once. What it did stays in ``folder`` unless the verdict is clean."""

    def __init__(self, *, seed: int, kills: int, folder: Path, fast: bool, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._kills = kills
        self._folder = folder
        self._fast = fast
        self._say = say
        self._result = LegResult(seed=seed)
        self._stack: Stack
        self._exchange: FakeBinance
        self._bot: ChaosBot
        self._life: Life | None = None
        self._false_starts = 0
        self._at = ""

    def run(self) -> LegResult:
        end_leftover(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        began_s = time.monotonic()
        with running_stack(fast=self._fast) as stack, running_exchange(**self._market()) as exchange:
            self._stack, self._exchange = stack, exchange
            exchange.tell("foreign", side="BUY", type="LIMIT", quantity="0.01", price="20000", timeInForce="GTC")
            self._bot = ChaosBot(stack, exchange, self._folder, reserved=NOT_THE_BOTS)
            try:
                for number, ending in enumerate(endings(self._seed, self._kills, brisk=self._fast), start=1):
                    self._one(number, ending)
                self._conclude()
            finally:
                if self._life is not None:
                    self._life.process.kill()
                    self._life.process.wait()
        self._result.seconds = round(time.monotonic() - began_s, 1)
        if self._result.clean:
            shutil.rmtree(self._folder)
        return self._result

    def _market(self) -> dict[str, Any]:
        # A start every few seconds asks more than one address may; a bot that stays alive does not.
        # Coins that are not the bot's lie in the account: an exit that is sent twice would find something to sell.
        return {"seed": self._seed, "weight_share": 0.1, "base_coins": NOT_THE_BOTS}

    # -- a life and its end

    def _one(self, number: int, ending: Ending) -> None:
        self._at = f"kill {number}, {ending.words()}"
        if ending.moved:
            self._bot.move()
        self._exchange.faults(*(ending.burst if ending.early else ()))
        fired_before = self._exchange.pulse()["kills"]
        life = self._life = self._bot.start()
        if ending.hook is None and not ending.orders:
            self._wait(life, ending.after_s)
        else:
            came = self._until(life, life.ready, READY_WITHIN_S, "ready")
            if number > 1:  # the first start recovers nothing
                self._note_recovery(life, moved=ending.moved, disturbed=ending.early and bool(ending.burst))
            if came:
                self._exchange.faults(*ending.burst)
                if ending.database_s is not None:
                    self._kill_database(life, ending.database_s)
                self._live(life, ending)
        if life.running:
            life.process.send_signal(signal.SIGKILL)
        code = life.process.wait()
        self._exchange.tell("kill")
        fired = self._exchange.pulse()["kills"] > fired_before
        self._result.kills += code == -signal.SIGKILL
        self._result.kills_in_flight += fired
        self._note_end(life, code)
        ready = "-" if life.ready_s is None else f"{life.ready_s:.2f} s"
        orders = self._exchange.pulse()["arrivals"]
        self._say(f"kill {number}/{self._kills}: {ending.words()}; ready {ready}; {orders} orders")

    def _note_end(self, life: Life, code: int) -> None:
        """Raises ``RuntimeError`` when the bot does not come up any more: the rest would show nothing."""
        if code != -signal.SIGKILL:
            self._result.exits[str(code)] += 1
        self._false_starts = self._false_starts + 1 if code != -signal.SIGKILL and life.ready_s is None else 0
        if self._false_starts >= FALSE_STARTS_MAX:
            raise RuntimeError(
                f"the bot ended by itself {FALSE_STARTS_MAX} times in a row; see {self._folder}/stderr.txt"
            )

    def _live(self, life: Life, ending: Ending) -> None:
        """Let it trade for as many orders as it is due, and end."""
        before = self._exchange.pulse()["arrivals"]
        if ending.hook is not None:
            self._exchange.tell(
                "kill",
                when=ending.hook,
                pid=life.process.pid,
                effect=ending.effect,
                skip=ending.orders - 1,
            )
            self._until(life, lambda: False, ORDERS_WITHIN_S, f"killed by its order {ending.orders}", dies=True)
            return
        enough = before + ending.orders
        self._until(life, lambda: self._exchange.pulse()["arrivals"] >= enough, ORDERS_WITHIN_S, "orders")
        self._wait(life, ending.after_s)

    def _kill_database(self, life: Life, away_s: float) -> None:
        pid = self._stack.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self._result.database_kills += 1
        self._wait(life, away_s)
        wait_until(lambda: not self._stack.server.running, within_s=10, what="the end of a killed database")
        self._stack.server.start()

    def _note_recovery(self, life: Life, *, moved: bool, disturbed: bool) -> None:
        if life.ready_s is not None:
            recovery = Recovery(
                seconds=round(life.ready_s, 3),
                unknown=life.unknown,
                moved=moved,
                disturbed=disturbed,
            )
            self._result.recoveries.append(recovery)

    def _until(self, life: Life, true: Callable[[], bool], within_s: float, what: str, *, dies: bool = False) -> bool:
        """Wait while the process lives. What does not come within its time is a stall; so is an end by itself, of
        which the exit codes tell more."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            if true():
                return True
            if not life.running:
                return dies
            time.sleep(0.01)
        gate = self._bot.state_row().get("payload") if self._stack.server.running else None
        self._result.stalls.append(f"not {what} within {within_s:g} s at {self._at}: {_gate_of(gate)}")
        return False

    def _wait(self, life: Life, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while life.running and time.monotonic() < deadline_s:
            time.sleep(0.005)

    # -- the end

    def _conclude(self) -> None:
        """No more faults, no more market: everything that is under way comes to rest, and is compared."""
        self._at = "the end"
        self._exchange.faults()
        life = self._life = self._bot.start()
        self._until(life, life.ready, READY_WITHIN_S, "ready for the end")
        self._note_recovery(life, moved=False, disturbed=False)
        self._bot.control("pause")
        # An entry that is still on its way to the wire would be told after the last word of the cash.
        self._until(life, self._is_paused, SETTLED_WITHIN_S, "paused for the end")
        self._exchange.tell("market", freeze=True)
        began_s = time.monotonic()
        verdict = self._verdict()
        while not self._at_rest(verdict) and time.monotonic() - began_s < SETTLED_WITHIN_S and life.running:
            time.sleep(0.2)
            verdict = self._verdict()
        if self._at_rest(verdict):
            self._result.settled_s = round(time.monotonic() - began_s, 2)
        life.process.terminate()
        try:
            self._result.last_exit = life.process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._result.stalls.append("did not stop")
        verdict = self._verdict()
        ledger = self._exchange.ledger()
        ours = [order for order in ledger["orders"] if not order["foreign"]]
        self._result.orders = len(ours)
        self._result.fills = len(ledger["trades"])
        self._result.faults.update(ledger["fired"])
        self._result.unscoped = ledger["unscoped"]
        self._result.verdict = verdict.to_json()
        self._result.refused = self._bot.refused()
        self._result.clean = bool(ours) and verdict.clean and not (ledger["unscoped"] or self._result.refused)
        (self._folder / "ledger.json").write_text(json.dumps(ledger, indent=1))
        journal = asdict(self._bot.journal())
        (self._folder / "journal.json").write_text(json.dumps(journal, indent=1, default=str))

    def _verdict(self) -> Verdict:
        return judge(self._exchange.ledger(), self._bot.journal(), bot_id=self._bot.bot.bot_id, step=AMOUNT_STEP)

    def _is_paused(self) -> bool:
        return "paused" in _gate_of(self._bot.state_row().get("payload"))

    def _at_rest(self, verdict: Verdict) -> bool:
        return verdict.clean and self._bot.pending() == 0


def _gate_of(payload: Any) -> str:
    told = json.loads(payload) if isinstance(payload, str) else payload or {}
    return f"gate {told.get('gate', '?')}"


def progress(line: str) -> None:
    """One line for people."""
    print(f"chaos: {line}", file=sys.stderr, flush=True)
