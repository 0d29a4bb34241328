"""``tbh topology``: who is in the tree of a bot, and who tells whom what."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from typing import Any

from tbh import __version__
from tbh.actors.identity import BotIdentity
from tbh.domain.papermarket import paper_market
from tbh.domain.risk import RiskLimits
from tbh.messages.base import Command
from tbh.messages.market import Advance
from tbh.runtime.supervise import ChildSpec
from tbh.runtime.wiring import check_wiring, topology
from tbh.tree import Parts, build_tree


def run(args: argparse.Namespace) -> int:
    """Prove the wiring and print it. ``WiringError`` when the tree can't work as declared."""
    specs = specs_of_a_bot()
    check_wiring(specs, external=(Advance,))
    print(json.dumps(facts(specs)) if args.json else topology(specs))
    return 0


def specs_of_a_bot() -> tuple[ChildSpec, ...]:
    """The children as a session has them. Their factories are never called, so nothing needs to be behind the ports."""
    nothing: Any = None
    return build_tree(
        Parts(
            identity=_IDENTITY,
            market=paper_market("BASE/QUOTE", Decimal(0)),
            new_strategy=nothing,
            feed=nothing,
            exchange=nothing,
            store=nothing,
            rpc=nothing,
            sink=nothing,
            channels=(),
            limits=RiskLimits(),
            cash=Decimal(0),
        )
    )


def facts(specs: tuple[ChildSpec, ...]) -> dict[str, Any]:
    """``actors`` in start order with their supervision, and ``edges``: one for each message and pair of actors."""
    routes = check_wiring(specs, external=(Advance,))
    return {
        "actors": [
            {
                "name": spec.name,
                "receives": sorted(kind.__name__ for kind, takers in routes.items() if spec.name in takers),
                "sends": sorted(kind.__name__ for kind in spec.actor.sends),
                "background": spec.background,
                "max_failures": spec.policy.max_failures,
                "window_s": spec.policy.window_s,
                "on_exceeded": str(spec.on_exceeded),
                "max_waiting": spec.max_waiting,
            }
            for spec in specs
        ],
        "edges": [
            {
                "from": spec.name,
                "to": taker,
                "message": kind.__name__,
                "kind": "command" if issubclass(kind, Command) else "fact",
            }
            for spec in specs
            for kind in spec.actor.sends
            for taker in routes.get(kind, ())
        ],
    }


_IDENTITY = BotIdentity(
    bot_id="00000000-0000-0000-0000-000000000000",
    bot_name="",
    user_id="",
    strategy="",
    mode="paper",
    exchange="paper",
    symbol="BASE/QUOTE",
    boot_id="",
    run_id="",
    version=__version__,
    provider="",
    region="",
    machine_id="",
    polling_tier="standard",
    timeframe_s=60,
)
