"""``python _peers.py NAME BARS.npy``: the same work by another library; prints one JSON object.

Run as a file, by an interpreter that may have nothing of this project: BARS holds times and five columns, see
``_market.py``. EMA 12/26 cross, long only, 0.1 % fee, entries and exits at the next open.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from typing import Any

CASH, FEE, UNITS = 1_000_000, 0.001, 0.01
ROUNDS = 3


def ema(values: Any, period: int) -> Any:
    """The exponential average as pandas has it, without its first ``period`` - 1 values."""
    pandas = importlib.import_module("pandas")
    return pandas.Series(values).ewm(span=period, adjust=False, min_periods=period).mean().to_numpy()


def by_backtesting(frame: Any) -> tuple[float, int, str]:
    """Seconds of the fastest run, trades, version."""
    library = importlib.import_module("backtesting")
    crossover = importlib.import_module("backtesting.lib").crossover

    class Cross(library.Strategy):  # type: ignore[misc,name-defined]  # no types come with it
        """Long while the fast average is above the slow one."""

        def init(self) -> None:
            self.fast = self.I(ema, self.data.Close, 12)
            self.slow = self.I(ema, self.data.Close, 26)

        def next(self) -> None:
            if crossover(self.fast, self.slow):
                self.buy(size=1)
            elif crossover(self.slow, self.fast):
                self.position.close()

    # It trades whole units: a market in hundredths makes one of them 0.01.
    cents = frame * [UNITS, UNITS, UNITS, UNITS, 1.0]
    began_s = time.perf_counter()
    stats = library.Backtest(cents, Cross, cash=CASH, commission=FEE, finalize_trades=False).run()
    return time.perf_counter() - began_s, int(stats["# Trades"]), str(library.__version__)


def by_vectorbt(frame: Any) -> tuple[float, int, str]:
    """Seconds of the fastest run, trades, version."""
    library = importlib.import_module("vectorbt")
    close, opened = frame["Close"], frame["Open"]

    def work() -> Any:
        fast = close.ewm(span=12, adjust=False, min_periods=12).mean()
        slow = close.ewm(span=26, adjust=False, min_periods=26).mean()
        enter = ((fast > slow) & (fast.shift() <= slow.shift())).shift(fill_value=False)
        leave = ((fast < slow) & (fast.shift() >= slow.shift())).shift(fill_value=False)
        made = library.Portfolio.from_signals(
            close, enter, leave, price=opened, size=UNITS, fees=FEE, init_cash=CASH, freq="1min"
        )
        return made.trades.count(), made.value().iloc[-1], made.max_drawdown(), made.sharpe_ratio()

    trades = work()[0]  # compiles, or loads what was compiled
    taken = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began_s)
    return min(taken), int(trades), str(library.__version__)


def main(name: str, file: str) -> None:
    """Do the work and say how it went."""
    numpy, pandas = importlib.import_module("numpy"), importlib.import_module("pandas")
    rows = numpy.load(file)
    index = pandas.to_datetime(rows[0].astype("int64"), unit="ms", utc=True).tz_localize(None)
    frame = pandas.DataFrame(rows[1:].T, columns=["Open", "High", "Low", "Close", "Volume"], index=index)
    seconds, trades, version = {"backtesting": by_backtesting, "vectorbt": by_vectorbt}[name](frame)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = {"bars_per_s": round(len(frame) / seconds), "trades": trades, "version": version}
    print(json.dumps(report | {"peak_rss_mb": round(peak_mb, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
