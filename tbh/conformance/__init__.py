"""The catalogue held against published tables of values: what ``tbh indicators verify`` does."""
