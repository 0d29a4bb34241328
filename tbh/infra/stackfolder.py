"""The folder of a local stack, for those who use the stack and do not run it: no database driver is needed for that."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tbh.infra.localkeys import LocalKeys
from tbh.infra.lockfile import holder_of

HOST = "127.0.0.1"


class StackFolder:
    """Where a local stack keeps its things, and what any process may learn from them without owning it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.database = self.root / "database"
        self._keys = self.root / "keys.json"
        self._address = self.root / "address.json"

    @property
    def holder(self) -> int | None:
        """The process of the running stack; None when none runs, 0 when its number can't be told."""
        return holder_of(self.database / "lock")

    @property
    def keys(self) -> LocalKeys:
        """The stack's keys, made now if it never had any."""
        return LocalKeys.kept_in(self._keys)

    @property
    def last_port(self) -> int | None:
        """Where it served last, None if it never did."""
        port = self._read().get("port")
        return port if isinstance(port, int) and 0 < port < 65536 else None

    @property
    def ready(self) -> bool:
        """Whether a stack runs here and serves."""
        holder = self.holder
        return bool(holder) and self._read().get("ready") == holder

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.last_port}"

    def environment(self, *, operator: bool) -> dict[str, str]:
        """What to set for those who use the stack; with the operator's token only for operators, since a bot that
        finds it refuses to start."""
        keys = self.keys
        told = {"SUPABASE_URL": self.url, "SUPABASE_SERVICE_ROLE_KEY": keys.service_key}
        return told | ({"TBH_OPERATOR_TOKEN": keys.operator_token} if operator else {})

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._address.read_text())
        except (FileNotFoundError, ValueError):  # a torn file costs the address, nothing else
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, port: int | None, *, ready: int | None) -> None:
        fresh = self._address.with_name(self._address.name + ".new")
        fresh.write_text(json.dumps({"port": port, "ready": ready}))
        fresh.replace(self._address)
