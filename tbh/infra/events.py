"""Structured events as JSON lines on the local disk (CONTRACTS §6): what dashboards read when there is no service."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tbh.infra.logs import RotatingLines
from tbh.infra.redact import MASK, SECRETS, Redactor
from tbh.ports import Fatal, Rejected, Unavailable

ATTRIBUTES_MAX = 60
VALUE_BYTES_MAX = 255
"""What New Relic keeps of a text attribute; the local file holds the same, so that both tell one story."""

_INTEGER_MAX = 2**63 - 1
_EVENT_TYPE = re.compile(r"[A-Za-z0-9:_ ]{1,255}")
_RESERVED = frozenset({"eventType", "timestamp"})


class NullTelemetry:
    """Telemetry that goes nowhere."""

    def emit(self, event_type: str, attributes: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...


class JsonLines:
    """Implements ``tbh.ports.Telemetry``: one flat object per line with ``eventType`` and ``timestamp`` (ms).

    At most ``ATTRIBUTES_MAX`` attributes besides these two; what is beyond is counted in ``attributes_dropped``.
    None, NaN and infinities are left out; anything but str, int, float and bool becomes text. A ``timestamp`` among the
    attributes (int, ms) is the event's own time and takes the place of ``clock``, which gives seconds since 1970.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        redactor: Redactor = SECRETS,
        bytes_max: int = 20_000_000,
        files_kept: int = 3,
    ) -> None:
        self._clock = clock
        self._redactor = redactor
        try:
            self._lines = RotatingLines(Path(path), bytes_max=bytes_max, files_kept=files_kept)
        except OSError as error:
            raise Fatal("events_unwritable", exit_code=78, detail=f"{path}: {error.strerror}") from error

    def emit(self, event_type: str, attributes: Mapping[str, Any]) -> None:
        """Append one event. ``Rejected`` for a type that no sink would take, ``Unavailable`` if the disk refuses."""
        if not _EVENT_TYPE.fullmatch(event_type):
            raise Rejected("event_type_invalid", detail=f"{event_type!r:.80}")
        at = attributes.get("timestamp")
        own_time = isinstance(at, int) and not isinstance(at, bool)
        row: dict[str, Any] = {"eventType": event_type, "timestamp": at if own_time else int(self._clock() * 1000)}
        made = {name: value for name, value in self._flat(attributes) if value is not None}
        if len(made) > ATTRIBUTES_MAX:
            kept = dict(list(made.items())[: ATTRIBUTES_MAX - 1])
            made = {**kept, "attributes_dropped": len(made) - len(kept)}
        line = json.dumps(row | made, separators=(",", ":"), allow_nan=False)
        try:
            self._lines.write(self._redactor.known(line))
        except OSError as error:
            raise Unavailable("disk_full", detail=f"{self._lines.baseFilename}: {error.strerror}") from error

    def _flat(self, attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
        made = []
        for name, value in attributes.items():
            if name in _RESERVED:
                continue
            shown, secret = self._redactor.name(str(name))
            if secret and value is not None and not isinstance(value, bool):
                made.append((shown, MASK))
                continue
            safe = self._redactor.value(value)
            if isinstance(safe, list | dict):
                safe = json.dumps(safe, separators=(",", ":"))
            elif isinstance(safe, int) and abs(safe) > _INTEGER_MAX:
                safe = str(safe)
            made.append((shown, _fitting(safe)))
        return made

    def flush(self) -> None:
        """Nothing waits: each line went to the operating system when it was emitted."""

    def close(self) -> None:
        self._lines.close()


def _fitting(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace")[:VALUE_BYTES_MAX].decode(errors="ignore")
    return value
