"""The database in memory: ``tbh.ports.Rpc`` with the rules that the real functions keep (CONTRACTS §4).

``MemoryTables`` is the database of one bot and outlives its clients; ``MemoryRpc`` is one boot's connection to it.
``MemoryRpc.connect(boot_id)`` gives another boot's: a rival's, or the restarted process's.

What an outbox entry may call, by ``fn``, and its ``args`` (``p_bot_id`` may be added and must then be this bot's):

- ``bot_runtime_upsert_trade``: ``p_client_order_id``, ``p_exchange_order_id`` (may be null), ``p_payload`` with
  ``order_status``, ``symbol``, ``filled_qty`` and what else is known. Neither status nor filled quantity goes back; of
  two sizes (``qty``) of one order the greater stands.
- ``bot_runtime_record_fill``: ``p_payload`` with ``trade_id client_order_id symbol qty price`` and what else is known.
- ``bot_runtime_record_adjustment``: ``p_payload`` with ``adjustment_id symbol qty price`` and what else is known.
- ``bot_runtime_upsert_position``: ``p_payload`` with ``symbol strategy status(open|closed) qty entry_price
  position_id`` and ``seq``, the account event that caused it; a lower ``seq`` is a no-op.
- ``bot_runtime_write_event``: ``p_kind p_level p_payload p_key``.
- ``bot_runtime_notify``: ``p_channel p_payload p_key``.
- ``upsert_bot_health_evidence``: ``p_patch``.

Faults are scripted: ``fail_next(Unavailable("refused"), times=3)`` raises before anything is applied,
``lose_reply_next()`` applies the call and then raises ``Unknown``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tbh.infra.codec import json_text
from tbh.infra.memory_tables import MemoryTables, Row, is_filled_entry, is_open, open_trade
from tbh.messages.controls import OperatorRequest
from tbh.ports import Controls, Failure, Lease, LeaseHeld, OutboxEntry, Rejected, SyncResult, Unknown

ENTRIES_MAX = 200
BATCH_BYTES_MAX = 256_000
FILLED_ENTRIES_MAX = 20


class MemoryRpc:
    """Implements ``tbh.ports.Rpc`` for one bot and one boot.

    ``monotonic`` is the database's clock in seconds, which ends leases. Every refusal is ``Rejected`` with the
    database's word: ``lease_held``, ``stale_epoch``, ``payload_invalid``, ``key_conflict`` ...
    """

    def __init__(
        self,
        bot_id: str,
        *,
        monotonic: Callable[[], float],
        boot_id: str = "boot-1",
        tables: MemoryTables | None = None,
    ) -> None:
        self.boot_id = boot_id
        self.tables = MemoryTables(bot_id=bot_id, monotonic=monotonic) if tables is None else tables
        self.calls: Counter[str] = Counter()
        self._epoch: int | None = None
        self._failures: list[tuple[str | None, Failure]] = []
        self._replies_to_lose: list[str | None] = []

    def connect(self, boot_id: str) -> MemoryRpc:
        """Another boot's connection to the same rows."""
        return MemoryRpc(self.tables.bot_id, monotonic=self.tables.monotonic, boot_id=boot_id, tables=self.tables)

    @property
    def epoch(self) -> int | None:
        return self._epoch

    def fail_next(self, failure: Failure, *, times: int = 1, on: str | None = None) -> None:
        """The next ``times`` calls (of the method ``on``, if given) raise ``failure`` and change nothing."""
        self._failures += [(on, failure)] * times

    def lose_reply_next(self, *, times: int = 1, on: str | None = None) -> None:
        """The next ``times`` calls are carried out, and then raise ``Unknown``, as after a lost reply."""
        self._replies_to_lose += [on] * times

    def ask(self, action: str, *, reason: str = "", **more: Any) -> OperatorRequest:
        """An operator's request (``adopt``, ``resolve``) under a new version of the controls."""
        with self.tables.lock:
            controls = self.tables.controls
            request = OperatorRequest(version=controls.version + 1, action=action, reason=reason, **more)
            self.set_controls(requests=(*controls.requests, request))
            return request

    def set_controls(self, **changes: Any) -> Controls:
        """Change the operator's controls under a new version."""
        with self.tables.lock:
            self.tables.controls = replace(self.tables.controls, version=self.tables.controls.version + 1, **changes)
            return self.tables.controls

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self.tables.lock:
            self.calls[name] += 1
            for index, (on, failure) in enumerate(self._failures):
                if on in (None, name):
                    del self._failures[index]
                    raise failure
            lost = next((on for on in self._replies_to_lose if on in (None, name)), ...)
            if lost is ...:
                yield
                return
            self._replies_to_lose.remove(lost)
            try:
                yield
            except Rejected as refusal:
                raise Unknown("reply_lost", detail=name) from refusal
            raise Unknown("reply_lost", detail=name)

    def claim(self, *, previous_boot_id: str | None, seen_renewals: int | None, lease_s: float) -> Lease:
        """Take the lease: free, expired and seen to stand at ``seen_renewals``, or held by ``previous_boot_id``.

        A repeat by the holder renews it under the same epoch. ``LeaseHeld`` otherwise.
        """
        with self._call("claim"):
            row, now_s = self.tables.lease, self.tables.monotonic()
            if row.holder != self.boot_id:
                expired = now_s >= row.expires_at_s and seen_renewals == row.renewals
                if row.holder is not None and row.holder != previous_boot_id and not expired:
                    raise LeaseHeld(
                        boot_id=row.holder,
                        renewals=row.renewals,
                        lease_s=row.lease_s,
                        expires_in_s=row.expires_at_s - now_s,
                    )
                row.holder = self.boot_id
                row.epoch += 1
            row.lease_s = lease_s
            self._epoch = row.epoch
            return self._renew(now_s)

    def _renew(self, now_s: float) -> Lease:
        row = self.tables.lease
        row.renewals += 1
        row.expires_at_s = now_s + row.lease_s
        return Lease(epoch=row.epoch, renewals=row.renewals, expires_in_s=row.lease_s)

    def _check_owner(self) -> None:
        if self.tables.lease.holder != self.boot_id or self.tables.lease.epoch != self._epoch:
            raise Rejected("stale_epoch", detail=f"epoch {self._epoch}, the lease is at {self.tables.lease.epoch}")

    def _check_not_fenced(self) -> None:
        if self.tables.lease.holder is not None:
            self._check_owner()

    def release(self) -> None:
        """Give the lease back; nothing happens when it is not ours."""
        with self._call("release"):
            if self.tables.lease.holder == self.boot_id:
                self.tables.lease.holder = None

    def heartbeat(self, payload: Mapping[str, Any]) -> tuple[Lease, int]:
        with self._call("heartbeat"):
            self._check_owner()
            self.tables.state = self.tables.taken(payload)
            self.tables.heartbeats += 1
            return self._renew(self.tables.monotonic()), self.tables.controls.version

    def refresh_controls(self) -> Controls:
        with self._call("refresh_controls"):
            return self.tables.controls

    def acknowledge(self, version: int) -> None:
        """Controls of ``version`` are carried out; a repeat changes nothing."""
        with self._call("acknowledge"):
            self._check_not_fenced()
            if not 1 <= version <= self.tables.controls.version:
                raise Rejected("payload_invalid", detail=f"controls have no version {version}")
            if version not in self.tables.acknowledged:
                self.tables.acknowledged.append(version)
            flatten_version = self.tables.controls.flatten_version
            if flatten_version is not None and version >= flatten_version:
                self.tables.controls = replace(self.tables.controls, flatten_version=None)
            left = tuple(one for one in self.tables.controls.requests if one.version > version)
            self.tables.controls = replace(self.tables.controls, requests=left)

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult:
        """Apply what is new, each entry by itself. Facts are taken from any boot, fenced or not.

        A repeat gives the same refusals again, so that none is lost with a reply. ``Rejected`` for a batch that is
        out of order or above the limits (one entry that is too large by itself is refused alone).
        """
        with self._call("sync"):
            sizes = _sizes(first_seq, entries) if self.tables.wire else [0] * len(entries)
            last_seq = self.tables.last_seq.get(store_id, 0)
            for entry, size in zip(entries, sizes, strict=True):
                if entry.seq <= last_seq:
                    continue
                try:
                    if size > BATCH_BYTES_MAX:
                        raise Rejected("entry_too_large", detail=f"{size} bytes")
                    self.tables.apply(entry.fn, entry.args)
                except Rejected as refusal:
                    self.tables.refused[store_id, entry.seq] = str(refusal)
                last_seq = entry.seq
            self.tables.last_seq[store_id] = last_seq
            asked = ((entry.seq, self.tables.refused.get((store_id, entry.seq))) for entry in entries)
            refused = tuple((seq, reason) for seq, reason in asked if reason is not None)
            return SyncResult(last_seq=last_seq, refused=refused)

    def get_open_trades(self) -> list[Row]:
        """For a runtime that has lost its store: the orders that may still fill, the entries of open positions, and the
        newest entries that have filled, whose position may not be here yet."""
        with self._call("get_open_trades"):
            entries = {row.get("position_id") for row in self.tables.positions.values() if row["status"] == "open"}
            rows = list(self.tables.trades.values())
            filled = [row["client_order_id"] for row in rows if is_filled_entry(row)]
            entries.update(filled[-FILLED_ENTRIES_MAX:])
            return [open_trade(row) for row in rows if row["client_order_id"] in entries or is_open(row)]

    def upsert_health(self, patch: Mapping[str, Any]) -> None:
        with self._call("upsert_health"):
            self._check_not_fenced()
            self.tables.apply("upsert_bot_health_evidence", {"p_patch": dict(patch)})

    def write_event(self, *, kind: str, level: str, payload: Mapping[str, Any], key: str) -> None:
        with self._call("write_event"):
            args = {"p_kind": kind, "p_level": level, "p_payload": dict(payload), "p_key": key}
            self.tables.apply("bot_runtime_write_event", args)

    def notify(self, *, channel: str, payload: Mapping[str, Any], key: str) -> None:
        with self._call("notify"):
            args = {"p_channel": channel, "p_payload": dict(payload), "p_key": key}
            self.tables.apply("bot_runtime_notify", args)


def _sizes(first_seq: int, entries: Sequence[OutboxEntry]) -> list[int]:
    if len(entries) > ENTRIES_MAX:
        raise Rejected("batch_too_large", detail=f"{len(entries)} entries, at most {ENTRIES_MAX}")
    seqs = [entry.seq for entry in entries]
    if seqs != sorted(set(seqs)) or (seqs and seqs[0] != first_seq):
        raise Rejected("payload_invalid", detail="entries must rise from first_seq")
    sizes = [len(entry.fn) + len(entry.key) + _args_bytes(entry) for entry in entries]
    if len(entries) > 1 and sum(sizes) > BATCH_BYTES_MAX:
        raise Rejected("batch_too_large", detail=f"{sum(sizes)} bytes, at most {BATCH_BYTES_MAX}")
    return sizes


def _args_bytes(entry: OutboxEntry) -> int:
    try:
        return len(json_text(dict(entry.args)))
    except ValueError:
        return 0  # not JSON: the entry is refused where it is applied, and must not take the batch with it
