"""The process's own last net."""

from __future__ import annotations

import pytest

from tbh import app


def test_a_mistake_of_ours_is_one_line_and_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_given: object, **_more: object) -> None:
        raise LookupError("a\nb")

    monkeypatch.setattr(app, "run_bot", broken)
    assert app.main() == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tbh: LookupError: a b")
