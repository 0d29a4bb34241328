"""A bot of the database, from its environment to its end: lock on the state directory, lease, context, store, exchange,
trade (ARCHITECTURE §6).

Without the database a bot starts only for what it has to protect: from the context it kept, with entries off until the
lease is its own again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tbh.actors.claimant import Claimant
from tbh.domain.order import is_terminal
from tbh.domain.takeover import LEASE_S
from tbh.infra.context import BotContext, ContextCache, read_context
from tbh.infra.restored import NOTHING, Remembered, remembered_by
from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.settings import Settings, load_settings
from tbh.infra.statedir import StateDir
from tbh.infra.store import SqliteStore
from tbh.infra.store_schema import DAMAGED
from tbh.infra.supabase import SupabaseRpc
from tbh.ports import Defer, Failure, Fatal, Lease, Rejected, Unavailable, Unknown
from tbh.runtime.actor import Log
from tbh.runtime.clock import process_clock
from tbh.stopping import Stop

if TYPE_CHECKING:
    from tbh.life import Session

EXIT_UNREACHABLE = 69
EXIT_FAULT = 70
EXIT_TOKEN = 77
EXIT_CONFIGURATION = 78
ASK_TIMES = 3
ASK_PAUSE_S = 0.5
DEFER_MAX_S = 5.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How ``tbh run`` differs from the plain process: ``bars_max`` cycles, a report every ``cycle_s`` seconds (None:
    the bot's tier) and up to ``jitter_s`` later, ``dry_run`` as if DRY_RUN were set, names from ``env_file``.
    ``on_result`` is told how a session that had begun has ended."""

    bars_max: int | None = None
    cycle_s: float | None = None
    jitter_s: float = 0.0
    dry_run: bool = False
    env_file: Path | None = None
    on_result: Callable[[Mapping[str, Any]], None] | None = None


def run_bot(environ: Mapping[str, str], options: RunOptions, *, stop: Stop, say: Callable[[str], None]) -> int:
    """Run the bot that ``environ`` describes until its market ends, it is told to stop, or it must end; the exit code.

    ``Fatal`` with its exit code for whatever keeps it from starting; nothing is left half done then.
    """
    settings = _settings(environ, options)
    with StateDir.open(settings.tbh_state_dir) as state:
        state.store, state.log_file = settings.store_path, settings.log_file
        told = _Told(say)
        rpc = _connect(settings, state, told)
        try:
            return _Boot(settings, options, state, rpc, stop, told).run()
        finally:
            rpc.close()


def _settings(environ: Mapping[str, str], options: RunOptions) -> Settings:
    settings = load_settings(environ, options.env_file)
    return settings.model_copy(update={"dry_run": True}) if options.dry_run else settings


class _Told:
    """Where the process says what it does: to people, and what nobody is waiting for to the session's log alone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.log: Log | None = None

    def event(self, event: str, reason: str) -> None:
        """Something that the client of the database did by itself."""
        if self.log is None:
            self.say(f"{event.replace('_', ' ')}: {reason}")
        else:
            self.log.warning(event, reason=reason)


def _connect(settings: Settings, state: StateDir, told: _Told) -> SupabaseRpc:
    token = settings.runtime_token.get_secret_value()
    return SupabaseRpc(
        url=settings.supabase_url,
        service_key=settings.supabase_service_role_key.get_secret_value(),
        bot_id=settings.bot_id,
        boot_id=state.boot_id,
        tokens=TokenKeeper(state.token, env_token=token, bot_id=settings.bot_id),
        tell=told.event,
    )


class _Boot:
    """One process on its way to a session, and through it."""

    def __init__(
        self,
        settings: Settings,
        options: RunOptions,
        state: StateDir,
        rpc: SupabaseRpc,
        stop: Stop,
        told: _Told,
    ) -> None:
        self._settings = settings
        self._options = options
        self._state = state
        self._rpc = rpc
        self._stop = stop
        self._told = told
        self._say = told.say
        token = settings.runtime_token.get_secret_value()
        self._cache = ContextCache(state.context, runtime_token=token, bot_id=settings.bot_id)

    def run(self) -> int:
        found = self._context()
        if found is None:
            return 0
        context, lease, remembered = found
        try:
            session = self._open(context, remembered)
        except Failure as failure:
            if lease is not None:
                self._tell_not_started(failure)
                self._give_back()
            raise
        self._say(self._opening(context, session.package, lease))
        return self._live(session, None if lease is None else context)

    # The lease and the context

    def _context(self) -> tuple[BotContext, Lease | None, Remembered] | None:
        """What the bot is, its lease, and what the database knows of it; from the cache and without the rest while the
        database is away; None when it was told to stop while it waited."""
        try:
            lease = self._claim()
            if lease is None:
                return None
            self._state.lease_claimed()
            try:
                context = read_context(self._rpc.get_context(), bot_id=self._settings.bot_id)
                lease = self._of_own_length(lease, context)
                remembered = remembered_by(self._rpc, context.symbols[0])
            except Failure:
                self._give_back()
                raise
        except Rejected as refusal:
            raise _refused(refusal) from refusal
        except (Unavailable, Unknown, Defer) as failure:
            return self._kept(failure), None, NOTHING
        return context, lease, remembered

    def _of_own_length(self, lease: Lease, context: BotContext) -> Lease:
        """The same lease, as long as this bot's shall be: should this process end now, a rival waits no longer."""
        lease_s = self._settings.tbh_lease_s or context.lease_s()
        if lease.expires_in_s <= lease_s:
            return lease
        return self._rpc.claim(previous_boot_id=None, seen_renewals=None, lease_s=lease_s)

    def _claim(self) -> Lease | None:
        """Ask for the lease until it is there. Silence is met with a few more tries; a rival's lease is watched."""
        claimant = Claimant(
            self._rpc,
            previous_boot_ids=self._state.previous_boot_ids,
            lease_s=self._settings.tbh_lease_s or LEASE_S,
            monotonic=process_clock,
        )
        silent = told = 0
        while not self._stop.asked:
            try:
                lease = claimant.attempt()
            except (Unavailable, Unknown, Defer) as failure:
                silent += 1
                if silent == ASK_TIMES:
                    raise
                self._stop.sleep(min(failure.after_s, DEFER_MAX_S) if isinstance(failure, Defer) else ASK_PAUSE_S)
                continue
            if lease is not None:
                return lease
            if claimant.held is not None and not told:
                told = 1
                held = claimant.held
                self._say(f"boot {held.boot_id} holds the lease: watching it for up to {held.lease_s:g} s")
                _load()
            self._stop.sleep(claimant.wait_s())
        if silent:
            self._give_back()  # a claim whose reply was lost may have been carried out
        return None

    def _kept(self, failure: Failure) -> BotContext:
        """The context as it was kept, if there is anything to protect; otherwise ``Fatal`` (69)."""
        where = f"{self._settings.supabase_url} gives no usable answer ({failure})"
        kept, reason = self._cache.load()
        if kept is None or not self._protects():
            why = "nothing here needs protection" if kept is not None else f"no context was kept ({reason})"
            detail = f"{where}, and {why}: see that the database runs, then start again"
            raise Fatal("database_unreachable", exit_code=EXIT_UNREACHABLE, detail=detail) from failure
        self._say(f"{where}: protecting what is open, entries off (context of {kept.saved_at:%Y-%m-%d %H:%M:%S} UTC)")
        return kept.context

    def _keep(self, context: BotContext) -> None:
        try:
            self._cache.save(context, at=datetime.now(UTC))
        except Unavailable as failure:
            self._say(f"warning: the context can't be kept for a start without the database: {failure}")

    def _protects(self) -> bool:
        """Whether the store knows of a position, or of an order that may still be alive."""
        if not self._state.store.exists():
            return False
        try:
            store = SqliteStore.open(self._state.store)
        except Unavailable as failure:
            raise Fatal(failure.reason, exit_code=EXIT_CONFIGURATION, detail=failure.detail) from failure
        except Fatal as fatal:
            if fatal.reason in DAMAGED:
                return True  # it can't say no, and the account will
            raise
        try:
            return bool(store.positions()) or any(not is_terminal(each.status) for each in store.orders(open_only=True))
        finally:
            store.close()

    def _tell_not_started(self, failure: Failure) -> None:
        """Leave word for operators, who may not see what this process prints."""
        exit_code = failure.exit_code if isinstance(failure, Fatal) else EXIT_FAULT
        payload = {"severity": "critical", "kind": "not_started", "text": str(failure), "exit_code": exit_code}
        try:
            self._rpc.notify(channel="in_app", payload=payload, key=f"not_started:{self._state.boot_id}")
        except Failure as silence:
            self._say(f"warning: operators could not be told ({silence})")

    def _give_back(self) -> None:
        try:
            self._rpc.release()
        except Failure as failure:
            self._say(f"warning: the lease could not be given back ({failure}); it ends by itself")

    # The session

    def _open(self, context: BotContext, remembered: Remembered) -> Session[Any]:
        from tbh.bot_plan import plan_of_bot  # noqa: PLC0415 - the lease comes first, and needs none of this
        from tbh.plan import LivePlan  # noqa: PLC0415 - the same

        plan = plan_of_bot(
            context,
            self._settings,
            self._state,
            now=datetime.now(UTC),
            bars_max=self._options.bars_max,
            tier_s=self._options.cycle_s,
            jitter_s=self._options.jitter_s,
        )
        session: Session[Any]
        if isinstance(plan, LivePlan):
            from tbh.live import LiveSession  # noqa: PLC0415 - a paper bot needs no exchange's library

            session = LiveSession.open(
                plan, state=self._state, rpc=self._rpc, remembered=remembered, pause=self._stop.sleep
            )
        else:
            from tbh.session import PaperSession  # noqa: PLC0415 - the lease comes first

            session = PaperSession.open(plan, state=self._state, rpc=self._rpc, remembered=remembered)
        self._told.log = session.log
        if session.damage is not None:
            self._say(f"warning: {session.damage.line()}")
        return session

    def _opening(self, context: BotContext, package: str, lease: Lease | None) -> str:
        bot, unarmed = context.bot, self._settings.not_armed_because()
        owner = "without the lease" if lease is None else f"epoch {lease.epoch}"
        strategy = f"{context.strategy.name} ({package})" if package else context.strategy.name
        armed = "armed" if not unarmed and bot.mode == "live" else f"not armed ({'; '.join(unarmed) or 'mode paper'})"
        return (
            f"{bot.name} ({bot.id}) trades {', '.join(context.symbols)} on {bot.exchange} ({bot.mode}) by "
            f"{strategy}, {owner}; live orders: {armed}; state in {self._state.root}"
        )

    def _live(self, session: Session[Any], fresh: BotContext | None) -> int:
        try:
            self._stop.tell(session.request_stop)
            session.start()
            if fresh is not None:
                self._keep(fresh)  # sealing takes a while, and nobody waits for it
            while not session.wait(LOOK_EVERY_S):
                pass
        finally:
            exit_code = session.close()
        if self._options.on_result is not None:
            self._options.on_result(session.result())
        if session.trouble is not None:
            raise Fatal("the bot stopped itself", exit_code=exit_code, detail=session.trouble_told())
        if session.ended and session.plan.bars_max is None:
            self._say("the recorded market is over")
        return exit_code


def _load() -> None:
    """Load the rest of the program while there is nothing to do but wait."""
    import tbh.bot_plan  # noqa: PLC0415 - the claim must not wait for it
    import tbh.session  # noqa: F401, PLC0415 - the same; who uses it finds it loaded


def _refused(refusal: Rejected) -> Fatal:
    """A refusal on the way to the lease or the context, as what the operator has to do about it."""
    if refusal.reason == "runtime_token_invalid":
        detail = "RUNTIME_TOKEN is unknown, expired or revoked: issue a new one with `tbh token issue`"
        return Fatal("token_refused", exit_code=EXIT_TOKEN, detail=detail)
    if refusal.reason == "not_your_bot":
        detail = "RUNTIME_TOKEN belongs to another bot than BOT_ID names: set both as `tbh bot create` printed them"
        return Fatal("token_refused", exit_code=EXIT_TOKEN, detail=detail)
    return Fatal(refusal.reason, exit_code=EXIT_CONFIGURATION, detail=refusal.detail)
