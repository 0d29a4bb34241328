"""The page of a report in a real browser: it draws, moves and lists; it asks nobody, and nothing hostile runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import _market
from tbh.backtest.columns import columns_of
from tbh.backtest.native import Runner
from tbh.backtest.report.write import write_report
from tests.backtest.browser import Browser, chromium
from tests.backtest.reports import CROSS, subject_of, walk
from tests.backtest.test_report import HOSTILE

YEAR_MAX_BYTES = 5_000_000
YEAR_OPENS_S = 10.0
READY = "document.documentElement.dataset.ready === 'yes'"
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
COLOURS = """(() => {
  const chart = document.getElementById('chart');
  const pixels = new Uint32Array(chart.getContext('2d').getImageData(0, 0, chart.width, chart.height).data.buffer);
  const found = new Map();
  for (const pixel of pixels) found.set(pixel, (found.get(pixel) || 0) + 1);
  return [...found.values()].filter((count) => count > 40).length;
})()"""
PIXELS = "document.getElementById('chart').toDataURL()"
READOUT = "document.getElementById('readout').textContent"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: install one, or name it in TBH_CHROMIUM")
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder / "out", subject_of(folder, [walk(3_000), walk(2_500, seed=8)], symbols=["A/USD", "B/USD"]))
    return (folder / "out" / "report.html").as_uri()


@pytest.fixture
def opened(browser: Browser, report: str) -> Callable[..., Browser]:
    def load(address: str = report, *, width: int = 1280, dark: bool = False) -> Browser:
        browser.errors.clear()
        browser.requests.clear()
        browser.open(address, width=width, dark=dark)
        browser.wait(READY)
        browser.run(DRAWN)
        return browser

    return load


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_it_draws_without_an_error_and_asks_nobody(
    opened: Callable[..., Browser], report: str, width: int, dark: bool
) -> None:
    page = opened(width=width, dark=dark)
    assert page.run(COLOURS) >= 5  # candles up and down, grid, letters, equity
    assert page.run(WIDER) == 0
    assert page.run("document.querySelectorAll('#trades tbody tr').length") == 20
    assert (page.errors, page.requests) == ([], [report])


def test_dark_and_light_are_told_apart_and_can_be_chosen(opened: Callable[..., Browser]) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = (opened(dark=dark).run(background) for dark in (False, True))
    assert light != dark
    page = opened(dark=True)
    page.run("document.getElementById('theme').click()")
    assert page.run(background) == light


def test_keys_move_and_zoom_the_chart(opened: Callable[..., Browser]) -> None:
    page = opened()
    page.run("document.getElementById('chart').focus()")
    seen = {(page.run(PIXELS), page.run(READOUT))}
    for key in ("+", "ArrowLeft", "Home", "n", "0"):
        for kind in ("keyDown", "keyUp"):
            page.page("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else "")
        page.run(DRAWN)
        seen.add((page.run(PIXELS), page.run(READOUT)))
        if key == "n":
            assert "trade " in page.run(READOUT)
    assert len(seen) == 6


def test_a_wheel_scrolls_the_page_until_the_chart_has_the_focus(opened: Callable[..., Browser]) -> None:
    page = opened()
    turned = """(() => {
      const turn = new WheelEvent('wheel', { deltaY: -300, bubbles: true, cancelable: true });
      document.getElementById('chart').dispatchEvent(turn);
      return turn.defaultPrevented;
    })()"""
    before = page.run(PIXELS)
    assert page.run(turned) is False
    page.run(DRAWN)
    assert page.run(PIXELS) == before
    page.run("document.getElementById('chart').focus()")
    assert page.run(turned) is True
    page.run(DRAWN)
    assert page.run(PIXELS) != before


def test_a_row_of_the_list_leads_to_its_trade_in_the_chart(opened: Callable[..., Browser]) -> None:
    page = opened()
    page.run("""(() => {
      const filter = document.getElementById('filter');
      filter.value = 'loss';
      filter.dispatchEvent(new Event('change'));
      [...document.querySelectorAll('#trades thead button')].find((one) => one.textContent === 'PnL').click();
    })()""")
    number = page.run("document.querySelector('#trades tbody button').textContent")
    page.run("document.querySelector('#trades tbody button').click()")
    page.run(DRAWN)
    assert f"trade {number}: " in page.run(READOUT)
    assert page.run("document.activeElement.id") == "chart"


LEVELS = """(async () => {
  const facts = JSON.parse(element('facts').textContent);
  const arrays = await unpack(element('packed').textContent, facts.plan);
  const chart = { market: marketOf(facts.markets[0], 0, arrays), trades: tradesOf(facts.trades, arrays), facts };
  return Array.from(chart.trades.cause, (cause, row) => {
    const { target, stops } = levelsOf(chart, row);
    const level = cause === 3 ? target : stops[stops.length - 1][2];
    const bar = atOrAfter(chart.market.time, chart.trades.exit[row]);
    return [cause, level, chart.trades.exit_price[row], chart.market.open[bar]];
  });
})()"""


@pytest.mark.parametrize("basis", ["entry", "signal_close"])
def test_stops_and_targets_are_drawn_where_the_engine_filled_them(
    opened: Callable[..., Browser], tmp_path: Path, basis: str
) -> None:
    definition = CROSS | {"stops": CROSS["stops"] | {"basis": basis}}
    write_report(tmp_path / "out", subject_of(tmp_path, [walk(6_000)], definition=definition, latency_bars=1))
    found = opened((tmp_path / "out" / "report.html").as_uri()).run(LEVELS)
    met: Counter[int] = Counter()
    for cause, level, left_at, opened_at in found:
        # One that the open was beyond already fills there.
        if cause and left_at != opened_at:
            assert level == pytest.approx(left_at, abs=1e-6)
            met[cause] += 1
    assert min(met[cause] for cause in (1, 2, 3)) >= 10


def test_pointing_tells_the_candle_and_the_equity(opened: Callable[..., Browser]) -> None:
    page = opened()

    def point(at: str, down: float) -> None:
        x, y = page.run(
            f"(() => {{ const {{ x, y, width, height }} = document.querySelector('{at}')"
            f".getBoundingClientRect(); return [x + width / 2, y + height * {down}]; }})()"
        )
        page.page("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        page.run(DRAWN)

    point("#equity .area", 0.5)
    assert " · drawdown " in page.run("document.getElementById('overview').textContent")
    page.run("document.getElementById('chart').scrollIntoView({ block: 'center', behavior: 'instant' })")
    point("#chart", 0.3)
    assert all(word in page.run(READOUT) for word in ("open ", "high ", "low ", "close ", "equity "))


def test_another_market_is_drawn_when_it_is_chosen(opened: Callable[..., Browser]) -> None:
    page = opened()
    before = page.run(PIXELS)
    page.run("""(() => {
      const market = document.getElementById('market');
      market.value = '1';
      market.dispatchEvent(new Event('change'));
    })()""")
    page.run(DRAWN)
    assert page.run(PIXELS) != before


def test_it_can_be_printed(opened: Callable[..., Browser]) -> None:
    assert len(opened(dark=True).page("Page.printToPDF", printBackground=True)["data"]) > 20_000


def test_names_with_markup_in_them_do_not_run(opened: Callable[..., Browser], tmp_path: Path) -> None:
    hostile = subject_of(tmp_path, [walk(400), walk(400, seed=5)], symbols=[HOSTILE, "B/USD"], name=HOSTILE)
    write_report(tmp_path / "out", hostile)
    page = opened((tmp_path / "out" / "report.html").as_uri())
    assert page.run("document.querySelector('h1').textContent") == HOSTILE
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.errors == []


def test_the_policy_stops_a_script_that_came_in_all_the_same(
    opened: Callable[..., Browser], report: str, tmp_path: Path
) -> None:
    text = Path(report.removeprefix("file://")).read_text().replace("<main>", "<main><script>window.ran = 1</script>")
    (tmp_path / "changed.html").write_text(text)
    page = opened((tmp_path / "changed.html").as_uri())
    assert page.run("window.ran === undefined")
    assert any("Content Security Policy" in error for error in page.errors)


def test_a_year_of_minutes_makes_a_small_page_that_opens_at_once(
    opened: Callable[..., Browser], compiled: Runner, tmp_path: Path
) -> None:
    stamps, values = _market.bars_of(1)
    market = columns_of("year", 60, stamps, values)
    subject = subject_of(tmp_path, [market], definition=_market.definition(stops=True), run_bars=compiled)
    assert len(subject.made.trades) > 9_000
    write_report(tmp_path / "out", subject)
    file = tmp_path / "out" / "report.html"
    assert file.stat().st_size < YEAR_MAX_BYTES
    page = opened(file.as_uri())
    assert page.run("performance.now() / 1000") < YEAR_OPENS_S
    assert page.run(COLOURS) >= 5
    assert page.errors == []
