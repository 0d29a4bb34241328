"""One registered bot as the journal's tests see it: its calls, its rows, and what a refusal says."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.database.conftest import Database, perform

Row = dict[str, Any]
Entry = tuple[str, Mapping[str, Any], str]

NOT_COMPARED = frozenset({"id", "created_at", "recorded_at", "updated_at", "exchange_payload_stamp"})
"""Columns that say when and in what order rows were written, not what they say."""


class Bot:
    """A bot with a runtime token, and one connection to the database as PostgREST holds it."""

    def __init__(self, database: Database, connection: psycopg.Connection[Any]) -> None:
        self.database = database
        self.connection = connection
        self.id = str(uuid.uuid4())
        self.token = f"tbh_rt_{self.id}"
        self.headers = {"x-runtime-token": self.token}
        with psycopg.connect(database.migrator) as owner:
            owner.execute(
                "insert into bot_runtime.bots (id, name, mode, exchange, symbols)"
                " values (%s, 'b', 'paper', 'paper', '{S}')",
                (self.id,),
            )
            owner.execute(
                "insert into bot_runtime.bot_runtime (bot_id, runtime_token_hash, token_expires_at)"
                " values (%s, %s, clock_timestamp() + interval '1 hour')",
                (self.id, hashlib.sha256(self.token.encode()).digest()),
            )

    def call(self, fn: str, **args: Any) -> Any:
        """``public.fn`` under the headers that the bot has now."""
        with self.connection.transaction():
            return perform(self.connection, fn, {"p_bot_id": self.id, **args}, self.headers, role="service_role")

    def claim(self, boot_id: str = "boot-1", previous: str | None = None) -> int:
        """Take the lease; from then on the calls are this boot's. The epoch."""
        self.headers = {"x-runtime-token": self.token}
        epoch: int = self.call("bot_runtime_claim", p_boot_id=boot_id, p_previous_boot_id=previous)["epoch"]
        self.headers |= {"x-runtime-boot-id": boot_id, "x-runtime-epoch": str(epoch)}
        return epoch

    def sync(self, *entries: Entry, first_seq: int = 1, store_id: str = "s1") -> Row:
        """Send outbox entries (fn, args, key), numbered from ``first_seq``."""
        numbered = [
            {"seq": seq, "fn": fn, "args": dict(args), "key": key}
            for seq, (fn, args, key) in enumerate(entries, first_seq)
        ]
        return self.sync_raw(numbered, first_seq=first_seq, store_id=store_id)

    def sync_raw(self, entries: Sequence[Any], *, first_seq: int, store_id: str = "s1") -> Row:
        result: Row = self.call(
            "bot_runtime_sync", p_store_id=store_id, p_first_seq=str(first_seq), p_entries=list(entries)
        )
        return result

    def position(self, **payload: Any) -> Row:
        row: Row = self.call("bot_runtime_upsert_position", p_payload=payload)
        return row

    def trade(self, client_order_id: str, exchange_order_id: str | None = None, **payload: Any) -> Row:
        args = {"p_client_order_id": client_order_id, "p_exchange_order_id": exchange_order_id, "p_payload": payload}
        row: Row = self.call("bot_runtime_upsert_trade", **args)
        return row

    def rows(self, table: str, *, order: str = "1") -> list[Row]:
        """The bot's rows of a table as JSON has them, without what only says when they were written."""
        found = self.database.query(
            f"select to_jsonb(t) from bot_runtime.{table} t where bot_id = %s order by {order}", (self.id,)
        )
        return [{key: value for key, value in row.items() if key not in NOT_COMPARED} for (row,) in found]


@contextmanager
def refused(code: str, word: str, detail: str = "") -> Iterator[None]:
    """What is inside raises a refusal of this SQLSTATE and word, whose detail begins with ``detail``."""
    with pytest.raises(psycopg.Error) as caught:
        yield
    diagnosis = caught.value.diag
    assert (caught.value.sqlstate, diagnosis.message_primary) == (code, word), diagnosis.message_detail
    assert (diagnosis.message_detail or "").startswith(detail), diagnosis.message_detail
