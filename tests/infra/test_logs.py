"""Lines that are complete, and never tell a secret."""

from __future__ import annotations

import io
import json
import logging
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from freezegun import freeze_time
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tbh.infra.logs import FILE_NAME, close, configure
from tbh.infra.redact import MASK, Redactor, is_secret_name, shortened
from tbh.ports import Fatal

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl"


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def make(tmp_path: Path, redactor: Redactor) -> Iterator[Callable[..., Any]]:
    made = []

    def logger(**options: Any) -> Any:
        made.append(configure(tmp_path, redactor=redactor, **options))
        return made[-1]

    yield logger
    for each in made:
        close(each)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


@freeze_time("2026-01-02T03:04:05Z")
def test_a_line_is_an_object_with_time_level_and_event_first(make: Callable[..., Any], tmp_path: Path) -> None:
    make().info("order_sent", qty=Decimal("0.10"), tries=2)
    (row,) = rows(tmp_path)
    assert list(row.items()) == [
        ("timestamp", "2026-01-02T03:04:05Z"),
        ("level", "info"),
        ("event", "order_sent"),
        ("qty", "0.10"),
        ("tries", 2),
    ]


def test_levels_below_the_chosen_one_are_dropped(make: Callable[..., Any], tmp_path: Path) -> None:
    logger = make(level="warning")
    logger.info("no")
    logger.warning("yes")
    assert [row["event"] for row in rows(tmp_path)] == ["yes"]


def test_bound_fields_stand_in_every_line(make: Callable[..., Any], tmp_path: Path) -> None:
    make().bind(actor="risk").info("x")
    assert rows(tmp_path)[0]["actor"] == "risk"


def test_the_file_is_rotated_by_size(make: Callable[..., Any], tmp_path: Path) -> None:
    logger = make(bytes_max=2000, files_kept=2)
    for n in range(100):
        logger.info("line", n=n, pad="x" * 100)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [FILE_NAME, f"{FILE_NAME}.1", f"{FILE_NAME}.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())


def test_the_console_gets_plain_lines_with_the_same_redaction(make: Callable[..., Any], redactor: Redactor) -> None:
    console = io.StringIO()
    redactor.register("hunter2-hunter2")
    make(console=console).info("login", text="with hunter2-hunter2", n=1)
    assert console.getvalue()[8:] == f' info     login text="with {MASK}" n=1\n'


def test_a_text_can_not_forge_a_console_line(make: Callable[..., Any]) -> None:
    console = io.StringIO()
    make(console=console).info("refused", reason="x\n12:00:00 info all is well")
    assert console.getvalue().count("\n") == 1


def test_nothing_is_configured_globally(make: Callable[..., Any]) -> None:
    before = structlog.is_configured(), list(logging.getLogger().handlers)
    make().info("x")
    assert (structlog.is_configured(), list(logging.getLogger().handlers)) == before


@pytest.mark.parametrize("folder", ["file/logs", "file"])
def test_a_folder_that_can_not_be_made_is_fatal(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fatal, match="log_unwritable") as caught:
        configure(tmp_path / folder)
    assert caught.value.exit_code == 78


def test_an_unknown_level_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="log_level_unknown"):
        configure(tmp_path, level="loud")


def test_a_full_disk_costs_the_line_and_not_the_caller(
    make: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = make()
    logger.info("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / FILE_NAME).stat().st_size, hard))
    try:
        logger.info("lost")
        logger.info("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    logger.info("after")
    assert capsys.readouterr().err.count("can't be written") == 1
    told = [row["event"] for row in rows(tmp_path)]
    assert (told[0], told[-1]) == ("before", "after")


class TestRedaction:
    def test_an_exception_is_told_without_its_secret(
        self, make: Callable[..., Any], tmp_path: Path, redactor: Redactor
    ) -> None:
        redactor.register("s3cr3t-value")
        try:
            raise ValueError("refused for s3cr3t-value")
        except ValueError as error:
            make().exception("failed", cause=error)
        text = (tmp_path / FILE_NAME).read_text()
        assert "s3cr3t-value" not in text
        assert f"ValueError: refused for {MASK}" in rows(tmp_path)[0]["exception"]
        assert rows(tmp_path)[0]["cause"] == f"ValueError: refused for {MASK}"

    @pytest.mark.parametrize(
        "name",
        ["token", "RUNTIME_TOKEN", "apiKey", "api_key", "key", "p_secret", "Authorization", "db_dsn", "passphrase"],
    )
    def test_fields_with_a_secrets_name_are_masked(self, redactor: Redactor, name: str) -> None:
        assert redactor.fields({"deep": {name: "abc", "ok": 1}}) == {"deep": {name: MASK, "ok": 1}}

    @pytest.mark.parametrize("name", ["monkey", "keyboard", "symbol", "qty", "outcome", "compass"])
    def test_ordinary_names_are_not(self, name: str) -> None:
        assert not is_secret_name(name)

    def test_a_name_is_judged_anew_after_a_registration(self, redactor: Redactor) -> None:
        assert redactor.fields({"hunter2": 1}) == {"hunter2": 1}
        redactor.register("hunter2")
        assert redactor.fields({"hunter2": 1}) == {MASK: 1}

    def test_a_flag_under_a_secrets_name_is_told(self, redactor: Redactor) -> None:
        assert redactor.fields({"token": None, "has_key": True}) == {"token": None, "has_key": True}

    @pytest.mark.parametrize(
        ("text", "left"),
        [
            (f"jwt {JWT}.", f"jwt {MASK}."),
            ("sb_secret_aB3-x_9 leaked", f"{MASK} leaked"),
            ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {MASK}"),
            ("postgresql://bot:hunter2@db:5432/x", f"postgresql://{MASK}@db:5432/x"),
            ("GET /v1?symbol=BTC&signature=00ff11&token=abc", f"GET /v1?symbol=BTC&signature={MASK}&token={MASK}"),
            ("Client(api_key='abc', n=1)", f"Client(api_key='{MASK}', n=1)"),
            ('{"password": "a b", "n": 1}', f'{{"password": "{MASK} b", "n": 1}}'),
            ("-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----", f"-----BEGIN {MASK} PRIVATE KEY-----"),
        ],
    )
    def test_shapes_of_secrets_are_masked(self, redactor: Redactor, text: str, left: str) -> None:
        assert redactor.text(text) == left

    @pytest.mark.parametrize("form", [repr, json.dumps, str], ids=["repr", "json", "str"])
    def test_escaped_forms_of_a_secret_are_masked(self, redactor: Redactor, form: Callable[[str], str]) -> None:
        secret = 'pä"ss\\word\n1'
        redactor.register(secret)
        left = redactor.text(f"<{form(secret)}>")
        assert left.replace('"', "").replace("'", "") == f"<{MASK}>"

    def test_the_longest_secret_wins(self, redactor: Redactor) -> None:
        redactor.register("abcd")
        redactor.register("abcdefgh")
        assert redactor.text("abcdefgh") == MASK

    @pytest.mark.parametrize("value", ["", "abc", "redacted"])
    def test_a_value_that_can_not_be_recognised_is_refused(self, redactor: Redactor, value: str) -> None:
        with pytest.raises(ValueError):
            redactor.register(value)

    def test_long_values_lose_their_middle(self, redactor: Redactor) -> None:
        left = redactor.value("a" * 50_000 + "the end")
        assert len(left) < 9_000
        assert left.endswith("the end")
        assert shortened("short", 5) == "short"

    def test_deep_and_wide_values_have_an_end(self, redactor: Redactor) -> None:
        deep: Any = 1
        for _ in range(1000):
            deep = [deep]
        assert len(json.dumps(redactor.value(deep))) < 50
        assert len(redactor.value(list(range(10**5)))) == 201

    def test_a_text_that_fails_is_told(self, redactor: Redactor) -> None:
        class Broken:
            def __str__(self) -> str:
                raise RuntimeError("no")

        assert "Broken" in redactor.value(Broken())


@dataclass
class Holder:
    inner: Any


ALPHABET = st.characters(codec="utf-8", exclude_characters="[]*redacted \"'{}:,")
secrets = st.text(ALPHABET, min_size=6, max_size=30)


def nested(secret: str, around: tuple[str, str], path: list[str]) -> Any:
    value: Any = around[0] + secret + around[1]
    wraps: dict[str, Callable[[Any], Any]] = {
        "list": lambda inner: [1, inner],
        "tuple": lambda inner: (inner, None),
        "value": lambda inner: {"name": inner},
        "key": lambda inner: {str(inner): 1},
        "error": ValueError,
        "holder": Holder,
        "bytes": lambda inner: str(inner).encode(),
        "repr": repr,
        "json": lambda inner: json.dumps(inner, default=str),
    }
    for step in path:
        value = wraps[step](value)
    return value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    secrets,
    st.tuples(st.text(ALPHABET, max_size=9000), st.text(ALPHABET, max_size=20)),
    st.lists(st.sampled_from(["list", "tuple", "value", "key", "error", "holder"]), max_size=6),
    st.sampled_from([None, "bytes", "repr", "json"]),
)
def test_no_registered_secret_is_ever_written(
    tmp_path: Path, secret: str, around: tuple[str, str], path: list[str], text: str | None
) -> None:
    assume(secret not in "timestamp level event failed exception field information")
    redactor, console = Redactor(), io.StringIO()
    redactor.register(secret)
    folder = tmp_path / os.urandom(8).hex()
    logger = configure(folder, console=console, redactor=redactor)
    value = nested(secret, around, [text, *path] if text else path)
    try:
        raise RuntimeError(value)
    except RuntimeError as error:
        logger.exception(f"failed {secret}", field=value, cause=error)
    close(logger)
    written = (folder / FILE_NAME).read_text()
    for line in (written, console.getvalue(), *strings(json.loads(written))):
        assert secret not in line


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def test_a_secret_that_is_a_number_is_masked_as_a_number_too() -> None:
    redactor = Redactor()
    redactor.register("12345678")
    assert redactor.value({"n": 12345678, "f": 912345678.5, "m": 1234}) == {"n": MASK, "f": MASK, "m": 1234}
