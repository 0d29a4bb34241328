"""The local store in memory: the contract of ``tbh.ports.Store`` for probes and the simulator.

It outlives a simulated death of the process simply by being kept: what was committed is there, what was not is not.
Outbox arguments must be JSON types, as for the SQLite store; rows are kept as the frozen values they are.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import datetime

from tbh.domain.order import TERMINAL
from tbh.infra.store_schema import entry_text, relayed_beyond_recorded
from tbh.messages.account import Position
from tbh.messages.orders import Fill, OrderState
from tbh.messages.strategy import Decision
from tbh.ports import Batch, DeadLetter, Failure, OutboxEntry, StoreCounts, Unavailable


class MemoryStore:
    """Implements ``tbh.ports.Store``. ``store_id`` names it to the database, as the file's own id does.

    ``text`` False keeps outbox arguments as they are given, without a look at whether they are JSON types and how long
    they are: for many simulations, where the SQLite store's tests have seen to it.
    """

    def __init__(self, *, store_id: str = "memory", text: bool = True) -> None:
        self.store_id = store_id
        self._text = text
        self._lock = threading.Lock()
        self._decisions: dict[tuple[str, datetime], Decision] = {}
        self._empty: dict[str, Decision] = {}
        self._orders: dict[str, OrderState] = {}
        self._fills: dict[str, Fill] = {}
        self._positions: dict[str, tuple[int, Position | None]] = {}
        self._actions: dict[str, tuple[str, str]] = {}
        self._outbox: dict[int, tuple[OutboxEntry, int]] = {}
        self._keys: set[str] = set()
        self._refused: dict[int, tuple[OutboxEntry, str]] = {}
        self._dead_letters: dict[tuple[str, int, datetime], DeadLetter] = {}
        self._meta: dict[str, str] = {}
        self._last_seq = 0
        self._relayed_up_to = 0
        self._failures: list[Failure] = []

    def fail_next(self, reason: str, *, times: int = 1) -> None:
        """The next ``times`` commits raise ``Unavailable(reason)`` and write nothing."""
        self._failures += [Unavailable(reason, detail="scripted") for _ in range(times)]

    def commit(self, batch: Batch) -> int:
        with self._lock:
            if self._failures:
                raise self._failures.pop(0)
            texts = [entry_text(fn, args, key) if self._text else "" for fn, args, key in batch.outbox]
            if batch.relayed_up_to is not None and batch.relayed_up_to > self._last_seq:
                fresh = len({key for _, _, key in batch.outbox} - self._keys)
                if batch.relayed_up_to > self._last_seq + fresh:
                    raise relayed_beyond_recorded(batch.relayed_up_to, self._last_seq + fresh)
            self._write_rows(batch)
            self._write_outbox(batch, texts)
            return self._last_seq

    def _write_rows(self, batch: Batch) -> None:
        for decision in batch.decisions:
            self._write_decision(decision)
        for draft in batch.drafts:
            self._orders.setdefault(draft.order.client_order_id, draft)
        for state in batch.orders:
            standing = self._orders.get(state.order.client_order_id)
            if standing is None or state.version > standing.version:
                self._orders[state.order.client_order_id] = state
        for fill in batch.fills:
            self._fills.setdefault(fill.trade_id, fill)
        for symbol, position, seq in batch.positions:
            if symbol not in self._positions or seq > self._positions[symbol][0]:
                self._positions[symbol] = (seq, position)
        for request_id, status, detail in batch.actions:
            self._actions[request_id] = (status, detail)
        for letter in batch.dead_letters:
            self._dead_letters.setdefault((letter.actor, letter.seq, letter.at), letter)
        self._meta.update(batch.meta)

    def _write_decision(self, decision: Decision) -> None:
        empty = self._empty.get(decision.strategy)
        if decision.proposals:
            if empty is None or empty.bar_open != decision.bar_open:
                self._decisions.setdefault((decision.strategy, decision.bar_open), decision)
        elif (decision.strategy, decision.bar_open) not in self._decisions and (
            empty is None or decision.bar_open > empty.bar_open
        ):
            self._empty[decision.strategy] = decision

    def _write_outbox(self, batch: Batch, texts: Sequence[str]) -> None:
        for (fn, args, key), text in zip(batch.outbox, texts, strict=True):
            if key not in self._keys:
                self._keys.add(key)
                self._last_seq += 1
                entry = OutboxEntry(seq=self._last_seq, fn=fn, args=json.loads(text) if text else args, key=key)
                self._outbox[entry.seq] = (entry, len(fn) + len(text) + len(key))
        for seq, reason in batch.refused:
            if seq in self._outbox:
                self._refused[seq] = (self._outbox.pop(seq)[0], reason)
        if batch.relayed_up_to is not None and batch.relayed_up_to > self._relayed_up_to:
            for seq in range(self._relayed_up_to + 1, batch.relayed_up_to + 1):
                self._outbox.pop(seq, None)
            self._relayed_up_to = batch.relayed_up_to

    @property
    def last_seq(self) -> int:
        """The number of the newest outbox entry; 0 before the first."""
        return self._last_seq

    def keys_after(self, seq: int) -> dict[int, str]:
        """The keys of the outbox entries above ``seq`` that are there still, by their numbers."""
        return {number: self._outbox[number][0].key for number in range(seq + 1, self._last_seq + 1)}

    def reader(self) -> MemoryStore:
        """The store itself: each call holds its lock, so each is a snapshot."""
        return self

    def close(self) -> None:
        """Nothing to close: the store lives as long as it is kept."""

    def decision(self, strategy: str, bar_open: datetime) -> Decision | None:
        with self._lock:
            empty = self._empty.get(strategy)
            if empty is not None and empty.bar_open == bar_open:
                return empty
            return self._decisions.get((strategy, bar_open))

    def last_decision(self, strategy: str) -> Decision | None:
        with self._lock:
            found = [decision for (name, _), decision in self._decisions.items() if name == strategy]
            if strategy in self._empty:
                found.append(self._empty[strategy])
            return max(found, key=lambda decision: decision.bar_open, default=None)

    def orders(self, *, open_only: bool = False) -> list[OrderState]:
        with self._lock:
            return [state for state in self._orders.values() if not (open_only and state.status in TERMINAL)]

    def order(self, client_order_id: str) -> OrderState | None:
        with self._lock:
            return self._orders.get(client_order_id)

    def fills(self, *, after: int = -1) -> list[Fill]:
        with self._lock:
            return sorted((f for f in self._fills.values() if f.seq > after), key=lambda fill: fill.seq)

    def positions(self) -> dict[str, Position]:
        with self._lock:
            return {symbol: position for symbol, (_, position) in self._positions.items() if position is not None}

    def outbox(self, after: int, *, limit: int, max_bytes: int) -> list[OutboxEntry]:
        """Entries with ``seq > after``, rising; the first one is given even when it alone exceeds ``max_bytes``."""
        with self._lock:
            taken: list[OutboxEntry] = []
            left = max_bytes
            for entry, size in self._outbox.values():
                if entry.seq <= after:
                    continue
                left -= size
                if len(taken) == limit or (taken and left < 0):
                    break
                taken.append(entry)
            return taken

    def meta(self, key: str) -> str | None:
        with self._lock:
            return self._meta.get(key)

    def actions(self) -> dict[str, str]:
        with self._lock:
            return {request_id: status for request_id, (status, _) in self._actions.items()}

    def dead_letters(self) -> list[DeadLetter]:
        """Oldest first."""
        with self._lock:
            return list(self._dead_letters.values())

    def refused(self) -> list[tuple[OutboxEntry, str]]:
        """What the database refused for good, with its reason."""
        with self._lock:
            return list(self._refused.values())

    def counts(self) -> StoreCounts:
        with self._lock:
            early = sum(seq <= self._relayed_up_to for seq in self._refused)
            return StoreCounts(
                recorded=self._last_seq,
                relayed=self._relayed_up_to - early,
                refused=len(self._refused),
                pending=len(self._outbox),
                dead_letters=len(self._dead_letters),
            )
