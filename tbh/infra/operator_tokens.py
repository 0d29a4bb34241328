"""Operator tokens, as the owner of the database makes them: the table keeps a digest alone."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import psycopg

from tbh.ports import Fatal, Unavailable


def new_operator_token() -> str:
    """``tbh_op_`` and 64 hex digits, 256 bits of chance."""
    return f"tbh_op_{secrets.token_hex(32)}"


def store_operator_token(connection: psycopg.Connection[Any], token: str, *, name: str, role: str) -> bool:
    """Make ``token`` valid for ``name`` in ``role``; False when it was stored before, and then nothing changes.

    ``Fatal(78)`` when the tables are missing or the connection isn't their owner's, ``Unavailable`` when it broke.
    """
    digest = hashlib.sha256(token.encode()).digest()
    try:
        done = connection.execute(
            "insert into bot_runtime.operator_tokens (name, role, token_hash) values (%s, %s, %s)"
            " on conflict (token_hash) do nothing",
            (name, role, digest),
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise Fatal("migrations_missing", exit_code=78, detail="run tbh db migrate on this database first") from error
    except psycopg.errors.InsufficientPrivilege as error:
        detail = "connect as the owner of the database, who ran the migrations"
        raise Fatal("not_the_owner", exit_code=78, detail=detail) from error
    except psycopg.OperationalError as error:
        raise Unavailable("database_lost", detail=" ".join(str(error).split())) from error
    return done.rowcount == 1


def revoke_operator_tokens(connection: psycopg.Connection[Any], *, name: str, but: str) -> None:
    """End all tokens of ``name`` except ``but``."""
    connection.execute(
        "update bot_runtime.operator_tokens set revoked_at = clock_timestamp()"
        " where name = %s and token_hash <> %s and revoked_at is null",
        (name, hashlib.sha256(but.encode()).digest()),
    )
