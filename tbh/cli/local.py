"""``tbh local``: a database of one's own on this machine, in the foreground."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections import deque
from pathlib import Path

from tbh.cli.parser import EXIT_FAULT, CommandError, one_line
from tbh.infra.stackfolder import StackFolder
from tbh.ports import Fatal
from tbh.stopping import Stop, stop_signals

try:
    from tbh.infra.localstack import LocalStack
except ModuleNotFoundError as error:
    raise CommandError(
        f"{error.name} is not installed, which a local database needs: pip install 'tbh[local]'"
    ) from error

EXIT_UNREACHABLE = 69
DOWN_PATIENCE_S = 15.0
RESTARTS_MAX, RESTARTS_WITHIN_S = 5, 60.0
"""PostgreSQL is started again when it ends by itself; one that keeps ending is a fault."""

_POLL_S = 0.1


def run_up(args: argparse.Namespace) -> int:
    """Run the stack until a signal, or until its parent is gone; 0. Raises what ``LocalStack.start`` raises, and
    ``Fatal(70)`` when PostgreSQL keeps ending."""
    parent = None if args.with_parent is None else (args.with_parent or os.getppid())
    stack = LocalStack(_folder(args), port=args.port)
    with stop_signals() as stop:
        if _parent_is_gone(parent):
            return 0
        if sys.stderr.isatty() and not args.json and not stack.database.exists():
            print(f"tbh: making a database in {one_line(str(stack.root))}", file=sys.stderr)
        stack.start()
        try:
            if stack.moved_from is not None:
                print(f"tbh: port {stack.moved_from} is taken by now: the address has changed", file=sys.stderr)
            _tell_ready(stack, args)
            _watch(stack, stop, parent)
        finally:
            stack.stop()
    return 0


def run_env(args: argparse.Namespace) -> int:
    """Print the variables of the running stack, for a shell or as JSON. 69 when none runs."""
    folder = StackFolder(_folder(args))
    if not folder.ready:
        starting = folder.holder is not None
        what = "is still starting; try again in a moment" if starting else "doesn't run; start it: tbh local up"
        raise CommandError(f"the local stack in {folder.root} {what}", exit_code=EXIT_UNREACHABLE)
    variables = folder.environment(operator=args.operator)
    if args.json:
        print(json.dumps(variables))
        return 0
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def run_down(args: argparse.Namespace) -> int:
    """Stop the running stack and wait until it is gone; 0, also when none runs. 70 when it doesn't end."""
    folder = StackFolder(_folder(args))
    holder = folder.holder
    if holder:
        _end(folder, holder)
    elif holder == 0:
        raise CommandError(f"{folder.root} is held by a process that can't be seen from here", exit_code=EXIT_FAULT)
    if args.json:
        print(json.dumps({"stopped": holder}))
    else:
        print(
            f"no local stack runs in {folder.root}" if holder is None else f"stopped the local stack in {folder.root}"
        )
    return 0


def _folder(args: argparse.Namespace) -> Path:
    if args.dir is not None:
        return Path(args.dir)
    # The variable counts only when it is absolute: so says the standard that it comes from.
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "tbh" / "local"


def _tell_ready(stack: LocalStack, args: argparse.Namespace) -> None:
    if args.json:
        print(
            json.dumps({"url": stack.url, "port": stack.port, "pid": os.getpid(), "dir": str(stack.root)}), flush=True
        )
        return
    where = f" --dir {shlex.quote(str(args.dir))}" if args.dir is not None else ""
    print(f'ready: {stack.url}; in another shell: eval "$(tbh local env{where})"; Ctrl-C stops it', flush=True)


def _watch(stack: LocalStack, stop: Stop, parent: int | None) -> None:
    """Until it is time to stop: PostgreSQL is started again when it has ended, and a parent that is gone is noticed."""
    restarts: deque[float] = deque(maxlen=RESTARTS_MAX)
    while not stop.asked and not _parent_is_gone(parent):
        time.sleep(_POLL_S)
        if stack.server.running or stop.asked:
            continue
        now = time.monotonic()
        if len(restarts) == RESTARTS_MAX and now - restarts[0] < RESTARTS_WITHIN_S:
            detail = f"{RESTARTS_MAX} times within {RESTARTS_WITHIN_S:.0f} s; see {stack.server.log}"
            raise Fatal("postgres_keeps_ending", detail=detail)
        restarts.append(now)
        print("tbh: PostgreSQL has ended by itself; starting it again", file=sys.stderr, flush=True)
        stack.server.start()


def _parent_is_gone(parent: int | None) -> bool:
    return parent is not None and os.getppid() != parent


def _end(folder: StackFolder, holder: int) -> None:
    try:
        os.kill(holder, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise CommandError(f"process {holder} runs it and isn't yours to stop", exit_code=EXIT_FAULT) from error
    deadline = time.monotonic() + DOWN_PATIENCE_S
    while folder.holder == holder:
        if time.monotonic() > deadline:
            told = f"process {holder} does not stop within {DOWN_PATIENCE_S:.0f} s; kill -9 {holder} harms nothing"
            raise CommandError(told, exit_code=EXIT_FAULT)
        time.sleep(_POLL_S / 5)
