"""Structured events on the local disk."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tbh.infra.events import ATTRIBUTES_MAX, VALUE_BYTES_MAX, JsonLines, NullTelemetry
from tbh.infra.redact import MASK, Redactor
from tbh.messages.orders import Side
from tbh.ports import Fatal, Rejected, Unavailable


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def events(tmp_path: Path, redactor: Redactor) -> Iterator[JsonLines]:
    made = JsonLines(tmp_path / "events.jsonl", clock=lambda: 1_700_000_000.5, redactor=redactor)
    yield made
    made.close()


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_an_event_is_one_flat_line(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotTrade", {"symbol": "BTC/USDT", "side": Side.BUY, "qty": Decimal("0.10"), "n": 1, "dry": False})
    assert written(tmp_path) == [
        {
            "eventType": "BotTrade",
            "timestamp": 1_700_000_000_500,
            "symbol": "BTC/USDT",
            "side": "buy",
            "qty": "0.10",
            "n": 1,
            "dry": False,
        }
    ]


def test_an_event_may_bring_its_own_time(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotLoop", {"timestamp": 5, "eventType": "other"})
    events.emit("BotLoop", {"timestamp": "yesterday"})
    assert written(tmp_path) == [
        {"eventType": "BotLoop", "timestamp": 5},
        {"eventType": "BotLoop", "timestamp": 1_700_000_000_500},
    ]


def test_numbers_that_json_does_not_know_are_left_out(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotLoop", {"a": float("nan"), "b": float("inf"), "c": None, "d": 1.5})
    assert written(tmp_path)[0].keys() == {"eventType", "timestamp", "d"}


def test_nested_values_and_times_become_text(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotLoop", {"at": datetime(2026, 1, 1, tzinfo=UTC), "deep": {"token": "abc"}, "big": 2**64})
    row = written(tmp_path)[0]
    assert row["at"] == "2026-01-01 00:00:00+00:00"
    assert row["deep"] == f'{{"token":"{MASK}"}}'
    assert row["big"] == str(2**64)


def test_attributes_beyond_the_limit_are_counted(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotLoop", {f"a{n}": n for n in range(ATTRIBUTES_MAX + 5)})
    row = written(tmp_path)[0]
    assert len(row) == ATTRIBUTES_MAX + 2
    assert row["attributes_dropped"] == 6


def test_long_texts_are_cut_at_whole_characters(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotError", {"message": "é" * 300})
    assert written(tmp_path)[0]["message"] == "é" * (VALUE_BYTES_MAX // 2)


def test_secrets_are_masked(events: JsonLines, tmp_path: Path, redactor: Redactor) -> None:
    redactor.register("hunter2-hunter2")
    events.emit("BotError", {"message": "with hunter2-hunter2", "api_key": "abc", "hunter2-hunter2": 1})
    row = written(tmp_path)[0]
    assert (row["message"], row["api_key"], row[MASK]) == (f"with {MASK}", MASK, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=10),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals() | st.lists(st.integers()),
        max_size=80,
    )
)
def test_every_line_is_flat_strict_json(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = tmp_path / os.urandom(8).hex()
    events = JsonLines(path)
    events.emit("BotLoop", attributes)
    events.close()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (line,) = path.read_text().splitlines()
    row = json.loads(line, parse_constant=refuse)
    assert len(row) <= ATTRIBUTES_MAX + 2
    assert all(isinstance(value, str | int | float | bool) for value in row.values())


def test_a_type_that_no_sink_takes_is_refused(events: JsonLines) -> None:
    with pytest.raises(Rejected):
        events.emit("Bot-Trade!", {})


def test_the_file_is_rotated_by_size(tmp_path: Path) -> None:
    events = JsonLines(tmp_path / "events.jsonl", bytes_max=1000, files_kept=1)
    for n in range(50):
        events.emit("BotLoop", {"n": n})
    events.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    assert written(tmp_path)[-1]["n"] == 49


def test_a_line_is_there_as_soon_as_it_was_emitted(events: JsonLines, tmp_path: Path) -> None:
    events.emit("BotLoop", {})
    assert len(written(tmp_path)) == 1
    events.flush()


def test_a_full_disk_is_unavailable(events: JsonLines, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(Unavailable, match="disk_full"):
            events.emit("BotLoop", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_can_not_be_made_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="events_unwritable") as caught:
        JsonLines(tmp_path / "gone" / "events.jsonl")
    assert caught.value.exit_code == 78


def test_null_telemetry_takes_anything() -> None:
    NullTelemetry().emit("BotLoop", {"a": object()})
    NullTelemetry().flush()
