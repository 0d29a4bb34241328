"""Sealed texts open for one key, one bot and one purpose, and for nothing else."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from tbh.infra.crypto import SealError, seal, seal_bytes, unseal, unseal_bytes
from tbh.ports import Fatal

BOT = "6f9f1d9e-0b0a-4a52-9c3b-8f3d6a1c2e01"
OTHER_BOT = "00000000-0b0a-4a52-9c3b-8f3d6a1c2e01"
KEY = "9c" * 32
PLAIN = {"apiKey": "abcdef0123456789", "secret": "höchst geheim", "password": ""}


@pytest.mark.parametrize("key", [KEY, base64.b64encode(bytes(range(32))).decode(), "a phrase somebody chose"])
def test_what_was_sealed_opens_with_its_key(key: str) -> None:
    assert unseal(seal(PLAIN, key, bot_id=BOT), key, bot_id=BOT) == PLAIN


def test_a_sealed_text_is_one_printable_line_that_holds_nothing_of_its_content() -> None:
    sealed = seal(PLAIN, KEY, bot_id=BOT)
    assert sealed.startswith("tbh1:")
    assert sealed.isascii()
    assert sealed.isprintable()
    assert b"abcdef" not in base64.urlsafe_b64decode(sealed.removeprefix("tbh1:"))


def test_no_two_sealed_texts_share_salt_or_nonce() -> None:
    drawn = {base64.urlsafe_b64decode(seal(PLAIN, KEY, bot_id=BOT)[5:])[1:29] for _ in range(50)}
    assert len({each[:16] for each in drawn}) == len({each[16:] for each in drawn}) == 50


@pytest.mark.parametrize(
    ("key", "derivation"),
    [
        ("9c" * 32, b"h"),
        (base64.urlsafe_b64encode(bytes(range(32))).decode(), b"h"),
        ("9c" * 31, b"s"),
        ("tr0ub4dor&3", b"s"),
        ("correct horse battery staple correct horse battery staple", b"s"),
        ("a" * 20, b"s"),
    ],
)
def test_only_keys_written_as_32_bytes_are_used_without_stretching(key: str, derivation: bytes) -> None:
    assert base64.urlsafe_b64decode(seal(PLAIN, key, bot_id=BOT)[5:])[:1] == derivation


def test_the_ids_case_does_not_matter() -> None:
    assert unseal(seal(PLAIN, KEY, bot_id=BOT.upper()), KEY, bot_id=BOT) == PLAIN


@pytest.mark.parametrize(("key", "bot_id"), [("9d" * 32, BOT), ("a phrase", BOT), (KEY, OTHER_BOT)])
def test_a_wrong_key_and_another_bot_are_fatal_in_one_line_without_secrets(key: str, bot_id: str) -> None:
    sealed = seal(PLAIN, KEY, bot_id=BOT)
    with pytest.raises(Fatal, match="TBH_CREDENTIALS_KEY") as caught:
        unseal(sealed, key, bot_id=bot_id)
    told = str(caught.value)
    assert caught.value.exit_code == 78
    assert "\n" not in told
    assert not [secret for secret in (*PLAIN.values(), KEY, key, sealed) if secret and secret in told]


def test_every_damaged_byte_is_noticed() -> None:
    raw = bytearray(base64.urlsafe_b64decode(seal({"a": "b"}, KEY, bot_id=BOT)[5:]))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(SealError):
            unseal_bytes("tbh1:" + base64.urlsafe_b64encode(raw).decode(), KEY, bot_id=BOT, purpose="credentials")
        raw[place] ^= 1


@pytest.mark.parametrize("text", ["", "tbh1:", "tbh2:AAAA", "tbh1:é", "tbh1:====", "tbh1:aGFsbG8=", "tbh1:" + "h" * 40])
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Fatal, match="credentials_unreadable"):
        unseal(text, KEY, bot_id=BOT)


@pytest.mark.parametrize("content", [b"[]", b'{"a": 1}', b"\xff", b"no json"])
def test_content_that_is_no_set_of_named_texts_is_refused(content: bytes) -> None:
    sealed = seal_bytes(content, KEY, bot_id=BOT, purpose="credentials")
    with pytest.raises(Fatal, match="credentials_unreadable"):
        unseal(sealed, KEY, bot_id=BOT)


def test_what_was_sealed_for_another_purpose_does_not_open() -> None:
    sealed = seal_bytes(b"{}", KEY, bot_id=BOT, purpose="context")
    assert unseal_bytes(sealed, KEY, bot_id=BOT, purpose="context") == b"{}"
    with pytest.raises(SealError):
        unseal_bytes(sealed, KEY, bot_id=BOT, purpose="credentials")


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(Fatal, match="credentials_key_missing"):
        seal(PLAIN, "", bot_id=BOT)
    with pytest.raises(Fatal, match="credentials_key_missing"):
        unseal("tbh1:", "", bot_id=BOT)


def test_the_library_is_not_loaded_before_something_is_sealed() -> None:
    probe = "import sys, tbh.infra.crypto; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False\n"
