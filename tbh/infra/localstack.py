"""The local stack: the embedded PostgreSQL, migrated, and the RPC gateway in front of it, with keys of its own.

To a bot it is what a hosted project is: a URL and a service key. One folder holds all of it, and the address stays the
same from start to start unless somebody else has taken the port.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tbh.infra.localdb import LocalDatabase
from tbh.infra.localdb_roles import MIGRATOR
from tbh.infra.localkeys import LocalKeys
from tbh.infra.migrate import connect, migrate
from tbh.infra.operator_tokens import revoke_operator_tokens, store_operator_token
from tbh.infra.rpcgateway.server import Gateway
from tbh.infra.stackfolder import HOST, StackFolder
from tbh.ports import Fatal

PORT_DEFAULT = 54321
_OPERATOR = "local stack"


class LocalStack(StackFolder):
    """Start it, and it serves until ``stop``. ``port`` None is the last one, or 54321, or a free one when that is
    taken; 0 is the last one or a free one; any other is that one or ``Fatal(78)``."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        port: int | None = None,
        migrations: Path | None = None,
        bindir: Path | None = None,
        fast: bool = False,
    ) -> None:
        super().__init__(root)
        self.server = LocalDatabase(self.database, bindir=bindir, fast=fast)
        self.moved_from: int | None = None
        self._port = port
        self._migrations = migrations
        self._gateway: Gateway | None = None

    @property
    def port(self) -> int:
        assert self._gateway is not None, "not started"
        return self._gateway.port

    def start(self) -> None:
        """Start whatever doesn't run: the database, brought up to date, then the gateway.

        Raises what ``LocalDatabase.start``, ``migrate`` and ``Gateway.start`` raise; nothing is left running then.
        """
        try:
            self._make_root()
            if self._port and self._gateway is None and not _free(self._port):
                detail = f"port {self._port} of {HOST} is taken; name another, or none to get a free one"
                raise Fatal("local_port_taken", exit_code=78, detail=detail)
            self.server.start()
            self._write(self.last_port, ready=None)
            migrate(self.server.dsn(MIGRATOR), self._migrations)
            keys = self.keys
            self._admit(keys)
            self._serve(keys)
            self._write(self.port, ready=os.getpid())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the gateway, then the database, and give the folder up."""
        if self._gateway is not None:
            self._gateway.stop()
            self._gateway = None
        self.server.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _make_root(self) -> None:
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            detail = f"{self.root}: {error.strerror}: name a folder that can be written"
            raise Fatal("local_stack_unusable", exit_code=78, detail=detail) from error

    def _admit(self, keys: LocalKeys) -> None:
        """The operator token of the keys is valid, and those of lost keys are not."""
        try:
            with connect(self.server.dsn(MIGRATOR)) as connection:
                store_operator_token(connection, keys.operator_token, name=_OPERATOR, role="admin")
                revoke_operator_tokens(connection, name=_OPERATOR, but=keys.operator_token)
        except psycopg.Error as error:
            raise Fatal("local_operator_refused", detail=" ".join(str(error).split())) from error

    def _serve(self, keys: LocalKeys) -> None:
        if self._gateway is not None:
            return
        last = self.last_port
        port = self._port or last or (PORT_DEFAULT if self._port is None else 0)
        if not self._port and not _free(port):
            port, self.moved_from = 0, last
        gateway = Gateway(
            self.server.dsn(),
            jwt_secret=keys.jwt_secret,
            host=HOST,
            port=port,
        )
        gateway.start()
        self._gateway = gateway


def _free(port: int) -> bool:
    """Whether nobody serves there; whatever else is wrong with the port, the gateway tells."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True
