"""Draws docs/img/demo.svg from a real demo, in the middle of it: ``python docs/img/record_demo.py``."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from tbh.cli.arguments import build_parser
from tbh.cli.demo import opening_of
from tbh.cli.demo_plan import plan_of
from tbh.cli.demo_table import render
from tbh.session import DemoSession

FROM_BAR = 900


def main() -> None:
    """Run the demo until it holds a position late in the market, and keep what its table shows then."""
    plan = plan_of(build_parser().parse_args(["demo"]), watched=True)
    session = DemoSession.open(plan)
    try:
        session.start()
        while not session.wait(1 / 8):
            snapshot = session.snapshot()
            if snapshot.bar_index > FROM_BAR and snapshot.position_qty:
                break
        console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, highlight=False)
        console.print(render(opening_of(plan, session, resumed=False), snapshot))
        picture = console.export_svg(title="make demo", theme=MONOKAI, unique_id="demo")
        # A page that shows the picture shall not fetch fonts from elsewhere; any monospaced one will do.
        picture = re.sub(r"@font-face \{[^}]*\}\s*|<!--.*?-->\s*", "", picture, flags=re.DOTALL)
        Path(__file__).with_name("demo.svg").write_text(picture, encoding="utf-8")
    finally:
        session.close()


if __name__ == "__main__":
    main()
