"""The whole command line: every command with its options, and the function that carries it out.

A command is named by module and function and imported only when it runs, so that the help of any of them answers at
once, without NumPy, TA-Lib or pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tbh import __version__
from tbh.cli.backtest_arguments import add_backtest_command
from tbh.cli.local_arguments import add_database_commands
from tbh.cli.operator_arguments import add_operator_commands
from tbh.cli.parser import SEED_MAX, Parser, cash, fee_rate, path, share, speed, symbol, whole
from tbh.cli.run_arguments import add_run_command
from tbh.cli.simulate_arguments import add_simulate_command

BARS_MAX = 1_000_000

_EXAMPLES = """examples:
  tbh demo                          watch a bot trade a simulated market on paper
  tbh demo --candles btc-1m.csv     the same over recorded candles
  tbh strategy check my.json        is this strategy sound?

Each command has its own --help."""

_DEMO_EXAMPLES = """examples:
  tbh demo
  tbh demo --candles btc-5m.parquet --strategy my.json --speed max --json
  tbh demo --dir ~/demo --speed 20      stop it with Ctrl-C; the same line goes on where it was

CSV, csv.gz and parquet files hold the columns timestamp (ms UTC, bar open), open, high, low, close, volume.
Nothing here reaches an exchange: every order goes to a paper account in the state folder."""


def build_parser(command: str | None = None) -> Parser:
    """The parser; what it parses holds ``run``, the command as ``module:function``. Where there is such a ``command``,
    it need not know another: a start does not wait until thirty parsers are made."""
    parser = Parser(prog="tbh", description="TradeBotHub: a trading bot made of supervised actors.", epilog=_EXAMPLES)
    parser.add_argument("--version", action="version", version=f"tbh {__version__}")
    commands = _commands(parser)
    meant = [add for names, add in _PARTS if command in names]
    for add in meant or [add for _, add in _PARTS]:
        add(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = _add(
        commands,
        "demo",
        run="demo:run",
        does="watch a bot trade recorded candles or a simulated market on paper",
        examples=_DEMO_EXAMPLES,
    )
    demo.add_argument(
        "--database",
        choices=("local", "memory"),
        default="local",
        help="the bot's database: a real one in the state folder, or none that lasts (default: %(default)s)",
    )
    demo.add_argument("--candles", metavar="FILE", type=path, help="recorded candles (default: a simulated market)")
    demo.add_argument(
        "--strategy",
        metavar="FILE|NAME",
        type=path,
        help="a definition in JSON, or a strategy in Python: its name, module:Class or file.py:Class (default: a"
        " built-in EMA cross)",
    )
    demo.add_argument("--params", metavar="JSON|FILE", help="parameters of a strategy in Python")
    demo.add_argument(
        "--bars",
        metavar="N",
        type=whole(2, BARS_MAX),
        help="the first N bars (default: all of FILE, 1500 of the simulated market)",
    )
    demo.add_argument(
        "--cash", type=cash, default=cash("10000"), help="start with this much of the quote (%(default)s)"
    )
    demo.add_argument("--fee", type=fee_rate, default=fee_rate("0.001"), help="per side, a fraction (%(default)s)")
    demo.add_argument("--symbol", metavar="S", type=symbol, help="what to call the market, BASE/QUOTE")
    demo.add_argument(
        "--speed",
        metavar="max|realtime|N",
        type=speed,
        help="N bars per second, the pace of real time, or as fast as it goes"
        " (default: about 15 s in all on a terminal, else max)",
    )
    demo.add_argument(
        "--seed", metavar="N", type=whole(0, SEED_MAX), default=1, help="of the simulated market (%(default)s)"
    )
    demo.add_argument(
        "--dir", metavar="DIR", type=path, help="keep the state here, and go on from what is there (default: a new one)"
    )
    demo.add_argument(
        "--volume-share",
        metavar="X",
        type=share,
        help="fill at most this fraction of a bar's volume (default: no limit)",
    )
    demo.add_argument(
        "--host",
        choices=("threads", "simulator"),
        default="threads",
        help="what drives the actors: real threads, or one thread in virtual time (%(default)s)",
    )


def _add_indicators(commands: Any) -> None:
    verbs = _group(
        commands, "indicators", does="look into the catalogue of indicators", example="tbh indicators show macd"
    )
    _add(
        verbs,
        "list",
        run="indicators:run_list",
        does="list every indicator with its parameters and columns",
        examples="  tbh indicators list --json",
    )
    show = _add(
        verbs,
        "show",
        run="indicators:run_show",
        does="show one indicator: parameters with their ranges, columns, warm-up",
        examples="  tbh indicators show bollinger",
    )
    show.add_argument("name", metavar="NAME", help="its name or an alias")
    compute = _add(
        verbs,
        "compute",
        run="indicators_run:run_compute",
        does="compute an indicator over a candle file and print its last rows",
        examples="  tbh indicators compute macd --candles btc-1m.csv --param fast=8 --last 5",
    )
    compute.add_argument("name", metavar="NAME", help="its name or an alias")
    compute.add_argument("--candles", metavar="FILE", type=path, required=True, help="recorded candles")
    compute.add_argument("--param", metavar="NAME=VALUE", action="append", help="a parameter; may be repeated")
    compute.add_argument("--source", metavar="SERIES", help="what it reads, where it takes any (default: close)")
    compute.add_argument(
        "--last",
        metavar="N",
        type=whole(0, BARS_MAX),
        default=10,
        help="rows to print, 0 for all (default: %(default)s)",
    )
    verify = _add(
        verbs,
        "verify",
        run="indicators_run:run_verify",
        does="compare the catalogue with published values",
        examples="  tbh indicators verify manifest.json --json",
    )
    verify.add_argument("manifest", metavar="MANIFEST", type=path, help="the cases; files lie beside its folder")


def _add_strategy(commands: Any) -> None:
    verbs = _group(commands, "strategy", does="check strategy definitions", example="tbh strategy check my.json")
    _add(
        verbs,
        "schema",
        run="strategy:run_schema",
        does="print the JSON schema of a definition",
        examples="  tbh strategy schema > strategy.schema.json",
    )
    check = _add(
        verbs,
        "check",
        run="strategy:run_check",
        does="check a definition; every problem is one line",
        examples="  tbh strategy check my-strategy.json",
    )
    check.add_argument("file", metavar="FILE", type=path, help="a definition in JSON")


def _add_topology(commands: Any) -> None:
    _add(
        commands,
        "topology",
        run="topology:run",
        does="draw the actors of a bot and the messages between them (Mermaid)",
        examples="  tbh topology > topology.mmd",
    )


def _add_version(commands: Any) -> None:
    _add(commands, "version", run="version:run", does="print the version", examples="  tbh version --json")


def _commands(parser: Parser) -> Any:
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)


def _group(commands: Any, name: str, *, does: str, example: str) -> Any:
    described = f"{does[0].upper()}{does[1:]}."
    group: Parser = commands.add_parser(name, help=does, description=described, epilog=f"example:\n  {example}")
    return _commands(group)


def _add(commands: Any, name: str, *, run: str, does: str, examples: str) -> Parser:
    described = f"{does[0].upper()}{does[1:]}."
    epilog = examples if examples.startswith("examples:") else f"example:\n{examples}"
    made: Parser = commands.add_parser(name, help=does, description=described, epilog=epilog)
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    made.set_defaults(run=run)
    return made


_PARTS: Sequence[tuple[tuple[str, ...], Callable[[Any], None]]] = (
    (("demo",), _add_demo),
    (("backtest",), partial(add_backtest_command, add=_add)),
    (("run",), partial(add_run_command, add=_add)),
    (("local", "db"), partial(add_database_commands, group=_group, add=_add)),
    (("bot", "status", "token", "dead-letters"), partial(add_operator_commands, group=_group, add=_add)),
    (("simulate",), partial(add_simulate_command, add=_add)),
    (("topology",), _add_topology),
    (("indicators",), _add_indicators),
    (("strategy",), _add_strategy),
    (("version",), _add_version),
)
"""Commands, in the order in which the help has them, and what adds them."""
