"""What a closed bar costs a running strategy is measured beside all bars held and the indicators' calls alone."""

from __future__ import annotations

import argparse

from bench import strategy


def test_each_case_decides_as_over_all_bars_and_names_its_floor() -> None:
    report = strategy.run(argparse.Namespace(quick=True, seed=1, bars=1))
    for name in ("ema_cross", "ema_cross_15m", "thirty", "remembering_all"):
        for figure in ("live_us", "whole_us", "floor_us", "load_ms"):
            assert report[f"{name}_500_{figure}"] > 0
    assert report["remembering_all_500_live_us"] < report["remembering_all_500_whole_us"]
    assert report["bars"] == 40
