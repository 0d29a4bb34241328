"""``tbh demo`` as people and programs use it: JSON, plain lines, a terminal, signals, going on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Cli

BARS = 250
HEAVY = ("pandas", "polars", "ccxt", "newrelic", "supabase", "pydantic_settings", "rich")
TRADE_KEYS = {"side", "entry_time", "exit_time", "entry_price", "exit_price", "qty", "fees", "pnl", "exit_reason"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """One finished run over the simulated market: what it printed, and its folder."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("cli_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    raise NotImplementedError
