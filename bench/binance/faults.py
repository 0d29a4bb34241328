"""What goes wrong between a client and the exchange: rules, each with a chance or a number of times, and kill hooks.

A rule is ``{"fault": KIND, "p": 0.1}`` or ``{"fault": KIND, "next": 3}``, with ``methods`` and ``paths`` (the last
part of the path, such as ``order`` or ``myTrades``; none: every signed request) and ``ms`` where the kind takes a time.
Rules are asked in the order in which they were given; the first that fires wins.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KINDS = {
    "drop_request": "the connection ends before the request has its effect, which it never has",
    "drop_reply": "the request has its effect, the connection ends instead of the reply",
    "error_before": "503 from a gateway, no effect",
    "error_after": "503 from a gateway after the effect",
    "timeout_after": "Binance's own -1007 after the effect: execution status unknown",
    "html": "HTTP 200 with a page instead of JSON, after the effect",
    "html_before": "HTTP 200 with a page instead of JSON, no effect",
    "empty": "HTTP 200 with nothing in it, after the effect",
    "cut": "the effect, then half the reply and the end of the connection",
    "delay": "the request arrives `ms` late: time and receive window are judged then",
    "delay_reply": "the effect at once, the reply `ms` late",
    "rate_limit": "429 with Retry-After, no effect",
    "ban": "418 with Retry-After, no effect",
    "not_found": "the order is taken, and queries deny it for `ms`",
    "stale": "a read is answered as it was the last time (what a lagging replica tells)",
    "thin": "a market order finds a thin book: a part fills, the rest expires",
}
BEFORE = frozenset({"drop_request", "error_before", "html_before", "rate_limit", "ban"})
KILL_POINTS = ("before_effect", "after_effect", "before_reply")
_SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
_ORDERS_ONLY = frozenset({"not_found", "thin"})


@dataclass(slots=True, kw_only=True)
class Rule:
    """``left`` counts down the times it still fires; None: by ``chance`` for ever."""

    fault: str
    chance: float
    left: int | None
    methods: frozenset[str]
    paths: frozenset[str]
    ms: int

    def applies(self, method: str, leaf: str) -> bool:
        if self.fault in _ORDERS_ONLY and (method, leaf) != ("POST", "order"):
            return False
        if self.fault == "stale" and method != "GET":
            return False
        return (not self.methods or method in self.methods) and (not self.paths or leaf in self.paths)


@dataclass(slots=True, kw_only=True)
class Kill:
    """Fires once, on an order that arrives after ``skip`` others: ``signal`` to ``pid`` at ``when``. Without ``effect``
    the order is lost on the way (only before the effect)."""

    when: str
    pid: int
    signal: int = signal.SIGKILL
    skip: int = 0
    effect: bool = True
    after_ms: int = 20

    def fire(self) -> bool:
        """Whether there was still a process to signal."""
        try:
            os.kill(self.pid, self.signal)
        except ProcessLookupError:
            return False
        return True


class Faults:
    """The rules that hold now, and how often each kind fired."""

    def __init__(self, *, seed: int) -> None:
        self.rules: list[Rule] = []
        self.kill: Kill | None = None
        self.kills: list[dict[str, Any]] = []
        self.fired: Counter[str] = Counter()
        self._rng = random.Random(seed)

    def replace(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """From now on these rules and no others. Raises ``ValueError`` for one that can't be."""
        self.rules = [parse_rule(rule) for rule in rules]

    def add(self, rule: Mapping[str, Any]) -> None:
        self.rules.append(parse_rule(rule))

    def arm(self, body: Mapping[str, Any]) -> None:
        """Raises ``ValueError`` for a hook that can't be."""
        if body.get("when") not in KILL_POINTS:
            raise ValueError(f"'when' is one of {', '.join(KILL_POINTS)}, not {body.get('when')!r}")
        kill = Kill(**body)
        if kill.pid <= 1 or kill.signal not in _SIGNALS:
            raise ValueError("a kill names a process beyond 1, and SIGKILL, SIGSTOP or SIGTERM")
        self.kill = kill

    def of(self, method: str, leaf: str) -> Rule | None:
        """The rule that fires on this request."""
        for rule in self.rules:
            if not rule.applies(method, leaf) or rule.left == 0:
                continue
            if rule.left is None:
                if self._rng.random() >= rule.chance:
                    continue
            else:
                rule.left -= 1
            self.fired[rule.fault] += 1
            return rule
        return None

    def due_kill(self) -> Kill | None:
        """The hook, when it is this order's turn."""
        kill = self.kill
        if kill is None:
            return None
        if kill.skip > 0:
            kill.skip -= 1
            return None
        self.kill = None
        return kill

    def to_json(self) -> dict[str, Any]:
        return {"fired": dict(self.fired), "kills": self.kills, "kill_armed": self.kill is not None}


def parse_rule(given: Mapping[str, Any]) -> Rule:
    """Raises ``ValueError`` with what is wrong."""
    unknown = given.keys() - {"fault", "p", "next", "methods", "paths", "ms"}
    if unknown:
        raise ValueError(f"a rule has no {sorted(unknown)[0]!r}")
    if given.get("fault") not in KINDS:
        raise ValueError(f"there is no fault {given.get('fault')!r}; there are {', '.join(KINDS)}")
    if ("p" in given) is ("next" in given):
        raise ValueError("a rule has either 'p' (a chance) or 'next' (a number of times)")
    return Rule(
        fault=given["fault"],
        chance=float(given.get("p", 0)),
        left=None if "p" in given else int(given["next"]),
        methods=frozenset(given.get("methods", ())),
        paths=frozenset(given.get("paths", ())),
        ms=int(given.get("ms", 1000)),
    )
