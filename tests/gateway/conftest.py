"""A real PostgreSQL with small functions in it, and the gateway in front of it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from tbh.infra.localdb import LocalDatabase
from tbh.infra.rpcgateway.server import Gateway

SECRET = "a secret of the tests, long enough to sign"
SECRET_KEY = "sb_secret_of_the_tests"
FUNCTIONS = Path(__file__).with_name("functions.sql")

Serve = Callable[..., Gateway]
Token = Callable[..., str]


def wait_for(holds: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def database() -> Iterator[LocalDatabase]:
    folder = tempfile.mkdtemp(prefix="tbh-gw-")
    with LocalDatabase(folder, fast=True) as database:
        with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
            connection.execute(FUNCTIONS.read_bytes())
        yield database
    shutil.rmtree(folder)


@pytest.fixture
def superuser(database: LocalDatabase) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def gateway(database: LocalDatabase) -> Iterator[Gateway]:
    """The one that most tests call: anonymous callers allowed, one secret key, one exposed schema."""
    gateway = Gateway(database.dsn(), jwt_secret=SECRET, secret_keys={SECRET_KEY: "service_role"})
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def serve(database: LocalDatabase) -> Iterator[Serve]:
    """Starts a gateway of the test's own, and stops it."""
    started: list[Gateway] = []

    def start(**options: Any) -> Gateway:
        gateway = Gateway(options.pop("dsn", database.dsn()), **{"jwt_secret": SECRET, **options})
        gateway.start()
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="session")
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """A caller without a token."""
    with httpx.Client(base_url=f"{gateway.url}/rest/v1/rpc", timeout=10) as client:
        yield client


@pytest.fixture(scope="session")
def service(gateway: Gateway) -> Iterator[httpx.Client]:
    """A caller with the secret key, as the supabase client sends it."""
    headers = {"apikey": SECRET_KEY, "authorization": f"Bearer {SECRET_KEY}"}
    with httpx.Client(base_url=f"{gateway.url}/rest/v1/rpc", headers=headers, timeout=10) as client:
        yield client


@pytest.fixture
def token() -> Token:
    """Signs claims; times are given as seconds from now."""

    def sign(*, secret: str = SECRET, times: Mapping[str, float] | None = None, **claims: Any) -> str:
        for name, seconds in (times or {}).items():
            claims[name] = int(time.time() + seconds)
        return jwt.encode(claims, secret, algorithm="HS256")

    return sign
