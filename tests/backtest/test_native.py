"""The compiled loop: kept, found again, never trusted when damaged, and done without where there is no compiler."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tbh.backtest import native


def test_without_a_compiler_there_is_no_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.delitem(sys.modules, "llvmlite.binding", raising=False)
    with pytest.raises(native.NotCompiled, match="numba is not installed"):
        native.runner(None)


def test_what_is_kept_is_loaded_without_the_compiler(compiled: native.Runner) -> None:
    folder = Path(__file__).resolve().parents[2] / ".pytest_cache" / "backtest"
    told = (
        "import sys; from pathlib import Path; from tbh.backtest.native import runner;"
        " runner(Path(sys.argv[1]), on_compile=lambda: print('compiled')); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", told, str(folder)], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


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


def test_arrays_that_are_not_contiguous_are_refused(compiled: native.Runner) -> None:
    arrays = [np.zeros((5, 4))[:, ::2], *(np.zeros((1, 1)) for _ in range(9))]
    with pytest.raises(ValueError, match="cols is not contiguous"):
        compiled(1, 1, *arrays)


def test_the_cache_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TBH_CACHE_DIR", str(tmp_path / "mine"))
    assert native.default_cache() == tmp_path / "mine"
    monkeypatch.delenv("TBH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.default_cache() == tmp_path / "tbh"
