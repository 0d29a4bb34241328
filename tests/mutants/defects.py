"""All the deliberate defects, by name."""

from __future__ import annotations

from tests.mutants import of_account, of_closing, of_journal, of_orders, of_ownership, of_resting
from tests.mutants.mutation import DEFECTS, Defect, apply

__all__ = [
    "DEFECTS",
    "Defect",
    "apply",
    "of_account",
    "of_closing",
    "of_journal",
    "of_orders",
    "of_ownership",
    "of_resting",
]
