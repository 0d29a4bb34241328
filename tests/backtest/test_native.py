"""Machine code on disk: where it is kept, what is believed of it, and what is done without a compiler."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from tbh.backtest import image, native


def test_without_a_compiler_there_is_no_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.delitem(sys.modules, "llvmlite.binding", raising=False)
    with pytest.raises(native.NotCompiled, match="numba is not installed"):
        native.runner(None)


def test_machine_code_that_is_damaged_or_open_to_others_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "loop.o"
    assert native.kept_code(file) is None
    code = b"code"
    file.write_bytes(hashlib.sha256(code).digest() + code)
    file.chmod(0o600)
    assert native.kept_code(file) == code
    file.chmod(0o620)
    assert native.kept_code(file) is None
    file.chmod(0o600)
    file.write_bytes(hashlib.sha256(code).digest() + b"c0de")
    assert native.kept_code(file) is None


@pytest.mark.skipif(image.processor() is None, reason="images are for Linux on x86-64")
def test_a_system_that_runs_no_code_from_memory_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def denied(code: bytes) -> int:
        raise OSError(13, "Permission denied")

    code = image.MAGIC + bytes(16)
    file = tmp_path / f"loop-{native._name(image.processor() or '')}.code"
    file.write_bytes(hashlib.sha256(code).digest() + code)
    file.chmod(0o600)
    monkeypatch.setattr(image, "mapped", denied)
    with pytest.raises(native.NotCompiled, match="Permission denied"):
        native.runner(tmp_path)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What comes out of the compiler, which takes ten seconds, and is never run."""
    monkeypatch.setattr(native, "_compile", lambda *_, **__: b"code")
    monkeypatch.setattr(native, "_load", lambda *_: 0)
    monkeypatch.setattr(native, "_as_function", lambda _: native.plain_runner())
    return b"code"


def test_code_that_was_kept_is_not_compiled_again(compiled: bytes, tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        native.runner(tmp_path / "cache", on_compile=lambda: told.append("compiled"), on_unkept=told.append)
    assert told == ["compiled"]
    (file,) = (tmp_path / "cache").iterdir()
    assert native.kept_code(file) == compiled


def test_code_that_can_not_be_kept_is_told_with_the_reason(
    compiled: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    native.runner(tmp_path / "file" / "cache", on_unkept=told.append)
    monkeypatch.setattr(native, "kept_code", lambda _: None)
    native.runner(tmp_path / "cache", on_unkept=told.append)
    native.runner(None, on_unkept=told.append)
    assert told == ["Not a directory", "others may write there"]


def test_the_cache_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TBH_CACHE_DIR", str(tmp_path / "mine"))
    assert native.default_cache() == tmp_path / "mine"
    monkeypatch.delenv("TBH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.default_cache() == tmp_path / "tbh"
