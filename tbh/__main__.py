"""``python -m tbh`` is the ``tbh`` command."""

from __future__ import annotations

from tbh.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
