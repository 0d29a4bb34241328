"""A headless Chromium for tests, spoken to over two pipes: no port, no driver, no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ANSWER_S = 30.0


def chromium() -> str | None:
    """A Chromium or Chrome of this machine: named by ``TBH_CHROMIUM``, on the path, or where playwright keeps it."""
    if named := os.environ.get("TBH_CHROMIUM"):
        return named
    found = [path for name in PROGRAMS if (path := shutil.which(name))]
    kept = (Path.home() / ".cache" / "ms-playwright").glob("chromium*/*/*")
    found += [str(path) for path in sorted(kept) if path.name in {"chrome", "headless_shell", "chrome-headless-shell"}]
    return found[0] if found else None


# Chromium reads commands from 3 and answers on 4.
LAUNCH = """
import os, sys
for end, place in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(end), place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page. ``errors`` are what its console told and what its scripts threw, ``requests`` every address asked."""

    def __init__(self, program: str, profile: Path) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._last = 0
        self._held = b""
        commands, self._write = os.pipe()
        self._read, replies = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, replies)]

        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-background-networking"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", LAUNCH, *map(str, ends), program, *options],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands, replies, *ends):
            os.close(end)
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.page(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(timeout=10)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, session: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        self._last += 1
        wanted = self._last
        message = {"id": wanted, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        self._until(lambda: wanted in self._answers, method)
        answer = self._answers.pop(wanted)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def page(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """The same, to the page."""
        return self.call(method, self._session, **parameters)

    def open(self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page and wait for its load event."""
        self.size(width, height, dark=dark)
        self._events.clear()
        self.page("Page.navigate", url=address)
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self._events), address)

    def size(self, width: int, height: int, *, dark: bool) -> None:
        """The window's size in CSS pixels, and what the reader prefers."""
        phone = width < 600
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.page("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.page("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true."""
        self._until(lambda: bool(self.run(script)), script)

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        return base64.b64decode(self.page("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def _until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + ANSWER_S
        while not true():
            assert time.monotonic() < deadline, f"the browser did not answer: {what}"
            if select.select([self._read], [], [], 0.05)[0]:
                self._take()

    def _take(self) -> None:
        read = os.read(self._read, 1 << 20)
        assert read, "the browser is gone"
        *whole, self._held = (self._held + read).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        told = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif event["method"] == "Log.entryAdded":
            self.errors.append(f"{told['entry']['level']}: {told['entry']['text']}")
        elif event["method"] == "Runtime.consoleAPICalled":
            self.errors.append(json.dumps(told["args"])[:500])
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"][:200])
