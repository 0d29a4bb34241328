"""The database over HTTP: ``tbh.ports.Rpc`` by the functions of CONTRACTS §4, for one bot and one boot.

A call is sent once: whether it may be repeated, and when, is for its caller to say. The one exception is a refused
token where there is another one to try, since a refusal proves that nothing happened.

Each call carries the runtime token, the boot id and, once the lease was claimed, its epoch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tbh.infra.runtime_token import TokenKeeper
from tbh.infra.supabase_errors import EXIT_CONFIGURATION, bad_reply
from tbh.infra.supabase_http import READ_TIMEOUT_S, FunctionClient
from tbh.infra.supabase_replies import (
    Acknowledged,
    Beat,
    ControlsRow,
    Recorded,
    Released,
    Renewed,
    Synced,
    TokenTaken,
    read_reply,
)
from tbh.ports import Controls, Failure, Fatal, Lease, OutboxEntry, Rejected, SyncResult

ROTATION_RETRY_S = 60.0

_TOKEN_REFUSED = "runtime_token_invalid"  # noqa: S105  # the database's word
_BOOT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Teller = Callable[[str, str], None]
"""Takes an event's name and a reason: for the log."""


class SupabaseRpc:
    """Implements ``tbh.ports.Rpc``. Safe to use from any thread.

    ``url`` is the project's address, without ``/rest/v1``. ``tell`` hears what no caller is told: that the token was
    replaced, that it could not be, that another one is in use. ``now`` is the wall clock, used only to know how long
    the token still lives. ``Fatal(78)`` for a key, token or boot id that no header can carry.

    Every call may raise ``Unavailable`` (nothing was sent or served), ``Unknown`` (it may have been carried out),
    ``Rejected`` with the database's word, ``Defer``, and ``Fatal(78)`` where address, key or migrations are wrong.
    """

    def __init__(
        self,
        *,
        url: str,
        service_key: str,
        bot_id: str,
        boot_id: str,
        tokens: TokenKeeper,
        read_timeout_s: float = READ_TIMEOUT_S,
        tell: Teller = lambda _event, _reason: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not _BOOT_ID.fullmatch(boot_id):
            raise Fatal("boot_id_invalid", exit_code=EXIT_CONFIGURATION, detail=f"{boot_id!r}: letters, digits, ._-")
        self.boot_id = boot_id
        self._functions = FunctionClient(url, service_key=service_key, read_timeout_s=read_timeout_s)
        self._bot_id = bot_id
        self._tokens = tokens
        self._tell = tell
        self._now = now
        self._monotonic = monotonic
        self._epoch: int | None = None
        self._database_ahead_s = 0.0
        self._token_ttl_s: float | None = None
        self._rotate_not_before_s = 0.0

    @property
    def epoch(self) -> int | None:
        """That of this boot's last claim, None before the first."""
        return self._epoch

    def close(self) -> None:
        """Close the connections; calls after that are ``Unavailable('closed')``."""
        self._functions.close()

    # The lease

    def claim(self, *, previous_boot_id: str | None, seen_renewals: int | None, lease_s: float) -> Lease:
        """Take the lease, or renew it if it is this boot's. ``LeaseHeld`` when it is another's."""
        args = {
            "p_boot_id": self.boot_id,
            "p_previous_boot_id": previous_boot_id,
            "p_seen_renewals": None if seen_renewals is None else str(seen_renewals),
            "p_lease_s": f"{lease_s:g}",
        }
        reply = read_reply(Renewed, self._call("bot_runtime_claim", args), fn="bot_runtime_claim")
        self._epoch = reply.epoch
        self._token_ttl_s = reply.token_ttl_s
        if reply.expires_at is not None:
            # The lease's end, in the database's time and as a span, tells what the database's clock says.
            self._database_ahead_s = (reply.expires_at - self._now()).total_seconds() - reply.expires_in_s
        return self._lease(reply)

    def release(self) -> None:
        """Give the lease back; nothing happens when it is not ours."""
        args = {"p_boot_id": self.boot_id, "p_reason": "stopped"}
        read_reply(Released, self._call("bot_runtime_release", args), fn="bot_runtime_release")

    def heartbeat(self, payload: Mapping[str, Any]) -> tuple[Lease, int]:
        """Renew the lease and write the bot's state; the lease and the controls' version.

        Replaces the runtime token when less than a third of its life is left. Where that fails it is told, and tried
        again with a later heartbeat.
        """
        data = self._call("bot_runtime_heartbeat", {"p_payload": dict(payload)})
        reply = read_reply(Beat, data, fn="bot_runtime_heartbeat")
        lease = self._lease(reply)
        self._rotate_if_due(lease.token_expires_in_s)
        return lease, reply.controls_version

    def _lease(self, reply: Renewed) -> Lease:
        left_s = None
        if reply.token_expires_at is not None:
            left_s = (reply.token_expires_at - self._now()).total_seconds() - self._database_ahead_s
        return Lease(
            epoch=reply.epoch, renewals=reply.renewals, expires_in_s=reply.expires_in_s, token_expires_in_s=left_s
        )

    # The controls

    def refresh_controls(self) -> Controls:
        """What the operator asks for."""
        fn = "bot_runtime_refresh_controls"
        return read_reply(ControlsRow, self._call(fn, {}), fn=fn).controls()

    def acknowledge(self, version: int) -> None:
        """Controls of ``version`` are carried out."""
        fn = "bot_runtime_acknowledge"
        read_reply(Acknowledged, self._call(fn, {"p_version": str(version)}), fn=fn)

    # Facts and evidence

    def sync(self, *, store_id: str, first_seq: int, entries: Sequence[OutboxEntry]) -> SyncResult:
        """Deliver a batch of the outbox; what the database has already it skips."""
        rows = [{"seq": entry.seq, "fn": entry.fn, "args": dict(entry.args), "key": entry.key} for entry in entries]
        args = {"p_store_id": store_id, "p_first_seq": str(first_seq), "p_entries": rows}
        return read_reply(Synced, self._call("bot_runtime_sync", args), fn="bot_runtime_sync").result()

    def upsert_health(self, patch: Mapping[str, Any]) -> None:
        """Merge ``patch`` into the bot's health evidence."""
        fn = "upsert_bot_health_evidence"
        if not isinstance(self._call(fn, {"p_patch": dict(patch)}), dict):
            raise bad_reply(fn, "no object")

    def write_event(self, *, kind: str, level: str, payload: Mapping[str, Any], key: str) -> None:
        """Record an event once for each key."""
        args = {"p_kind": kind, "p_level": level, "p_payload": dict(payload), "p_key": key}
        read_reply(Recorded, self._call("bot_runtime_write_event", args), fn="bot_runtime_write_event")

    def notify(self, *, channel: str, payload: Mapping[str, Any], key: str) -> None:
        """Queue a notification once for each key."""
        args = {"p_channel": channel, "p_payload": dict(payload), "p_key": key}
        read_reply(Recorded, self._call("bot_runtime_notify", args), fn="bot_runtime_notify")

    # What the database remembers

    def get_context(self) -> dict[str, Any]:
        """Everything that the bot is configured with, as JSON (``tbh/infra/context.py`` reads it)."""
        return self._object("bot_runtime_get_context", {})

    def get_position(self, *, status: str = "open", symbol: str | None = None) -> dict[str, Any] | None:
        """The position's row, None without one."""
        fn = "bot_runtime_get_position"
        data = self._call(fn, {"p_status": status, "p_symbol": symbol})
        if data is not None and not isinstance(data, dict):
            raise bad_reply(fn, "neither an object nor null")
        return data

    def get_open_trades(self, *, symbol: str | None = None) -> list[dict[str, Any]]:
        """The rows of orders that are not at their end."""
        return self._objects("bot_runtime_get_open_trades", {"p_symbol": symbol})

    def get_adjustments(self, *, symbol: str | None = None) -> list[dict[str, Any]]:
        """The corrections that operators had the book take."""
        return self._objects("bot_runtime_get_adjustments", {"p_symbol": symbol})

    # The token

    def rotate(self, new_hash: str) -> None:
        """Tell the hash of the token that shall replace the present one."""
        fn = "bot_runtime_rotate_token"
        read_reply(TokenTaken, self._call(fn, {"p_new_hash": new_hash}), fn=fn)

    def _rotate_if_due(self, left_s: float | None) -> None:
        ttl_s, now_s = self._token_ttl_s, self._monotonic()
        if left_s is None or ttl_s is None or not self._tokens.due(left_s, ttl_s) or now_s < self._rotate_not_before_s:
            return
        # A heartbeat must not wait for a rotation that fails again and again, nor a short life run out meanwhile.
        self._rotate_not_before_s = now_s + min(ROTATION_RETRY_S, ttl_s / 12)
        try:
            self.rotate(self._tokens.propose())
        except Failure as failure:
            self._tell("token_rotation_failed", str(failure))
        else:
            self._tokens.adopt()
            self._tell("token_rotated", f"{left_s:.0f} s before the former one ends")

    # Calls

    def _object(self, fn: str, args: Mapping[str, Any]) -> dict[str, Any]:
        data = self._call(fn, args)
        if not isinstance(data, dict):
            raise bad_reply(fn, "no object")
        return data

    def _objects(self, fn: str, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        data = self._call(fn, args)
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise bad_reply(fn, "no list of objects")
        return data

    def _call(self, fn: str, args: Mapping[str, Any]) -> Any:
        body = {"p_bot_id": self._bot_id, **args}
        while True:
            token = self._tokens.token
            headers = {"x-runtime-token": token, "x-runtime-boot-id": self.boot_id}
            if self._epoch is not None:
                headers["x-runtime-epoch"] = str(self._epoch)
            try:
                data = self._functions.call(fn, body, headers=headers)
            except Rejected as refusal:
                if refusal.reason != _TOKEN_REFUSED or not self._tokens.refused(token):
                    raise
                self._tell("token_refused", f"{fn}: trying another one")
                continue
            self._settle(token)
            return data

    def _settle(self, token: str) -> None:
        try:
            self._tokens.succeeded(token)
        except Failure as failure:
            self._tell("token_not_stored", str(failure))
