"""What the operator's commands have in common: who asks which database, which bot is meant, and how a failure reads.

The operator's token is read from the environment alone, never from an argument, and no bot may have it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from tbh.cli.parser import EXIT_USAGE, CommandError
from tbh.infra.operator_rpc import OperatorRpc, check_url
from tbh.ports import Defer, Failure, Fatal, Rejected, Unavailable

EXIT_DATABASE_UNREACHABLE = 69

NAMES = ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "TBH_OPERATOR_TOKEN")
HOW_TO_SET = "set them in the environment (for a local database: tbh local env --operator)"

_ADVICE = {
    "operator_token_invalid": "TBH_OPERATOR_TOKEN is unknown, expired or revoked; ask an admin for another one",
    "role_too_low": "your role does not allow this; ask an operator of that role",
    "service_key_refused": "SUPABASE_SERVICE_ROLE_KEY is not this database's; copy it again",
    "not_the_service_key": "SUPABASE_SERVICE_ROLE_KEY has another role; it must be the key of service_role",
    "migrations_missing": "the database lacks a function; run tbh db migrate",
    "bot_not_found": "no such bot; see tbh bot list",
}


@contextmanager
def operator_rpc(*, asking: str = "") -> Iterator[OperatorRpc]:
    """The database of the environment. Whatever fails in the block comes out as ``CommandError``.

    ``asking`` is what to name when an answer is lost, so that it can be looked for.

    78 when names are missing or malformed, all of them in one line; 77 for a refused token; 69 when the database
    can't be reached or does not answer; 64 when it refuses what was asked.
    """
    with failures_told(asking), _connected(os.environ) as rpc:
        yield rpc


@contextmanager
def failures_told(asking: str = "") -> Iterator[None]:
    """A failure of the taxonomy becomes the line and exit code that an operator gets."""
    try:
        yield
    except Failure as failure:
        raise CommandError(_line(failure, asking), exit_code=_exit_code(failure)) from failure


def _connected(environ: Mapping[str, str]) -> OperatorRpc:
    given = {name: environ.get(name, "").strip() for name in NAMES}
    problems = [f"{name}: is missing" for name, value in given.items() if not value]
    url, service_key, operator_token = given.values()
    if url:
        try:
            check_url(url)
        except ValueError as error:
            problems.append(f"SUPABASE_URL: {error}")
    # httpx would refuse other characters in a header with a traceback that shows them.
    problems += [f"{name}: is no key; copy it again" for name in NAMES[1:] if not given[name].isascii()]
    problems += [f"{name}: holds a blank; copy it again" for name in NAMES[1:] if len(given[name].split()) > 1]
    if problems:
        raise CommandError(f"{'; '.join(problems)}; {HOW_TO_SET}")
    return OperatorRpc(url=url, service_key=service_key, operator_token=operator_token)


def bot_id_of(rpc: OperatorRpc, text: str) -> str:
    """The id of the bot that ``text`` names: an id as it is, else a name that one bot alone has.

    ``CommandError`` (64) when no bot is called so, or several are.
    """
    with_id = as_uuid(text)
    if with_id is not None:
        return with_id
    found = [str(bot["id"]) for bot in rpc.call("bot_admin_list")["bots"] if bot["name"] == text]
    if not found:
        raise CommandError(f"{text}: no bot is called so; see tbh bot list", exit_code=EXIT_USAGE)
    if len(found) > 1:
        raise CommandError(
            f"{text}: {len(found)} bots are called so; name one by its id: {', '.join(sorted(found))}",
            exit_code=EXIT_USAGE,
        )
    return found[0]


def as_uuid(text: str) -> str | None:
    """``text`` as an id is written, None when it is none."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def print_json(facts: Mapping[str, Any]) -> None:
    print(json.dumps(facts))


def exports(**variables: str) -> str:
    """Lines for a shell or an env file; ids and tokens need no quotes."""
    return "\n".join(f"export {name}={value}" for name, value in variables.items())


def _line(failure: Failure, asking: str) -> str:
    advice = _ADVICE.get(failure.reason)
    if advice is not None:
        return f"{advice} ({failure})"
    match failure:
        case Unavailable():
            return f"the database can't be reached ({failure}); check SUPABASE_URL and that it runs"
        case Defer(after_s=after_s):
            return f"the database is too busy ({failure}); try again in {after_s:.0f} s"
        case Rejected() | Fatal():
            return f"refused: {failure}"
    named = f" ({asking})" if asking else ""
    return f"no proper answer ({failure}); whether it was carried out is not known{named}: look with tbh bot show"


def _exit_code(failure: Failure) -> int:
    if isinstance(failure, Fatal):
        return failure.exit_code
    return EXIT_USAGE if isinstance(failure, Rejected) else EXIT_DATABASE_UNREACHABLE
