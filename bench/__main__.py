"""``python -m bench NAME [--json] [--quick]``: run one benchmark; the last line is one JSON object.

A benchmark is a module of this package with a ``HELP`` line, ``run(args) -> dict``, and, if it takes options of its
own, ``options(parser)``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from types import ModuleType
from typing import Any

import bench


def names() -> list[str]:
    """Every benchmark there is."""
    return sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType | None:
    """The benchmark's module; None when the module of that name is none (a part that several share)."""
    module = importlib.import_module(f"bench.{name}")
    return module if hasattr(module, "HELP") and hasattr(module, "run") else None


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 64 for a benchmark that does not exist."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        for name in names():
            module = load(name)
            if module is not None:
                print(f"{name:12} {module.HELP}")
        return 0
    name = arguments[0]
    module = load(name) if name in names() else None
    if module is None:
        print(f"bench: there is no benchmark {name!r}; `python -m bench` lists them", file=sys.stderr)
        return 64
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=module.HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    if hasattr(module, "options"):
        module.options(parser)
    args = parser.parse_args(arguments[1:])
    result: dict[str, Any] = module.run(args)
    if not args.json:
        for key, value in result.items():
            print(f"{key:28} {value}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
