"""What a stranger's code has raised, in one line."""

from __future__ import annotations

from types import TracebackType

from tbh.strategies.custom import StrategyError

_OURS = __name__.partition(".")[0]


def failure_line(error: BaseException) -> str:
    """What was raised, and in which line of which file: the last line of the strategy's own package, since one of a
    library that it called says little to its author."""
    if isinstance(error, StrategyError):
        return str(error)
    line = _own_line(error.__traceback__)
    where = ""
    if line is not None:
        file = line.tb_frame.f_code.co_filename.rpartition("/")[2]
        where = f" ({file}, line {line.tb_lineno})"
    text = first_line(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"


def first_line(error: BaseException) -> str:
    """The first line of its message, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else ""


def _own_line(trace: TracebackType | None) -> TracebackType | None:
    """Where the code that we called was last; where nothing but ours ran, the last line of that."""
    found, own = None, _OURS
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if own == _OURS:
            own = package
        if package == own:
            found = trace
        trace = trace.tb_next
    return found
