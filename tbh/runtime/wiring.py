"""The types are the wiring: who sends what to whom follows from ``@receive`` and ``sends``, and is proven at boot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tbh.messages.base import Command, Fact, Message, Timer
from tbh.messages.system import ActorHung, DeadLettered, Restarted, Urgent
from tbh.runtime.actor import WiringError, receivers
from tbh.runtime.supervise import ChildSpec

KERNEL_SENDS: tuple[type[Message], ...] = (Restarted, DeadLettered, ActorHung)
"""Facts that the kernel itself sends; they may stay without a receiver."""

Routes = dict[type[Message], tuple[str, ...]]


def routes_of(specs: Sequence[ChildSpec]) -> Routes:
    """Message type -> names of the actors that receive it, in start order. Timers are not routed."""
    routes: dict[type[Message], list[str]] = {}
    for spec in specs:
        for kind in receivers(spec.actor):
            if not issubclass(kind, Timer):
                routes.setdefault(kind, []).append(spec.name)
    return {kind: tuple(names) for kind, names in routes.items()}


def check_wiring(specs: Sequence[ChildSpec], *, external: Iterable[type[Message]] = ()) -> Routes:
    """The routes, proven: every command has one receiver, every fact at least one, every received type a sender.

    ``external`` are types that the composer itself sends. Raises ``WiringError`` with all problems, one a line.
    """
    problems: list[str] = []
    names = [spec.name for spec in specs]
    problems += [f"two actors are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    routes = routes_of(specs)
    outside = set(external)
    sent: dict[type[Message], list[str]] = {kind: ["(composer)"] for kind in outside}
    for spec in specs:
        for kind in spec.actor.sends:
            sent.setdefault(kind, []).append(spec.name)
    for kind, senders in sent.items():
        takers = routes.get(kind, ())
        if issubclass(kind, (Timer, Urgent)):
            problems.append(f"{kind.__name__}: sent by {', '.join(senders)}, but it never travels between actors")
        elif issubclass(kind, Command) and len(takers) != 1:
            problems.append(f"{kind.__name__}: a command has one receiver, this one has {len(takers)} {list(takers)}")
        elif issubclass(kind, Fact) and not takers:
            problems.append(f"{kind.__name__}: sent by {', '.join(senders)}, received by nobody")
        elif not issubclass(kind, (Fact, Command)):
            problems.append(f"{kind.__name__}: neither a fact nor a command")
    for kind, takers in routes.items():
        if kind not in sent and kind not in KERNEL_SENDS:
            problems.append(f"{kind.__name__}: received by {', '.join(takers)}, sent by nobody")
    if problems:
        raise WiringError("\n".join(sorted(problems)))
    return routes


def topology(specs: Sequence[ChildSpec]) -> str:
    """The tree and its message flow as a Mermaid flowchart: solid arrows are commands, dotted ones facts."""
    routes = routes_of(specs)
    lines = ["flowchart LR", "  supervisor([supervisor])"]
    lines += [f"  supervisor --- {spec.name}" for spec in specs]
    edges: dict[tuple[str, str, bool], list[str]] = {}
    for spec in specs:
        for kind in spec.actor.sends:
            for taker in routes.get(kind, ()):
                edges.setdefault((spec.name, taker, issubclass(kind, Command)), []).append(kind.__name__)
    for (sender, taker, command), kinds in edges.items():
        label = "<br/>".join(sorted(kinds))
        lines.append(f'  {sender} {"-->" if command else "-.->"}|"{label}"| {taker}')
    return "\n".join(lines)
