"""Secrets under a key: AES-256-GCM, bound to one bot.

A sealed text is ``tbh1:`` and the base64url of

    how the key was derived (1 byte) | salt (16) | nonce (12) | ciphertext and tag

Salt and nonce are drawn for each text, so that no pair of key and nonce ever comes twice. The bot's id and the purpose
are authenticated with it: what was sealed for one bot, or for another use, does not open.

A key that has the form of 32 random bytes or more (hex or base64, as ``openssl rand`` gives them) is expanded by HKDF.
Anything else may be a phrase that somebody has chosen, and guessing must cost: it is stretched by scrypt, at 16 MB and
a fifth of a second for a try (N 2¹⁴, r 8, p 5 of the OWASP list: the least memory, for the bot runs beside others).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping

from tbh.ports import Fatal

EXIT_CONFIGURATION = 78
VERSION = "tbh1:"

_EXPANDED, _STRETCHED = b"h", b"s"
_SALT, _NONCE, _TAG = 16, 12, 16
_SCRYPT_BYTES_MAX = 64 * 2**20
_RANDOM_BYTES_MIN = 32
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_CREDENTIALS = "credentials"


class SealError(ValueError):
    """A text that is not sealed, or that this key, bot and purpose do not open. Its message holds neither."""


def seal(plain: Mapping[str, str], key: str, *, bot_id: str) -> str:
    """The credentials of an exchange as one line of text. ``Fatal(78)`` for an empty key."""
    _need_key(key)
    return seal_bytes(json.dumps(dict(plain)).encode(), key, bot_id=bot_id, purpose=_CREDENTIALS)


def unseal(text: str, key: str, *, bot_id: str) -> dict[str, str]:
    """What ``seal`` was given. ``Fatal(78)``, in one line without secrets, for a wrong key and for a damaged text."""
    _need_key(key)
    try:
        found = json.loads(unseal_bytes(text, key, bot_id=bot_id, purpose=_CREDENTIALS))
    except ValueError as error:
        raise Fatal(
            "credentials_unreadable",
            exit_code=EXIT_CONFIGURATION,
            detail=f"{error}: set TBH_CREDENTIALS_KEY to the key under which they were stored, or store them again",
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Fatal(
            "credentials_unreadable",
            exit_code=EXIT_CONFIGURATION,
            detail="what was stored is not a set of named texts: store the credentials again",
        )
    return found


def seal_bytes(data: bytes, key: str, *, bot_id: str, purpose: str) -> str:
    """``data`` sealed for one bot and one purpose."""
    # Imported where it is needed: it brings an OpenSSL of its own, 7 MB of it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 8 MB, for those who seal

    derivation = _EXPANDED if _looks_random(key) else _STRETCHED
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    sealed = AESGCM(_derived(derivation, key, salt)).encrypt(nonce, data, _bound_to(bot_id, purpose))
    return VERSION + base64.urlsafe_b64encode(derivation + salt + nonce + sealed).decode()


def unseal_bytes(text: str, key: str, *, bot_id: str, purpose: str) -> bytes:
    """What ``seal_bytes`` was given; ``SealError`` when it does not open."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 8 MB, for those who seal

    if not text.startswith(VERSION):
        raise SealError(f"it is no text sealed by this version ({VERSION}...)")
    try:
        raw = base64.b64decode(text.removeprefix(VERSION).strip().encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise SealError("it is damaged: no base64") from None
    derivation, rest = raw[:1], raw[1:]
    if derivation not in (_EXPANDED, _STRETCHED) or len(rest) < _SALT + _NONCE + _TAG:
        raise SealError("it is damaged: too short, or of an unknown form")
    salt, nonce, sealed = rest[:_SALT], rest[_SALT : _SALT + _NONCE], rest[_SALT + _NONCE :]
    try:
        return AESGCM(_derived(derivation, key, salt)).decrypt(nonce, sealed, _bound_to(bot_id, purpose))
    except InvalidTag:
        raise SealError("the key does not open it, or it is another bot's, or it is damaged") from None


def _need_key(key: str) -> None:
    if not key:
        raise Fatal(
            "credentials_key_missing",
            exit_code=EXIT_CONFIGURATION,
            detail="set TBH_CREDENTIALS_KEY (make one with `openssl rand -hex 32`)",
        )


def _looks_random(key: str) -> bool:
    """Whether the key is written as 32 bytes or more; text that only looks so is at least as long."""
    if _HEX.fullmatch(key):
        return len(key) >= 2 * _RANDOM_BYTES_MIN
    return bool(_BASE64.fullmatch(key)) and len(key.rstrip("=")) * 6 // 8 >= _RANDOM_BYTES_MIN


def _derived(derivation: bytes, key: str, salt: bytes) -> bytes:
    secret = key.encode()
    if derivation == _STRETCHED:
        return hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=5, maxmem=_SCRYPT_BYTES_MAX, dklen=32)
    # RFC 5869 with SHA-256; one block is as long as the key that is wanted.
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, b"tbh sealing key\x01", "sha256")


def _bound_to(bot_id: str, purpose: str) -> bytes:
    return f"{VERSION}{purpose}:{bot_id.lower()}".encode()
