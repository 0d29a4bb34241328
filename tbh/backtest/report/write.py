"""A run as a folder: ``report.html``, ``summary.json``, ``trades.csv`` and ``trades.json``."""

from __future__ import annotations

from pathlib import Path

from tbh.backtest.figures import figures_of
from tbh.backtest.report.folder import write_folder
from tbh.backtest.report.page import page
from tbh.backtest.report.subject import Subject
from tbh.backtest.report.tables import as_csv, as_json, summary, trade_table


def write_report(folder: Path, subject: Subject) -> None:
    """Make the folder, or put this report in the place of the one that it holds.

    Raises ``FolderRefused`` for a folder that can't be made or holds other things; ``OSError`` when the candles' files
    are gone by now.
    """
    figures = figures_of(subject.made, subject.markets, subject.options.cash)
    rows = trade_table(subject)
    files = {
        "report.html": [page(subject, figures).encode()],
        "summary.json": [as_json(summary(subject, figures))],
        "trades.csv": [as_csv(rows)],
        "trades.json": [as_json(rows)],
    }
    write_folder(folder, files)
