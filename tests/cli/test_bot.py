"""``tbh bot``: bots made, seen and steered by an operator, against a real database behind its gateway."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from tbh.cli.bot_table import print_bot
from tbh.cli.main import main
from tbh.infra.crypto import unseal
from tbh.infra.statedir import StatePaths
from tbh.strategies.definition import parse_definition

if TYPE_CHECKING:
    from tests.cli.conftest import Cli, Done, Rows
    from tests.cli.conftest_stack import Stack

    Operate = Callable[..., Done]

pytest_plugins = ("tests.cli.conftest_stack",)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "strategies" / "ema_cross.json"
PAPER = ("--exchange", "paper", "--symbols", "BTC/USDT", "--strategy", EXAMPLE, "--mode", "paper")
LIVE = ("--exchange", "binance", "--symbols", "BTC/USDT", "--strategy", EXAMPLE, "--mode", "live")
SECRETS = {
    "EXCHANGE_API_KEY": "key-0123456789",
    "EXCHANGE_API_SECRET": "secret-0123456789",
    "TBH_CREDENTIALS_KEY": "0f" * 32,
}
NOBODY = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
COMMANDS = [
    ["bot"],
    ["bot", "create"],
    ["bot", "list"],
    ["bot", "show"],
    ["bot", "trade"],
    ["bot", "control"],
    ["token"],
    ["token", "issue"],
    ["token", "revoke"],
    ["dead-letters"],
    ["dead-letters", "list"],
    ["dead-letters", "retry"],
    ["dead-letters", "drop"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert f"tbh {' '.join(command)}" in capsys.readouterr().out.partition("example")[2]


def test_the_help_loads_no_client_and_no_numbers(cli: Cli) -> None:
    heavy = ("httpx", "numpy", "pydantic", "talib", "cryptography", "rich")
    code = (
        "import sys; from tbh.cli.main import main; main(['bot', '--help']);"
        f" print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(), capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.splitlines()[-1] == "[]"


# Making one


def test_a_created_bot_is_what_the_command_said(operate: Operate, stack: Stack, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"MAX_TRADES": 3, "TOTAL_ALLOCATION": 0.5}')
    created = operate(
        *("bot", "create", "--name", "trend", "--exchange", "paper", "--symbols", "BTC/USDT, ETH/USDT"),
        *("--strategy", EXAMPLE, "--mode", "paper", "--settings", settings, "--tier", "fast_5s", "--ttl", "3600"),
        *("--exchange-options", '{"cash": 1000.50, "fee": "0.001", "seed": 3, "bars_per_second": 2.5}', "--json"),
    )
    assert set(created.json) == {"bot_id", "runtime_token", "epoch", "expires_at"}
    context = stack.runtime(created.json, "get_bot_context")
    assert context["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert (context["bot"]["polling_tier"], context["bot"]["mode"]) == ("fast_5s", "paper")
    assert context["settings"] == {"MAX_TRADES": 3, "TOTAL_ALLOCATION": 0.5}
    options = context["bot"]["exchange_options"]
    assert options.pop("opened_at").endswith("Z")
    assert options == {"cash": "1000.5", "fee": "0.001", "seed": 3, "bars_per_second": 2.5}
    definition = parse_definition(json.dumps(context["strategy"]["definition"]))
    assert definition.fingerprint() == context["strategy"]["fingerprint"]
    assert definition.fingerprint() == parse_definition(EXAMPLE.read_bytes()).fingerprint()


def test_people_get_lines_for_their_shell(operate: Operate) -> None:
    *comments, bot_id, token = operate("bot", "create", "--name", "shell", *PAPER).out.splitlines()
    assert all(comment.startswith("# ") for comment in comments)
    assert bot_id.startswith("export BOT_ID=")
    assert token.startswith("export RUNTIME_TOKEN=tbh_rt_")


def test_a_candle_file_is_found_from_any_folder(
    operate: Operate, market_rows: Callable[[int], Rows], candle_file: Callable[[Rows], Path]
) -> None:
    file = candle_file(market_rows(10))
    options = json.dumps({"candles": file.name, "opened_at": "2026-01-01T01:00:00+01:00"})
    created = operate("bot", "create", "--name", "candles", *PAPER, "--exchange-options", options, "--json")
    kept = operate("bot", "show", created.json["bot_id"], "--json").json["bot"]["exchange_options"]
    assert kept == {"candles": str(file), "opened_at": "2026-01-01T00:00:00Z"}


def test_options_of_a_real_exchange_go_to_it_as_they_are(operate: Operate) -> None:
    options = {"urls": {"api": "http://127.0.0.1:8000"}, "timeout": 2500.5}
    created = operate(
        "bot", "create", "--name", "live", *LIVE, "--exchange-options", json.dumps(options), "--json", **SECRETS
    )
    kept = operate("bot", "show", created.json["bot_id"], "--json").json["bot"]
    assert kept["exchange_options"] == options
    assert kept["has_credentials"] is True


def test_credentials_reach_the_database_sealed_for_this_bot(operate: Operate, stack: Stack) -> None:
    created = operate("bot", "create", "--name", "sealed", *LIVE, "--json", **SECRETS).json
    sealed = stack.runtime(created, "get_bot_context")["api_keys"]["ciphertext"]
    plain = unseal(sealed, SECRETS["TBH_CREDENTIALS_KEY"], bot_id=created["bot_id"])
    assert plain == {"api_key": "key-0123456789", "api_secret": "secret-0123456789"}


def test_credentials_may_come_on_stdin(cli: Cli, stack: Stack) -> None:
    process = cli.start(
        *("bot", "create", "--name", "stdin", *LIVE, "--credentials-stdin", "--json"),
        environ=stack.environ() | {"TBH_CREDENTIALS_KEY": SECRETS["TBH_CREDENTIALS_KEY"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    given = {"api_key": "k", "api_secret": "s", "api_passphrase": "p"}
    out, _ = process.communicate(json.dumps(given), timeout=60)
    created = json.loads(out)
    sealed = stack.runtime(created, "get_bot_context")["api_keys"]["ciphertext"]
    assert unseal(sealed, SECRETS["TBH_CREDENTIALS_KEY"], bot_id=created["bot_id"]) == given


def test_a_live_bot_names_all_that_it_lacks(operate: Operate) -> None:
    line = operate("bot", "create", "--name", "x", *LIVE).refusal(78)
    for name in SECRETS:
        assert name in line


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"api_key": "k", "secret": "hidden"}', '{"api_key": 1}', "x" * 20_000], ids=len
)
def test_malformed_credentials_are_refused_and_never_repeated(
    call: Operate, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    line = call("bot", "create", "--name", "x", *LIVE, "--credentials-stdin").refusal(64)
    assert "stdin" in line
    assert "hidden" not in line


@pytest.mark.parametrize(
    ("changes", "exit_code", "said"),
    [
        ({"--name": ""}, 64, "--name"),
        ({"--name": "two\nlines"}, 64, "--name"),
        ({"--exchange": "bianance"}, 64, "no such exchange"),
        ({"--exchange": "../paper"}, 64, "no such exchange"),
        ({"--symbols": "BTCUSDT"}, 64, "--symbols"),
        ({"--symbols": "BTC/USDT,"}, 64, "--symbols"),
        ({"--symbols": "BTC/USDT,BTC/USDT"}, 64, "each once"),
        ({"--strategy": "absent.json"}, 78, "no such strategy file"),
        ({"--strategy": "ema-cross"}, 64, """a file that holds {"custom": "NAME", "timeframe": "1m"}"""),
        ({"--strategy": "mine.py:Cross"}, 64, "runs installed strategies only"),
        ({"--mode": "demo"}, 64, "--mode"),
        ({"--mode": "live"}, 64, "no live account"),
        ({"--tier": "fast"}, 64, "--tier"),
        ({"--ttl": "0"}, 64, "--ttl"),
        ({"--settings": "absent.json"}, 78, "no such file"),
        ({"--exchange-options": "{"}, 64, "is not JSON"),
        ({"--exchange-options": "[]"}, 64, "must be a JSON object"),
        ({"--exchange-options": '{"cash": 1, "cash": 2}'}, 64, "twice"),
        ({"--exchange-options": '{"cash": NaN}'}, 64, "NaN"),
        ({"--exchange-options": '{"cash": 0}'}, 64, "cash"),
        ({"--exchange-options": '{"cash": true}'}, 64, "cash"),
        ({"--exchange-options": '{"fee": 1}'}, 64, "fee"),
        ({"--exchange-options": '{"seed": 1.5}'}, 64, "seed"),
        ({"--exchange-options": '{"bars_per_second": 0}'}, 64, "bars_per_second"),
        ({"--exchange-options": '{"opened_at": "yesterday"}'}, 64, "opened_at"),
        ({"--exchange-options": '{"opened_at": "2026-01-01T00:00:00"}'}, 64, "zone"),
        ({"--exchange-options": '{"candles": "absent.csv"}'}, 78, "absent.csv"),
        ({"--exchange-options": '{"candles": 7}'}, 64, "candles"),
        ({"--exchange-options": '{"spread": 1}'}, 64, "known: account"),
        ({"--exchange-options": '{"apiKey": "hidden"}'}, 64, "secret"),
    ],
    ids=str,
)
def test_a_bot_that_cannot_be_is_refused_before_anybody_is_asked(
    call: Operate, changes: dict[str, str], exit_code: int, said: str
) -> None:
    given = dict(zip(PAPER[::2], PAPER[1::2], strict=True)) | {"--name": "x"} | changes
    line = call("bot", "create", *(word for pair in given.items() for word in pair)).refusal(exit_code)
    assert said in line
    assert "hidden" not in line


def test_an_unsound_strategy_is_refused_with_its_path(call: Operate, tmp_path: Path) -> None:
    file = tmp_path / "strategy.json"
    file.write_text('{"name": "x", "timeframe": "1m", "entry": {}, "sizing": {"kind": "all_in"}}')
    given = dict(zip(PAPER[::2], PAPER[1::2], strict=True)) | {"--name": "x", "--strategy": file}
    assert "$.entry" in call("bot", "create", *(word for pair in given.items() for word in pair)).refusal(78)


def test_a_lost_answer_to_a_creation_names_the_bot_to_look_for(operate: Operate, stack: Stack) -> None:
    with stack.losing_replies("bot_admin_create") as url:
        line = operate("bot", "create", "--name", "lost", *PAPER, url=url).refusal(69)
    (bot_id,) = [bot["id"] for bot in operate("bot", "list", "--json").json["bots"] if bot["name"] == "lost"]
    assert bot_id in line


# Who is asked, and how it ends when nobody answers


def test_every_missing_name_is_told_in_one_line(call: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "TBH_OPERATOR_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    line = call("bot", "list").refusal(78)
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "TBH_OPERATOR_TOKEN"):
        assert f"{name}: is missing" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPABASE_URL", "127.0.0.1:54321"),
        ("SUPABASE_URL", "http://127.0.0.1:99999"),
        ("SUPABASE_SERVICE_ROLE_KEY", "two words"),
        ("TBH_OPERATOR_TOKEN", "schlüssel"),
    ],
)
def test_a_malformed_name_is_told(operate: Operate, name: str, value: str) -> None:
    line = operate("bot", "list", **{name: value}).refusal(78)
    assert line.startswith(f"{name}: ")
    assert "words" not in line
    assert "schl" not in line


def test_an_unreachable_database_is_69(operate: Operate) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        line = operate("bot", "list", url=f"http://127.0.0.1:{taken.getsockname()[1]}").refusal(69)
    assert "can't be reached" in line


def test_a_refused_operator_token_is_77(operate: Operate) -> None:
    assert "TBH_OPERATOR_TOKEN" in operate("bot", "list", TBH_OPERATOR_TOKEN="tbh_op_unknown").refusal(77)


def test_a_runtime_token_is_no_operators(operate: Operate, bot: dict[str, Any]) -> None:
    operate("bot", "list", TBH_OPERATOR_TOKEN=bot["runtime_token"]).refusal(77)


def test_a_refused_service_key_is_78(operate: Operate, stack: Stack) -> None:
    assert "SUPABASE_SERVICE_ROLE_KEY" in operate("bot", "list", SUPABASE_SERVICE_ROLE_KEY="sb_secret_x").refusal(78)
    anon = stack.local.keys.anon_key
    assert "another role" in operate("bot", "list", SUPABASE_SERVICE_ROLE_KEY=anon).refusal(78)


@pytest.mark.parametrize("verb", [["show"], ["control"], ["trade"]], ids=str)
def test_a_bot_that_is_none_is_one_line(operate: Operate, verb: list[str]) -> None:
    more = {
        "control": ["pause"],
        "trade": ["--side", "buy", "--symbol", "BTC/USDT", "--qty", "1", "--price", "1"],
    }.get(verb[0], [])
    assert "nobody: no bot is called so" in operate("bot", *verb, "nobody", *more).refusal(64)
    assert "no such bot" in operate("bot", *verb, NOBODY, *more).refusal(64)


def test_a_name_that_two_bots_have_names_neither(operate: Operate) -> None:
    ids = [operate("bot", "create", "--name", "twin", *PAPER, "--json").json["bot_id"] for _ in range(2)]
    line = operate("bot", "show", "twin").refusal(64)
    assert all(each in line for each in ids)
    assert operate("bot", "show", ids[0], "--json").json["bot"]["id"] == ids[0]


# Seeing how it stands


def test_the_list_has_a_line_for_each(operate: Operate, bot: dict[str, Any]) -> None:
    lines = operate("bot", "list", role="viewer").out.splitlines()
    assert lines[0].split() == ["id", "name", "mode", "exchange", "symbols", "controls", "heartbeat"]
    (line,) = [line for line in lines if bot["name"] in line]
    assert line.split()[:2] == [bot["bot_id"], bot["name"]]
    assert line.split()[-4:] == ["free", "to", "trade", "never"]


@pytest.fixture
def running(stack: Stack, bot: dict[str, Any]) -> dict[str, Any]:
    """A bot that holds its lease, has sent a heartbeat and filled an order."""
    epoch = stack.runtime(bot, "bot_runtime_claim", boot_id="b1")["epoch"]
    beat = {"status": "running", "equity": "1000.5", "exchange_sync_status": "ok", "gate": ["stale_data"]}
    stack.runtime(bot, "bot_runtime_heartbeat", epoch=epoch, payload=beat)
    evidence = {"flushed_at": "2026-01-01T00:00:00Z", "orders": {"unknown_now": 1}}
    stack.runtime(bot, "upsert_bot_health_evidence", epoch=epoch, patch=evidence)
    order = {
        "symbol": "BTC/USDT",
        "side": "buy",
        "event": "entry",
        "order_status": "filled",
        "qty": "0.5",
        "filled_qty": "0.5",
        "avg_fill_price": "100",
    }
    stack.runtime(bot, "bot_runtime_upsert_trade", client_order_id="o1", exchange_order_id="x1", payload=order)
    fill = {
        "trade_id": "t1",
        "client_order_id": "o1",
        "symbol": "BTC/USDT",
        "side": "buy",
        "qty": "0.5",
        "price": "100",
        "fee": "0.05",
        "fee_asset": "USDT",
        "at": "2026-01-01T00:00:00Z",
        "seq": 1,
    }
    stack.runtime(bot, "bot_runtime_record_fill", payload=fill)
    position = {
        "position_id": "p1",
        "symbol": "BTC/USDT",
        "strategy": "ema-cross",
        "status": "open",
        "position_side": "long",
        "qty": "0.5",
        "entry_price": "100",
        "seq": 1,
    }
    stack.runtime(bot, "bot_runtime_upsert_position", payload=position)
    return bot


def test_show_holds_the_whole_bot(operate: Operate, running: dict[str, Any]) -> None:
    shown = operate("bot", "show", running["name"], "--json", role="viewer").json
    assert set(shown) >= {"bot", "state", "lease", "controls", "health", "position", "orders", "fills"}
    (order,) = shown["orders"]
    assert (order["client_order_id"], order["exchange_order_id"], order["status"]) == ("o1", "x1", "filled")
    assert (order["event"], order["side"], order["avg_price"]) == ("entry", "buy", "100")
    assert Decimal(order["qty"]) == Decimal(order["filled_qty"]) == Decimal("0.5")
    (fill,) = shown["fills"]
    assert (fill["trade_id"], fill["client_order_id"], fill["fee"], fill["fee_asset"]) == ("t1", "o1", "0.05", "USDT")
    assert (shown["position"]["qty"], shown["position"]["entry_price"]) == ("0.5", "100")
    assert shown["lease"]["boot_id"] == "b1"


def test_people_are_shown_the_same_in_words(operate: Operate, running: dict[str, Any]) -> None:
    plain = operate("bot", "show", running["name"]).out
    console = Console(width=120, file=io.StringIO())
    print_bot(operate("bot", "show", running["name"], "--json").json, console)
    assert isinstance(console.file, io.StringIO)
    for text in (plain, console.file.getvalue()):
        for said in (
            "running, heartbeat",
            "equity 1000.5, position sync ok, gate stale_data",
            "boot b1, epoch 2",
            "free to trade",
            "flushed 2026-01-01 00:00:00Z, 1 unknown orders",
            "long 0.5 BTC/USDT at 100",
            "0.05 USDT",
        ):
            assert said in text
        assert any(line.split()[:4] == ["o1", "filled", "entry", "buy"] for line in text.splitlines())
        assert any(line.split()[:3] == ["t1", "o1", "buy"] for line in text.splitlines())


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
def test_a_limit_that_is_none_is_a_usage_error(call: Operate, limit: str) -> None:
    assert "--limit" in call("bot", "show", "trend", "--limit", limit).refusal(64)


# Steering it


def test_a_bot_reads_what_its_operator_wants(operate: Operate, stack: Stack, running: dict[str, Any]) -> None:
    said = operate("bot", "control", running["name"], "pause", "--reason", "news", "--json", role="operator").json
    assert (said["bot_id"], said["action"], said["version"]) == (running["bot_id"], "pause", 2)
    told = stack.runtime(running, "bot_runtime_refresh_controls")
    assert (told["version"], told["control_config"]["paused"]) == (2, True)
    assert operate("bot", "control", running["name"], "kill").out.startswith("kill: version 3")
    assert "killed, paused" in operate("bot", "show", running["name"]).out


def test_a_request_with_a_name_is_carried_out_once(operate: Operate, bot: dict[str, Any]) -> None:
    wanted = ("bot", "control", bot["name"], "flatten", "--request-id", "r1", "--json")
    assert [operate(*wanted).json["version"] for _ in range(2)] == [2, 2]


def test_a_lost_answer_tells_the_bot_once(operate: Operate, stack: Stack, bot: dict[str, Any]) -> None:
    with stack.losing_replies("bot_admin_control") as url:
        said = operate("bot", "control", bot["name"], "flatten", "--json", url=url).json
    assert said["version"] == 2
    assert operate("bot", "show", bot["name"], "--json").json["controls"]["version"] == 2


def test_a_viewer_steers_nothing(operate: Operate, bot: dict[str, Any]) -> None:
    assert "needs operator" in operate("bot", "control", bot["name"], "kill", role="viewer").refusal(77)


def test_kill_local_needs_no_database(call: Operate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SUPABASE_URL", raising=False)
    paths = StatePaths(tmp_path)
    answer = call("bot", "control", "trend", "kill", "--local", "--dir", tmp_path, "--reason", "fire", "--json").json
    assert (answer["killed"], answer["file"]) == (True, str(paths.kill))
    assert paths.kill.read_text() == "fire\n"
    assert call("bot", "control", "trend", "release", "--local", "--dir", tmp_path).out.startswith("released")
    assert not paths.killed


def test_kill_local_finds_the_state_directory_of_the_environment(
    call: Operate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TBH_STATE_DIR", str(tmp_path))
    assert call("bot", "control", NOBODY, "kill", "--local", "--json").json["bot_id"] == NOBODY
    assert StatePaths(tmp_path).killed


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["kill", "--local", "--dir", "absent"], 78, "no such state directory"),
        (["pause", "--local"], 64, "needs the database"),
        (["kill", "--dir", "somewhere"], 64, "--local"),
        (["stop"], 64, "invalid choice"),
        ([], 64, "pause|resume"),
    ],
    ids=str,
)
def test_a_control_that_cannot_be_is_one_line(call: Operate, arguments: list[str], exit_code: int, said: str) -> None:
    assert said in call("bot", "control", "trend", *arguments).refusal(exit_code)


# What a person has traded


def test_a_manual_trade_is_recorded_and_repeats_change_nothing(operate: Operate, bot: dict[str, Any]) -> None:
    wanted = (
        "bot",
        "trade",
        bot["name"],
        "--side",
        "sell",
        "--symbol",
        "BTC/USDT",
        "--qty",
        "0.50",
        "--price",
        "61200.10",
    )
    for _ in range(2):
        row = operate(*wanted, "--id", "hand-1", "--reason", "by hand", "--json", role="operator").json
        assert row["client_order_id"] == "hand-1"
    assert "nothing was sent" in operate(*wanted).out
    orders = operate("bot", "show", bot["name"], "--json").json["orders"]
    assert [(order["event"], order["status"], order["qty"]) for order in orders] == [("manual", "filled", "0.5")] * 2


def test_a_trade_on_another_market_is_refused(operate: Operate, bot: dict[str, Any]) -> None:
    wanted = ("bot", "trade", bot["name"], "--side", "buy", "--symbol", "DOGE/USDT", "--qty", "1", "--price", "1")
    assert "p_payload.symbol" in operate(*wanted).refusal(64)


@pytest.mark.parametrize("quantity", ["0", "-1", "nan", "1e3", "", "٣"])
def test_a_quantity_that_is_none_is_a_usage_error(call: Operate, quantity: str) -> None:
    wanted = ("bot", "trade", "x", "--side", "buy", "--symbol", "BTC/USDT", f"--qty={quantity}", "--price", "1")
    assert "--qty" in call(*wanted).refusal(64)
