"""``tbh run``: cycles, an env file, one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run(
    fleet: Any, bot: Any, *arguments: str, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    given = fleet.stack.environment(bot, fleet.folder / "state", TBH_LEASE_S="2") if environ is None else environ
    return subprocess.run(
        [sys.executable, "-m", "tbh", "run", *arguments],
        env=given | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_so_many_cycles_end_it_with_one_json_object(fleet: Any) -> None:
    bot = fleet.make()
    done = run(fleet, bot, "--max-cycles", "7", "--json", "--cycle-seconds", "1", "--jitter", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["exit_code"], told["escalation"], told["journal"]["pending"]) == (0, None, 0)
    assert fleet.cycles_of(bot) in (7, 8)  # the last bar before the start is decided, too
    assert fleet.lease_of(bot)[0] is None


def test_once_is_one_cycle(fleet: Any) -> None:
    bot = fleet.make()
    first = run(fleet, bot, "--once", "--json")
    assert first.returncode == 0
    assert 1 <= fleet.cycles_of(bot) <= 2


def test_names_come_from_an_env_file_as_the_commands_print_them(fleet: Any) -> None:
    bot = fleet.make()
    names = fleet.stack.environment(bot, fleet.folder / "state")
    wanted = ("BOT_ID", "RUNTIME_TOKEN", "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "TBH_STATE_DIR")
    (fleet.folder / ".env").write_text("".join(f"export {name}={names[name]}\n" for name in wanted))
    done = run(fleet, bot, "--once", environ={"PATH": names["PATH"]})
    assert (done.returncode, done.stderr) == (0, "")
    assert "trades SIM/USD on paper" in done.stdout


def test_a_dry_run_sends_nothing(fleet: Any) -> None:
    bot = fleet.make(bars_per_second=200)
    done = run(fleet, bot, "--dry-run", "--max-cycles", "40", "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["orders"]["submitted"] == 0
    assert told["signals"] > 0
    ((rule,),) = fleet.stack.query(
        "select distinct rule from bot_runtime.risk_decisions where bot_id = %s and verdict = 'refused'", bot.bot_id
    )
    assert rule == "dry_run"


@pytest.mark.parametrize(
    "arguments",
    [("--once", "--max-cycles", "3"), ("--cycle-seconds", "0"), ("--jitter", "x"), ("--max-cycles", "0")],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_one_line_and_64(fleet: Any, arguments: tuple[str, ...]) -> None:
    done = run(fleet, None, *arguments, environ={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout) == (64, "")
    assert len(done.stderr.splitlines()) == 1
