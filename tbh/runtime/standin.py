"""A port's stand-in for the simulator: its calls become events of virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Caller(Protocol):
    """Whoever makes the call: it may suspend the calling actor first, and raises when the process is dead."""

    def call(self, name: str, method: str, act: Callable[[], Any]) -> Any: ...
    def check_alive(self) -> None: ...


class StandIn:
    """Stands in for ``target``: attribute reads pass through, method calls suspend the caller, except those in
    ``local``, which are made directly. A dead process reaches neither."""

    def __init__(self, caller: Caller, target: Any, name: str, local: frozenset[str]) -> None:
        self._caller = caller
        self._target = target
        self._name = name
        self._local = local

    def __getattr__(self, method: str) -> Any:
        self._caller.check_alive()
        value = getattr(self._target, method)
        if method in self._local or not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._caller.call(self._name, method, lambda: value(*args, **kwargs))

        return call
