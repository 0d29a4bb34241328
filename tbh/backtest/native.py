"""The loop as machine code, kept on disk.

numba compiles the functions of ``exact.COMPILED`` once, in some seconds; LLVM then takes them as one program, and what
comes out is kept in the cache folder, named by its source, the compiler and the processor. Later runs put it into
memory as it is (``image.py``), or, where no image can be made, load the object file through llvmlite, which takes a
tenth of the time and half of the memory of numba itself. Without either the same functions run as they stand.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import types
from collections.abc import Callable
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tbh.backtest import image, loop, slots
from tbh.backtest.exact import COMPILED
from tbh.backtest.storage import replace_file

ENTRY = "tbh_run_bars"
_POINTERS = ("cols", "stamps", "rules", "rows", "noise", "terms", "state", "account", "trades", "equity")
_SIZES = ("bars", "markets", "width", "trades_max")

_FLAGS = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""None of the functions is called from Python: no wrappers."""
_WRITTEN = _POINTERS.index("state")

Runner = Callable[..., None]
"""``run_bars`` of ``loop.py``, however it runs."""

_IN_C = frozenset({"floor", "memcpy", "memmove", "memset"})
"""What machine code may call: these are in every process."""

_loaded: list[Any] = []


class NotCompiled(RuntimeError):
    """There is no machine code to be had; ``str`` is why."""


def runner(
    cache: Path | None,
    *,
    on_compile: Callable[[], None] = lambda: None,
    on_unkept: Callable[[str], None] = lambda _: None,
) -> Runner:
    """The compiled loop: what is in the folder ``cache``, or compiled now (``on_compile`` is told before) and kept
    there; None keeps nothing. Where it can't be kept, ``on_unkept`` is told why: the next run compiles anew. Raises
    ``NotCompiled`` when numba, or llvmlite beneath it, is not installed."""
    told = image.processor()
    file = None if cache is None else cache / f"loop-{_name(told or _as_llvm_has_it(_llvm()))}.code"
    code = None if file is None else kept_code(file)
    if code is None:
        llvm = _llvm()
        on_compile()
        code = _compile(llvm, imaged=told is not None)
        if file is not None:
            why = replace_file(file, [hashlib.sha256(code).digest(), code])
            if not why and kept_code(file) is None:
                why = "others may write there"  # a file system that knows no owners or rights
            if why:
                on_unkept(why)
    if not image.is_image(code):
        return _as_function(_load(_llvm(), code))
    try:
        return _as_function(image.mapped(code))
    except OSError as error:
        raise NotCompiled(f"the compiled loop can't be put into memory ({error.strerror})") from error


def _llvm() -> Any:
    try:
        llvm: Any = import_module("llvmlite.binding")  # 40 MB that only a backtest pays for
    except ImportError:
        raise NotCompiled("numba is not installed") from None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _as_llvm_has_it(llvm: Any) -> str:
    return f"{llvm.get_host_cpu_name()}{llvm.get_host_cpu_features().flatten()}"


def _name(processor: str) -> str:
    """What the machine code depends on, as a hash."""
    told = hashlib.sha256()
    ours = {function.__code__.co_filename for function in COMPILED}
    ours |= {str(slots.__file__), str(image.__file__), __file__}
    for file in sorted(ours):
        told.update(Path(file).read_bytes())
    versions = [f"{name} {_version(name)}" for name in ("llvmlite", "numba")]
    told.update(f"{_POINTERS}{_SIZES}{versions}{processor}".encode())
    return told.hexdigest()[:32]


def _version(name: str) -> str | None:
    """What tells an installed version of the compiler from others; None where there is none."""
    found = util.find_spec(name)
    if found is None or found.origin is None:
        return None
    try:  # a page of text, where the package's own description is as long as a book
        return Path(found.origin).with_name("_version.py").read_text(encoding="utf-8")
    except OSError:
        return metadata.version(name)


def kept_code(file: Path) -> bytes | None:
    """The machine code in ``file``; None when there is none, it is damaged, or somebody else could have written it."""
    try:
        with file.open("rb") as source:
            about = os.fstat(source.fileno())
            data = source.read()
    except OSError:
        return None
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        return None
    code = data[32:]
    return code if code and hashlib.sha256(code).digest() == data[:32] else None


def _compile(llvm: Any, *, imaged: bool) -> bytes:
    """The loop as an image, or as an object file where it is not to be, or can't be, one."""
    try:
        numba: Any = import_module("numba")  # as long as all the rest together, and only the first run pays for it
    except ImportError:
        raise NotCompiled("numba is not installed, and the loop was not compiled before") from None
    names: dict[str, Any] = {}
    for function in COMPILED:
        names |= function.__globals__
    for function in COMPILED:
        # A function finds those that it calls by name: it gets the compiled ones in place of the plain ones.
        plain = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
        names[function.__name__] = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(
            plain
        )
    try:
        kernel = numba.cfunc(_signature(numba), error_model="numpy")(_bridge(names["run_bars"], numba.carray))
    except numba.core.errors.NumbaError as error:
        raise NotCompiled(f"numba {numba.__version__} does not compile the loop ({type(error).__name__})") from error
    module = llvm.parse_assembly(_self_contained(kernel.inspect_llvm(), kernel.native_name))
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(_machine(llvm), tuning)
    passes.getModulePassManager().run(module, passes)
    if imaged:
        near = _machine(llvm, reloc="pic", codemodel="small")
        if (made := image.image_of(bytes(near.emit_object(module)), ENTRY)) is not None:
            return made
    return bytes(_machine(llvm).emit_object(module))


def _machine(llvm: Any, *, reloc: str = "default", codemodel: str = "jitdefault") -> Any:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc=reloc,
        codemodel=codemodel,
        jit=codemodel == "jitdefault",
    )


def _self_contained(text: str, native_name: str) -> str:
    """The LLVM text without numba's wrapper, which would call into Python to report errors, and with ``ENTRY`` as the
    name of what it wraps. ``NotCompiled`` when that has another form than ours, or still calls what is not there.

    numba leaves each function open to callers from elsewhere. These have none: closed, LLVM sees that no array needs
    its users counted, puts small functions where they are called, and halves the time of the loop."""
    inner = native_name.removeprefix("cfunc.")
    text = re.sub(rf'define [^\n]*@"?{re.escape(native_name)}"?\(.*?\n}}\n', "", text, flags=re.DOTALL)
    # Called when the last user of an array is gone; these arrays belong to the caller.
    owned = "define internal void @NRT_MemInfo_call_dtor(ptr %0) {\n  ret void\n}"
    text = re.sub(r"declare void @NRT_MemInfo_call_dtor\(ptr\)[^\n]*", owned, text)
    entry = re.search(rf'define [^\n]* i32 @"?{re.escape(inner)}"?\(ptr [^,]*%retptr, ptr [^,]*%excinfo, ', text)
    declared = re.findall(r'^declare [^@\n]*@"?([\w.$]+)"?\(', text, re.MULTILINE)
    foreign = [name for name in declared if re.search(rf'call [^\n]*@"?{re.escape(name)}"?\(', text)]
    foreign = [name for name in foreign if not name.startswith("llvm.") and name not in _IN_C]
    if entry is None or foreign:
        raise NotCompiled(
            f"numba compiles the loop in another form than was expected ({', '.join(foreign) or 'entry'})"
        )
    return text.replace("define linkonce_odr ", "define internal ").replace(inner, ENTRY)


def _signature(numba: Any) -> Any:
    kinds = numba.types
    pointers = {"stamps": kinds.int64, "rules": kinds.uint8, "rows": kinds.int64}
    return kinds.void(
        *(kinds.intp for _ in _SIZES), *(kinds.CPointer(pointers.get(name, kinds.float64)) for name in _POINTERS)
    )


def _bridge(run_bars: Any, carray: Any) -> Any:
    """``run_bars`` for C: sizes, then pointers."""
    state_places, term_places = slots.STATE_PLACES, slots.TERM_PLACES
    trade_places, account_places = slots.TRADE_PLACES, slots.ACCOUNT_PLACES

    def bridge(  # noqa: PLR0917 - one call from C
        bars: int,
        markets: int,
        width: int,
        trades_max: int,
        cols: Any,
        stamps: Any,
        rules: Any,
        rows: Any,
        noise: Any,
        terms: Any,
        state: Any,
        account: Any,
        trades: Any,
        equity: Any,
    ) -> None:
        run_bars(
            bars,
            markets,
            carray(cols, (5, width)),
            carray(stamps, (width,)),
            carray(rules, (width,)),
            carray(rows, (markets, bars)),
            carray(noise, (2, width)),
            carray(terms, (markets, term_places)),
            carray(state, (markets, state_places)),
            carray(account, (account_places,)),
            carray(trades, (trades_max, trade_places)),
            carray(equity, (bars,)),
        )

    return bridge


def _load(llvm: Any, code: bytes) -> int:
    """The address of the entry."""
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine()
    )
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)  # the code lives as long as its engine
    return int(engine.get_function_address(ENTRY))


def _as_function(address: int) -> Runner:
    # numba's own convention: a status comes back, and two places come first, for a result and an exception.
    kinds = (*(ctypes.c_void_p,) * 2, *(ctypes.c_ssize_t for _ in _SIZES), *(ctypes.c_void_p for _ in _POINTERS))
    call = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(address)

    def run(bars: int, markets: int, *arrays: npt.NDArray[Any]) -> None:
        for name, array in zip(_POINTERS, arrays, strict=True):
            if not array.flags.c_contiguous:
                raise ValueError(f"{name} is not contiguous")
        cols, trades = arrays[0], arrays[-2]
        places = (ctypes.c_void_p * 2)()
        result, failure = ctypes.addressof(places), ctypes.addressof(places) + ctypes.sizeof(ctypes.c_void_p)
        pointers = (array.ctypes.data for array in arrays)
        if status := call(result, failure, bars, markets, cols.shape[1], len(trades), *pointers):
            raise RuntimeError(f"the compiled loop has failed with status {status}")

    return run


def plain_runner(run_bars: Runner = loop.run_bars) -> Runner:
    """The loop as it stands, for where nothing is compiled: some 500 times as slow. ``run_bars`` is the loop."""

    def run(bars: int, markets: int, *arrays: npt.NDArray[Any]) -> None:
        # Lists of Python's own numbers are read several times as fast as arrays, one at a time. The trades are only
        # written, and have more room than rows.
        lists = [array if name == "trades" else array.tolist() for name, array in zip(_POINTERS, arrays, strict=True)]
        run_bars(bars, markets, *lists)
        for array, values in zip(arrays[_WRITTEN:], lists[_WRITTEN:], strict=True):
            array[...] = values

    return run


def default_cache() -> Path:
    """``$TBH_CACHE_DIR``, or ``tbh`` in the user's folder of caches. RuntimeError for a user without a home."""
    given = os.environ.get("TBH_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tbh"
