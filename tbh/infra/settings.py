"""What the environment says about the process: who the bot is, where its state and logs go, what it may do.

Everything is checked before anything starts, and everything wrong is told at once, one line for each name. A value of
a secret is in no line: it is kept as ``SecretStr`` and announced to the redaction of every sink.

A name that is set to nothing counts as not set. Names from an ``.env`` file stand back behind the environment's.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tbh.infra.redact import SECRET_LENGTH_MIN, register_secret
from tbh.ports import Fatal

EXIT_CONFIGURATION = 78
LIVE_ACKNOWLEDGEMENT = "I_UNDERSTAND"
STORE_FILE_NAME = "store.sqlite"
LOG_FILE_NAME = "tradebothub.log"

_ROLES_REFUSED = ("anon", "authenticated")


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("is not a UUID; take the bot's id as the platform shows it") from None


def _base_url(text: str) -> str:
    try:
        url = urlsplit(text)
        # urlsplit drops line breaks in silence, and whoever uses the text later would not.
        sound = (
            text.isprintable()
            and " " not in text
            and url.scheme in ("http", "https")
            and bool(url.hostname)
            and (url.port is None or url.port > 0)
        )
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("is not an http(s) address; it looks like https://PROJECT.supabase.co")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("must be an address alone, without a user, a query or a fragment")
    return text.rstrip("/")


def _service_key(secret: SecretStr) -> SecretStr:
    """Refuses what is known not to be a service key. Opaque keys pass: the database has the last word."""
    key = secret.get_secret_value()
    if key.startswith("sb_publishable_"):
        raise ValueError("is a publishable key; the bot needs the secret one (service_role, or sb_secret_...)")
    if key.count(".") == 2:
        role = _jwt_claims(key).get("role")
        if role in _ROLES_REFUSED:
            raise ValueError(f"has the role {role}; the bot needs the key of service_role")
        if role is None:
            raise ValueError("is a token without a role; the bot needs the key of service_role")
    return secret


def _jwt_claims(token: str) -> dict[str, Any]:
    """What the token says of itself. Its signature is the database's affair, and no key for it is here."""
    middle = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise ValueError("is no readable token; copy the whole key")
    return claims


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < SECRET_LENGTH_MIN:
        raise ValueError("is too short to be a secret; copy the whole of it")
    return secret


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _absent(value: object) -> None:
    if value is not None:
        raise ValueError("a bot must not hold it: it is for operators' commands only; take it out of the environment")


def _needed_when_on(secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if secret is None and info.data.get("enable_healthchecks_io"):
        raise ValueError("is missing, while ENABLE_HEALTHCHECKS_IO is on; set it, or switch that off")
    return secret


Text = Annotated[str, BeforeValidator(_stripped)]
Secret = Annotated[SecretStr, BeforeValidator(_stripped), AfterValidator(_long_enough)]
Tier = Annotated[Literal["fast_5s", "ultra_15s", "fast_30s", "standard"], BeforeValidator(_stripped)]
Transport = Annotated[Literal["logs", "events", "both"], BeforeValidator(_stripped)]
Switch = Annotated[bool, BeforeValidator(_stripped)]
Where = Annotated[Path, BeforeValidator(_stripped), AfterValidator(Path.absolute)]


class Settings(BaseSettings):
    """The environment of one bot. The fields are its names in lower case; ``load_settings`` makes one.

    ``polling_tier`` None is the bot row's. Live orders need ``live_trading`` and its acknowledgement, none of
    ``dry_run``, ``safe_mode`` and ``kill_switch``, and the mode ``live`` on the bot row.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    bot_id: Annotated[Text, AfterValidator(_uuid)]
    supabase_url: Annotated[Text, AfterValidator(_base_url)]
    supabase_service_role_key: Annotated[Secret, AfterValidator(_service_key)]
    runtime_token: Secret
    tbh_credentials_key: Secret | None = None
    polling_tier: Tier | None = None
    tbh_state_dir: Where = Field(default=Path("state"), validate_default=True)
    state_db_path: Where | None = None
    bot_log_dir: Where | None = None
    bot_log_file: Where | None = None
    new_relic_license_key: Secret | None = None
    new_relic_app_name: Text = "TradeBotHub"
    tbh_nr_transport: Transport = "logs"
    enable_healthchecks_io: Switch = False
    healthchecks_api_key: Annotated[Secret | None, AfterValidator(_needed_when_on)] = Field(
        default=None, validate_default=True
    )
    dry_run: Switch = False
    safe_mode: Switch = False
    kill_switch: Switch = False
    live_trading: Switch = False
    live_trading_ack: Text = ""
    tbh_lease_s: float | None = Field(default=None, ge=0.5, le=600, allow_inf_nan=False)
    tbh_operator_token: Annotated[None, BeforeValidator(_absent)] = None

    @property
    def store_path(self) -> Path:
        """The local store's file."""
        return self.state_db_path or self.tbh_state_dir / STORE_FILE_NAME

    @property
    def log_file(self) -> Path:
        """The log's file."""
        return self.bot_log_file or (self.bot_log_dir or self.tbh_state_dir / "logs") / LOG_FILE_NAME

    def not_armed_because(self) -> tuple[str, ...]:
        """Why the environment forbids live orders; empty when it allows them (the bot row must say live as well)."""
        holds = {
            "LIVE_TRADING is not true": not self.live_trading,
            f"LIVE_TRADING_ACK is not {LIVE_ACKNOWLEDGEMENT}": self.live_trading_ack != LIVE_ACKNOWLEDGEMENT,
            "DRY_RUN is on": self.dry_run,
            "SAFE_MODE is on": self.safe_mode,
            "KILL_SWITCH is on": self.kill_switch,
        }
        return tuple(reason for reason, held in holds.items() if held)

    def only_killed(self) -> bool:
        """Whether the kill switch alone forbids live orders: then those that reduce risk go on."""
        return self.kill_switch and not self.model_copy(update={"kill_switch": False}).not_armed_because()

    def gate_flags(self) -> tuple[str, ...]:
        """The gate reasons that the environment sets for the whole session."""
        flags = {"dry_run": self.dry_run, "observe_only": self.safe_mode, "kill_switch": self.kill_switch}
        return tuple(word for word, on in flags.items() if on)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment is an argument of load_settings: nothing is read behind its caller's back.
        del settings_cls, env_settings, file_secret_settings
        return init_settings, dotenv_settings


def load_settings(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """The settings that ``environ`` holds, completed by ``env_file`` (lines of NAME=value).

    ``Fatal`` (78) when something is missing or malformed: its text has one line for each name, never a secret's value.
    """
    if env_file is not None and not env_file.is_file():
        raise Fatal(f"{env_file}: no such environment file; check the path", exit_code=EXIT_CONFIGURATION)
    if env_file is not None:
        _check_lines(env_file)
    given: dict[str, Any] = {
        name: value for name in Settings.model_fields if (value := environ.get(name.upper(), "").strip())
    }
    try:
        settings = Settings(_env_file=env_file, _env_file_encoding="utf-8", **given)
    except ValidationError as error:
        problems = [_line(each) for each in error.errors(include_url=False, include_input=False)]
        raise Fatal("\n".join(problems), exit_code=EXIT_CONFIGURATION) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(env_file, error) from None
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            register_secret(value.get_secret_value())
    return settings


def _check_lines(env_file: Path) -> None:
    """A line that can't be read might have been the kill switch, so it is not passed over. ``Fatal`` (78)."""
    try:
        with env_file.open(encoding="utf-8") as file:
            wrong = [binding.original.line for binding in parse_stream(file) if binding.error]
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(env_file, error) from None
    if wrong:
        problems = [f"{env_file}:{line}: is not NAME=value; mend its quotes or take it out" for line in wrong]
        raise Fatal("\n".join(problems), exit_code=EXIT_CONFIGURATION)


def _unreadable(env_file: Path | None, error: OSError | UnicodeDecodeError) -> Fatal:
    what = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
    return Fatal(f"{env_file}: can't be read ({what}); check it", exit_code=EXIT_CONFIGURATION)


def _line(error: ErrorDetails) -> str:
    name = str(error["loc"][0]).upper()
    match error["type"]:
        case "missing":
            return f"{name}: is missing; set it in the environment"
        case "value_error":
            return f"{name}: {error['ctx']['error']}"
        case "bool_parsing":
            return f"{name}: must be true or false"
    return f"{name}: {error['msg'].replace('Input should be', 'must be', 1)}"
