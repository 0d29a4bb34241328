"""The ``tbh`` command: runs the command that is meant, and turns whatever happens into one line and an exit code.

Whatever goes wrong is one line on stderr (one for each thing, where an environment has several); a traceback goes to a
log, never to the user. The exit codes are the runtime's: 64 usage, 78 configuration, 70 fault, or a failure's own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tbh.cli.arguments import build_parser
from tbh.cli.parser import EXIT_FAULT, CommandError

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = argparse.Namespace()
    try:
        code = _run(argv, args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has what they wanted
        _give_stdout_up()
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except CommandError as error:
        return _refuse(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last net: nobody is shown a traceback
        _give_stdout_up()
        return _report(error, getattr(args, "log_dir", None))
    return code


def _run(argv: Sequence[str] | None, args: argparse.Namespace) -> int:
    try:
        build_parser().parse_args(argv, namespace=args)
    except SystemExit as done:  # argparse's way to end after --help and --version
        return int(done.code or 0)
    module, _, function = args.run.partition(":")
    return int(getattr(importlib.import_module(f"tbh.cli.{module}"), function)(args))


def _give_stdout_up() -> None:
    """Python flushes once more at exit, and would complain of a pipe or a disk that we have told of already."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(text: str, exit_code: int) -> int:
    for line in text.splitlines():
        print(f"tbh: {line}", file=sys.stderr)
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
