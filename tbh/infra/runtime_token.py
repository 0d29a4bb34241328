"""The runtime's token, which it replaces by itself before it ends, so that no crash leaves the bot without one.

The database knows a token by its hash. It takes the hash of a successor, to be used at any time; with the successor's
first use the former token has 60 s left. So, in this order:

1. the successor is made and stored beside the present token, on the disk before anything is sent (``propose``);
2. its hash is sent, under the present token;
3. once that was answered, calls carry the successor (``adopt``);
4. its first success proves that the database has it, and the former token leaves the disk (``succeeded``).

A process that dies in between finds one token on the disk or both. It tries the successor, and the present one if that
is refused (``refused``): the database can't have forgotten both. The token of the environment comes last: it is what an
operator has issued anew. It is also the key of the file, so that a file from before the new token opens no more.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from tbh.infra.redact import register_secret
from tbh.infra.sealed_file import SealedFile
from tbh.ports import Fatal

PREFIX = "tbh_rt_"
_RANDOM_BYTES = 32
_HEADER = re.compile(r"[!-~]{4,}")
_DUE_BELOW = 1 / 3
"""Of its life left: with 30 days that is 10 days in which the rotation may fail."""


class TokenKeeper:
    """The tokens that one bot may use, the best first. Safe to use from any thread.

    ``path`` is the file in the state directory; ``env_token`` is RUNTIME_TOKEN. ``unread`` says why the file gave
    nothing, if it gave nothing.
    """

    def __init__(
        self, path: Path, *, env_token: str, bot_id: str, randomness: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._lock = threading.Lock()
        self._file = SealedFile(path, key=env_token, bot_id=bot_id, purpose="runtime-token")
        self._env_token = env_token
        self._randomness = randomness
        self._proposed: str | None = None
        stored, self.unread = self._stored()
        self._tokens = list(dict.fromkeys([*stored, env_token]))
        self._unsettled = len(stored) > 1
        if not all(_HEADER.fullmatch(token) for token in self._tokens):
            raise Fatal(
                "setting_unusable",
                exit_code=78,
                detail="RUNTIME_TOKEN holds characters that no header can carry; copy it again",
            )
        for token in self._tokens:
            register_secret(token)

    @property
    def token(self) -> str:
        """What calls carry now."""
        return self._tokens[0]

    @staticmethod
    def due(expires_in_s: float, ttl_s: float) -> bool:
        """Whether less than a third of the token's life is left."""
        return expires_in_s < ttl_s * _DUE_BELOW

    def propose(self) -> str:
        """Store a successor and return its hash (64 hex digits); the same one until it is adopted or refused.

        ``Unavailable`` when it can't be stored: then it must not be sent either.
        """
        with self._lock:
            if self._proposed is None:
                fresh = PREFIX + self._randomness(_RANDOM_BYTES).hex()
                register_secret(fresh)
                self._file.save({"current": self._tokens[0], "next": fresh})
                self._proposed = fresh
            return hashlib.sha256(self._proposed.encode()).hexdigest()

    def adopt(self) -> None:
        """The database has the successor's hash: use it from now on. The present token stays as the way back."""
        with self._lock:
            if self._proposed is not None:
                self._tokens.insert(0, self._proposed)
                self._proposed = None
                self._unsettled = True

    def succeeded(self, token: str) -> None:
        """A call under ``token`` was answered. ``Unavailable`` when that can't be stored; the file is right as it is.

        With a successor under way nothing is stored: its place on the disk must not be lost.
        """
        with self._lock:
            if not self._unsettled or self._proposed is not None or token != self._tokens[0]:
                return
            self._file.save({"current": token, "next": None})
            self._tokens = list(dict.fromkeys([token, self._env_token]))
            self._unsettled = False

    def refused(self, token: str) -> bool:
        """The database does not know ``token``; whether there is another one to try, which is then in use."""
        with self._lock:
            if token == self._tokens[0]:
                if len(self._tokens) == 1:
                    return False
                # What was proposed under a token that is refused has not arrived, or is void together with it.
                self._tokens.pop(0)
                self._proposed = None
                self._unsettled = True
            return True

    def _stored(self) -> tuple[list[str], str]:
        found, reason = self._file.load()
        if found is None:
            return [], reason
        tokens = [token for token in (found.get("next"), found.get("current")) if token is not None]
        if not tokens or not all(
            isinstance(token, str) and token.isascii() and token.isprintable() for token in tokens
        ):
            return [], f"{self._file.path} holds no token"
        return tokens, ""
