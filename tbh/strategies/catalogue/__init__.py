"""Every indicator a definition may name, by group; ``tbh/strategies/indicators.py`` is the way to them."""
