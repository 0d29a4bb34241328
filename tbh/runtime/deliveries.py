"""The hash that tells whether two simulated runs were the same run."""

from __future__ import annotations

import hashlib
import struct
import zlib

from tbh.messages.base import Message
from tbh.runtime.mailbox import Envelope

_DELIVERY = struct.Struct("<QIIHI").pack
_EFFECT = struct.Struct("<QI").pack
_BUFFER_MAX = 65_536


class DeliveryHash:
    """Hashes each delivery (time, seq, cause, receiver's number, type; the payload too when ``deep``) and each effect
    of a port call. It depends on the seed alone: not on the process, nor on Python's own string hashing."""

    def __init__(self, deep: bool) -> None:
        self._deep = deep
        self._hash = hashlib.blake2b(digest_size=16)
        self._buffer = bytearray()
        self._kinds: dict[type[Message], int] = {}

    def add(self, now_ns: int, receiver: int, envelope: Envelope) -> None:
        """One delivery at ``now_ns`` of virtual time."""
        kind = type(envelope.message)
        ident = self._kinds.get(kind)
        if ident is None:
            ident = self._kinds[kind] = zlib.crc32(kind.__name__.encode())
        self._buffer += _DELIVERY(now_ns, envelope.seq, envelope.cause, receiver, ident)
        if self._deep:
            self._buffer += repr(envelope.message).encode()
        if len(self._buffer) > _BUFFER_MAX:
            self._flush()

    def add_effect(self, now_ns: int, call: str) -> None:
        """One port call taking effect at ``now_ns``."""
        self._buffer += _EFFECT(now_ns, zlib.crc32(call.encode()))

    @property
    def hexdigest(self) -> str:
        """Over everything so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(self._buffer)
        self._buffer.clear()
