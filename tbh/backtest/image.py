"""Machine code that needs no linker any more: the parts of an object file laid out as they lie in memory.

An object file whose code refers to its own constants alone, by their distance, can be laid out once, when it is
compiled. Later runs put the bytes into memory and call them: no LLVM, whose library takes longer to load than a year
of minutes to trade. For Linux on x86-64; elsewhere no image is made, and the object file itself is kept.

The format is that of the System V ABI (gABI 4, "Object Files"; AMD64 supplement, "Relocation").
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from pathlib import Path
from typing import NamedTuple

MAGIC = b"TBHCODE1"
_HEAD = struct.Struct("<8sQ")
"""Before the code: what it is, and where in it to enter."""
_ALIGNED = 64

_OBJECT = b"\x7fELF\x02\x01\x01"
_RELOCATABLE_X86_64 = (1, 62)
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_WRITTEN, _IN_MEMORY = 1, 2
_BY_DISTANCE = (2, 4)
"""R_X86_64_PC32 and R_X86_64_PLT32: 32 bits, counted from their own place."""

_CPU = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")

_mapped: list[mmap.mmap] = []
"""Code lives as long as the process."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    each: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


def processor() -> str | None:
    """What tells processors apart that may run different code; None where no images are made."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except (OSError, ValueError):
        return None
    lines = [line for line in first.splitlines() if line.partition(":")[0].strip() in _CPU]
    return "\n".join(lines) if len(lines) == len(_CPU) else None


def image_of(code: bytes, entry: str) -> bytes | None:
    """The object file ``code`` laid out, to be entered at the symbol ``entry``; None where it is of another kind or
    refers to anything that is not a constant of its own."""
    if not code.startswith(_OBJECT) or struct.unpack_from("<HH", code, 16) != _RELOCATABLE_X86_64:
        return None
    (table,), (each, count) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<HH", code, 58)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", code, table + each * row)) for row in range(count)]
    places: dict[int, int] = {}
    image = bytearray()
    for number, section in enumerate(sections):
        if not section.flags & _IN_MEMORY or not section.size or section.kind not in (_PROGBITS, _NOBITS):
            continue
        if section.kind == _NOBITS or section.flags & _WRITTEN or section.align > _ALIGNED:
            return None  # it would have a memory of its own
        image += bytes(-len(image) % _ALIGNED)
        places[number] = len(image)
        image += code[section.offset : section.offset + section.size]
    symbols = next((section for section in sections if section.kind == _SYMTAB), None)
    if symbols is None:
        return None
    named = _symbols(code, symbols)
    if not all(_resolved(code, section, named, places, image) for section in sections if section.info in places):
        return None
    text = sections[symbols.link].offset
    for symbol in named:
        if symbol.section in places and code.startswith(entry.encode() + b"\0", text + symbol.name):
            return _HEAD.pack(MAGIC, places[symbol.section] + symbol.value) + bytes(image)
    return None


def _symbols(code: bytes, table: _Section) -> list[_Symbol]:
    rows = struct.iter_unpack("<IBBHQQ", code[table.offset : table.offset + table.size])
    return [_Symbol(*row) for row in rows]


def _resolved(code: bytes, section: _Section, symbols: list[_Symbol], places: dict[int, int], image: bytearray) -> bool:
    """Write the distances that ``section`` asks for in another; False where it asks for something else."""
    if section.kind != _RELA:
        return section.kind in (_SYMTAB, _PROGBITS)  # whose ``info`` means something else
    for offset, what, more in struct.iter_unpack("<QQq", code[section.offset : section.offset + section.size]):
        symbol = symbols[what >> 32]
        if what & 0xFFFFFFFF not in _BY_DISTANCE or symbol.section not in places:
            return False
        at = places[section.info] + offset
        struct.pack_into("<i", image, at, places[symbol.section] + symbol.value + more - at)
    return True


def is_image(code: bytes) -> bool:
    """Whether ``code`` is what ``image_of`` makes."""
    return code.startswith(MAGIC)


def mapped(image: bytes) -> int:
    """Put an image into memory; the address of its entry. OSError where the system runs no code that was not in a
    file of its own."""
    _, entry = _HEAD.unpack_from(image)
    memory = mmap.mmap(-1, len(image) - _HEAD.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(image[_HEAD.size :])
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the system does not let memory be run")
    _mapped.append(memory)
    return address + int(entry)
