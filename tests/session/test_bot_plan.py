"""From a bot's row and its environment to a plan: which session it is, and what it may do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tbh.bot_plan import plan_of_bot
from tbh.cli.default_strategy import DEFAULT_STRATEGY
from tbh.infra.context import read_context
from tbh.infra.crypto import seal
from tbh.infra.settings import load_settings
from tbh.infra.statedir import StatePaths
from tbh.plan import LivePlan
from tbh.ports import Fatal
from tbh.strategies.runner import strategy_of

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_strategy"

BOT_ID = "6f1c2b7e-0000-4000-8000-00000000feed"
KEY = "c1" * 32
ARMED = {"LIVE_TRADING": "true", "LIVE_TRADING_ACK": "I_UNDERSTAND"}


def plan(tmp_path: Path, environment: dict[str, str], *, definition: dict[str, Any] | None = None, **bot: Any) -> Any:
    names = {
        "BOT_ID": BOT_ID,
        "SUPABASE_URL": "http://127.0.0.1:9",
        "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_of_the_tests",
        "RUNTIME_TOKEN": "tbh_rt_" + "0" * 64,
        "TBH_CREDENTIALS_KEY": KEY,
    }
    row = {"id": BOT_ID, "name": "b", "mode": "live", "exchange": "binance", "active": True} | bot
    context = {
        "bot": row,
        "symbols": ["BTC/USDT"],
        "api_keys": {"ciphertext": seal({"api_key": "k" * 40, "api_secret": "s" * 40}, KEY, bot_id=BOT_ID)},
        "strategy": {"name": "s", "definition": definition or DEFAULT_STRATEGY},
        "controls": {
            "version": 1,
            "control_config": {"paused": False, "killed": False, "observe_only": False, "flatten_version": None},
            "execution_config": {},
            "subscription_status": "active",
        },
        "runtime": {},
    }
    return plan_of_bot(
        read_context(context, bot_id=BOT_ID),
        load_settings(names | environment),
        StatePaths(tmp_path),
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )


def test_an_armed_bot_has_its_credentials_and_no_flag(tmp_path: Path) -> None:
    made = plan(tmp_path, ARMED, exchange_options={"urls": {}}, created_at="2026-02-01T00:00:00Z")
    assert isinstance(made, LivePlan)
    assert (made.flags, made.silent_because) == ((), "")
    assert made.credentials["api_secret"] == "s" * 40
    assert made.since == datetime(2026, 2, 1, tzinfo=UTC)
    assert "s" * 40 not in repr(made)


@pytest.mark.parametrize(
    ("environment", "flags", "word"),
    [
        ({}, ("observe_only",), "LIVE_TRADING is not true"),
        ({**ARMED, "LIVE_TRADING_ACK": "yes"}, ("observe_only",), "LIVE_TRADING_ACK"),
        ({**ARMED, "DRY_RUN": "true"}, ("dry_run",), "DRY_RUN is on"),
        ({**ARMED, "SAFE_MODE": "true"}, ("observe_only",), "SAFE_MODE is on"),
        ({"KILL_SWITCH": "true"}, ("kill_switch",), "LIVE_TRADING is not true"),
    ],
)
def test_a_bot_that_is_not_armed_may_only_look(
    tmp_path: Path, environment: dict[str, str], flags: tuple[str, ...], word: str
) -> None:
    made = plan(tmp_path, environment)
    assert made.flags == flags
    assert word in made.silent_because


def test_a_bot_runs_an_installed_strategy_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "site" / "tbh_example-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tbh-example\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[tbh.strategies]\ncross = tbh_example.ema_cross:EmaCross\n")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    made = plan(tmp_path, ARMED, definition={"custom": "cross", "params": {"fast": 3, "slow": 9}, "timeframe": "5m"})
    assert (made.definition.name, made.timeframe_s) == ("cross", 300)
    assert strategy_of(made.definition).warmup == 9


def test_a_bot_whose_package_is_gone_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="; install here the package that the bot was made with, and start again: "):
        plan(tmp_path, ARMED, definition={"custom": "cross", "timeframe": "5m"})
    with pytest.raises(Fatal) as rules:
        plan(tmp_path, ARMED, definition={"name": "of rules", "timeframe": "5m"})
    assert "install" not in str(rules.value)


@pytest.mark.parametrize("custom", ["os:system", "mine.py:Class", "tbh_example.ema_cross:EmaCross", "unheard-of"])
def test_a_bot_runs_no_code_that_was_not_installed_as_a_strategy(tmp_path: Path, custom: str) -> None:
    with pytest.raises(Fatal, match=r"context\.strategy\.definition: \$\.custom: ") as refusal:
        plan(tmp_path, ARMED, definition={"custom": custom, "timeframe": "5m"})
    assert refusal.value.exit_code == 78


def test_a_kill_alone_leaves_the_position_its_guards(tmp_path: Path) -> None:
    made = plan(tmp_path, {**ARMED, "KILL_SWITCH": "true"})
    assert (made.flags, made.silent_because) == (("kill_switch",), "")


@pytest.mark.parametrize(("mode", "exchange"), [("live", "paper"), ("paper", "binance")])
def test_a_mode_that_the_exchange_does_not_go_with_is_refused(tmp_path: Path, mode: str, exchange: str) -> None:
    with pytest.raises(Fatal, match="exchange_unsupported") as refusal:
        plan(tmp_path, ARMED, mode=mode, exchange=exchange)
    assert refusal.value.exit_code == 78


@pytest.mark.parametrize(("given", "lease_s"), [({}, 30.0), ({"lease_s": "2"}, 2.0), ({"lease_s": 4}, 4.0)])
def test_the_lease_is_what_the_bot_was_created_with(tmp_path: Path, given: dict[str, Any], lease_s: float) -> None:
    assert plan(tmp_path, ARMED, execution_config=given).lease_s == lease_s
    assert plan(tmp_path, {**ARMED, "TBH_LEASE_S": "7"}, execution_config=given).lease_s == 7.0


@pytest.mark.parametrize("given", ["soon", 0, 3600, None])
def test_a_lease_of_no_sensible_length_is_refused(tmp_path: Path, given: Any) -> None:
    with pytest.raises(Fatal, match="lease_invalid"):
        plan(tmp_path, ARMED, execution_config={"lease_s": given})
