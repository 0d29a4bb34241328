"""``docs/RPC.md``, written from a migrated database: what its catalogue says of the public functions and the tables.

The comment of a function is its documentation: a first sentence, then ``Argument p_x: ...``, ``Result: ...`` and
``Refuses: ...``, each on lines of its own. What holds for all functions stands in ``HEAD``.

``python -m tbh.infra.rpcdocs FILE`` (``make docs``) makes a database of its own for it, which is gone afterwards.
"""

from __future__ import annotations

import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tbh.infra.localdb import DATABASE, LocalDatabase
from tbh.infra.localdb_roles import MIGRATOR
from tbh.infra.migrate import connect, migrate

WIDTH = 120

GROUPS = (
    (
        "Ownership, context, controls",
        "Called by a runtime with its token.",
        "bot_runtime_claim bot_runtime_release bot_runtime_rotate_token bot_runtime_get_context bot_runtime_heartbeat"
        " bot_runtime_refresh_controls bot_runtime_acknowledge bot_runtime_get_position bot_runtime_get_open_trades"
        " bot_runtime_get_adjustments upsert_bot_health_evidence",
    ),
    (
        "Facts",
        "What happened. A runtime sends it through its outbox with `bot_runtime_sync`; each may be called by itself.",
        "bot_runtime_sync bot_runtime_upsert_trade bot_runtime_record_fill bot_runtime_upsert_position"
        " bot_runtime_record_adjustment bot_runtime_record_decision bot_runtime_record_cycle bot_runtime_write_event"
        " bot_runtime_notify",
    ),
    (
        "Operators",
        "Called with an operator's token; what changes something is audited.",
        "bot_admin_create bot_admin_list bot_admin_show bot_admin_control bot_admin_settings bot_admin_trade"
        " bot_admin_dead_letters bot_runtime_register bot_runtime_revoke",
    ),
    (
        "The platform's first names",
        "The functions of the platform's RPC contract, over the same tables and under the same token. A caller that"
        " sends neither boot id nor epoch may write as long as no process holds the lease.",
        "get_bot_context get_bot_position upsert_bot_position upsert_bot_trade tick_heartbeat refresh_controls"
        " write_notification",
    ),
)
"""Title, introduction and functions of each part, in order."""

HEAD = """\
# Database functions

Written by `make docs` from the catalogue of a migrated database; what it says of a function is that function's comment
in `migrations/`. How to set the database up and run it: [DATABASE.md](DATABASE.md).

## How to call
`POST {SUPABASE_URL}/rest/v1/rpc/{function}` with the arguments as one JSON object. The functions are all that can be
reached, and only `service_role` may execute them: the tables lie in the schema `bot_runtime`, which no API role may
enter.

| header | who | what |
| --- | --- | --- |
| `apikey`, `Authorization: Bearer` | all | the service key, in both |
| `x-runtime-token` | a runtime | its bot's token, `tbh_rt_` and 64 digits; the database knows it by its SHA-256 |
| `x-runtime-boot-id` | a runtime | names the process: 1 to 64 letters, digits, `.`, `_`, `-`; new at each start |
| `x-runtime-epoch` | a runtime | the epoch that its claim was given |
| `x-operator-token` | an operator | `tbh_op_` and 64 digits; roles are viewer < auditor < operator < admin |

- **Money** goes in and comes out as decimal text (`"0.1"`); a JSON number is refused. Results have no exponent and no
  trailing zeros.
- **Times** go in as ISO 8601 with a zone and come out in UTC with `Z`.
- **Scalars** besides `p_bot_id` are declared `text`, numbers too, so that one of a wrong type is refused by name; a
  JSON number is taken as its digits. A `p_bot_id` that is no UUID is refused by PostgreSQL itself (`22P02`).
- **Payloads** are objects of at most 64 KiB; an unknown key is refused by name.

## Who may write
A **claim** is what only the present owner may say: the holder of the lease, under its epoch. Heartbeats, health
evidence, acknowledgements, announced tokens and snapshots of a position (without `seq`) are claims. A **fact** is what
happened, and stays true whoever owns the bot now: orders, fills, positions with `seq`, decisions, events, notices. Any
epoch that ever was may deliver one. What only reads asks for the token alone.

Every fact may be repeated and may come late:

- an order's row is the join of all that was told of it: any order of arrival ends in the same row;
- a position's row follows the account event (`seq`) that it came from, older ones change nothing that newer ones said;
- fills, events, decisions and notices are known by a key: a repeat changes nothing, other content under a known key is
  `key_conflict`; of a bar or a decision that is told twice the first word stands;
- an outbox has a number for each entry, and what is at or below the last one applied is skipped.

## Refusals
A refusal is an HTTP error with `{code, message, details, hint}`: `code` is `PTxyz` for status xyz, `message` a word
that does not change, `details` names the field. It proves that nothing was written.

| code | means | words |
| --- | --- | --- |
| `PT401` | the token is missing, unknown, expired or revoked; the answer does not say which | %(PT401)s |
| `PT403` | known, and not allowed | %(PT403)s |
| `PT404` | there is no such thing | %(PT404)s |
| `PT409` | fencing, and nothing else: another process owns the bot | %(PT409)s |
| `PT422` | the arguments, or a known key with other content | %(PT422)s |

In the `refused` list of `bot_runtime_sync` an entry has its own `word: detail`: one of these, or `function_unknown`,
`entry_too_large`, `not_your_bot`. SQLSTATE classes 22 and 23 from PostgreSQL mean bad data as well. Everything else,
and silence, proves nothing either way: ask again, the calls allow it.
"""

FUNCTIONS = """
select p.proname,
       (select coalesce(array_agg(argument || ' ' || pg_catalog.format_type(kind, null)
                 || coalesce(' = ' || pg_catalog.pg_get_function_arg_default(p.oid, place::integer), '')
                 order by place), '{}')
          from unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as _(argument, kind, place)),
       coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '')
  from pg_catalog.pg_proc p
 where p.pronamespace = 'public'::regnamespace
 order by p.proname
"""

TABLES = """
select c.relname, coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '')
  from pg_catalog.pg_class c
 where c.relnamespace = 'bot_runtime'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
 order by c.relname
"""

_PART = re.compile(r"^(Argument [^:]+|Result|Refuses): ", re.MULTILINE)
_CAST = re.compile(r"(?<= = )(NULL|'[^']*')::\w+$")
_CODE = re.compile(r"\b(PT4\d\d)\b")
_WORD = re.compile(r"[a-z]+(?:_[a-z]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A public function. ``arguments`` are as declared (``p_x text = 'open'``); ``told`` are pairs of an argument's
    names and what is said of it; texts are one line each."""

    name: str
    arguments: tuple[str, ...]
    purpose: str
    told: tuple[tuple[str, str], ...]
    result: str
    refuses: str


def read_functions(connection: psycopg.Connection[tuple[object, ...]]) -> list[Function]:
    """The public functions, by name. ``ValueError`` for a comment that lacks its purpose, result or refusals."""
    found = []
    for name, arguments, comment in connection.execute(FUNCTIONS).fetchall():
        assert isinstance(arguments, list)
        found.append(_function(str(name), arguments, str(comment)))
    return found


def read_tables(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[str, str, str]]:
    """Name, content and retention of each table."""
    found = []
    for name, comment in connection.execute(TABLES).fetchall():
        content, _, retention = " ".join(str(comment).split()).partition("Retention: ")
        found.append((str(name), content.strip(), retention.rstrip(".")))
    return found


def render(functions: Sequence[Function], tables: Sequence[tuple[str, str, str]]) -> str:
    """The document. ``ValueError`` for a function that stands in no group, or is missing from one."""
    known = {function.name: function for function in functions}
    grouped = [name for _, _, names in GROUPS for name in names.split()]
    if misplaced := sorted(known.keys() ^ set(grouped)):
        raise ValueError(f"not both in the database and in GROUPS of tbh/infra/rpcdocs.py: {', '.join(misplaced)}")
    return "\n".join([HEAD % _words(functions), *_functions(known), *_tables(tables)])


def main(arguments: Sequence[str]) -> int:
    """Write the document to the file that is named."""
    with (
        tempfile.TemporaryDirectory(prefix="tbh-docs-", dir="/tmp") as folder,
        LocalDatabase(folder, fast=True) as server,
    ):
        url = server.dsn(MIGRATOR, DATABASE)
        migrate(url)
        with connect(url) as connection:
            text = render(read_functions(connection), read_tables(connection))
    Path(arguments[0]).write_text(text, encoding="utf-8")
    return 0


def _function(name: str, arguments: Sequence[str], comment: str) -> Function:
    purpose, *parts = _PART.split(comment)
    told = dict(zip(parts[::2], map(_one_line, parts[1::2]), strict=True))
    if not purpose.strip() or not {"Result", "Refuses"} <= told.keys():
        raise ValueError(f"the comment of {name} lacks its purpose, result or refusals")
    return Function(
        name=name,
        arguments=tuple(
            _CAST.sub(lambda cast: cast[1].lower() if cast[1] == "NULL" else cast[1], each) for each in arguments
        ),
        purpose=_one_line(purpose),
        told=tuple((key.removeprefix("Argument "), text) for key, text in told.items() if key.startswith("Argument ")),
        result=told["Result"],
        refuses=told["Refuses"],
    )


def _words(functions: Sequence[Function]) -> dict[str, str]:
    """For each code of a refusal the words that functions refuse with."""
    found: dict[str, set[str]] = {}
    for function in functions:
        code = ""
        # What stands in parentheses explains; the words stand outside.
        for part in re.split(r"[;,]\s*", re.sub(r"\([^()]*\)", "", function.refuses)):
            if named := _CODE.search(part):
                code = named[1]
            if word := _WORD.search(_CODE.sub("", part)):
                found.setdefault(code, set()).add(word[0])
    return {code: ", ".join(f"`{word}`" for word in sorted(words)) for code, words in found.items()}


def _functions(known: dict[str, Function]) -> Iterator[str]:
    for title, about, names in GROUPS:
        yield f"## {title}\n{_wrapped(about)}\n"
        for name in names.split():
            yield from _described(known[name])


def _described(function: Function) -> Iterator[str]:
    yield f"### {function.name}\n{_wrapped(_marked(function.purpose))}\n"
    yield f"```sql\n{_signature(function)}\n```"
    for names, text in function.told:
        yield _item(f"{', '.join(f'`{name}`' for name in names.split(', '))}: {_marked(text)}")
    yield _item(f"**Result**: {_marked(function.result)}")
    yield _item(f"**Refuses**: {_marked(function.refuses)}") + "\n"


def _signature(function: Function) -> str:
    """On one line, or an argument on each."""
    line = f"{function.name}({', '.join(function.arguments)})"
    return line if len(line) <= WIDTH else f"{function.name}(\n  " + ",\n  ".join(function.arguments) + ")"


def _tables(tables: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield "## Tables\nIn the schema `bot_runtime`; names, contents and retention as their comments say.\n"
    yield "| table | holds | retention |\n| --- | --- | --- |"
    for name, content, retention in tables:
        yield f"| `{name}` | {_marked(content)} | {_marked(retention)} |"
    yield ""


def _marked(text: str) -> str:
    """``text`` with what Markdown would take for marks escaped, except within backticks."""
    return "".join(
        part if index % 2 else re.sub(r"([*<|])", r"\\\1", part)
        for index, part in enumerate(re.split(r"(`[^`]*`)", text))
    )


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
