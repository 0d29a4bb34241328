"""The supervisor: what happens when the tree can't go on.

An escalation is a list of steps, each with a deadline and each on its own: none asks anything of the actor that failed,
and one that fails or takes too long does not keep the next from being tried. What must be said to the outside world
goes over connections of the supervisor's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tbh.actors.escape import CALL_TIMEOUT_S, Escape, Outside, PositionPolicy
from tbh.messages.market import Market
from tbh.runtime.actor import Log

__all__ = ["Outside", "PositionPolicy", "Runner", "Step", "Supervisor"]

OWNED_BY_ANOTHER: Final = 75
TOKEN_REFUSED: Final = 77
POSITION_STEP: Final = "position_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One act of an escalation; ``act`` returns a line for the log."""

    name: str
    deadline_s: float
    act: Callable[[], str]


Runner = Callable[[float, Callable[[], str]], str]
"""Runs an act within a deadline (seconds) and returns its line; ``TimeoutError`` when it did not end in time."""


class Supervisor:
    """Escalates for one bot and one market (ARCHITECTURE §4). ``position_told`` is then what became of the position,
    empty where it is another's."""

    def __init__(
        self, *, bot_id: str, boot_id: str, market: Market, policy: PositionPolicy, outside: Outside, log: Log
    ) -> None:
        self._bot_id = bot_id
        self._boot_id = boot_id
        self._market = market
        self._policy = policy
        self._outside = outside
        self._log = log
        self.position_told = ""

    def escalate(self, actor: str, reason: str, exit_code: int, *, run: Runner) -> int:
        """Carry out every step; the exit code. Nothing is sent to the exchange when the bot is another's (75)."""
        for step in self._steps(actor, reason, exit_code):
            try:
                line = run(step.deadline_s, step.act)
            except Exception as fault:  # noqa: BLE001 - whatever it was, the next step is still worth doing
                error = f"{type(fault).__name__}: {fault}"
                self._log.error("escalation_step_failed", step=step.name, error=error)
                line = f"not seen to ({error})"
            else:
                self._log.warning("escalation_step", step=step.name, result=line)
            if step.name.startswith(POSITION_STEP):
                self.position_told = line
        return exit_code

    def _steps(self, actor: str, reason: str, exit_code: int) -> Sequence[Step]:
        # Whoever can't prove that it is the bot any more may still see to a stop, and to no more than that.
        policy = PositionPolicy.PROTECT if exit_code == TOKEN_REFUSED else self._policy
        steps = [
            Step(name="entries_off", deadline_s=1.0, act=lambda: self._entries_off(reason, exit_code)),
            Step(name="health", deadline_s=CALL_TIMEOUT_S, act=lambda: self._health(actor, reason)),
            Step(name="journal", deadline_s=CALL_TIMEOUT_S + 0.5, act=lambda: self._journal(actor)),
            Step(name="notice", deadline_s=CALL_TIMEOUT_S, act=lambda: self._notice(actor, reason, exit_code)),
        ]
        if exit_code != OWNED_BY_ANOTHER:  # whoever owns the bot now owns its position too
            escape = Escape(
                bot_id=self._bot_id, boot_id=self._boot_id, market=self._market, outside=self._outside, log=self._log
            )
            steps += [
                Step(name="entries_canceled", deadline_s=2 * CALL_TIMEOUT_S, act=escape.cancel_entries),
                Step(name=f"{POSITION_STEP}{policy}", deadline_s=10.0, act=lambda: escape.position(policy)),
            ]
        return steps

    def _entries_off(self, reason: str, exit_code: int) -> str:
        self._outside.halt(reason, exit_code)
        return "every actor was told"

    def _health(self, actor: str, reason: str) -> str:
        patch = {
            "bot_id": self._bot_id,
            "boot_id": self._boot_id,
            "flushed_at": self._outside.now().isoformat(),
            "reason": f"escalated: {actor}: {reason}"[:500],
        }
        self._outside.rpc().upsert_health(patch)
        return "flushed"

    def _journal(self, actor: str) -> str:
        if actor == "journaler":
            return "left alone: it is the journaler that failed"
        return "flushed" if self._outside.drain("journaler", CALL_TIMEOUT_S) else "not flushed in time"

    def _notice(self, actor: str, reason: str, exit_code: int) -> str:
        payload = {"severity": "critical", "kind": "escalated", "text": f"{actor}: {reason}", "exit_code": exit_code}
        self._outside.rpc().notify(channel="in_app", payload=payload, key=f"escalated:{self._boot_id}")
        return "sent"
