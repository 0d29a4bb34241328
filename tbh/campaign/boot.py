"""One life of one process, as ``tbh/bot.py`` and ``tbh/life.py`` have it: lock, lease, context, store, tree, end.

It runs the same code as a bot, where that knows nothing of threads and files: claimant, recovery of orders, tree and
supervisor. Around it are the simulated disk, database and exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from tbh.actors.claimant import Claimant
from tbh.actors.identity import BotIdentity
from tbh.actors.supervisor import Outside, PositionPolicy, Supervisor
from tbh.campaign.clock import ProcessClock
from tbh.campaign.database import DatabaseClient
from tbh.campaign.disk import Disk, DiskStore
from tbh.campaign.exchange import VenueClient, VenueFeed
from tbh.campaign.insight import seen_in
from tbh.campaign.setup import BOT_ID
from tbh.campaign.traders import NAME, ScriptedTrader
from tbh.campaign.watching import BootLog, heard_by, routes_of, without_reporters
from tbh.domain.risk import RiskLimits
from tbh.infra.clocks import MarketTime
from tbh.infra.restored import Remembered, order_states
from tbh.messages.orders import Fill
from tbh.messages.system import Stop
from tbh.plan import restore
from tbh.ports import Defer, Failure, Fatal, Rejected, Store, Unavailable, Unknown
from tbh.runtime.actor import NullLog
from tbh.runtime.cell import CellState
from tbh.runtime.mailbox import Envelope
from tbh.runtime.simulate import Answer, Simulator
from tbh.runtime.timeline import Process
from tbh.simulation import inside
from tbh.simulation.faults import FaultKind
from tbh.tree import Parts, build_tree
from tbh.wires import RpcNotices

if TYPE_CHECKING:
    from tbh.campaign.world import World

ASK_TIMES = 3
ASK_PAUSE_S = 0.5
LOOK_S = 0.02
SENDERS = frozenset({"gateway", "order_manager"})

Over = tuple[str, str, int] | None
"""Who ended the session and why, with the exit code; None: it was asked to stop."""


class NullTelemetry:
    """Dashboards are no part of the simulation."""

    def emit(self, event_type: str, attributes: object) -> None: ...
    def flush(self) -> None: ...


class Boot:
    """``live`` is the process's main; it ends by telling the world. ``tree`` is None until it is built."""

    def __init__(self, world: World, disk: Disk, number: int) -> None:
        self.world = world
        self.disk = disk
        self.boot_id = f"boot{number}"
        self.process = Process(world.hub.time, self.boot_id)
        self.tree: Simulator | None = None
        self.drafted_ns: dict[str, int] = {}
        self.gate: tuple[str, ...] = ()
        self.injected = False
        self.flat_at: datetime | None = None
        self.calls = 0
        self.gave_back = False
        self.read_qty: Decimal | None = None
        self._over: Answer | None = None
        clock = ProcessClock(world.hub.time, world.chance.uniform(-0.3, 0.3))
        self.now: Callable[[], datetime] = clock.now
        self.monotonic = clock.monotonic
        if FaultKind.CLOCK_STEPPED in world.may:
            self.now = self._stepped_clock().now

    # -- what its code needs

    def check_alive(self) -> None:
        """What is unwound after a death reaches nothing."""
        if self.process.dead:
            self.world.hub.wait(self.process, lambda _: None)

    def wait(self, begin: Callable[[Answer], None]) -> Any:
        return self.world.hub.wait(self.process, begin)

    def sleep(self, seconds: float) -> None:
        self.world.hub.sleep(self.process, seconds)

    def _stepped_clock(self) -> MarketTime:
        """A live bot's own clock, on a machine whose clock may be stepped, with the exchange's to go by."""
        usual, disk = self.now, self.disk
        return MarketTime(
            lambda: usual().timestamp(),
            wall=lambda: usual() + timedelta(seconds=disk.clock_ahead_s),
            process=self.monotonic,
        )

    def waited_for_disk(self, client_order_id: str) -> bool:
        """Whether the journal has been given 50 ms to record the order, or never heard of it."""
        drafted_ns = self.drafted_ns.get(client_order_id)
        return drafted_ns is not None and self.world.now_ns - drafted_ns >= 49_000_000

    def killed_in_call(self, where: str) -> None:
        if not self.process.dead:
            self.world.fault(FaultKind.PROCESS_KILLED_IN_CALL, where)
            self.world.kill(self)

    # -- its life

    def live(self) -> None:
        self.world.hub.time.acting = self.process
        try:
            exit_code, reason = self._life()
        except Fatal as fatal:
            exit_code, reason = fatal.exit_code, str(fatal)
        except Rejected as refusal:
            exit_code, reason = 77 if refusal.reason == "runtime_token_invalid" else 78, str(refusal)
        except Failure as failure:
            exit_code, reason = 70, str(failure)
        self.process.end()
        self.world.ended(self, exit_code, reason)

    def request_stop(self) -> None:
        """SIGTERM."""
        self._end(None)

    def _life(self) -> tuple[int, str]:
        disk = self.disk
        if disk.owner is not None:
            return 75, "state_dir_in_use"
        disk.owner = self
        previous = disk.boots
        disk.boots = (self.boot_id, *disk.boots)[:32]
        rpc = DatabaseClient(self)
        leased = self._claim(rpc, previous)
        rows = []
        if leased:
            disk.boots = (self.boot_id,)
            rows = rpc.get_open_trades()
        if disk.damaged:
            disk.set_aside()
        store = DiskStore(self, disk)
        restore(cast("Any", store), Remembered(orders=order_states(rows)))
        self.tree = tree = self._build(rpc, store, previous)
        tree.start()
        disk.context_kept = disk.context_kept or leased
        over: Over = self.wait(self._begin_waiting)
        return self._close(tree, rpc, over)

    def _claim(self, rpc: DatabaseClient, previous: tuple[str, ...]) -> bool:
        """Ask for the lease until it is there; False for a start without the database."""
        lease_s = self.world.setup.lease_s
        claimant = Claimant(cast("Any", rpc), previous_boot_ids=previous, lease_s=lease_s, monotonic=self.monotonic)
        silent = 0
        while True:
            try:
                lease = claimant.attempt()
                if lease is not None:
                    rpc.get_context()
                    return True
            except (Unavailable, Unknown, Defer) as failure:
                silent += 1
                if silent < ASK_TIMES:
                    self.sleep(ASK_PAUSE_S)
                    continue
                if not self.disk.context_kept or self.disk.damaged or not self.disk.protects:
                    raise Fatal("database_unreachable", exit_code=69, detail=str(failure)) from failure
                return False
            self.sleep(claimant.wait_s())

    def _build(self, rpc: DatabaseClient, store: DiskStore, previous: tuple[str, ...]) -> Simulator:
        world = self.world
        setup = world.setup
        client = VenueClient(self)
        parts = Parts(
            identity=self._identity(),
            market=setup.market,
            new_strategy=lambda: ScriptedTrader(world.seed, setup.bar_s, setup.habits),
            feed=VenueFeed(self, client),
            exchange=client,
            store=cast("Store", store),
            rpc=cast("Any", rpc),
            sink=NullTelemetry(),
            channels=(RpcNotices(cast("Any", rpc)),),
            limits=RiskLimits(),
            cash=setup.cash,
            poll_s=setup.poll_s,
            sync_s=setup.sync_s,
            stale_after_s=6.0 * setup.bar_s,
            tier_s=setup.tier_s,
            lease_s=setup.lease_s,
            lease_margin_s=setup.lease_s / 6,
            previous_boot_ids=previous,
        )
        specs = build_tree(parts)
        routes = routes_of(specs, world.external)
        if not setup.reporters:
            specs, routes = without_reporters(specs, routes)
        log = BootLog(self)
        return Simulator(
            specs,
            now=self.now,
            seed=f"{world.seed}/{self.boot_id}",
            log=log.of,
            external=world.external,
            intercept=self._intercept if world.intercepts else None,
            hub=world.hub,
            process=self.process,
            on_escalated=self._escalated,
            routes=routes,
            heard={**heard_by(self), **seen_in(self)},
            trace=world.deliveries,
        )

    def _identity(self) -> BotIdentity:
        setup = self.world.setup
        return BotIdentity(
            bot_id=BOT_ID,
            bot_name="simulated",
            user_id="",
            strategy=NAME,
            mode="live",
            exchange="simulated",
            symbol=setup.market.symbol,
            boot_id=self.boot_id,
            run_id=self.boot_id,
            version="0",
            provider="",
            region="",
            machine_id=self.disk.name,
            polling_tier="fast_5s",
            timeframe_s=setup.bar_s,
        )

    # -- faults inside it

    def _intercept(self, actor: str, envelope: Envelope) -> None:
        world, is_fill = self.world, type(envelope.message) is Fill
        world.intercepted += 1
        if world.intercepted < world.strikes_at and actor != world.chaos.aimed_at and not is_fill:
            return  # as most are
        kind = world.next_inside(actor)
        if kind is None:
            if not is_fill or not world.trials.fails_at_fill(actor):
                return
            kind = FaultKind.FILL_FAILED
        world.fault(kind, f"{actor} at {type(envelope.message).__name__}")
        if kind is FaultKind.PROCESS_KILLED:
            world.kill(self)
        self.injected = True
        raise RuntimeError("injected")

    # -- its end

    def _begin_waiting(self, answer: Answer) -> None:
        self._over = answer

    def _escalated(self) -> None:
        self._end(None if self.tree is None else self.tree.escalation)

    def _end(self, over: Over) -> None:
        if self._over is not None:
            self._over(over, None)

    def _close(self, tree: Simulator, rpc: DatabaseClient, over: Over) -> tuple[int, str]:
        exit_code = 0
        if over is not None:
            exit_code = self._supervisor(tree, rpc).escalate(*over, run=lambda _, act: act())
        left = self._stop_tree(tree)
        if exit_code != 75 and not SENDERS & set(left):
            with suppress(Failure):  # the lease ends by itself
                rpc.release()
        return exit_code, "stopped" if over is None else f"{over[0]}: {over[1]}"

    def _supervisor(self, tree: Simulator, rpc: DatabaseClient) -> Supervisor:
        store = self.disk.store
        outside = Outside(
            exchange=lambda: VenueClient(self, escape=True),
            rpc=lambda: cast("Any", rpc),
            store=store.reader,
            halt=lambda reason, exit_code: self._halt(tree, reason, exit_code),
            drain=lambda name, timeout_s: self._drain(tree, name, timeout_s),
            now=self.now,
        )
        return Supervisor(
            bot_id=BOT_ID,
            boot_id=self.boot_id,
            market=self.world.setup.market,
            policy=PositionPolicy(self.world.setup.policy),
            outside=outside,
            log=NullLog(),
        )

    def _halt(self, tree: Simulator, reason: str, exit_code: int) -> None:
        self.world.tell(inside.Halted(boot=self.boot_id, busy=self.calls > 0))
        tree.halt(reason, exit_code)

    def _drain(self, tree: Simulator, name: str, timeout_s: float) -> bool:
        cell = tree.cell(name)
        assert cell is not None
        until_s = self.monotonic() + timeout_s
        while not cell.settled and self.monotonic() < until_s:
            self.sleep(LOOK_S)
        return cell.settled

    def _stop_tree(self, tree: Simulator) -> list[str]:
        """In reverse start order, each within its deadline; who did not end."""
        left = []
        for cell in reversed(tree.cells):
            until_s = self.monotonic() + cell.spec.stop_deadline_s
            while not cell.at_rest and self.monotonic() < until_s:
                self.sleep(LOOK_S)
            tree.tell(cell.name, Stop())
            while cell.state is not CellState.STOPPED and self.monotonic() < until_s:
                self.sleep(LOOK_S)
            if cell.state is not CellState.STOPPED:
                left.append(cell.name)
        return left
