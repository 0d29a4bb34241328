"""Answers as the incarnation that lives now has asked for them."""

from __future__ import annotations

from dataclasses import replace

from tbh.messages.account import AccountResynced
from tbh.runtime.probe import Probe


def to(probe: Probe, answer: AccountResynced) -> AccountResynced:
    """``answer``, addressed to the actor as it is now: an answer to a former incarnation is none."""
    incarnation = probe.cell.incarnation
    return replace(answer, requester=f"{answer.requester}:{incarnation}") if incarnation else answer
