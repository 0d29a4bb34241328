"""``python -m tbh.actors.main`` starts the bot that the environment describes; ``tbh/app.py`` composes it."""

from __future__ import annotations

from tbh.app import main

if __name__ == "__main__":
    raise SystemExit(main())
