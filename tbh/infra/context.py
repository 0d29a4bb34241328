"""What the database says of the bot: read once at the start, checked, and kept for a start without the database.

The record is that of ``bot_runtime_get_context``. What is wrong in it is a matter of configuration: ``Fatal(78)`` with
the path of the first offence. The strategy's definition stays as it is stored, for ``tbh/strategies`` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StrictBool, StrictStr, ValidationError

from tbh.domain.takeover import LEASE_S
from tbh.infra.crypto import EXIT_CONFIGURATION, unseal
from tbh.infra.redact import SECRET_LENGTH_MIN, register_secret
from tbh.infra.sealed_file import SealedFile
from tbh.infra.supabase_replies import ControlsRow, Reply, Seconds, Whole
from tbh.ports import Fatal

LEASE_MIN_S, LEASE_MAX_S = 0.2, 600.0

Named = Annotated[StrictStr, Field(min_length=1, max_length=128)]
Tier = Literal["fast_5s", "ultra_15s", "fast_30s", "standard"]


class BotRow(Reply):
    """The bot itself; ``polling_tier`` null leaves the choice to the environment."""

    id: StrictStr
    name: Named
    user_id: StrictStr | None = None
    mode: Literal["paper", "live"]
    exchange: Named
    symbols: tuple[Named, ...] = ()
    polling_tier: Tier | None = None
    active: StrictBool
    created_at: AwareDatetime | None = None
    exchange_options: dict[str, Any] = Field(default_factory=dict)
    execution_config: dict[str, Any] = Field(default_factory=dict)


class SealedKeys(Reply):
    """The exchange's credentials, sealed (``tbh/infra/crypto.py``)."""

    ciphertext: Annotated[StrictStr, Field(min_length=1, repr=False)]


class Subscription(Reply):
    """``inactive`` where the platform has no row."""

    status: StrictStr = "inactive"


class StrategyRow(Reply):
    """The strategy; ``definition`` as CONTRACTS §3 has it, not checked here."""

    id: StrictStr | None = None
    name: Named
    definition: dict[str, Any]
    fingerprint: StrictStr | None = None

    def definition_text(self) -> str:
        """The definition as JSON text."""
        return json.dumps(self.definition, allow_nan=False)


class Profile(Reply):
    """What the user has set beside the strategy's own settings."""

    overrides: dict[str, Any] = Field(default_factory=dict)


class RuntimeRow(Reply):
    """Where the bot was registered to run, and the life of its token."""

    provider: StrictStr | None = None
    region: StrictStr | None = None
    machine_id: StrictStr | None = None
    epoch: Whole = 0
    token_expires_at: AwareDatetime | None = None
    token_ttl_s: Seconds | None = None


class BotContext(Reply):
    """All that a bot is configured with. ``read_context`` makes one."""

    bot: BotRow
    symbols: Annotated[tuple[Named, ...], Field(min_length=1)]
    api_keys: SealedKeys | None = None
    exchange: dict[str, Any] | None = None
    markets: tuple[dict[str, Any], ...] = ()
    subscription: Subscription = Subscription()
    strategy: StrategyRow
    profile: Profile | None = None
    controls: ControlsRow
    settings: dict[str, Any] = Field(default_factory=dict)
    settings_version: Whole = 0
    runtime: RuntimeRow

    def lease_s(self) -> float:
        """How long this bot's lease is: what it was created with, as text or a number; the default where nothing is
        said. ``Fatal(78)`` for what is no such time."""
        given = self.bot.execution_config.get("lease_s", LEASE_S)
        try:
            lease_s = float(given)
        except (TypeError, ValueError):
            lease_s = -1.0
        if not LEASE_MIN_S <= lease_s <= LEASE_MAX_S:
            where = "context.bot.execution_config.lease_s"
            raise _fatal("lease_invalid", f"{where}: {given!r:.40} is not {LEASE_MIN_S:g} to {LEASE_MAX_S:g} seconds")
        return lease_s

    def credentials(self, key: str | None) -> dict[str, str]:
        """The exchange's credentials by name, opened with TBH_CREDENTIALS_KEY and announced to redaction.

        ``Fatal(78)`` when there are none, without a key, and with a wrong one.
        """
        if self.api_keys is None:
            raise _fatal("credentials_missing", "the bot has no exchange credentials: store them with `tbh bot create`")
        if not key:
            raise _fatal("credentials_key_missing", "set TBH_CREDENTIALS_KEY to the key under which they were stored")
        plain = unseal(self.api_keys.ciphertext, key, bot_id=self.bot.id)
        for value in plain.values():
            if len(value) >= SECRET_LENGTH_MIN:
                register_secret(value)
        return plain


def read_context(data: Any, *, bot_id: str) -> BotContext:
    """The context in ``data``, which must be this bot's. ``Fatal(78)`` names the path of what is wrong."""
    try:
        context = BotContext.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(["context", *map(str, first["loc"])])
        raise _fatal("context_invalid", f"{path}: {first['msg']}") from None
    if context.bot.id.lower() != bot_id.lower():
        raise _fatal("context_invalid", f"context.bot.id: is {context.bot.id}, and BOT_ID is {bot_id}")
    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedContext:
    """A context as it was at ``saved_at``."""

    context: BotContext
    saved_at: datetime


class ContextCache:
    """The last context on the disk, sealed under the runtime token of the environment."""

    def __init__(self, path: Path, *, runtime_token: str, bot_id: str) -> None:
        self._file = SealedFile(path, key=runtime_token, bot_id=bot_id, purpose="context")
        self._bot_id = bot_id

    def save(self, context: BotContext, *, at: datetime) -> None:
        """Keep ``context`` instead of the former one. ``Unavailable`` when the disk does not take it."""
        self._file.save({"saved_at": at.astimezone(UTC).isoformat(), "context": context.model_dump(mode="json")})

    def load(self) -> tuple[CachedContext | None, str]:
        """What was kept and an empty text, or None and the reason: absent, damaged, another bot's, of another form."""
        found, reason = self._file.load()
        if found is None:
            return None, reason
        try:
            saved_at = _moment(found)
            return CachedContext(context=read_context(found.get("context"), bot_id=self._bot_id), saved_at=saved_at), ""
        except (ValueError, Fatal) as error:
            return None, f"{self._file.path}: {error}"


def _moment(found: Mapping[str, Any]) -> datetime:
    text = found.get("saved_at")
    saved_at = datetime.fromisoformat(text) if isinstance(text, str) else None
    if saved_at is None or saved_at.tzinfo is None:
        raise ValueError("saved_at is no time")
    return saved_at


def _fatal(reason: str, detail: str) -> Fatal:
    return Fatal(reason, exit_code=EXIT_CONFIGURATION, detail=detail)
