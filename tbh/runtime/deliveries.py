"""The hash that tells whether two simulated runs were the same run."""

from __future__ import annotations

import hashlib
import struct
import zlib

from tbh.messages.base import Message
from tbh.runtime.mailbox import Envelope

_NUMBERS_MAX = 16_384


class DeliveryHash:
    """Hashes each delivery (time, seq, cause, receiver's number, type; the payload too when ``deep``) and each effect
    of a port call. It depends on the seed alone: not on the process, nor on Python's own string hashing."""

    def __init__(self, deep: bool) -> None:
        self._deep = deep
        self._numbers_max = 0 if deep else _NUMBERS_MAX
        self._hash = hashlib.blake2b(digest_size=16)
        self._numbers: list[int] = []
        self._note = self._numbers.extend
        self._names: dict[type[Message] | str, int] = {}

    def add(self, now_ns: int, receiver: int, envelope: Envelope) -> None:
        """One delivery at ``now_ns`` of virtual time."""
        kind = type(envelope.message)
        try:
            ident = self._names[kind]
        except KeyError:
            ident = self._names[kind] = zlib.crc32(kind.__name__.encode())
        self._note((now_ns, envelope.seq, envelope.cause, receiver, ident))
        if len(self._numbers) > self._numbers_max:
            self._flush()
            if self._deep:
                self._hash.update(repr(envelope.message).encode())

    def add_effect(self, now_ns: int, call: str) -> None:
        """One port call taking effect at ``now_ns``."""
        ident = self._names.get(call)
        if ident is None:
            ident = self._names[call] = zlib.crc32(call.encode())
        self._note((now_ns, ident))

    @property
    def hexdigest(self) -> str:
        """Over everything so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(struct.pack(f"<{len(self._numbers)}Q", *self._numbers))
        self._numbers.clear()
