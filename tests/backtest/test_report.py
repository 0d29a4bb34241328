"""A report's files: what they hold, that they appear whole, and that nothing in them runs or asks anybody."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tbh.backtest.figures import figures_of
from tbh.backtest.report import folder as folders
from tbh.backtest.report import pack
from tbh.backtest.report.folder import NAMES, FolderRefused, check_folder, write_folder
from tbh.backtest.report.page import page
from tbh.backtest.report.periods import daily, monthly
from tbh.backtest.report.subject import Subject
from tbh.backtest.report.tables import COLUMNS
from tbh.backtest.report.write import write_report
from tests.backtest.reports import CROSS, subject_of, walk

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject_of(tmp_path_factory.mktemp("subject"), [walk(2_000)])


def html_of(subject: Subject) -> str:
    return page(subject, figures_of(subject.made, subject.markets, subject.options.cash))


def test_the_tables_hold_the_trades_as_they_are_printed_to_the_last_digit(subject: Subject, tmp_path: Path) -> None:
    write_report(tmp_path / "out", subject)
    printed = subject.told["trades"]
    told = json.loads((tmp_path / "out" / "trades.json").read_text())
    with (tmp_path / "out" / "trades.csv").open(newline="") as source:
        lines = list(csv.DictReader(source))
    assert len(told) == len(lines) == len(printed) > 50
    assert tuple(told[0]) == tuple(lines[0]) == COLUMNS
    for row, line, trade in zip(told, lines, printed, strict=True):
        assert {name: row[name] for name in trade} == trade
        assert line == {name: str(value) for name, value in row.items()}
    assert {row["cause"] for row in told} == {"exit", "stop", "trailing", "target"}


def test_the_summary_is_what_json_prints_with_every_statistic_defined(subject: Subject, tmp_path: Path) -> None:
    write_report(tmp_path / "out", subject)
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: told[name] for name in subject.told} == json.loads(json.dumps(subject.told))
    assert all(each["definition"].endswith(".") and each["unit"] for each in told["statistics"].values())
    for name in ("return", "max_drawdown", "sharpe", "win_rate", "profit_factor", "exposure"):
        assert told["statistics"][name]["value"] == told[name]
    assert told["definition"] == subject.definition
    assert told["candles"][0]["sha256"] == hashlib.sha256(subject.files[0].read_bytes()).hexdigest()
    assert told["options"]["fee"] == "0.0002"


def test_the_same_run_gives_the_same_page(subject: Subject) -> None:
    assert html_of(subject) == html_of(subject)


class Tags(HTMLParser):
    """Every tag with its attributes, and what stands between the tags of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._kind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._kind = dict(attrs).get("type") or tag if tag in {"script", "style"} else ""

    def handle_endtag(self, tag: str) -> None:
        self._kind = ""

    def handle_data(self, data: str) -> None:
        if self._kind:
            self.inside[self._kind] = self.inside.get(self._kind, "") + data


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_the_page_allows_its_own_script_and_style_and_names_no_address(subject: Subject) -> None:
    html = html_of(subject)
    tags = parsed(html)
    (policy,) = [each["content"] for tag, each in tags.tags if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    for kind in ("script", "style"):
        shown = base64.b64encode(hashlib.sha256(tags.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{shown}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    read = html.replace(tags.inside["text/plain"], "")
    assert set(re.findall(r"(?:https?:)?//[a-z][\w.-]+", read)) <= {"http://www.w3.org"}  # the name of SVG
    for tag, each in tags.tags:
        assert not [name for name in each if name.startswith("on") or name in {"style", "src", "srcset"}], tag
        assert not each.get("href") or str(each["href"]).startswith(("#", "data:,")), tag


def test_names_with_markup_in_them_stay_text(tmp_path: Path) -> None:
    markets = [walk(400), walk(400, seed=4)]
    hostile = subject_of(tmp_path, markets, symbols=[HOSTILE, "B/USD"], name=HOSTILE)
    tags, plain = parsed(html_of(hostile)), parsed(html_of(subject_of(tmp_path, markets, symbols=["A", "B/USD"])))
    assert [tag for tag, _ in tags.tags] == [tag for tag, _ in plain.tags]
    assert "alert" not in tags.inside["script"]
    assert json.loads(tags.inside["application/json"])["symbols"][0] == HOSTILE


def unpacked(plan: list[dict[str, Any]], text: str) -> dict[str, np.ndarray[Any, Any]]:
    data, found = zlib.decompress(base64.b64decode(text)), {}
    for part in plan:
        width = 8 if part["kind"] == "real" else 4
        raw, data = data[: width * part["count"]], data[width * part["count"] :]
        rows = np.frombuffer(raw, dtype=np.uint8).reshape(width, -1).T.copy()
        if part["kind"] == "real":
            found[part["name"]] = rows.view("<f8").ravel()
        else:
            folded = rows.view("<u4").ravel().astype(np.int64)
            found[part["name"]] = (folded >> 1) ^ -(folded & 1)
    assert data == b""
    return found


def test_what_is_packed_for_the_page_is_every_bar_and_trade(subject: Subject) -> None:
    told, text = pack.pack_run(subject.made, subject.markets)
    found, (market,) = unpacked(told["plan"], text), subject.markets
    close = np.cumsum(found["open0"] + found["close0"])
    opened = close - found["close0"]
    unit = 10.0 ** -told["markets"][0]["decimals"]
    assert np.allclose(opened * unit, market.values[0], atol=1e-9)
    assert np.allclose((np.maximum(opened, close) + found["high0"]) * unit, market.values[1], atol=1e-9)
    assert np.allclose((np.minimum(opened, close) - found["low0"]) * unit, market.values[2], atol=1e-9)
    assert np.allclose(close * unit, market.values[3], atol=1e-9)
    equity = np.cumsum(found["equity"]) * told["equity"]["unit"]
    assert np.abs(equity - subject.made.equity).max() <= told["equity"]["unit"]
    assert found["pnl"].tolist() == subject.made.trades.pnl.tolist()
    entries = told["trades"]["first"] + np.cumsum(found["entry"]) * told["trades"]["step"]
    assert entries.tolist() == subject.made.trades.entry_time.tolist()


def test_more_bars_than_a_page_holds_are_merged_by_time(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "BARS_MAX", 500)
    monkeypatch.setattr(pack, "TRADES_MAX", 10)
    told, text = pack.pack_run(subject.made, subject.markets)
    found, values = unpacked(told["plan"], text), subject.markets[0].values
    assert (told["merged"], told["markets"][0]["bars"], told["markets"][0]["step"]) == (4, 500, 240_000)
    close = np.cumsum(found["open0"] + found["close0"])
    opened = close - found["close0"]
    assert ((np.maximum(opened, close) + found["high0"]) / 100).tolist() == values[1].reshape(-1, 4).max(1).tolist()
    assert (close / 100).tolist() == values[3, 3::4].tolist()
    assert (told["trades"]["shown"], len(found["pnl"])) == (10, 10)


def keep(folder: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in folder.iterdir()}


def test_a_report_takes_the_place_of_a_former_one(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "out"
    write_folder(place, {name: [b"old"] for name in NAMES})
    write_folder(place, {"report.html": [b"ne", b"w"]})
    assert keep(place) == {"report.html": "new"}
    assert [one.name for one in place.parent.iterdir()] == ["out"]


def test_an_empty_folder_takes_a_report(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", {"report.html": [b"new"]})
    assert keep(tmp_path / "out") == {"report.html": "new"}


def test_a_folder_that_holds_other_things_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderRefused, match=r"holds 'notes\.txt'"):
        write_folder(tmp_path, {"report.html": [b"new"]})
    assert keep(tmp_path) == {"notes.txt": "mine"}


def test_a_file_and_the_current_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FolderRefused, match="is no folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(FolderRefused, match="file"):
        check_folder(tmp_path / "file" / "below")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FolderRefused, match="current folder"):
        check_folder(Path())


def failing(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the disk fail at one step."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "write":
        monkeypatch.setattr(folders, "_write", refuse)
        return
    renamed: Callable[[Path, Path], Path] = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            refuse()
        return renamed(path, target)

    monkeypatch.setattr(Path, "rename", rename)


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_report_that_can_not_be_written_leaves_the_former_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place = tmp_path / "out"
    write_folder(place, {"report.html": [b"old"]})
    failing(step, monkeypatch)
    with pytest.raises(FolderRefused, match="No space left on device"):
        write_folder(place, {"report.html": [b"new"]})
    assert keep(place) == {"report.html": "old"}
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_months_and_days_compound_to_the_return_of_the_run(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, [walk(60 * 24 * 40)])
    months, days = monthly(subject), daily(subject)
    assert days is not None
    cells = [value for _, row in days.rows for value in row[:-1] if value is not None]
    assert len(cells) == 40
    assert np.prod([1 + value for value in cells]) - 1 == pytest.approx(subject.told["return"])
    ((_, year),) = months.rows
    assert [value is None for value in year] == [False, False, *[True] * 10, False]
    assert year[-1] == pytest.approx(subject.told["return"])


def test_a_run_in_which_nothing_was_traded_has_its_report_too(tmp_path: Path) -> None:
    never = {"left": "close", "op": "<", "right": 0}
    definition = {
        "name": "never",
        "timeframe": "1m",
        "entry": {"long": never},
        "sizing": {"kind": "fixed_quantity", "value": "1"},
    }
    write_report(tmp_path / "out", subject_of(tmp_path, [walk(40)], definition=definition))
    assert "Nothing was traded." in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "trades.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert json.loads((tmp_path / "out" / "trades.json").read_text()) == []


@pytest.mark.parametrize(
    ("basis", "options", "drawn"),
    [
        ("entry", {}, True),
        ("entry", {"volume_share": Decimal(1)}, True),
        ("signal_close", {}, True),
        ("signal_close", {"volume_share": Decimal(1)}, False),
    ],
)
def test_levels_are_drawn_where_it_is_known_from_what_they_count(
    tmp_path: Path, basis: str, options: dict[str, Any], drawn: bool
) -> None:
    definition = CROSS | {"stops": {"basis": basis, "stop_loss": "0.004"}}
    html = html_of(subject_of(tmp_path, [walk(400)], definition=definition, **options))
    assert bool(json.loads(parsed(html).inside["application/json"])["stops"]) is drawn
    assert ("Levels are drawn from the" in html) is drawn
