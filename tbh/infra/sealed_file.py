"""One sealed file in the state directory: an object in JSON that only this bot's environment opens.

At any instant the file is the former one or the new one, whole, and on the disk when ``save`` returns. What can't be
read is never a crash, for a bot must start beside the ruins of its own cache: ``load`` says why there is nothing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tbh.infra.crypto import SealError, seal_bytes, unseal_bytes
from tbh.ports import Unavailable

BYTES_MAX = 8 * 2**20


class SealedFile:
    """``key`` and ``bot_id`` belong to the bot, ``purpose`` to this file; what one seals the others don't open."""

    def __init__(self, path: Path, *, key: str, bot_id: str, purpose: str) -> None:
        self.path = path
        self._key = key
        self._bot_id = bot_id
        self._purpose = purpose

    def save(self, data: Mapping[str, Any]) -> None:
        """Replace the file, for its owner's eyes alone. ``Unavailable`` when the disk does not take it."""
        text = seal_bytes(json.dumps(data).encode(), self._key, bot_id=self._bot_id, purpose=self._purpose)
        try:
            self._replace(text.encode())
        except OSError as error:
            reason = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "broken"
            raise Unavailable(reason, detail=f"{self.path}: {error.strerror}") from error

    def load(self) -> tuple[dict[str, Any] | None, str]:
        """The object and an empty text, or None and the reason."""
        try:
            with self.path.open("rb") as file:
                text = file.read(BYTES_MAX + 1)
            if len(text) > BYTES_MAX:
                return None, f"{self.path} is larger than {BYTES_MAX} bytes"
            plain = unseal_bytes(text.decode("ascii"), self._key, bot_id=self._bot_id, purpose=self._purpose)
            found = json.loads(plain)
        except FileNotFoundError:
            return None, f"{self.path} does not exist"
        except OSError as error:
            return None, f"{self.path}: {error.strerror}"
        except SealError as error:
            return None, f"{self.path}: {error}"
        except ValueError:
            return None, f"{self.path} is no sealed object"
        return (found, "") if isinstance(found, dict) else (None, f"{self.path} is no sealed object")

    def _replace(self, content: bytes) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
