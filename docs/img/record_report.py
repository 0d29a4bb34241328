"""Takes docs/img/report.png of a page in a headless Chromium: ``python docs/img/record_report.py REPORT.html``."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tests.backtest.browser import Browser, chromium

ZOOM = """(() => {
  const buttons = (name) => document.querySelector(`[data-${name}]`);
  buttons('trade="1"').click();
  for (let n = 0; n < 4; n++) buttons('zoom="2"').click();
})()"""
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


def main(report: Path) -> None:
    """The head of the page, its equity, and some weeks of its candles."""
    program = chromium()
    if program is None:
        raise SystemExit("no Chromium: install one, or name it in TBH_CHROMIUM")
    with tempfile.TemporaryDirectory() as profile, Browser(program, Path(profile)) as browser:
        browser.open(report.absolute().as_uri())
        browser.wait("document.documentElement.dataset.ready === 'yes'")
        browser.run(ZOOM)
        browser.run(DRAWN)
        end = browser.run("document.querySelector('ul.marks').getBoundingClientRect().bottom + window.scrollY")
        clip = {"x": 0, "y": 0, "width": 1280, "height": end, "scale": 0.66}
        taken = browser.page("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        Path(__file__).with_name("report.png").write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
