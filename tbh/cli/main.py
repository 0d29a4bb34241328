"""The ``tbh`` command: runs the command that is meant, and turns whatever happens into one line and an exit code.

Whatever goes wrong is one line on stderr; a traceback goes to a log, never to the user. The exit codes are the
runtime's: 64 usage, 78 configuration, 70 fault, or a failure's own.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TextIO

from tbh.cli.arguments import build_parser
from tbh.cli.parser import EXIT_FAULT, CommandError, one_line

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    _prepare_streams()
    args = argparse.Namespace()
    try:
        with _interrupts_end_it():
            code = _run(argv, args)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except CommandError as error:
        return _refuse(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last net: nobody is shown a traceback
        if isinstance(error, BrokenPipeError) and _reader_is_gone(sys.stdout):  # who has what they wanted
            _give_up(sys.stdout)
            return 0
        if _give_up(sys.stdout) and isinstance(error, OSError) and error.filename is None:
            return _refuse(f"stdout can't be written ({error.strerror}); send it somewhere else", EXIT_FAULT)
        return _report(error, getattr(args, "log_dir", None))
    return code


def _run(argv: Sequence[str] | None, args: argparse.Namespace) -> int:
    given = sys.argv[1:] if argv is None else argv
    try:
        build_parser(given[0] if given else None).parse_args(given, namespace=args)
    except SystemExit as done:  # argparse's way to end after --help and --version
        return int(done.code or 0)
    module, _, function = args.run.partition(":")
    return int(getattr(_imported(f"tbh.cli.{module}"), function)(args))


def _imported(name: str) -> ModuleType:
    """A command's module. What comes with it stays until the process ends: the collector need not look for garbage in
    it, neither now nor later nor at the end, which is a sixth of a short command."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextmanager
def _interrupts_end_it() -> Iterator[None]:
    """Ctrl-C ends a command at once and in silence; one that has something to close says so itself.

    A KeyboardInterrupt in the middle of an import would come out of a library's native part as a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _prepare_streams() -> None:
    """A stream that the caller has closed goes nowhere; left closed, its number would be given to a file of ours.
    A file name that stdout's encoding has no letters for is printed with escapes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - it stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _reader_is_gone(stream: TextIO) -> bool:
    """Whether ``stream`` is a pipe that nobody reads any more: another pipe or connection may have broken instead."""
    asked = select.poll()
    try:
        asked.register(stream.fileno(), 0)
    except io.UnsupportedOperation:  # it is kept in memory
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


def _give_up(stream: TextIO) -> bool:
    """Whether ``stream`` can't be written; then it goes nowhere from here on, and Python's last flush is no error."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def _refuse(text: str, exit_code: int) -> int:
    with suppress(OSError):
        print(f"tbh: {one_line(text)}", file=sys.stderr)
    _give_up(sys.stderr)
    return exit_code


def _report(error: Exception, log_dir: Path | None) -> int:
    from tbh.ports import Failure, Fatal  # noqa: PLC0415 - what goes well doesn't pay for it

    if isinstance(error, Failure):
        return _refuse(str(error), error.exit_code if isinstance(error, Fatal) else EXIT_FAULT)
    told = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {told[0]}" if told else type(error).__name__
    return _refuse(f"{what}; {_log_traceback(error, log_dir)}", EXIT_FAULT)


def _log_traceback(error: Exception, log_dir: Path | None) -> str:
    """Write the traceback, redacted, to the log of the session or to one of its own; the line that says where."""
    import tempfile  # noqa: PLC0415 - as above

    from tbh.infra import logs  # noqa: PLC0415 - as above
    from tbh.ports import Fatal  # noqa: PLC0415 - as above

    try:
        folder = log_dir or Path(tempfile.mkdtemp(prefix="tbh-error-"))
        log = logs.configure(folder)
        log.error("command_failed", exc_info=error)
        logs.close(log)
    except (OSError, Fatal):
        return "its traceback is lost, since no log can be written"
    return f"its traceback is in {folder / logs.FILE_NAME}"
