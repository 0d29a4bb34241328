"""The environment of a bot: what is taken, what is refused, and that no refusal tells a secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.infra.settings import Settings, load_settings
from tbh.ports import Fatal

BOT_ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
REQUIRED = {
    "BOT_ID": BOT_ID,
    "SUPABASE_URL": "https://project.supabase.co",
    "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_0123456789abcdef",
    "RUNTIME_TOKEN": "runtime-token-0123456789",
}


DEEP_TOKEN = f"a.{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.b"


def jwt(**claims: str) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "signature"])


def refused(environ: dict[str, str], env_file: Path | None = None) -> list[str]:
    with pytest.raises(Fatal) as caught:
        load_settings(environ, env_file)
    assert caught.value.exit_code == 78
    return str(caught.value).splitlines()


def test_the_four_required_names_are_enough() -> None:
    settings = load_settings(REQUIRED)
    assert settings.bot_id == BOT_ID
    assert settings.supabase_url == "https://project.supabase.co"
    assert settings.runtime_token.get_secret_value() == "runtime-token-0123456789"
    assert settings.polling_tier is None
    assert settings.not_armed_because() != ()


def test_everything_missing_is_named_at_once_one_line_each() -> None:
    lines = refused({})
    assert [line.split(":")[0] for line in lines] == list(REQUIRED)
    assert all("is missing" in line for line in lines)


def test_a_name_set_to_nothing_counts_as_not_set() -> None:
    assert refused(REQUIRED | {"BOT_ID": "  "}) == ["BOT_ID: is missing; set it in the environment"]
    assert load_settings(REQUIRED | {"POLLING_TIER": "", "DRY_RUN": ""}).dry_run is False


def test_missing_and_malformed_names_come_together() -> None:
    environ = REQUIRED | {
        "BOT_ID": "7",
        "RUNTIME_TOKEN": "",
        "POLLING_TIER": "hourly",
        "DRY_RUN": "perhaps",
        "TBH_NR_TRANSPORT": "pigeon",
        "ENABLE_HEALTHCHECKS_IO": "true",
        "TBH_OPERATOR_TOKEN": "operator-0123456789",
    }
    assert {line.split(":")[0] for line in refused(environ)} == {
        "BOT_ID",
        "RUNTIME_TOKEN",
        "POLLING_TIER",
        "DRY_RUN",
        "TBH_NR_TRANSPORT",
        "HEALTHCHECKS_API_KEY",
        "TBH_OPERATOR_TOKEN",
    }


@pytest.mark.parametrize(
    "url",
    [
        "project.supabase.co",
        "ftp://project",
        "https://",
        "https://user:pass@host",
        "http://h:99999",
        "http://[::1",
        "http://h?a=b",
        "http://pass word",
        "https://pass\n.example",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    (line,) = refused(REQUIRED | {"SUPABASE_URL": url})
    assert line.startswith("SUPABASE_URL: ")
    assert "pass" not in line


@pytest.mark.parametrize("url", ["http://127.0.0.1:54321/", "https://project.supabase.co", "http://[::1]:8000"])
def test_an_http_address_is_taken_without_its_last_slash(url: str) -> None:
    assert load_settings(REQUIRED | {"SUPABASE_URL": url}).supabase_url == url.rstrip("/")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_key_of_a_public_role_is_refused(role: str) -> None:
    (line,) = refused(REQUIRED | {"SUPABASE_SERVICE_ROLE_KEY": jwt(role=role)})
    assert line == f"SUPABASE_SERVICE_ROLE_KEY: has the role {role}; the bot needs the key of service_role"


@pytest.mark.parametrize(
    "key",
    [
        "sb_publishable_0123456789",
        jwt(iss="supabase"),
        "eyJhbGciOiJIUzI1NiJ9.eyJyb2.signature",
        "a..b",
        "a.W10.b",
        DEEP_TOKEN,
    ],
    ids=lambda key: key[:20],
)
def test_a_key_that_can_be_no_service_key_is_refused_and_not_repeated(key: str) -> None:
    (line,) = refused(REQUIRED | {"SUPABASE_SERVICE_ROLE_KEY": key})
    assert line.startswith("SUPABASE_SERVICE_ROLE_KEY: ")
    assert key not in line


@pytest.mark.parametrize("key", ["sb_secret_0123456789", jwt(role="service_role"), "an-opaque-local-key"])
def test_a_service_key_is_taken(key: str) -> None:
    assert load_settings(
        REQUIRED | {"SUPABASE_SERVICE_ROLE_KEY": key}
    ).supabase_service_role_key.get_secret_value() == (key)


def test_an_operator_token_keeps_a_bot_from_starting() -> None:
    (line,) = refused(REQUIRED | {"TBH_OPERATOR_TOKEN": "operator-0123456789"})
    assert line.startswith("TBH_OPERATOR_TOKEN: ")
    assert "0123456789" not in line


def test_healthchecks_without_a_key_are_refused() -> None:
    (line,) = refused(REQUIRED | {"ENABLE_HEALTHCHECKS_IO": "1"})
    assert line.startswith("HEALTHCHECKS_API_KEY: is missing")
    key = {"ENABLE_HEALTHCHECKS_IO": "1", "HEALTHCHECKS_API_KEY": "healthchecks-key"}
    assert load_settings(REQUIRED | key).enable_healthchecks_io
    assert not load_settings(REQUIRED | {"HEALTHCHECKS_API_KEY": "healthchecks-key"}).enable_healthchecks_io


def test_live_orders_need_both_words_and_none_of_the_three_brakes() -> None:
    armed = REQUIRED | {"LIVE_TRADING": "true", "LIVE_TRADING_ACK": "I_UNDERSTAND"}
    assert load_settings(armed).not_armed_because() == ()
    assert load_settings(REQUIRED | {"LIVE_TRADING": "true"}).not_armed_because() == (
        "LIVE_TRADING_ACK is not I_UNDERSTAND",
    )
    for brake in ("DRY_RUN", "SAFE_MODE", "KILL_SWITCH"):
        assert load_settings(armed | {brake: "yes"}).not_armed_because() == (f"{brake} is on",)


def test_store_and_log_lie_in_the_state_folder_unless_they_are_named(tmp_path: Path) -> None:
    state = REQUIRED | {"TBH_STATE_DIR": str(tmp_path)}
    assert load_settings(state).store_path == tmp_path / "store.sqlite"
    assert load_settings(state).log_file == tmp_path / "logs" / "tradebothub.log"
    assert load_settings(state | {"BOT_LOG_DIR": "/app/logs"}).log_file == Path("/app/logs/tradebothub.log")
    named = state | {"STATE_DB_PATH": "/data/a.sqlite", "BOT_LOG_DIR": "/x", "BOT_LOG_FILE": "/y/b.log"}
    assert load_settings(named).store_path == Path("/data/a.sqlite")
    assert load_settings(named).log_file == Path("/y/b.log")


def test_an_env_file_fills_in_what_the_environment_lacks(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"# a bot\nBOT_ID={BOT_ID}\nPOLLING_TIER=ultra_15s\nSOMETHING_ELSE=1\nDRY_RUN=\n")
    environ = {name: value for name, value in REQUIRED.items() if name != "BOT_ID"}
    settings = load_settings(environ | {"POLLING_TIER": "fast_5s"}, env_file)
    assert (settings.bot_id, settings.polling_tier) == (BOT_ID, "fast_5s")


def test_an_operator_token_in_an_env_file_is_refused_too(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("TBH_OPERATOR_TOKEN=operator-0123456789\n")
    assert refused(REQUIRED, env_file)[0].startswith("TBH_OPERATOR_TOKEN: ")


def test_a_line_of_an_env_file_that_makes_no_sense_is_refused_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in REQUIRED.items()) + 'KILL_SWITCH="true\n')
    with pytest.raises(Fatal, match=rf"\.env:{len(REQUIRED) + 1}: is not NAME=value") as refused:
        load_settings({}, file)
    assert refused.value.exit_code == 78


def test_an_env_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert "no such environment file" in refused(REQUIRED, tmp_path / "absent")[0]
    binary = tmp_path / "binary"
    binary.write_bytes(b"BOT_ID=\xff\xfe\x00")
    assert "not UTF-8" in refused(REQUIRED, binary)[0]


def test_the_process_environment_is_read_only_through_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    assert len(refused({})) == 4


def test_settings_show_no_secret() -> None:
    shown = f"{load_settings(REQUIRED)!r} {load_settings(REQUIRED)}"
    assert "0123456789" not in shown


@given(
    st.dictionaries(
        st.sampled_from([name.upper() for name in Settings.model_fields]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    )
)
def test_any_environment_is_taken_or_refused_in_whole_lines(environ: dict[str, str]) -> None:
    try:
        load_settings(environ)
    except Fatal as fatal:
        names = [line.split(":")[0] for line in str(fatal).splitlines()]
        assert set(names) <= {name.upper() for name in Settings.model_fields}
        assert len(names) == len(set(names))
