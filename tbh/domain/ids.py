"""Ids are functions of what they name, never of chance, epoch or process.

The same decision therefore gets the same id after a crash, on another machine and with an empty disk, which is what
makes repeating harmless; and an order found on the exchange says by itself whether it is ours and what it was for.

A client order id is 32 lowercase hex characters, the widest form that every exchange takes:

    ======  ===============================================================
    8       the bot (hash)
    8       seconds of the bar's open since 1970
    2       the strategy (hash)
    1 + 1   purpose, layer
    2       attempt
    10      check: a keyed hash of the other 22, so that a stranger's id is
            taken for ours once in 2**72
    ======  ===============================================================

Two kinds have no bar of their own and use the fields otherwise. *Protection* takes bar and strategy from its position's
id, and layer and attempt count the revisions. A *request* (flatten, manual, emergency) spreads a hash of its request id
over bar, strategy and layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Final
from urllib.parse import quote

from tbh.messages.account import Origin
from tbh.messages.base import message
from tbh.messages.orders import Purpose

LAYER_MAX: Final = 15
ATTEMPT_MAX: Final = 255

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_SECONDS_MAX = 2**32 - 1
REVISIONS_PER_SECOND: Final = 1 << 12
_HEX = frozenset("0123456789abcdef")

_CODES: Final = {
    Purpose.ENTRY: 1,
    Purpose.PYRAMID: 2,
    Purpose.EXIT: 3,
    Purpose.STOP: 4,
    Purpose.TARGET: 5,
    Purpose.FLATTEN: 6,
    Purpose.EMERGENCY: 7,
    Purpose.MANUAL: 8,
}
_EXCHANGES_OWN: Final = ("autoclose-", "adl_autoclose", "settlement_autoclose-", "createbyliq", "liquidation")
"""How the ids begin that exchanges give to the orders by which they close a position themselves (in lower case)."""

_PURPOSES: Final = {code: purpose for purpose, code in _CODES.items()}
_OF_A_BAR: Final = frozenset({Purpose.ENTRY, Purpose.PYRAMID, Purpose.EXIT})


@message
class IdParts:
    """What a client order id of ours says. ``strategy_code`` is ``strategy_code(name)`` of its strategy.

    ``bar_seconds``, ``strategy_code`` and ``layer`` of a request (flatten, manual, emergency) are parts of a hash.
    """

    bar_seconds: int
    strategy_code: str
    purpose: Purpose
    layer: int
    attempt: int

    @property
    def bar_open(self) -> datetime:
        return _EPOCH + self.bar_seconds * _SECOND


def client_order_id(
    bot_id: str, *, bar_open: datetime, strategy: str, purpose: Purpose, layer: int, attempt: int
) -> str:
    """The id of an order that a strategy decided on the close of a bar (entry, pyramid, exit).

    Raises ``ValueError`` for another purpose, a layer beyond 15, an attempt beyond 255, or a bar that does not open
    on a whole second UTC between 1970 and 2106.
    """
    if purpose not in _OF_A_BAR:
        raise ValueError(f"an order of a bar is an entry, a pyramid or an exit, not {purpose}")
    return _compose(bot_id, _seconds(bar_open), strategy_code(strategy), purpose, layer, attempt)


def protection_order_id(bot_id: str, position_id: str, purpose: Purpose, revision: int) -> str:
    """The id of the stop or target that guards ``position_id`` (its opening order's id) in its ``revision``.

    Layer and attempt hold twelve bits of the revision, and each further 4096 move the bar on by one second. That
    stays unique: a position revised so often is older than that second, and the next one opens later still.
    Raises ``ValueError`` when the position was not opened by an order of this bot.
    """
    if not purpose.is_protection:
        raise ValueError(f"a protective order is a stop or a target, not {purpose}")
    if revision < 0:
        raise ValueError(f"a revision is not negative: {revision}")
    position = parse(position_id, bot_id)
    if position is None:
        raise ValueError(f"position {position_id!r} was not opened by an order of this bot")
    seconds_on, low = divmod(revision, REVISIONS_PER_SECOND)
    layer, attempt = divmod(low, ATTEMPT_MAX + 1)
    return _compose(bot_id, position.bar_seconds + seconds_on, position.strategy_code, purpose, layer, attempt)


def flatten_order_id(bot_id: str, request_id: str, attempt: int, *, purpose: Purpose = Purpose.FLATTEN) -> str:
    """The id of an order that carries out a request: flatten (by control version), manual or emergency."""
    if purpose in _OF_A_BAR or purpose.is_protection:
        raise ValueError(f"a request is a flatten, a manual or an emergency order, not {purpose}")
    digest = sha256(request_id.encode()).hexdigest()
    return _compose(bot_id, int(digest[:8], 16), digest[8:10], purpose, int(digest[10], 16), attempt)


@lru_cache(maxsize=1024)
def parse(client_order_id: str, bot_id: str) -> IdParts | None:
    """What the id says, or None when it is not one of this bot's."""
    text = client_order_id
    if len(text) != 32 or not _HEX.issuperset(text) or text[:8] != _bot_code(bot_id):
        return None
    purpose = _PURPOSES.get(int(text[18], 16))
    if purpose is None or text[22:] != _check(bot_id, text[:22]):
        return None
    return IdParts(
        bar_seconds=int(text[8:16], 16),
        strategy_code=text[16:18],
        purpose=purpose,
        layer=int(text[19], 16),
        attempt=int(text[20:22], 16),
    )


def origin(client_order_id: str, bot_id: str) -> Origin | None:
    """Who made an order that the account tells of; None when it was this bot. One without any id is the exchange's."""
    if parse(client_order_id, bot_id) is not None:
        return None
    own = not client_order_id or client_order_id.lower().startswith(_EXCHANGES_OWN)
    return Origin.EXCHANGE if own else Origin.MANUAL


@lru_cache(maxsize=64)
def strategy_code(strategy: str) -> str:
    """Two hex characters for a strategy's name."""
    return sha256(strategy.encode()).hexdigest()[:2]


def check_strategies(strategies: Iterable[str]) -> None:
    """Raise ``ValueError`` when two strategies of one bot share a code: their orders would share ids."""
    names: dict[str, str] = {}
    for name in strategies:
        other = names.setdefault(strategy_code(name), name)
        if other != name:
            raise ValueError(f"strategies {other!r} and {name!r} would give their orders the same ids: rename one")


def decision_id(strategy: str, symbol: str, bar_open: datetime) -> str:
    """The id of what ``strategy`` decides on the close of the bar that opened at ``bar_open``."""
    return f"{_quoted(strategy)}|{_quoted(symbol)}|{_seconds(bar_open)}"


def proposal_id(decision_id: str, purpose: Purpose, layer: int) -> str:
    """The id of one wish of a decision; it is also the intent of the orders that serve it."""
    return intent_id(purpose, decision_id, layer)


def intent_id(purpose: Purpose, subject: str, number: int = 0) -> str:
    """What an order serves, whatever its attempt.

    ``subject`` and ``number`` are the decision and the layer (entry, pyramid, exit), the position and the revision
    (stop, target), or the request and 0 (flatten, manual, emergency).
    """
    return f"{purpose.value}|{number}|{subject}"


def _compose(bot_id: str, seconds: int, strategy: str, purpose: Purpose, layer: int, attempt: int) -> str:
    if not 0 <= layer <= LAYER_MAX:
        raise ValueError(f"a layer lies within 0 and {LAYER_MAX}: {layer}")
    if not 0 <= attempt <= ATTEMPT_MAX:
        raise ValueError(f"an attempt lies within 0 and {ATTEMPT_MAX}: {attempt}")
    if not 0 <= seconds <= _SECONDS_MAX:
        raise ValueError(f"a bar opens within 1970 and 2106: {seconds} s")
    body = f"{_bot_code(bot_id)}{seconds:08x}{strategy}{_CODES[purpose]:x}{layer:x}{attempt:02x}"
    return body + _check(bot_id, body)


@lru_cache(maxsize=8)
def _bot_code(bot_id: str) -> str:
    return sha256(bot_id.encode()).hexdigest()[:8]


def _check(bot_id: str, body: str) -> str:
    return blake2b(body.encode(), key=_check_key(bot_id), digest_size=5).hexdigest()


@lru_cache(maxsize=8)
def _check_key(bot_id: str) -> bytes:
    return sha256(b"client order id of " + bot_id.encode()).digest()


def _seconds(bar_open: datetime) -> int:
    if bar_open.utcoffset() is None:
        raise ValueError(f"a bar's open is an aware time: {bar_open}")
    seconds, rest = divmod(bar_open - _EPOCH, _SECOND)
    if rest:
        raise ValueError(f"a bar opens on a whole second: {bar_open}")
    return seconds


@lru_cache(maxsize=64)
def _quoted(name: str) -> str:
    return quote(name, safe=" /:-_.")
