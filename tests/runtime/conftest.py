"""One tree, driven by the thread host, the simulator or the straight host: what all promise is tested over all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tbh.messages.base import Message
from tbh.runtime.cell import Cell
from tbh.runtime.simulate import Simulator
from tbh.runtime.straight import StraightHost
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.threads import ThreadHost

DEADLINE_S = 10.0
HOSTS: dict[str, Any] = {"threads": ThreadHost, "simulator": Simulator, "straight": StraightHost}


class Tree:
    """A host and a way to wait: on the wall clock for threads, in virtual time for the others."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.host: Any = None
        self._looked = threading.Event()

    def start(self, specs: Sequence[ChildSpec], **arguments: Any) -> Any:
        self.host = HOSTS[self.kind](specs, **arguments)
        self.host.start()
        return self.host

    def publish(self, *messages: Message) -> None:
        for message in messages:
            self.host.publish(message)

    def cell(self, name: str) -> Cell:
        cells: dict[str, Cell] = {cell.name: cell for cell in self.host.cells}
        return cells[name]

    def until(self, done: Callable[[], bool]) -> None:
        """Let the tree run until ``done``; fails after the deadline."""
        if self.kind != "threads":
            if not done():
                self.host.run(for_s=86_400, done=done)
            assert done(), "the simulation ended first"
            return
        deadline_s = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline_s, "not done within the deadline"
            self._looked.wait(0.001)

    def settle(self) -> None:
        """Until nothing waits and no handler runs."""
        if self.kind != "threads":
            self.host.run(for_s=1)
        for name in [cell.name for cell in self.host.cells]:
            self.until(lambda name=name: self.cell(name).at_rest)  # type: ignore[misc]  # bound now, not in the loop

    def stop(self) -> list[str]:
        host, self.host = self.host, None
        left: list[str] = host.stop()
        return left


@pytest.fixture(params=list(HOSTS))
def tree(request: pytest.FixtureRequest) -> Iterator[Tree]:
    tree = Tree(request.param)
    yield tree
    if tree.host is not None:
        tree.stop()


@pytest.fixture
def threads() -> Iterator[Tree]:
    tree = Tree("threads")
    yield tree
    if tree.host is not None:
        tree.stop()
