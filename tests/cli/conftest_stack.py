"""The database as an operator's commands meet it: the local stack, in this process, on loopback.

A test module asks for it by ``pytest_plugins``; it is started once for all of them.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from tbh.infra.localdb_roles import MIGRATOR
from tbh.infra.localstack import LocalStack
from tbh.infra.operator_tokens import new_operator_token, store_operator_token
from tbh.infra.rpcgateway.server import Gateway

if TYPE_CHECKING:
    from tests.cli.conftest import Done

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "strategies" / "ema_cross.json"
PAPER = ("--exchange", "paper", "--symbols", "BTC/USDT", "--strategy", EXAMPLE, "--mode", "paper")


@dataclass
class Stack:
    """The stack, with the token of an operator of each role."""

    local: LocalStack
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.local.port}"

    def query(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run SQL as the owner of the tables."""
        with psycopg.connect(self.local.server.dsn(MIGRATOR)) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def environ(self, role: str = "admin") -> dict[str, str]:
        """What an operator of that role has in the environment."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_SERVICE_ROLE_KEY": self.local.keys.service_key,
            "TBH_OPERATOR_TOKEN": self.tokens[role],
        }

    @contextmanager
    def losing_replies(self, *fns: str) -> Iterator[str]:
        """The address of another gateway that carries each call out and loses the next reply of each of ``fns``."""
        lost = list(fns)

        def goes_out(fn: str) -> bool:
            if fn not in lost:
                return True
            lost.remove(fn)
            return False

        gateway = Gateway(self.local.server.dsn(), jwt_secret=self.local.keys.jwt_secret, before_reply=goes_out)
        gateway.start()
        try:
            yield gateway.url
        finally:
            gateway.stop()

    def runtime(self, bot: dict[str, Any], fn: str, *, epoch: int | None = None, **arguments: Any) -> Any:
        """A call as the bot's runtime makes it, in the boot ``b1``."""
        key = self.local.keys.service_key
        headers = {"apikey": key, "authorization": f"Bearer {key}", "x-runtime-token": bot["runtime_token"]}
        headers["x-runtime-boot-id"] = "b1"
        if epoch is not None:
            headers["x-runtime-epoch"] = str(epoch)
        body = {"p_bot_id": bot["bot_id"]} | {f"p_{name}": value for name, value in arguments.items()}
        reply = httpx.post(f"{self.url}/rest/v1/rpc/{fn}", json=body, headers=headers)
        assert reply.is_success, reply.text
        return reply.json()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="tbh-cli-", dir="/tmp"))
    with LocalStack(folder, port=0, fast=True) as local:
        tokens = {role: new_operator_token() for role in ("viewer", "operator", "admin")}
        with psycopg.connect(local.server.dsn(MIGRATOR)) as connection:
            for role, token in tokens.items():
                store_operator_token(connection, token, name=role, role=role)
        yield Stack(local, tokens)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def operate(stack: Stack, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs a command as an operator: ``operate("bot", "list", role="viewer")``; by default an admin. ``url`` is
    another address than the stack's, ``environ`` more variables."""

    def run(*arguments: object, role: str = "admin", url: str | None = None, **environ: str) -> Done:
        given = stack.environ(role) | environ | ({} if url is None else {"SUPABASE_URL": url})
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        done = call(*arguments)
        for name in environ:
            monkeypatch.delenv(name)
        return done

    return run


@pytest.fixture
def bot(operate: Callable[..., Done]) -> dict[str, Any]:
    """A paper bot with a name of its own: ``{name, bot_id, runtime_token, epoch, expires_at}``."""
    name = f"bot-{secrets.token_hex(4)}"
    done = operate("bot", "create", "--name", name, *PAPER, "--json")
    assert done.exit_code == 0, done.errors
    return {"name": name, **done.json}
