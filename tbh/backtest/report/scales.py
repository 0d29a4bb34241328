"""Ticks and words for numbers, times and durations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil, floor, isfinite, log10

MINUTE, HOUR, DAY = 60, 3_600, 86_400
_STEPS_S: tuple[int, ...] = (
    1,
    5,
    15,
    30,
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
)
_STEPS_S += (DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY)
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers within ``low`` and ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    size = 10.0 ** floor(log10(rough))
    step = next(size * part for part in (1, 2, 2.5, 5, 10) if size * part >= rough * 0.999)
    first = ceil(low / step - 1e-9)
    return [number * step for number in range(first, floor(high / step + 1e-9) + 1)]


def time_ticks(first_ms: int, last_ms: int, count: int) -> list[tuple[int, str]]:
    """About ``count`` moments (ms UTC) of a calendar within two, and what to write there."""
    span_s = max((last_ms - first_ms) / 1000, 1.0)
    step_s = next((step for step in _STEPS_S if span_s / step <= count), None)
    if step_s is not None:
        begin = -(-first_ms // (step_s * 1000)) * step_s * 1000
        return [(ms, _tick(ms, step_s)) for ms in range(begin, last_ms + 1, step_s * 1000)]
    months = next((step for step in _MONTHS if span_s / (step * 30.44 * DAY) <= count), _MONTHS[-1])
    return [
        (ms, moment.strftime("%Y" if months >= 12 else "%b %Y")) for ms, moment in _months(first_ms, last_ms, months)
    ]


def _tick(ms: int, step_s: int) -> str:
    moment = moment_of(ms)
    if step_s >= DAY:
        return f"{moment.day} {moment:%b}"
    if moment.hour == moment.minute == moment.second == 0:
        return f"{moment.day} {moment:%b}"
    return moment.strftime("%H:%M:%S" if step_s < MINUTE else "%H:%M")


def _months(first_ms: int, last_ms: int, step: int) -> Iterator[tuple[int, datetime]]:
    year, month = moment_of(first_ms).year, 1
    while True:
        moment = datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)
        ms = int(moment.timestamp() * 1000)
        if ms > last_ms:
            return
        if ms >= first_ms:
            yield ms, moment
        month += step


def moment_of(ms: int) -> datetime:
    """The aware time of ms UTC."""
    return _EPOCH + timedelta(milliseconds=ms)


def stamp(ms: int) -> str:
    """A moment for people, to the minute, or the second where there is one."""
    moment = moment_of(ms)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    for size, name, less, finer in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s")):
        if seconds >= size:
            whole, rest = divmod(round(seconds / less), size // less)
            return f"{whole:,} {name}" + (f" {rest} {finer}" if rest and whole < 100 else "")
    return f"{seconds:.3g} s"


def timeframe(seconds: int) -> str:
    """A bar's length as exchanges write it."""
    for size, name in ((7 * DAY, "w"), (DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{name}"
    return f"{seconds}s"


def amount(value: float, digits: int = 2) -> str:
    """Money for people: two decimals, or what a small sum needs to show three digits."""
    if not isfinite(value):
        return "–"
    small = value and abs(value) < 0.1
    return minus(f"{value:,.{min(10, 2 - floor(log10(abs(value))))}f}" if small else f"{value:,.{digits}f}")


def percent(value: float, *, signed: bool = False) -> str:
    """A fraction in per cent: two decimals, fewer above a thousand per cent, more below a tenth."""
    shown = value * 100
    decimals = 0 if abs(shown) >= 1_000 else 2 if abs(shown) >= 0.1 or not shown else 3
    sign = "+" if signed and round(shown, decimals) else ""
    return minus(f"{shown:{sign},.{decimals}f}") + "\u00a0%"


def short(values: Sequence[float]) -> list[str]:
    """Numbers on one axis, all in the unit that the largest asks for: 12, 1.5k, 3M."""
    largest = max((abs(value) for value in values), default=0.0)
    size, name = next(
        (each for each in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= each[0] * 10), (1.0, "")
    )
    return [minus(f"{round(value / size, 9):,.6g}") + (name if value else "") for value in values]


def minus(text: str) -> str:
    """The same with a true minus sign."""
    return text.replace("-", "−")
