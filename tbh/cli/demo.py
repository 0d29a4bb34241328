"""``tbh demo``: a bot on the paper exchange, watched while it trades."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tbh.cli.demo_plan import plan_of
from tbh.cli.demo_view import JsonView, Opening, PlainView, View
from tbh.cli.parser import one_line
from tbh.infra.statedir import StateDir, StatePaths
from tbh.plan import PaperPlan
from tbh.ports import Failure
from tbh.session import PaperSession
from tbh.stopping import Stop, stop_signals

if TYPE_CHECKING:
    from tbh.demo_database import DemoDatabase


def run(args: argparse.Namespace) -> int:
    """Run the demo to the end of the market, or until a signal asks it to stop; the session's exit code."""
    watched = sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb") and not args.json
    plan = plan_of(args, watched=watched, warn=_warn)
    with stop_signals() as stop, ExitStack() as closing:
        resumed = StatePaths(plan.root).store.exists()
        session, database = _open(plan, args, closing)
        args.log_dir = session.state.logs
        view = _view(args, watched=watched)
        exit_code = _watch(session, view, stop, opening_of(plan, session, resumed=resumed))
        result = session.result()
        if result:
            result |= {"database": _rows(database, plan)}
            view.end(session.snapshot(), result)
    if session.trouble is not None or not result:
        unread = f"replay: the store could not be read at the end; see {session.state.log_file}"
        told = session.trouble_told() or unread
        print(f"tbh: {one_line(f'the bot stopped itself: {told}')}", file=sys.stderr)
    return exit_code


def _warn(text: str) -> None:
    print(f"tbh: warning: {one_line(text)}", file=sys.stderr)


def _open(plan: PaperPlan, args: argparse.Namespace, closing: ExitStack) -> tuple[PaperSession, DemoDatabase | None]:
    """The session, and the local database behind it; what has been opened is closed by ``closing`` if this fails."""
    if args.database == "memory" or plan.host == "simulator":  # virtual time has no real database
        return PaperSession.open(plan), None
    from tbh.demo_database import DemoDatabase  # noqa: PLC0415 - a demo without one need not wait for HTTP clients

    state = closing.enter_context(StateDir.open(plan.root))
    database = DemoDatabase.start(state.database)
    closing.callback(database.close)
    return PaperSession.open(plan, state=state, rpc=database.connect(plan, state)), database


def _rows(database: DemoDatabase | None, plan: PaperPlan) -> dict[str, Any] | None:
    """What the database holds of the bot; None for one in memory."""
    if database is None:
        return None
    try:
        return {"rows": database.rows(plan.bot.bot_id)}
    except Failure as failure:
        return {"error": str(failure)}


def _watch(session: PaperSession, view: View, stop: Stop, opening: Opening) -> int:
    """Start the session and show it until it is over. Whatever the view does, the session is closed in order."""
    try:
        stop.tell(session.request_stop)
        session.start()
        with view.watching(opening):
            while not session.wait(view.period_s):
                view.show(session.snapshot())
            view.show(session.snapshot())
    finally:
        exit_code = session.close()
    return exit_code


def opening_of(plan: PaperPlan, session: PaperSession, *, resumed: bool) -> Opening:
    """What the views tell before the first bar."""
    return Opening(
        market=f"seed {plan.seed}" if plan.simulated else plan.candles.name,
        simulated=plan.simulated,
        symbol=plan.symbol,
        timeframe=plan.definition.timeframe,
        strategy=plan.definition.name,
        cash=plan.cash,
        bars=len(plan.candles),
        state=str(session.state.root),
        resumed_at=session.snapshot().bar_index if resumed else None,
    )


def _view(args: argparse.Namespace, *, watched: bool) -> View:
    if args.json:
        return JsonView()
    if watched:
        from tbh.cli.demo_table import TableView  # noqa: PLC0415 - rich is for terminals only

        return TableView()
    return PlainView()
