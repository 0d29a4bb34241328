"""The gateway as a thread of this process, with an event loop of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from asyncio import Transport
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tbh.infra.rpcgateway.app import App
from tbh.infra.rpcgateway.auth import SECRET_LENGTH_MIN, Authenticator
from tbh.infra.rpcgateway.exchange import PATIENCE_S
from tbh.ports import Fatal

LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Longer than any client keeps an idle connection: the side that sends must be the one that closes, or a request that
# crosses the farewell has an unknown outcome.
KEEP_ALIVE_S = 120
GRACE_S = 1
STOP_TIMEOUT_S = 5.0


class Gateway:
    """Serves ``/rest/v1/rpc/{function}`` (and ``/rpc/{function}``) on loopback for the database behind ``dsn``.

    The dsn logs in as the role that may become the others (``authenticator``). ``secret_keys`` map an opaque key to
    its role. ``access_log`` gets one line a call, without headers. ``before_reply`` is called in the gateway's thread
    with a function's name once its call is committed; when it says False the connection is dropped without a reply.
    A database that is silent for ``patience_s`` counts as gone: 503.
    """

    def __init__(
        self,
        dsn: str,
        *,
        jwt_secret: str | None,
        secret_keys: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        schemas: Sequence[str] = ("public",),
        extra_search_path: Sequence[str] = ("extensions",),
        anon_role: str | None = "anon",
        max_connections: int = 16,
        max_rows: int = 1000,
        access_log: Callable[[str], None] | None = None,
        before_reply: Callable[[str], bool] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``Fatal(78)`` for a secret too short to sign with, and for a host that is not loopback."""
        if jwt_secret is not None and len(jwt_secret) < SECRET_LENGTH_MIN:
            raise Fatal(f"the JWT secret has fewer than {SECRET_LENGTH_MIN} characters", exit_code=78)
        if host not in LOOPBACK:
            raise Fatal(f"the gateway serves loopback only, not {host}", exit_code=78)
        self._app_options: dict[str, Any] = {
            "dsn": dsn,
            "authenticator": Authenticator(
                jwt_secret=jwt_secret, secret_keys=dict(secret_keys or {}), anon_role=anon_role
            ),
            "schemas": tuple(schemas),
            "extra_search_path": tuple(extra_search_path),
            "connections_max": max_connections,
            "rows_max": max_rows,
            "access_log": access_log,
            "before_reply": before_reply,
            "patience_s": patience_s,
        }
        self.host = host
        self.port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def start(self) -> None:
        """Returns once it listens; the database need not be there yet. ``Fatal(78)`` when the port is taken."""
        listener = _listener(self.host, self.port)
        self.port = listener.getsockname()[1]
        app = App(**self._app_options)
        self._server = server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._thread = threading.Thread(
            target=asyncio.run, args=(_serve(server, app, listener),), name="rpc-gateway", daemon=True
        )
        self._thread.start()
        server.listening.wait()
        if not server.started:
            raise Fatal("the gateway did not start; its log says why")

    def stop(self) -> None:
        """Ends it within two seconds: calls under way get one second more, idle connections are closed at once."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._server = self._thread = None


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named, and a call would take 44 ms instead of two.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = f"port {port} of {host} cannot be served: {error.strerror}; choose another one"
        raise Fatal(reason, exit_code=78) from error
    return listener


async def _serve(server: _Server, app: App, listener: socket.socket) -> None:
    listening = asyncio.create_task(app.listen())
    try:
        await server.serve(sockets=[listener])
    finally:
        server.listening.set()
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        await app.close()


class _Server(uvicorn.Server):
    """Says when it listens. In a thread, uvicorn leaves the process's signal handlers alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class _Protocol(H11Protocol):
    """HTTP/1.1 that lets the application drop a connection without a reply."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "drop": transport.abort}
