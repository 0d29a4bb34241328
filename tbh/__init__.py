"""TradeBotHub's runtime: one process runs one bot, a supervised tree of actors."""

__version__ = "0.1.0"
