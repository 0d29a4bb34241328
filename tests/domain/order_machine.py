"""The order machine against an exchange that is known in full: whatever its words do on their way, the truth comes out.

What the exchange says is lost, repeated, delayed and reordered; the process dies and reads an older row back; and the
exchange lies, too: it refuses what it fills, and denies what arrives later.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tbh.domain import order as rules
from tbh.domain.order import OPEN, TERMINAL
from tbh.messages.orders import (
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderNotFound,
    OrderRejected,
    OrderStatus,
    OutcomeUnknown,
    Side,
)
from tests.domain.order_truth import NOW, QTY, STEP, Desk, Request, Truth, Word, an_order, position_of

_S = OrderStatus


def concerning(holds: Callable[[Any, Truth], bool], **given: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule about one of the orders of which ``holds`` (of the machine and the order) is true."""

    def decorate(act: Callable[..., None]) -> Any:
        def chosen(self: OrderMachine, of: int, **drawn: Any) -> None:
            fitting = [truth for truth in self.truths if holds(self, truth)]
            act(self, fitting[of % len(fitting)], **drawn)

        chosen.__name__ = act.__name__
        about: Any = rule(of=st.integers(0, 1), **given)
        return precondition(lambda self: any(holds(self, truth) for truth in self.truths))(about(chosen))

    return decorate


def _unsent(machine: OrderMachine, truth: Truth) -> bool:
    before_the_wire = machine.status(truth) in (OrderStatus.DRAFTED, OrderStatus.RECORDED)
    return before_the_wire and truth.name not in machine.placed


class OrderMachine(RuleBasedStateMachine):
    """What happens at the exchange, and to its words, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.truths = [Truth(an_order("entry", Side.BUY)), Truth(an_order("exit", Side.SELL))]
        self.disk = {truth.name: rules.draft(truth.order, NOW) for truth in self.truths}
        self.disk_fills: list[Fill] = []
        self.desk = Desk(list(self.disk.values()), [])
        self.placed: set[str] = set()
        self.words: list[Word] = []
        self.seq = 0

    def status(self, truth: Truth) -> OrderStatus:
        return self.desk.state(truth.name).status

    @initialize(at=st.sampled_from(["drafted", "sent", "live", "live"]), exit_too=st.booleans())
    def it_begins(self, at: str, exit_too: bool) -> None:
        """Most of what can go wrong does so later in an order's life than a walk from its draft would come."""
        for truth in self.truths if exit_too else self.truths[:1]:
            name = truth.name
            if at != "drafted":
                truth.request = Request.FLYING
                self.placed.add(name)
                self.desk.learn(rules.on_submitted(self.desk.state(name), NOW))
            if at == "live":
                truth.request, truth.status = Request.ARRIVED, OrderStatus.ACCEPTED
                self.desk.hear(OrderAccepted(client_order_id=name, exchange_order_id="x"))

    # The bot

    @concerning(_unsent)
    def the_draft_is_recorded(self, truth: Truth) -> None:
        self.desk.learn(rules.on_recorded(self.desk.state(truth.name), NOW))

    @concerning(_unsent, told=st.booleans())
    def the_order_is_sent(self, truth: Truth, told: bool) -> None:
        truth.request = Request.FLYING
        self.placed.add(truth.name)
        if told:
            self.desk.learn(rules.on_submitted(self.desk.state(truth.name), NOW))

    @concerning(_unsent)
    def the_order_is_withdrawn(self, truth: Truth) -> None:
        self.placed.add(truth.name)
        self.desk.learn(rules.on_canceled(self.desk.state(truth.name), Decimal(0), "withdrawn", NOW))

    @concerning(lambda self, truth: truth.name in self.placed)
    def nobody_answers(self, truth: Truth) -> None:
        self.desk.hear(OutcomeUnknown(client_order_id=truth.name, reason="timeout"))

    @concerning(lambda self, truth: not _unsent(self, truth), soon=st.booleans())
    def the_exchange_is_asked(self, truth: Truth, soon: bool) -> None:
        self.say(truth.answer(), soon)

    # The exchange

    def say(self, word: Word, soon: bool) -> None:
        """The word is on its way; ``soon``: it overtakes all that are."""
        if soon:
            self.desk.hear(word)
        else:
            self.words.append(word)

    @concerning(
        lambda _, truth: truth.request is Request.FLYING,
        soon=st.booleans(),
        fate=st.sampled_from(["accepted", "accepted", "accepted", "rejected", "lost"]),
    )
    def the_request_arrives_or_not(self, truth: Truth, soon: bool, fate: str) -> None:
        truth.request = Request.LOST if fate == "lost" else Request.ARRIVED
        if fate == "accepted":
            truth.status = OrderStatus.ACCEPTED
            self.say(OrderAccepted(client_order_id=truth.name, exchange_order_id="x"), soon)
        elif fate == "rejected":
            truth.status = OrderStatus.REJECTED
            self.say(OrderRejected(client_order_id=truth.name, reason="no"), soon)

    @concerning(lambda _, truth: truth.live, soon=st.booleans(), tenths=st.integers(1, 12), price=st.integers(90, 110))
    def it_fills(self, truth: Truth, soon: bool, tenths: int, price: int) -> None:
        """A part of it, or the rest, or the rest rounded up to the next step."""
        self.seq += 1
        rest = QTY - truth.filled
        qty = rest + STEP / 2 if tenths == 12 else min(Decimal(tenths) / 10, rest)
        self.say(truth.trade(qty, price, self.seq), soon)

    @concerning(lambda _, truth: truth.live, soon=st.booleans(), expires=st.booleans())
    def it_is_taken_off_the_book(self, truth: Truth, soon: bool, expires: bool) -> None:
        truth.status, truth.counted = OrderStatus.EXPIRED if expires else OrderStatus.CANCELED, truth.filled
        end = OrderExpired if expires else OrderCanceled
        self.say(end(client_order_id=truth.name, filled_qty=truth.filled, reason="asked"), soon)

    @concerning(lambda _, truth: truth.live and truth.filled > 0)
    def it_is_called_filled_short_of_what_was_ordered(self, truth: Truth) -> None:
        truth.status, truth.counted = OrderStatus.FILLED, truth.filled

    @concerning(lambda _, truth: truth.status in (_S.CANCELED, _S.EXPIRED) and truth.filled < QTY, soon=st.booleans())
    def a_fill_was_under_way_when_it_ended(self, truth: Truth, soon: bool) -> None:
        self.seq += 1
        self.say(truth.trade(min(Decimal("0.3"), QTY - truth.filled), 100, self.seq), soon)

    @concerning(lambda _, truth: truth.may_fill, soon=st.booleans(), refused=st.booleans())
    def the_exchange_lies(self, truth: Truth, soon: bool, refused: bool) -> None:
        """It refuses, or denies for good, what fills or arrives after all."""
        truth.lied = True
        lie = OrderRejected(client_order_id=truth.name, reason="no")
        self.say(lie if refused else OrderNotFound(client_order_id=truth.name, conclusive=True), soon)

    # The way of its words

    @precondition(lambda self: self.words)
    @rule(which=st.integers(0, 30), again=st.booleans())
    def a_word_is_heard(self, which: int, again: bool) -> None:
        at = which % len(self.words)
        self.desk.hear(self.words[at] if again else self.words.pop(at))

    @precondition(lambda self: self.words)
    @rule(which=st.integers(0, 30))
    def a_word_is_lost(self, which: int) -> None:
        if not isinstance(self.words[which % len(self.words)], Fill):  # the account's events can be read again
            del self.words[which % len(self.words)]

    # The disk

    @rule(of=st.integers(0, 1))
    def the_row_reaches_the_disk(self, of: int) -> None:
        name = self.truths[of].order.client_order_id
        self.disk[name] = self.desk.state(name)

    @precondition(lambda self: self.desk.noted)
    @rule(which=st.integers(0, 30))
    def a_fill_reaches_the_disk(self, which: int) -> None:
        fill = list(self.desk.noted.values())[which % len(self.desk.noted)]
        if fill not in self.disk_fills:
            self.disk_fills.append(fill)

    @rule(whole=st.booleans())
    def a_new_incarnation_reads_it_back(self, whole: bool) -> None:
        """``whole``: the process died, and what was on its way is lost with it; a restart of the actor keeps that."""
        if whole:
            self.words.clear()
        self.words += [fill for truth in self.truths for fill in truth.fills]
        before = self.desk
        self.placed.update(self.disk)
        self.desk = Desk(list(self.disk.values()), self.disk_fills, 0 if whole else before.incarnation + 1)
        for name, row in self.disk.items():
            self.desk.recover(name)
            if row.status not in TERMINAL and not whole:  # what the old one sent may yet come to the disk
                assert self.desk.state(name).version > before.versions[name]
            assert self.desk.state(name).filled_qty >= row.filled_qty

    # What holds at any time

    @invariant()
    def an_order_that_may_fill_is_never_taken_for_ended(self) -> None:
        for truth in self.truths:
            if truth.may_fill and not truth.lied:
                assert self.status(truth) in OPEN

    @invariant()
    def no_order_ends_before_the_fills_that_its_end_counts_are_here(self) -> None:
        for truth in self.truths:
            state = self.desk.state(truth.name)
            if truth.exists and not truth.live and not truth.lied and state.status in TERMINAL:
                assert state.filled_qty >= truth.counted

    @invariant()
    def what_an_order_has_filled_is_the_sum_of_its_fills(self) -> None:
        for name, row in self.desk.rows.items():
            known = sum((fill.qty for fill in self.desk.noted.values() if fill.client_order_id == name), Decimal(0))
            assert self.desk.state(name).filled_qty == max(known, row.filled_qty)

    @invariant()
    def the_position_is_the_sum_of_the_fills(self) -> None:
        assert self.desk.book.qty == position_of(list(self.desk.noted.values()))

    @invariant()
    def an_order_is_open_or_done(self) -> None:
        states = {self.desk.state(name) for name in self.disk}
        assert set(self.desk.blotter.open) == {state for state in states if state.status in OPEN}

    # When all has been said

    def teardown(self) -> None:
        for truth in self.truths:
            if truth.request is Request.FLYING:
                truth.request = Request.LOST
            self.words += truth.fills
        while self.words:
            self.desk.hear(self.words.pop())
        for truth in self.truths:
            if truth.live:
                self.desk.hear(truth.answer())  # the list of the open orders tells of one that was thought done
            for _ in range(3):
                if self.status(truth) in OPEN:
                    self.desk.hear(OutcomeUnknown(client_order_id=truth.name, reason="no answer"))
                    self.desk.hear(truth.answer())
            self.check(truth)
        fills = [fill for truth in self.truths for fill in truth.fills]
        assert self.desk.book.qty == position_of(fills)

    def check(self, truth: Truth) -> None:
        state = self.desk.state(truth.name)
        assert state.filled_qty == truth.filled
        if truth.live:
            assert state.status is (OrderStatus.PARTIALLY_FILLED if truth.fills else OrderStatus.ACCEPTED)
        elif truth.status is OrderStatus.FILLED:
            assert state.status is OrderStatus.FILLED
        else:
            assert state.status in TERMINAL - {OrderStatus.FILLED}
            if truth.exists and not truth.lied:
                assert state.status is truth.status
