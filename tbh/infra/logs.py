"""The process's log: one JSON object per line in ``tradebothub.log``, rotated by size, with secrets redacted.

Redaction is the last step before the text, so it sees everything: fields, nested values, exceptions and their
tracebacks (``tbh/infra/redact.py`` says what it knows). Nothing is configured globally: ``structlog.configure`` and the
standard library's root logger are left alone, so two logs in one process do not meet.

A line that can't be written is counted and dropped: trading never waits for its log. The first one is told on stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from tbh.infra.redact import SECRETS, Redactor, register_secret
from tbh.ports import Fatal

__all__ = ["FILE_NAME", "RotatingLines", "close", "configure", "register_secret"]

FILE_NAME = "tradebothub.log"
LEVELS = ("debug", "info", "warning", "error", "critical")


class RotatingLines(RotatingFileHandler):
    """Appends lines to a file; at ``bytes_max`` it becomes ``.1``, and ``files_kept`` of these are kept.

    Each line is handed to the operating system at once. ``OSError`` when it can't be, here and in ``write``.
    """

    def __init__(self, path: Path, *, bytes_max: int, files_kept: int) -> None:
        super().__init__(path, maxBytes=bytes_max, backupCount=files_kept, encoding="utf-8", errors="backslashreplace")

    def write(self, line: str) -> None:
        self.handle(logging.makeLogRecord({"msg": line}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the base class's hook
        """Called while the error is being handled: let it out, instead of printing a traceback to stderr."""
        raise  # noqa: PLE0704  # the base class calls this inside its except block

    def close(self) -> None:
        """Close the file. What a full disk would not take was told when it was written, and is not told again."""
        with suppress(OSError):
            super().close()


class _Sink:
    """Where finished lines go; the methods are the levels that structlog calls."""

    def __init__(self, lines: RotatingLines, console: TextIO | None) -> None:
        self._lines = lines
        self._console = console
        self.lost = 0

    def emit(self, line: str, plain: str) -> None:
        try:
            self._lines.write(line)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                told = f"tbh: warning: the log {self._lines.baseFilename} can't be written ({error.strerror})"
                print(told, file=sys.stderr)  # noqa: T201  # the last place left
        if self._console is not None:
            print(plain, file=self._console, flush=True)

    debug = info = warning = error = critical = emit

    def close(self) -> None:
        self._lines.close()


def configure(
    log_dir: str | os.PathLike[str],
    *,
    level: str = "info",
    console: TextIO | None = None,
    file_name: str = FILE_NAME,
    bytes_max: int = 10_000_000,
    files_kept: int = 5,
    redactor: Redactor = SECRETS,
) -> FilteringBoundLogger:
    """A structured logger that writes JSON lines to ``log_dir/file_name`` and, if given, plain ones to ``console``.

    Everything of ``level`` (debug, info, warning, error, critical) and above. ``Fatal(78)`` when the folder can't be
    made or written, or the level is none of these. ``close`` it at the end.
    """
    if level.lower() not in LEVELS:
        raise Fatal("log_level_unknown", exit_code=78, detail=f"{level!r}: one of {', '.join(LEVELS)}")
    path = Path(log_dir) / file_name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = RotatingLines(path, bytes_max=bytes_max, files_kept=files_kept)
    except OSError as error:
        raise Fatal(
            "log_unwritable",
            exit_code=78,
            detail=f"{path}: {error.strerror}: give a folder that can be written (BOT_LOG_DIR)",
        ) from error
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Sink(lines, console),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _Render(redactor),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
    ).bind()
    return logger


def close(logger: Any) -> None:
    """Close the file of a logger made by ``configure`` (or bound from one)."""
    logger._logger.close()


class _Render:
    """The last step: redacts, and makes the line for the file and the one for people."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> tuple[tuple[str, str], dict[str, Any]]:
        head = {name: event.pop(name, "") for name in ("timestamp", "level", "event")}
        fields = self._redactor.fields(event)
        head["event"] = self._redactor.value(head["event"])
        line = json.dumps({**head, **fields}, separators=(",", ":"), allow_nan=False)
        traced = fields.pop("exception", None)
        told = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        plain = f"{str(head['timestamp'])[11:19]} {head['level']:<8} {_plain(head['event'], quoted=False)} {told}"
        plain = plain.rstrip() if traced is None else f"{plain.rstrip()}\n{traced}"
        # Two neighbours that are harmless by themselves may make a secret together.
        return (self._redactor.known(line), self._redactor.known(plain)), {}


def _plain(value: Any, *, quoted: bool = True) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if not text.isprintable() or (quoted and isinstance(value, str) and (" " in text or not text)):
        return json.dumps(text)
    return text
