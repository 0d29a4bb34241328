"""A simulated machine's disk: the local store, what of it is flushed, and whose process it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbh.actors.journaler import ACCOUNT_SEQ
from tbh.infra.memory_store import MemoryStore
from tbh.ports import Batch, OutboxEntry, StoreReader, Unavailable
from tbh.simulation import steps
from tbh.simulation.faults import FaultKind

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot


class Disk:
    """Outlives its processes. ``boots`` are the ids of those that may still hold the lease, newest first; ``owner`` the
    process that has its lock. ``clock_ahead_s`` is how wrong the machine's clock is; ``full`` and ``damaged`` as they
    say; ``context_kept``: a start without the database is possible."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boots: tuple[str, ...] = ()
        self.owner: Boot | None = None
        self.clock_ahead_s = 0.0
        self.full = False
        self.damaged = False
        self.context_kept = False
        self._stores = 0
        self._log: list[Batch] = []
        self._flushed = 0
        self.store = self._new_store()

    def _new_store(self) -> _Flushing:
        self._stores += 1
        self._log, self._flushed = [], 0
        return _Flushing(self, f"{self.name}.{self._stores}")

    def set_aside(self) -> None:
        """The store can't be read: a new one takes its place."""
        self.damaged = False
        self.store = self._new_store()

    def lose_power(self) -> int:
        """What was not flushed is gone; how many commits that were."""
        lost = len(self._log) - self._flushed
        if lost:
            kept = self._log[: self._flushed]
            self.store = _Flushing(self, self.store.store_id)
            self._log, self._flushed = [], 0
            for batch in kept:
                self.store.commit(batch)
            self._flushed = len(self._log)
        return lost

    def wrote(self, batch: Batch) -> None:
        self._log.append(batch)
        if batch.flushed:
            self._flushed = len(self._log)

    def flush(self) -> None:
        self._flushed = len(self._log)

    @property
    def protects(self) -> bool:
        """Whether the store knows of a position, or of an order that may still be alive."""
        return bool(self.store.positions()) or bool(self.store.orders(open_only=True))


class _Flushing(MemoryStore):
    """A store in memory that knows what a loss of power would leave of it."""

    def __init__(self, disk: Disk, store_id: str) -> None:
        super().__init__(store_id=store_id, text=False)
        self._disk = disk

    def commit(self, batch: Batch) -> int:
        last_seq = super().commit(batch)
        self._disk.wrote(batch)
        return last_seq

    def outbox(self, after: int, *, limit: int, max_bytes: int) -> list[OutboxEntry]:
        entries = super().outbox(after, limit=limit, max_bytes=max_bytes)
        if entries:
            self._disk.flush()
        return entries


class DiskStore:
    """One process's way to the store of its disk: ``tbh.ports.Store``."""

    def __init__(self, boot: Boot, disk: Disk) -> None:
        self.store_id = disk.store.store_id
        self._boot = boot
        self._disk = disk
        self._store = disk.store

    def reader(self) -> StoreReader:
        return self._store

    def close(self) -> None:
        """Nothing to close."""

    def commit(self, batch: Batch) -> int:
        boot, world, store = self._boot, self._boot.world, self._store
        boot.check_alive()
        strikes, may_be_killed = world.strikes, FaultKind.PROCESS_KILLED_IN_CALL in world.may
        if FaultKind.DISK_SLOW in world.may and strikes(FaultKind.DISK_SLOW):
            wait_s = world.chance.uniform(0.01, 0.4) if world.chance.random() < 0.8 else world.chance.uniform(0.4, 3.0)
            world.fault(FaultKind.DISK_SLOW, f"{wait_s:.3f} s")
            boot.sleep(wait_s)
        if self._disk.full:
            world.fault(FaultKind.DISK_FULL)
            raise Unavailable("disk_full", detail="simulated")
        if may_be_killed and strikes(FaultKind.PROCESS_KILLED_IN_CALL, scale=0.3):
            boot.killed_in_call("before a commit")
        before = store.last_seq
        last_seq = store.commit(batch)
        keys = store.keys_after(before) if last_seq > before else {}
        mark = batch.meta.get(ACCOUNT_SEQ) if batch.meta else None
        world.tell(
            steps.Committed(
                boot=boot.boot_id,
                store_id=self.store_id,
                batch=batch,
                keys=keys,
                read_up_to=None if mark is None else int(mark),
            )
        )
        if may_be_killed and strikes(FaultKind.PROCESS_KILLED_IN_CALL, scale=0.3):
            boot.killed_in_call("after a commit")
        return last_seq

    # The rest is read, and reading waits for nothing.

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)
