"""Which function a call means, and the statement that calls it.

A snapshot of the catalogue (functions of the exposed schemas, settings of roles) is read once and again when
somebody says ``NOTIFY pgrst``; a call is matched by name and argument names alone, never by types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tbh.infra.rpcgateway.errors import HttpError
from tbh.infra.rpcgateway.exchange import Connection
from tbh.infra.rpcgateway.request import Request

# Types are written out for a search path that finds none of them; -1 keeps `character` and `bit` without a length.
FUNCTIONS = """
select n.nspname, p.proname, p.provolatile = 'v', p.proretset,
  t.typtype = 'c' or coalesce(p.proargmodes::text[] && '{t,b,o}', false),
  p.prorettype = 'void'::regtype,
  coalesce(p.proconfig, '{}'),
  coalesce((
    select json_agg(json_build_array(coalesce(a.name, ''), format_type(a.type, -1),
                                     a.place <= p.pronargs - p.pronargdefaults, coalesce(a.mode = 'v', false))
                    order by a.place)
    from (select u.name, u.type, u.mode, row_number() over (order by u.nth) as place
          from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
               with ordinality as u (type, name, mode, nth)
          where u.mode is null or u.mode in ('i', 'b', 'v')) a), '[]')
from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_type t on t.oid = p.prorettype
where p.prokind = 'f' and n.nspname = any ($1)
  and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
order by n.nspname, p.proname, p.pronargs, p.oid
"""
ROLE_SETTINGS = """
select r.rolname, split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1)
from pg_roles r cross join unnest(r.rolconfig) as s (setting)
  join pg_settings p on p.name = lower(split_part(s.setting, '=', 1))
where pg_has_role(current_user, r.oid, 'member')
  and (p.context = 'user' or has_parameter_privilege(p.name, 'set'))
"""
# A function's own setting of these would come too late for the statement that calls it.
HOISTED = ("statement_timeout", "plan_filter.statement_cost_limit")
ISOLATION = "default_transaction_isolation"
ISOLATIONS = frozenset({"read committed", "repeatable read", "serializable"})


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: str
    required: bool
    variadic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """``composite`` results are rows with names; anything else is a single value (a bare ``record`` too)."""

    schema: str
    name: str
    parameters: tuple[Parameter, ...]
    volatile: bool
    returns_set: bool
    composite: bool
    void: bool
    settings: tuple[tuple[str, str], ...]
    isolation: str

    def takes(self, keys: frozenset[str]) -> bool:
        """All that is required and nothing that is unknown."""
        required = {parameter.name for parameter in self.parameters if parameter.required}
        return required <= keys <= {parameter.name for parameter in self.parameters}

    def takes_whole_body(self) -> bool:
        return self._unnamed() and self.parameters[0].type in ("json", "jsonb")

    def callable_by_name(self) -> bool:
        return all(parameter.name for parameter in self.parameters)

    def _unnamed(self) -> bool:
        return len(self.parameters) == 1 and not self.parameters[0].name


class Catalogue:
    """One snapshot: the functions by schema and name, and what each role has set for itself."""

    def __init__(self, functions: Iterable[Function], role_settings: Mapping[str, tuple[tuple[str, str], ...]]) -> None:
        self.role_settings = role_settings
        self._functions: dict[tuple[str, str], list[Function]] = {}
        for function in functions:
            self._functions.setdefault((function.schema, function.name), []).append(function)

    def function(self, request: Request) -> Function:
        """The one function that is meant. ``HttpError`` 404 when none fits, 300 when several do."""
        named = self._functions.get((request.schema, request.function), [])
        keys = request.arguments.keys
        fitting = [function for function in named if function.callable_by_name() and function.takes(keys)]
        if not fitting and request.method == "POST":
            fitting = [function for function in named if function.takes_whole_body()]
        if not fitting:
            raise _unknown(request)
        if len(fitting) > 1:
            raise _ambiguous(fitting)
        return fitting[0]


async def read_catalogue(connection: Connection, schemas: Sequence[str]) -> Catalogue:
    async with connection.transaction():
        await connection.execute("select set_config('search_path', '', true)")
        rows = await (await connection.execute(FUNCTIONS, [list(schemas)])).fetchall()
        settings = await (await connection.execute(ROLE_SETTINGS)).fetchall()
    roles: dict[str, tuple[tuple[str, str], ...]] = {}
    for role, name, value in settings:
        roles[str(role)] = (*roles.get(str(role), ()), (str(name), str(value)))
    return Catalogue([_function(row) for row in rows], roles)


def _function(row: Sequence[object]) -> Function:
    schema, name, volatile, returns_set, composite, void, config, parameters = row
    assert isinstance(config, list)
    assert isinstance(parameters, list)
    pairs = [tuple(setting.split("=", 1)) for setting in config]
    isolation = dict(pairs).get(ISOLATION, "read committed")
    return Function(
        schema=str(schema),
        name=str(name),
        parameters=tuple(Parameter(*parameter) for parameter in parameters),
        volatile=bool(volatile),
        returns_set=bool(returns_set),
        composite=bool(composite),
        void=bool(void),
        settings=tuple((name, value) for name, value in pairs if name in HOISTED),
        isolation=isolation if isolation in ISOLATIONS else "read committed",
    )


@lru_cache(maxsize=1024)
def statement(function: Function, keys: frozenset[str], *, is_array: bool, as_text: bool, rows_max: int) -> str:
    """SQL with the arguments' JSON as ``$1``: one row of (body, rows, response.headers, response.status).

    The call is materialised first, so that the two settings are read after it. The body is JSON text as PostgreSQL
    wrote it, which alone keeps every digit; a set is an array, of at most ``rows_max`` rows.
    """
    source, call = _call(function, keys, is_array=is_array, as_text=as_text)
    if function.composite:
        source = f"{source}, lateral {call} as f" if source else f"from {call} as f"
        rows, value = f"select f.* {source}", "row_to_json(r)"
    else:
        rows, value = f"select {call} as value {source}", "to_json(r.value)"
    if function.void:
        body, count = "r.value::text", "1"
    elif function.returns_set:
        rows += f" limit {rows_max}"
        body, count = f"coalesce(json_agg({value})::text, '[]')", "count(*)"
    else:
        body, count = f"coalesce({value}::text, 'null')", "1"
    # Names are quoted, types and functions come from the catalogue, and every value is a parameter.
    return (
        f"with called as materialized (select {body} as body, {count} as rows from ({rows}) r) "  # noqa: S608 - quoted
        "select body, rows, current_setting('response.headers', true), current_setting('response.status', true) "
        "from called"
    )


def _call(function: Function, keys: frozenset[str], *, is_array: bool, as_text: bool) -> tuple[str, str]:
    """The FROM clause that unpacks the arguments, and the call itself."""
    name = f"{_identifier(function.schema)}.{_identifier(function.name)}"
    if function.takes_whole_body():
        return "", f"{name}($1::{function.parameters[0].type})"
    given = [parameter for parameter in function.parameters if parameter.name in keys]
    if not given:
        return "", f"{name}()"
    if as_text:
        return "", f"{name}({', '.join(_passed(p, f'($1::json ->> {_literal(p.name)})::{p.type}') for p in given)})"
    columns = ", ".join(f"{_identifier(parameter.name)} {parameter.type}" for parameter in given)
    if is_array:
        source = f"from (select * from json_to_recordset($1::json) as _({columns}) limit 1) as body"  # noqa: S608 - as above
    else:
        source = f"from json_to_record($1::json) as body({columns})"
    return source, f"{name}({', '.join(_passed(p, f'body.{_identifier(p.name)}') for p in given)})"


def _passed(parameter: Parameter, value: str) -> str:
    return f"{'variadic ' if parameter.variadic else ''}{_identifier(parameter.name)} := {value}"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def search_path(schemas: Iterable[str]) -> str:
    return ", ".join(_identifier(schema) for schema in schemas)


def _unknown(request: Request) -> HttpError:
    name, keys = f"{request.schema}.{request.function}", sorted(request.arguments.keys)
    sought = f"({', '.join(keys)})" if keys else " without parameters"
    with_keys = f" with parameter{'s' if len(keys) > 1 else ''} {', '.join(keys)}" if keys else " without parameters"
    or_whole = " or with a single unnamed json/jsonb parameter" if request.method == "POST" else ""
    return HttpError(
        404,
        "PGRST202",
        f"Could not find the function {name}{sought} in the schema cache",
        f"Searched for the function {name}{with_keys}{or_whole}, but no matches were found in the schema cache.",
    )


def _ambiguous(functions: Sequence[Function]) -> HttpError:
    signatures = (
        f"{function.schema}.{function.name}({', '.join(f'{p.name} => {p.type}' for p in function.parameters)})"
        for function in functions
    )
    return HttpError(
        300,
        "PGRST203",
        f"Could not choose the best candidate function between: {', '.join(signatures)}",
        None,
        "Try renaming the parameters or the function itself in the database so function overloading can be resolved",
    )
