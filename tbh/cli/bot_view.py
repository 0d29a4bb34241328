"""What ``tbh bot show`` tells people: words and numbers, without a way of drawing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ORDER_COLUMNS = ("order", "status", "event", "side", "qty", "filled", "avg price", "exchange's id")
FILL_COLUMNS = ("fill", "order", "side", "qty", "price", "fee", "time")
ROWS_SHOWN = 20
"""``--json`` has all of them; a terminal has so many lines."""

Facts = Mapping[str, Any]
Row = tuple[str, ...]


def summary(shown: Facts) -> list[tuple[str, str]]:
    """Label and text of each line above the tables."""
    bot = shown["bot"]
    strategy = bot["strategy"] or {}
    return [
        ("bot", f"{bot['name']} ({bot['id']}){'' if bot['active'] else ', inactive'}"),
        ("market", f"{', '.join(bot['symbols'])} on {bot['exchange']}, {bot['mode']}, tier {bot['polling_tier']}"),
        ("strategy", f"{strategy.get('name', '-')} {strategy.get('timeframe') or ''}".rstrip()),
        ("state", _state(shown["state"], shown["bot"]["status"])),
        ("lease", _lease(shown["lease"])),
        ("controls", f"{controls_line(shown['controls'])}, {_version(shown['controls'])}"),
        ("subscription", bot["subscription"]),
        ("health", _health(shown["health"])),
        ("position", "; ".join(map(position_line, shown["positions"])) or "flat"),
        *((("last found" if not place else ""), line) for place, line in enumerate(_last_findings(shown))),
        ("rows", ", ".join(f"{count} {table}" for table, count in sorted(shown["rows"].items()) if count) or "none"),
    ]


def orders(shown: Facts) -> list[Row]:
    """The newest orders, as ``ORDER_COLUMNS``."""
    return [
        _texts(
            order[name]
            for name in (
                "client_order_id",
                "status",
                "event",
                "side",
                "qty",
                "filled_qty",
                "avg_price",
                "exchange_order_id",
            )
        )
        for order in shown["orders"][:ROWS_SHOWN]
    ]


def fills(shown: Facts) -> list[Row]:
    """The newest fills, as ``FILL_COLUMNS``."""
    return [
        _texts(
            (
                fill["trade_id"],
                fill["client_order_id"],
                fill["side"],
                fill["qty"],
                fill["price"],
                f"{fill['fee'] or '-'} {fill['fee_asset'] or ''}".rstrip(),
                second(fill["time"]),
            )
        )
        for fill in shown["fills"][:ROWS_SHOWN]
    ]


def lines(shown: Facts) -> Iterator[str]:
    """All of it as plain lines, for a pipe."""
    for label, text in summary(shown):
        yield f"{label:<13} {text}"
    for names, rows in ((ORDER_COLUMNS, orders(shown)), (FILL_COLUMNS, fills(shown))):
        if rows:
            yield ""
            yield from columns(names, rows)


def columns(names: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """A table of aligned columns under their names."""
    table = [tuple(names), *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(names))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def controls_line(controls: Facts) -> str:
    """What the operator wants, in words."""
    wanted = [
        word
        for word, holds in (
            ("killed", controls["killed"]),
            ("paused", controls["paused"]),
            ("observes only", controls["observe_only"]),
            ("to flatten", controls["flatten_version"] is not None),
            ("to adopt", any(one["action"] == "adopt" for one in controls["requests"])),
            ("to resolve", any(one["action"] == "resolve" for one in controls["requests"])),
        )
        if holds
    ]
    return ", ".join(wanted) or "free to trade"


def since(state: Facts | None) -> str:
    """How long ago the last heartbeat was."""
    if state is None or state["heartbeat_age_s"] is None:
        return "never"
    return f"{_seconds(state['heartbeat_age_s'])} ago"


def _version(controls: Facts) -> str:
    version, acknowledged = controls["version"], controls["acknowledged"]
    if acknowledged >= version:
        told = "acknowledged"
    else:
        told = f"acknowledged up to {acknowledged}" if acknowledged else "not acknowledged yet"
    return f"version {version}, {told}"


def _state(state: Facts | None, status: str) -> str:
    if state is None:
        return f"{status}, no heartbeat yet"
    parts = [status, f"heartbeat {since(state)}"]
    if state["equity"] is not None:
        parts.append(f"equity {state['equity']}")
    if state["exchange_sync_status"] is not None:
        parts.append(f"position sync {state['exchange_sync_status']}")
    if state["gate"]:
        parts.append(f"gate {' '.join(map(str, state['gate']))}")
    return ", ".join(parts)


def _lease(lease: Facts) -> str:
    if lease["boot_id"] is None:
        return f"held by nobody, epoch {lease['epoch']}"
    left = float(lease["expires_in_s"])
    ends = f"for {_seconds(left)} more" if left > 0 else f"ended {_seconds(-left)} ago"
    return f"boot {lease['boot_id']}, epoch {lease['epoch']}, {ends}"


def _health(health: Facts | None) -> str:
    if not health:
        return "no evidence yet"
    parts = [f"flushed {second(health['flushed_at'])}" if "flushed_at" in health else "evidence without a time"]
    for section, figure, name in (
        ("orders", "unknown_now", "unknown orders"),
        ("db", "outbox_pending", "entries to relay"),
        ("actors", "restarts_15m", "restarts in 15 min"),
        ("actors", "dead_letters", "dead letters"),
    ):
        part = health.get(section)
        if isinstance(part, dict) and part.get(figure) is not None:
            parts.append(f"{part[figure]} {name}")
    return ", ".join(parts)


def _last_findings(shown: Facts) -> list[str]:
    return finding_lines(next((event for event in shown["events"] if event["kind"] == "recovery"), None))


def finding_lines(recovery: Facts | None) -> list[str]:
    """What the last start that found anything has found, a line each, the first with its time: starts since then may
    have had nothing to find."""
    if recovery is None:
        return []
    found = recovery["payload"]["findings"]
    lines = [f"{one['kind']}: {one['subject']} ({one['detail']})" for one in found[:ROWS_SHOWN]]
    return [f"{second(recovery['at'])} {line}" if not place else line for place, line in enumerate(lines)]


def event_line(event: Facts) -> str:
    """An event in one line: when, what, and what it says."""
    payload = {key: value for key, value in event["payload"].items() if key != "at" and value not in (None, [], "")}
    said = ", ".join(f"{key} {_words(value)}" for key, value in payload.items())
    return f"{second(event['at'])} {event['kind']}: {said}"


def _words(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def position_line(position: Facts) -> str:
    told = f"{position['position_side'] or ''} {position['qty']} {position['symbol']}".strip()
    return told if position["entry_price"] is None else f"{told} at {position['entry_price']}"


def _texts(values: Any) -> Row:
    return tuple("-" if value is None or value == "" else str(value) for value in values)


def second(time: str | None) -> str | None:
    """An ISO time without its fractions."""
    return None if time is None else f"{time[:19].replace('T', ' ')}Z"


def _seconds(amount: str | float) -> str:
    value = float(amount)
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"
