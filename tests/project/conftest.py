"""The sources under test, as files."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sources(repository: Path) -> dict[str, str]:
    """Every module of the package: path relative to the repository, with slashes, to its text."""
    files = sorted((repository / "tbh").rglob("*.py"))
    return {path.relative_to(repository).as_posix(): path.read_text("utf-8") for path in files}
