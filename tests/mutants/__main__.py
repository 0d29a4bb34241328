"""``python -m tests.mutants``: list the defects, or find a seed that catches each (``--find [NAME] --seeds A:B``).

What is found goes to ``seeds.json`` beside this file, from which the tests take it.
"""

from __future__ import annotations

import argparse
import os
import sys
from multiprocessing import get_context
from typing import Any

from tests.mutants.defects import DEFECTS
from tests.mutants.search import find_timed, keep, known


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 1 when some defect was not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--find", nargs="?", const="", metavar="NAME", help="one defect, or all of them")
    parser.add_argument("--seeds", default="0:500", metavar="A:B")
    parser.add_argument("--missing", action="store_true", help="only those of which no seed is known")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    if args.find is None:
        for one in DEFECTS.values():
            print(f"{one.name:40} {one.about} ({', '.join(site.where for site in one.sites)})")
        return 0
    first, last = (int(part) for part in args.seeds.split(":"))
    found = known()
    names = [args.find] if args.find else [name for name in DEFECTS if not (args.missing and name in found)]
    unknown = set(names) - set(DEFECTS)
    if unknown:
        print(f"mutants: there is no defect {', '.join(unknown)}", file=sys.stderr)
        return 64
    return 0 if _search(names, first, last, args.jobs, found) else 1


def _search(names: list[str], first: int, last: int, jobs: int, found: dict[str, dict[str, Any]]) -> bool:
    survivors = []
    work = [(name, first, last) for name in names]
    with get_context("spawn").Pool(min(jobs, len(work))) as pool:
        for name, result, took_s in pool.imap_unordered(find_timed, work):
            if result is None:
                survivors.append(name)
                found.pop(name, None)
                print(f"{name:40} SURVIVES seeds {first}:{last} ({took_s:.0f} s)", flush=True)
            else:
                found[name] = result
                print(f"{name:40} seed {result['seed']}: {', '.join(result['breaks'])} ({took_s:.0f} s)", flush=True)
    keep({name: result for name, result in found.items() if name in DEFECTS})
    print(f"{len(names) - len(survivors)} of {len(names)} caught")
    return not survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
