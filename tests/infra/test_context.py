"""The bot's context: what it must hold, what it says when it does not, and its copy on the disk."""

from __future__ import annotations

import copy
import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tbh.infra.context import BotContext, ContextCache, read_context
from tbh.infra.crypto import seal
from tbh.infra.redact import SECRETS
from tbh.infra.sealed_file import BYTES_MAX, SealedFile
from tbh.ports import Controls, Fatal, Unavailable

BOT = "6f9f1d9e-0b0a-4a52-9c3b-8f3d6a1c2e01"
TOKEN = "tbh_rt_" + "5a" * 32
KEY = "9c" * 32
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
DEFINITION = {"name": "ema-cross", "sizing": {"kind": "fixed_quantity", "value": "0.010"}}
RECORD: dict[str, Any] = {
    "bot": {
        "id": BOT,
        "name": "first",
        "user_id": None,
        "mode": "paper",
        "exchange": "paper",
        "symbols": ["BTC/USDT"],
        "polling_tier": "fast_5s",
        "active": True,
        "exchange_options": {"cash": "1000"},
        "execution_config": {},
    },
    "symbols": ["BTC/USDT"],
    "api_keys": None,
    "exchange": {"id": "paper"},
    "markets": [{"symbol": "BTC/USDT"}],
    "subscription": {"status": "active"},
    "strategy": {"id": None, "name": "ema-cross", "definition": DEFINITION, "fingerprint": "ab12"},
    "profile": {"overrides": {"stops": {}}},
    "controls": {
        "version": 4,
        "control_config": {"paused": True, "killed": False, "observe_only": False, "flatten_version": 3},
        "execution_config": {},
        "subscription_status": "active",
        "acknowledged": 2,
    },
    "settings": {"risk": {"daily_loss": "0.05"}},
    "settings_version": 7,
    "runtime": {
        "provider": "local",
        "region": "here",
        "machine_id": "m1",
        "epoch": 5,
        "token_expires_at": "2026-04-01T00:00:00Z",
        "token_ttl_s": 2592000,
    },
}
GONE = object()


def record_with(path: str, value: Any) -> dict[str, Any]:
    """The record with another value at a dotted path, or without it (``GONE``)."""
    made = copy.deepcopy(RECORD)
    *folders, name = path.split(".")
    inner = made
    for folder in folders:
        inner = inner[folder]
    if value is GONE:
        del inner[name]
    else:
        inner[name] = value
    return made


@pytest.fixture
def context() -> BotContext:
    return read_context(RECORD, bot_id=BOT)


def test_a_sound_record_is_read(context: BotContext) -> None:
    assert context.bot.name == "first"
    assert context.bot.mode == "paper"
    assert context.symbols == ("BTC/USDT",)
    assert context.runtime.token_expires_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert context.controls.controls() == Controls(version=4, paused=True, flatten_version=3)


def test_the_definition_keeps_its_text(context: BotContext) -> None:
    assert context.strategy.definition == DEFINITION
    assert '"value": "0.010"' in context.strategy.definition_text()


def test_keys_that_a_later_database_adds_are_left_alone() -> None:
    assert read_context(RECORD | {"news": 1}, bot_id=BOT) == read_context(RECORD, bot_id=BOT)


@pytest.mark.parametrize("key", ["api_keys", "exchange", "profile"])
def test_what_the_platform_need_not_have_may_be_null(key: str) -> None:
    assert getattr(read_context(record_with(key, None), bot_id=BOT), key) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bot", GONE),
        ("bot.id", GONE),
        ("bot.name", ""),
        ("bot.mode", "demo"),
        ("bot.polling_tier", "hourly"),
        ("bot.active", "yes"),
        ("bot.exchange_options", []),
        ("symbols", []),
        ("symbols", None),
        ("strategy", None),
        ("strategy.definition", "{}"),
        ("strategy.definition", None),
        ("subscription.status", None),
        ("controls.version", "four"),
        ("controls.version", True),
        ("controls.control_config", None),
        ("controls.control_config.killed", "false"),
        ("controls.control_config.flatten_version", -1),
        ("settings_version", 1.5),
        ("runtime.epoch", -1),
        ("runtime.token_expires_at", "2026-04-01T00:00:00"),
        ("api_keys", {"ciphertext": ""}),
    ],
)
def test_what_is_wrong_is_fatal_and_named_by_its_path(path: str, value: Any) -> None:
    with pytest.raises(Fatal) as caught:
        read_context(record_with(path, value), bot_id=BOT)
    assert caught.value.exit_code == 78
    assert f"context.{path}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "context", 7])
def test_a_record_that_is_no_object_is_fatal(data: Any) -> None:
    with pytest.raises(Fatal, match="context: "):
        read_context(data, bot_id=BOT)


def test_another_bots_context_is_fatal() -> None:
    with pytest.raises(Fatal, match=r"context\.bot\.id: is 6f9f"):
        read_context(RECORD, bot_id="00000000-0000-0000-0000-000000000000")


def test_credentials_open_with_their_key_and_are_secret_from_then_on() -> None:
    plain = {"apiKey": "public-part-of-it", "secret": "never-to-be-logged", "password": "abc"}
    context = read_context(record_with("api_keys", {"ciphertext": seal(plain, KEY, bot_id=BOT)}), bot_id=BOT)
    assert context.credentials(KEY) == plain
    assert "never" not in SECRETS.text("sent never-to-be-logged off")
    assert "tbh1:" not in repr(context)


def test_absent_credentials_and_an_absent_key_say_what_to_do(context: BotContext) -> None:
    with pytest.raises(Fatal, match=r"credentials_missing.*tbh bot create"):
        context.credentials(KEY)
    sealed = read_context(record_with("api_keys", {"ciphertext": seal({"a": "b"}, KEY, bot_id=BOT)}), bot_id=BOT)
    with pytest.raises(Fatal, match=r"credentials_key_missing.*TBH_CREDENTIALS_KEY"):
        sealed.credentials(None)
    with pytest.raises(Fatal, match="credentials_unreadable"):
        sealed.credentials("8b" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "context.sealed"


@pytest.fixture
def cache(path: Path) -> ContextCache:
    return ContextCache(path, runtime_token=TOKEN, bot_id=BOT)


def test_what_was_kept_comes_back(cache: ContextCache, context: BotContext) -> None:
    cache.save(context, at=AT)
    found, reason = cache.load()
    assert found is not None
    assert (found.context, found.saved_at, reason) == (context, AT, "")


def test_the_file_is_its_owners_alone_and_tells_nothing(cache: ContextCache, path: Path, context: BotContext) -> None:
    cache.save(context, at=AT)
    cache.save(context, at=AT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"BTC" not in path.read_bytes()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_absent_file_is_a_reason(cache: ContextCache) -> None:
    assert cache.load() == (None, f"{cache._file.path} does not exist")


@pytest.mark.parametrize(
    "foreign",
    [
        {"runtime_token": TOKEN[:-1] + "b", "bot_id": BOT},
        {"runtime_token": TOKEN, "bot_id": "00000000-0000-0000-0000-000000000000"},
    ],
)
def test_a_foreign_file_is_a_reason(cache: ContextCache, context: BotContext, path: Path, foreign: Any) -> None:
    cache.save(context, at=AT)
    found, reason = ContextCache(path, **foreign).load()
    assert found is None
    assert "does not open it" in reason


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"tbh1:", b"\xff\xfe", b"tbh1:" + b"A" * 100])
def test_a_damaged_file_is_a_reason(cache: ContextCache, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found, reason = cache.load()
    assert found is None
    assert str(path) in reason


def test_a_file_cut_anywhere_is_a_reason(cache: ContextCache, context: BotContext, path: Path) -> None:
    cache.save(context, at=AT)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert cache.load()[0] is None


def test_a_huge_file_is_a_reason(cache: ContextCache, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(BYTES_MAX + 1)
    found, reason = cache.load()
    assert found is None
    assert "larger" in reason


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"saved_at": "yesterday", "context": RECORD},
        {"saved_at": "2026-03-04T05:06:07", "context": RECORD},
        {"saved_at": 5, "context": RECORD},
        {"saved_at": AT.isoformat(), "context": {}},
    ],
)
def test_a_file_of_another_form_is_a_reason(cache: ContextCache, path: Path, content: Any) -> None:
    SealedFile(path, key=TOKEN, bot_id=BOT, purpose="context").save(content)
    found, reason = cache.load()
    assert found is None
    assert str(path) in reason


def test_a_folder_in_its_place_is_a_reason(cache: ContextCache, path: Path) -> None:
    path.mkdir()
    assert cache.load() == (None, f"{path}: {os.strerror(errno.EISDIR)}")


def test_a_full_disk_leaves_the_former_file(cache: ContextCache, context: BotContext, monkeypatch: Any) -> None:
    cache.save(context, at=AT)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="disk_full"):
            cache.save(context, at=datetime(2027, 1, 1, tzinfo=UTC))
    found, _ = cache.load()
    assert found is not None
    assert found.saved_at == AT
    cache.save(context, at=datetime(2027, 1, 1, tzinfo=UTC))


def test_a_folder_that_is_gone_is_unavailable(cache: ContextCache, context: BotContext, tmp_path: Path) -> None:
    tmp_path.rmdir()
    with pytest.raises(Unavailable, match="broken"):
        cache.save(context, at=AT)
    tmp_path.mkdir()
