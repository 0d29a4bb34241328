"""An object file laid out as machine code, and what is refused."""

from __future__ import annotations

import ctypes
import struct

import pytest

from tbh.backtest import image

WRITTEN, IN_MEMORY, RUN = 1, 2, 4
NEAR, FAR = 2, 1
"""R_X86_64_PC32 and R_X86_64_64."""

# After eight bytes of something else: mov eax, [rip + ?]; ret
TEXT = b"\xcc" * 8 + b"\x8b\x05\0\0\0\0\xc3"
HOLE = 8 + 2


def object_file(
    *, relocation: int = NEAR, refers_to: int = 2, flags: int = IN_MEMORY, machine: int = 62, name: bytes = b"answer"
) -> bytes:
    """ELF with a function of 7 bytes, which returns the second number of its constants."""
    names = b"\0" + name + b"\0"
    symbols = b"".join(
        struct.pack("<IBBHQQ", *symbol)
        for symbol in ((0, 0, 0, 0, 0, 0), (0, 0, 0, refers_to, 4, 4), (1, 0x12, 0, 1, 8, 7))
    )
    wanted = struct.pack("<QQq", HOLE, 1 << 32 | relocation, -4)
    bodies = (b"", TEXT, struct.pack("<II", 7, 42), wanted, symbols, names)
    # kind, flags, link, info
    kinds = ((0, 0, 0, 0), (1, IN_MEMORY | RUN, 0, 0), (1, flags, 0, 0), (4, 0, 4, 1), (2, 0, 5, 1), (3, 0, 0, 0))
    at, table = 64, b""
    for (kind, flag, link, info), body in zip(kinds, bodies, strict=True):
        table += struct.pack("<IIQQQQIIQQ", 0, kind, flag, 0, at, len(body), link, info, 8, 0)
        at += len(body)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, machine, 1, 0, 0, at, 0, 64, 0, 0, 64, 6, 5)
    return head + b"".join(bodies) + table


@pytest.mark.skipif(image.processor() is None, reason="images are for Linux on x86-64")
def test_an_image_runs_from_its_entry_and_finds_its_constants() -> None:
    made = image.image_of(object_file(), "answer")
    assert made is not None
    assert image.is_image(made)
    assert ctypes.CFUNCTYPE(ctypes.c_int32)(image.mapped(made))() == 42


@pytest.mark.parametrize(
    "code",
    [
        object_file(relocation=FAR),
        object_file(refers_to=0),
        object_file(flags=IN_MEMORY | WRITTEN),
        object_file(flags=0),
        object_file(machine=183),
        object_file(name=b"answers"),
        object_file()[:5] + b"\x02" + object_file()[6:],
        b"\xcf\xfa\xed\xfe" + bytes(60),
        b"",
    ],
    ids=[
        "by address",
        "somebody else's",
        "memory of its own",
        "not in memory",
        "another processor",
        "no entry",
        "big-endian",
        "another format",
        "nothing",
    ],
)
def test_code_that_needs_a_linker_has_no_image(code: bytes) -> None:
    assert image.image_of(code, "answer") is None
