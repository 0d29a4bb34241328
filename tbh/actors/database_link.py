"""What the database's failures mean to a running bot: a part of the control poller.

Silence is told once, and its end once. Another owner and a refused token are told and then end the bot. Any other
refusal is told to people; whatever it prevented runs out by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from tbh.messages.base import Fact
from tbh.messages.controls import DatabaseAway, DatabaseBack, LeaseLost, TokenRefused
from tbh.messages.health import Notice, Severity
from tbh.ports import Defer, Failure, Fatal, Rejected
from tbh.runtime.actor import Context

BACKOFF_FIRST_S = 0.5
EXIT_OWNED = 75
EXIT_TOKEN = 77
EXIT_CONFIGURATION = 78

_OWNED_WORDS: Final = frozenset({"lease_held", "stale_epoch"})
_TOKEN_WORDS: Final = frozenset({"runtime_token_invalid"})

_T = TypeVar("_T")


class DatabaseLink:
    """Makes calls and counts their failures in a row. ``ended`` is the fact that ended the bot, if one did."""

    sends = (LeaseLost, TokenRefused, DatabaseAway, DatabaseBack, Notice)

    def __init__(self, ctx: Context, *, bot_name: str, boot_id: str) -> None:
        self.ended: Fact | None = None
        self.away: DatabaseAway | None = None
        self._ctx = ctx
        self._bot_name = bot_name
        self._boot_id = boot_id
        self._failures = 0
        self._defer_s = 0.0
        # A former incarnation may have said that the database is away, and nobody else would ever take that back.
        self._away_since_s = ctx.monotonic() if ctx.incarnation else None

    def call(self, call: Callable[[], _T]) -> _T | None:
        """The answer, or None after a failure that was told to whom it concerns.

        Raises ``Fatal(75)`` when another runtime owns the bot, ``Fatal(77)`` when the token is refused. A service key
        that is refused in mid-run (78) is told, and counts as a failure like any other.
        """
        try:
            answer = call()
        except Fatal as failure:
            if failure.exit_code == EXIT_CONFIGURATION:
                # A key or an address that was good at the start: the platform's affair, and no reason to leave a
                # position. Entries end with the lease.
                self._failures += 1
                self._tell_refused(failure)
                return None
            self._end(failure.exit_code, str(failure))
            raise
        except Rejected as refusal:
            self._failures += 1
            self._on_refusal(refusal)
            return None
        except Failure as failure:
            self._failures += 1
            self._on_silence(failure)
            return None
        self._failures = 0
        self._defer_s = 0.0
        if self._away_since_s is not None:
            self._ctx.send(DatabaseBack(away_for_s=self._ctx.monotonic() - self._away_since_s))
            self._away_since_s = self.away = None
        return answer

    def lose(self, reason: str) -> Fatal:
        """Tell that another runtime owns the bot; what to raise."""
        self._end(EXIT_OWNED, reason)
        return Fatal("lease_lost", exit_code=EXIT_OWNED, detail=f"another runtime owns the bot: {reason}")

    def pause_s(self, usual_s: float) -> float:
        """How long to wait before the next call: ``usual_s``, or the jittered back-off after failures."""
        if not self._failures:
            return usual_s
        delay_s = min(BACKOFF_FIRST_S * 2.0 ** min(self._failures - 1, 10), usual_s)
        return max(delay_s * self._ctx.rng.uniform(0.8, 1.2), self._defer_s)

    def _end(self, exit_code: int, reason: str) -> None:
        if exit_code == EXIT_OWNED:
            self.ended = LeaseLost(reason=reason)
        elif exit_code == EXIT_TOKEN:
            self.ended = TokenRefused(reason=reason)
        if self.ended is not None:
            self._ctx.send(self.ended)

    def _on_refusal(self, refusal: Rejected) -> None:
        if refusal.reason in _OWNED_WORDS:
            raise self.lose(str(refusal))
        if refusal.reason in _TOKEN_WORDS:
            self._end(EXIT_TOKEN, str(refusal))
            raise Fatal(refusal.reason, exit_code=EXIT_TOKEN, detail="issue a new one with `tbh token issue`")
        self._tell_refused(refusal)

    def _tell_refused(self, refusal: Failure) -> None:
        self._ctx.log.error("database_refused", reason=str(refusal))
        self._ctx.send(
            Notice(
                key=f"database_refused:{self._boot_id}:{refusal.reason}",
                severity=Severity.CRITICAL,
                kind="database_refused",
                text=f"the database refuses {self._bot_name}: {refusal}; entries stop when the lease ends",
            )
        )

    def _on_silence(self, failure: Failure) -> None:
        if isinstance(failure, Defer):
            self._defer_s = failure.after_s
        if self.away is None:
            if self._away_since_s is None:
                self._away_since_s = self._ctx.monotonic()
            self.away = DatabaseAway(since_s=self._away_since_s, reason=str(failure))
            self._ctx.log.warning("database_away", reason=str(failure))
            self._ctx.send(self.away)
