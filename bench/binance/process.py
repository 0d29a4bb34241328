"""The exchange from outside: its process, and its controls."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_STOP_S = 5.0
_CALL_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeBinance:
    """A running exchange. ``symbol`` is as ccxt writes it: ``BTC/USDT``."""

    url: str
    pid: int
    symbol: str
    api_key: str
    api_secret: str

    def exchange_options(self, **more: Any) -> dict[str, Any]:
        """What points a bot at it (CONTRACTS §2)."""
        return {"urls": {"api": self.url}, **more}

    def credentials(self) -> dict[str, str]:
        """The environment from which ``tbh bot create`` takes them."""
        return {"EXCHANGE_API_KEY": self.api_key, "EXCHANGE_API_SECRET": self.api_secret}

    def ledger(self) -> dict[str, Any]:
        return self._call("GET", "ledger", None)

    def pulse(self) -> dict[str, Any]:
        return self._call("GET", "pulse", None)

    def tell(self, what: str, **body: Any) -> dict[str, Any]:
        """POST to one of the controls. Raises ``ValueError`` with what it says when it refuses."""
        return self._call("POST", what, body)

    def faults(self, *rules: dict[str, Any]) -> None:
        """From now on these rules, and no others."""
        self.tell("faults", rules=list(rules))

    def _call(self, method: str, what: str, body: dict[str, Any] | None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_CALL_S)
        try:
            connection.request(method, f"/control/{what}", None if body is None else json.dumps(body))
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError(f"{what}: {answer['error']}")
        return answer


@contextmanager
def running_exchange(**options: Any) -> Iterator[FakeBinance]:
    """An exchange for as long as the context lasts; ``options`` are those of the command line, ``seed=7`` and so on."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.binance", "--with-parent", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the exchange ended at its start with {process.wait(_STOP_S)}")
        yield FakeBinance(**json.loads(line))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()
