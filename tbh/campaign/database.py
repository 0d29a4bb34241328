"""One process's connection to the simulated database: ``tbh.ports.Rpc``, with outages and lost replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tbh.ports import Controls, Lease, OutboxEntry, Rejected, SyncResult, Unavailable, Unknown
from tbh.runtime.simulate import Answer
from tbh.simulation import inside, steps
from tbh.simulation.faults import FaultKind
from tbh.simulation.network import NS

if TYPE_CHECKING:
    from tbh.campaign.boot import Boot

TIMEOUT_S = 3.0

_OWNED = "stale_epoch"
_ENDING = frozenset({_OWNED, "runtime_token_invalid"})
_POLLED = frozenset({"claim", "get_context", "get_open_trades", "heartbeat", "refresh_controls", "acknowledge"})
"""The words by which the database ends a process, and the calls of those who heed them."""


class DatabaseClient:
    """The functions that a runtime calls, each an effect at one instant some milliseconds later."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._world = boot.world
        self._rpc = boot.world.rpc.connect(boot.boot_id)

    @property
    def epoch(self) -> int | None:
        return self._rpc.epoch

    def claim(self, *, previous_boot_id: str | None, seen_renewals: int | None, lease_s: float) -> Lease:
        def claim() -> Lease:
            row = self._world.tables.lease
            former, epoch = row.holder, row.epoch
            left_s = self._world.lease_left_s()
            lease = self._rpc.claim(previous_boot_id=previous_boot_id, seen_renewals=seen_renewals, lease_s=lease_s)
            self._world.lease_renewed()
            if row.epoch != epoch:
                named = former is not None and former == previous_boot_id
                if named and former is not None:
                    self._world.inherited[former] = self._world.now_ns + int(left_s * NS)
                self._world.tell(
                    steps.LeaseTaken(
                        boot=self._boot.boot_id, epoch=row.epoch, former=former, left_s=left_s, named=named
                    )
                )
            return lease

        lease: Lease = self._call("claim", claim)
        return lease

    def release(self) -> None:
        def release() -> None:
            held = self._world.tables.lease.holder == self._boot.boot_id
            self._rpc.release()
            self._boot.gave_back = held

        self._call("release", release)

    def heartbeat(self, payload: Mapping[str, Any]) -> tuple[Lease, int]:
        def beat() -> tuple[Lease, int]:
            answer = self._rpc.heartbeat(payload)
            self._world.lease_renewed()
            return answer

        return self._call("heartbeat", beat)  # type: ignore[no-any-return]

    def refresh_controls(self) -> Controls:
        return self._call("refresh_controls", self._rpc.refresh_controls)  # type: ignore[no-any-return]

    def acknowledge(self, version: int) -> None:
        def acknowledge() -> None:
            flatten_version = self._world.tables.controls.flatten_version
            self._rpc.acknowledge(version)
            if flatten_version is not None and version >= flatten_version:
                self._world.tell(steps.FlattenAcknowledged(boot=self._boot.boot_id, version=flatten_version))

        self._call("acknowledge", acknowledge)

    def get_context(self) -> None:
        """The world knows what the bot is; asking shows whether the database answers."""
        self._call("get_context", lambda: None)

    def get_open_trades(self) -> list[dict[str, Any]]:
        return self._call("get_open_trades", self._rpc.get_open_trades)  # type: ignore[no-any-return]

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult:
        def sync() -> SyncResult:
            before = self._world.tables.last_seq.get(store_id, 0)
            result = self._rpc.sync(store_id=store_id, first_seq=first_seq, entries=entries)
            keys = {entry.seq: entry.key for entry in entries if entry.seq > before}
            if keys:
                refused = tuple(seq for seq, _ in result.refused if seq > before)
                self._world.tell(steps.Synced(boot=self._boot.boot_id, store_id=store_id, keys=keys, refused=refused))
            return result

        return self._call("sync", sync)  # type: ignore[no-any-return]

    def upsert_health(self, patch: Mapping[str, Any]) -> None:
        self._call("upsert_health", lambda: self._rpc.upsert_health(patch))

    def write_event(self, *, kind: str, level: str, payload: Mapping[str, Any], key: str) -> None:
        self._call("write_event", lambda: self._rpc.write_event(kind=kind, level=level, payload=payload, key=key))

    def notify(self, *, channel: str, payload: Mapping[str, Any], key: str) -> None:
        def notify() -> None:
            self._rpc.notify(channel=channel, payload=payload, key=key)
            if channel == "in_app":
                kind = str(payload.get("kind", ""))
                self._world.tell(steps.NoticeSent(boot=self._boot.boot_id, kind=kind, key=key))

        self._call("notify", notify)

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        self._boot.check_alive()
        world, killed = self._world, FaultKind.PROCESS_KILLED_IN_CALL
        if killed in world.may and world.strikes(killed):
            world.after(world.chance.uniform(0.0, 0.5), self._boot.killed_in_call, f"inside {name}")

        def begin(answer: Answer) -> None:
            way_ns = int(world.chance.uniform(0.05, 0.25) * NS)
            world.hub.time.after(way_ns, self._arrive, name, effect, answer, way_ns)

        return self._boot.wait(begin)

    def _arrive(self, name: str, effect: Callable[[], Any], answer: Answer, back_ns: int) -> None:
        world = self._world
        time = world.hub.time
        if world.database_away:
            if world.chance.random() < 0.5:
                time.after(back_ns, answer, None, Unavailable("connection_refused", detail=name))
            else:
                time.after(int(TIMEOUT_S * NS), answer, None, Unknown("timeout", detail=name))
            return
        value: Any = None
        refusal: Rejected | None = None
        try:
            world.trials.check_token(self._boot)
            value = effect()
        except Rejected as no:
            refusal = no
        lost, slow = FaultKind.DATABASE_REPLY_LOST, FaultKind.DATABASE_SLOW
        if lost in world.may and world.strikes(lost):
            world.fault(lost, name)
            silence_ns = int(world.chance.uniform(0.01, TIMEOUT_S) * NS)
            time.after(silence_ns, answer, None, Unknown("reply_lost", detail=name))
            return
        if slow in world.may and world.strikes(slow):
            world.fault(slow, name)
            back_ns += int(world.chance.uniform(0.1, TIMEOUT_S - 0.1) * NS)
        if refusal is not None and refusal.reason in _ENDING and name in _POLLED:
            time.after(back_ns, self._refused, answer, refusal)
        else:
            time.after(back_ns, answer, value, refusal)

    def _refused(self, answer: Answer, refusal: Rejected) -> None:
        boot = self._boot
        busy = boot.calls > 0 or boot.process.out  # what stands still hears it later
        self._world.tell(inside.DatabaseRefused(boot=boot.boot_id, owned=refusal.reason == _OWNED, busy=busy))
        answer(None, refusal)
