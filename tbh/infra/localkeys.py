"""The keys of a local stack: made once, kept in a file for their owner alone, the same on each start."""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tbh.infra.redact import register_secret
from tbh.ports import Fatal

_LIFE_S = 10 * 365 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LocalKeys:
    """``service_key`` and ``anon_key`` are tokens signed with ``jwt_secret`` (HS256), good for ten years."""

    jwt_secret: str
    service_key: str
    anon_key: str
    operator_token: str

    @classmethod
    def kept_in(cls, path: Path) -> LocalKeys:
        """Those in the file, which is made when there is none. ``Fatal(78)`` when it is damaged."""
        if not path.exists():
            _write(path, _new())
        try:
            keys = cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            detail = f"{path} holds no keys: delete it; the next start makes new ones, and the old ones end"
            raise Fatal("local_keys_damaged", exit_code=78, detail=detail) from error
        for value in asdict(keys).values():
            register_secret(value)
        return keys


def _new() -> LocalKeys:
    from tbh.infra.operator_tokens import new_operator_token  # noqa: PLC0415 - who only reads keys needs no driver

    secret = secrets.token_hex(32)
    return LocalKeys(
        jwt_secret=secret,
        service_key=_signed("service_role", secret),
        anon_key=_signed("anon", secret),
        operator_token=new_operator_token(),
    )


def _signed(role: str, secret: str) -> str:
    import jwt  # noqa: PLC0415 - the same

    now = int(time.time())
    return jwt.encode({"iss": "tbh-local", "role": role, "iat": now, "exp": now + _LIFE_S}, secret, algorithm="HS256")


def _write(path: Path, keys: LocalKeys) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(keys), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
