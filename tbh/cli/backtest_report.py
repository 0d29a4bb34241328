"""``tbh backtest --report DIR``: the run as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tbh.backtest.columns import Columns
from tbh.backtest.engine import Run
from tbh.backtest.options import Options
from tbh.backtest.report.folder import FolderRefused, check_folder
from tbh.backtest.report.subject import Subject
from tbh.backtest.report.write import write_report
from tbh.cli.backtest_view import as_json
from tbh.cli.parser import CommandError
from tbh.strategies.dynamic import DynamicStrategy

Reporter = Callable[[Sequence[Path], Sequence[str], DynamicStrategy, Sequence[Columns], Options, Run], None]


def reporter(folder: Path) -> Reporter:
    """What writes the report. CommandError at once for a folder that can't take one."""
    try:
        check_folder(folder)
    except FolderRefused as error:
        raise CommandError(f"--report: {error}") from error

    def write(
        files: Sequence[Path],
        symbols: Sequence[str],
        strategy: DynamicStrategy,
        markets: Sequence[Columns],
        options: Options,
        made: Run,
    ) -> None:
        subject = Subject(
            told=as_json(strategy.name, symbols, options, made),
            definition=json.loads(strategy.definition.canonical_json()),
            symbols=symbols,
            files=files,
            markets=markets,
            options=options,
            made=made,
        )
        try:
            write_report(folder, subject)
        except FolderRefused as error:
            raise CommandError(f"--report: {error}") from error
        except OSError as error:
            raise CommandError(f"--report: {error.filename}: {error.strerror}; it was there before") from error

    return write
