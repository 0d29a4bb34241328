"""What ``tbh bot create`` is given as JSON: the exchange's options and the session settings."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tbh.cli.parser import EXIT_USAGE, SEED_MAX, SPEED_MAX, CommandError, cash, fee_rate
from tbh.domain.money import plain
from tbh.infra.candles import CandleError, load_candles

PAPER = "paper"
OPTIONS_BYTES_MAX = 65_536
NAME_LENGTH_MAX = 64

_OPTIONS = "--exchange-options"
_SECRET_OPTIONS = frozenset(
    {"apikey", "secret", "password", "uid", "login", "privatekey", "walletaddress", "twofa", "token"}
)
_SETTING = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def json_object(text: str | bytes, name: str, *, bytes_max: int = OPTIONS_BYTES_MAX) -> dict[str, Any]:
    """The object that ``text`` holds. Fractions stay text of their own digits (``Decimal``); ``CommandError`` (64)
    for what is no JSON object, is too long, or says a name twice."""
    if len(text) > bytes_max:
        raise _refused(name, f"has {len(text)} characters, more than {bytes_max}")

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) < len(found):
            raise ValueError("a name stands there twice")
        return dict(found)

    def no_number(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        made = json.loads(text, parse_float=Decimal, parse_constant=no_number, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise _refused(name, f"is not JSON ({error.msg} at character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:
        raise _refused(name, f"is not sound JSON ({error})") from None
    if not isinstance(made, dict):
        raise _refused(name, 'must be a JSON object, {"name": value}')
    return made


def read_settings(file: Path) -> dict[str, Any]:
    """Session settings by name, from a JSON file. ``CommandError``: 64 for its content, 78 when it can't be read."""
    try:
        if not file.is_file():
            raise CommandError(f"--settings {file}: no such file; name a JSON file of settings")
        with file.open("rb") as source:
            text = source.read(OPTIONS_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(f"--settings {file}: can't be read ({error.strerror}); check its rights") from error
    settings = json_object(text, f"--settings {file}")
    for key in settings:
        if not _SETTING.fullmatch(key):
            raise _refused(f"--settings {file}", f"{key!r} is no setting; their names are in capitals")
    return plain_json(settings)


def check_exchange(name: str) -> None:
    """``CommandError`` (64) unless ``name`` is ``paper`` or an exchange of ccxt's."""
    if name == PAPER or (re.fullmatch(r"[a-z0-9]{2,40}", name) and _in_ccxt(name)):
        return
    raise CommandError(
        f"--exchange {name}: no such exchange; it is 'paper', or one as ccxt writes it: binance, bybit, okx, kraken",
        exit_code=EXIT_USAGE,
    )


def _in_ccxt(name: str) -> bool:
    # Importing ccxt would take a second; each of its exchanges is a module of that name.
    spec = find_spec("ccxt")
    return spec is not None and any(
        (Path(each) / f"{name}.py").is_file() for each in spec.submodule_search_locations or ()
    )


def exchange_options(text: str | None, *, exchange: str, timeframe_s: int, now: datetime) -> dict[str, Any]:
    """The options of the bot's row, in JSON types. Those of a real exchange go to it as they are; those of the paper
    exchange are checked, paths made absolute, and its market begins now unless ``opened_at`` says otherwise."""
    given = {} if text is None else json_object(text, _OPTIONS)
    for key in given:
        if key.lower() in _SECRET_OPTIONS:
            raise _refused(
                _OPTIONS, f"{key!r} is a secret, which an argument would show to everybody; see --credentials-stdin"
            )
    if exchange != PAPER:
        return plain_json(given)
    unknown = sorted(given.keys() - _PAPER.keys())
    if unknown:
        raise _refused(_OPTIONS, f"{unknown[0]!r} is unknown to the paper exchange; known: {', '.join(_PAPER)}")
    options = {key: _PAPER[key](f"{_OPTIONS}: {key}", value) for key, value in given.items()}
    if "candles" in options:
        try:
            load_candles(options["candles"], timeframe_s=timeframe_s)
        except CandleError as error:
            raise CommandError(f"{_OPTIONS}: candles: {error}") from error
    options.setdefault("opened_at", now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    return options


def plain_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` with JSON's own numbers: money in it had better be text."""
    made: dict[str, Any] = json.loads(json.dumps(dict(value), default=float))
    return made


def _file(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _refused(name, "must be the path of a file")
    return str(Path(value).expanduser().absolute())


def _money(parse: Callable[[str], Decimal]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise _refused(name, "must be a number")
        try:
            return plain(parse(str(value)))
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise _refused(name, str(error)) from error

    return check


def _bars_per_second(name: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 < value <= Decimal(SPEED_MAX):
        raise _refused(name, f"must be a number above 0, at most {SPEED_MAX:.0f}")
    return value if isinstance(value, int) else float(value)


def _seed(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= SEED_MAX:
        raise _refused(name, f"must be a whole number from 0 to {SEED_MAX}")
    return value


def _time(name: str, value: Any) -> str:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        at = None
    if at is None or at.utcoffset() is None:
        raise _refused(name, "must be a time with its zone, such as 2026-01-01T00:00:00Z")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


_PAPER: dict[str, Callable[[str, Any], Any]] = {
    "account": _file,
    "candles": _file,
    "bars_per_second": _bars_per_second,
    "opened_at": _time,
    "cash": _money(cash),
    "fee": _money(fee_rate),
    "seed": _seed,
}


def _refused(name: str, why: str) -> CommandError:
    return CommandError(f"{name}: {why}", exit_code=EXIT_USAGE)
