"""``tbh backtest --report DIR``: the run as a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tbh.backtest.columns import Columns
from tbh.backtest.engine import Run
from tbh.backtest.options import Options
from tbh.backtest.report.folder import FolderRefused, check_folder
from tbh.backtest.report.subject import Subject
from tbh.backtest.report.write import write_report
from tbh.cli.parser import CommandError
from tbh.strategies.shapes import Definition

Reporter = Callable[[Mapping[str, Any], str, Definition, Sequence[Path], Sequence[Columns], Options, Run], None]
"""What ``--json`` prints, the strategy as JSON text, the definition with its stops, and what was run over what."""


def reporter(folder: Path) -> Reporter:
    """What writes the report. CommandError at once for a folder that can't take one."""
    try:
        check_folder(folder)
    except FolderRefused as error:
        raise CommandError(f"--report: {error}") from error

    def write(
        told: Mapping[str, Any],
        strategy: str,
        definition: Definition,
        files: Sequence[Path],
        markets: Sequence[Columns],
        options: Options,
        made: Run,
    ) -> None:
        subject = Subject(
            told=told,
            definition=json.loads(strategy),
            stops=definition.stops.model_dump(mode="json", exclude_none=True),
            symbols=told["symbols"],
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
