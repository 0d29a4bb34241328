"""What a call to the paper exchange does around its work: it waits for its turn, and undoes what it could not finish.

Classes of their own, and not generators: an order passes them some six times.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from tbh.ports import Unavailable

_State = TypeVar("_State")


class Held:
    """Holds ``lock``, for which it waits at most ``timeout_s``; ``Unavailable('busy')`` when that is not enough."""

    __slots__ = ("_lock", "_timeout_s")

    def __init__(self, lock: threading.Lock, timeout_s: float) -> None:
        self._lock = lock
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._timeout_s):
            raise Unavailable("busy", detail=f"the paper account was in use for {self._timeout_s} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class Restorable(Protocol[_State]):
    """What can be taken back to where it stood."""

    def standing(self) -> _State: ...
    def stand_at(self, before: _State, /) -> None: ...


class Undone(Generic[_State]):
    """Takes ``what`` back to where it stood if the work within fails."""

    __slots__ = ("_before", "_what")

    def __init__(self, what: Restorable[_State]) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._before = self._what.standing()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._what.stand_at(self._before)
