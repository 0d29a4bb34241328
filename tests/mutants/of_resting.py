"""Defects of what follows an entry that rested. They show where entries rest: in a scenario of their own."""

from __future__ import annotations

from tbh.actors.order_resting import RestingEntries
from tests.mutants.mutation import defect

SCENARIO = "an_entry_that_rests"


@defect(
    "an entry is sent before it is known what the one that rested has filled",
    RestingEntries,
    "_end_unproven",
    scenario=SCENARIO,
)
def entry_after_an_unread_end(original, self):
    return False


@defect(
    "an entry goes although the one that rested before it has filled after all",
    RestingEntries,
    "_filled_after_all",
    scenario=SCENARIO,
)
def entry_beside_a_late_fill(original, self, state):
    """What waits is sent."""


@defect(
    "an entry goes as soon as the one that rested is called ended, on an exchange that tells of fills later",
    RestingEntries,
    "_give_it_time",
    scenario=SCENARIO,
)
def entry_before_late_word(original, self):
    self._ask_to_look("ended")
