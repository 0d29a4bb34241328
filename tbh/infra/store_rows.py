"""The rows of a batch as SQL: what one commit of the local store writes (``tbh/infra/store.py``)."""

from __future__ import annotations

from tbh.domain.order import TERMINAL
from tbh.infra.codec import CodecError, encode, epoch_us
from tbh.infra.store_schema import DEAD_LETTERS_MAX, not_storable
from tbh.messages.orders import OrderState
from tbh.messages.strategy import Decision
from tbh.ports import Batch

Statement = tuple[str, tuple[object, ...]]

_ORDER_COLUMNS = "(client_order_id, intent_id, status, terminal, version, body) VALUES (?, ?, ?, ?, ?, ?)"
_WRITE_DRAFT = f"INSERT INTO orders {_ORDER_COLUMNS} ON CONFLICT (client_order_id) DO NOTHING"
_WRITE_ORDER = (
    f"INSERT INTO orders {_ORDER_COLUMNS} ON CONFLICT (client_order_id) DO UPDATE SET status = excluded.status, "
    "terminal = excluded.terminal, version = excluded.version, body = excluded.body "
    "WHERE excluded.version > orders.version"
)
_WRITE_DECISION = (
    "INSERT INTO decisions (strategy, bar_open_us, decision_id, body) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS "
    "(SELECT 1 FROM empty_decisions WHERE strategy = ?1 AND bar_open_us = ?2) "
    "ON CONFLICT (strategy, bar_open_us) DO NOTHING"
)
_WRITE_EMPTY_DECISION = (
    "INSERT INTO empty_decisions (strategy, bar_open_us, body) SELECT ?1, ?2, ?3 WHERE NOT EXISTS "
    "(SELECT 1 FROM decisions WHERE strategy = ?1 AND bar_open_us = ?2) "
    "ON CONFLICT (strategy) DO UPDATE SET bar_open_us = excluded.bar_open_us, body = excluded.body "
    "WHERE excluded.bar_open_us > empty_decisions.bar_open_us"
)
_WRITE_POSITION = (
    "INSERT INTO positions (symbol, seq, body) VALUES (?, ?, ?) ON CONFLICT (symbol) DO UPDATE "
    "SET seq = excluded.seq, body = excluded.body WHERE excluded.seq > positions.seq"
)
_WRITE_DEAD_LETTER = (
    "INSERT INTO dead_letters (actor, seq, message_type, payload, reason, at_us) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (actor, seq, at_us) DO NOTHING"
)


def row_statements(batch: Batch) -> list[Statement]:
    """Every row of the batch as a statement, before the transaction begins: a value without a text form ends here."""
    try:
        made = [_decision_statement(decision) for decision in batch.decisions]
        made += [(_WRITE_DRAFT, _order_values(state)) for state in batch.drafts]
        made += [(_WRITE_ORDER, _order_values(state)) for state in batch.orders]
        made += [
            (
                "INSERT INTO fills (trade_id, seq, body) VALUES (?, ?, ?) ON CONFLICT (trade_id) DO NOTHING",
                (fill.trade_id, fill.seq, encode(fill)),
            )
            for fill in batch.fills
        ]
        made += [
            (_WRITE_POSITION, (symbol, seq, None if position is None else encode(position)))
            for symbol, position, seq in batch.positions
        ]
        made += [("INSERT OR REPLACE INTO actions VALUES (?, ?, ?)", action) for action in batch.actions]
        made += [
            (
                _WRITE_DEAD_LETTER,
                (letter.actor, letter.seq, letter.message_type, letter.payload, letter.reason, epoch_us(letter.at)),
            )
            for letter in batch.dead_letters
        ]
        if batch.dead_letters:
            trim = "DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?"
            made.append((trim, (DEAD_LETTERS_MAX,)))
        made += [("INSERT OR REPLACE INTO meta VALUES (?, ?)", pair) for pair in batch.meta.items()]
    except CodecError as error:
        raise not_storable("a row", error) from error
    return made


def _decision_statement(decision: Decision) -> Statement:
    at = epoch_us(decision.bar_open)
    if decision.proposals:
        return _WRITE_DECISION, (decision.strategy, at, decision.decision_id, encode(decision))
    return _WRITE_EMPTY_DECISION, (decision.strategy, at, encode(decision))


def _order_values(state: OrderState) -> tuple[object, ...]:
    order = state.order
    terminal = state.status in TERMINAL
    return order.client_order_id, order.intent_id, state.status.value, terminal, state.version, encode(state)
