"""The way from the local store to the database."""

from __future__ import annotations

from tbh.messages.base import Command, Fact, message


@message
class Journaled(Fact):
    """The outbox holds entries up to ``last_seq``."""

    last_seq: int


@message
class MarkRelayed(Command):
    """The database has every entry up to ``up_to_seq``; ``refused`` pairs (seq, reason) are permanent refusals."""

    up_to_seq: int
    refused: tuple[tuple[int, str], ...] = ()


@message
class Relayed(Fact):
    """The store has marked entries up to ``up_to_seq`` as relayed; ``pending`` remain."""

    up_to_seq: int
    pending: int
    refused: int


@message
class StoreFailed(Fact):
    """The local store could not be written: ``reason`` is ``disk_full`` or ``broken``."""

    reason: str
    detail: str


@message
class StoreRecovered(Fact):
    down_for_s: float
