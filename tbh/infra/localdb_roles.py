"""What a hosted platform has before any migration runs: its roles, and a database that belongs to the migrator.

The migrator is no superuser, as on a hosted platform, so that nothing slips into a migration that works here alone.
New functions and tables are granted to every API role by default, which older projects on hosted platforms do as
well: a migration that forgets to revoke is found out here.
"""

from __future__ import annotations

from psycopg import sql

SUPERUSER = "postgres"
MIGRATOR = "tbh_migrator"
AUTHENTICATOR = "authenticator"
API_ROLES = ("anon", "authenticated", "service_role")

_ROLES = {
    "anon": sql.SQL("nologin noinherit"),
    "authenticated": sql.SQL("nologin noinherit"),
    "service_role": sql.SQL("nologin noinherit bypassrls"),
    AUTHENTICATOR: sql.SQL("login noinherit"),
    MIGRATOR: sql.SQL("login nosuperuser createrole bypassrls"),
}
_SETTINGS = (("anon", "3s"), ("authenticated", "8s"), (AUTHENTICATOR, "8s"))


def role_statements() -> list[sql.Composed]:
    """Make the roles that are missing and give all of them what they must have; harmless when repeated."""
    made: list[sql.Composed] = [
        sql.SQL(
            "do $do$ begin if not exists (select from pg_catalog.pg_roles where rolname = {name}) then "
            "create role {role}; end if; end $do$"
        ).format(name=sql.Literal(name), role=sql.Identifier(name))
        for name in _ROLES
    ]
    made += [sql.SQL("alter role {} {}").format(sql.Identifier(name), rights) for name, rights in _ROLES.items()]
    made += [
        sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(AUTHENTICATOR)) for role in API_ROLES
    ]
    made += [
        sql.SQL("alter role {} set statement_timeout = {}").format(sql.Identifier(name), sql.Literal(limit))
        for name, limit in _SETTINGS
    ]
    return made


def default_grants() -> list[sql.Composed]:
    """For the template of databases: what the migrator makes in ``public`` is open to the API roles until revoked."""
    roles = sql.SQL(", ").join(map(sql.Identifier, API_ROLES))
    return [
        sql.SQL("alter default privileges for role {} in schema public grant all on {} to {}").format(
            sql.Identifier(MIGRATOR), sql.SQL(kind), roles
        )
        for kind in ("tables", "sequences", "functions")
    ]
