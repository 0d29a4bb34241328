"""The mailbox: bounds, the urgent lane, conflation; against a model, whatever the order of calls."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbh.messages.base import Fact, message
from tbh.messages.system import Halt
from tbh.runtime.mailbox import Envelope, Mailbox, MailboxFull


@message
class Quote(Fact):
    symbol: str
    n: int


@message
class Told(Fact):
    n: int


def envelope(n: int, symbol: str | None = None) -> Envelope:
    return Envelope(n, "a", "b", 0, Told(n=n) if symbol is None else Quote(symbol=symbol, n=n))


def urgent(n: int) -> Envelope:
    return Envelope(n, "host", "b", 0, Halt(reason="test"))


def drain(mailbox: Mailbox) -> list[int]:
    taken = []
    while (item := mailbox.take()) is not None:
        taken.append(item.seq)
    return taken


def test_first_in_is_first_out_and_urgent_goes_first() -> None:
    mailbox = Mailbox()
    for n in (1, 2):
        mailbox.offer(envelope(n))
    mailbox.offer_urgent(urgent(3))
    assert drain(mailbox) == [3, 1, 2]


def test_a_suspended_mailbox_gives_urgent_messages_only() -> None:
    mailbox = Mailbox()
    mailbox.suspended = True
    mailbox.offer(envelope(1))
    mailbox.offer_urgent(urgent(2))
    assert drain(mailbox) == [2]
    assert not mailbox.idle
    mailbox.suspended = False
    assert drain(mailbox) == [1]


def test_a_full_mailbox_refuses_facts_takes_urgent_ones_and_still_conflates() -> None:
    mailbox = Mailbox(2, frozenset([Quote]))
    mailbox.offer(envelope(1))
    assert mailbox.offer(envelope(2, "A")) is True
    with pytest.raises(MailboxFull):
        mailbox.offer(envelope(3))
    with pytest.raises(MailboxFull):
        mailbox.offer(envelope(4, "B"))
    assert mailbox.offer(envelope(5, "A")) is False
    mailbox.offer_urgent(urgent(6))
    assert drain(mailbox) == [6, 1, 5]
    assert mailbox.offer(envelope(7, "B")) is True, "the refused quote has left nothing behind"


def test_put_back_goes_to_the_front_in_order() -> None:
    mailbox = Mailbox()
    mailbox.offer(envelope(3))
    mailbox.put_back([envelope(1), envelope(2)])
    assert drain(mailbox) == [1, 2, 3]


def test_the_high_water_mark_is_the_most_that_ever_waited() -> None:
    mailbox = Mailbox()
    for n in range(5):
        mailbox.offer(envelope(n))
    drain(mailbox)
    mailbox.offer(envelope(9))
    assert (mailbox.high_water, len(mailbox)) == (5, 1)


@given(st.lists(st.one_of(st.none(), st.sampled_from("ABC").map(str), st.just("take")), max_size=60))
def test_a_quote_takes_the_place_of_the_older_one_and_facts_are_untouched(steps: list[str | None]) -> None:
    mailbox = Mailbox(10_000, frozenset([Quote]))
    model: list[tuple[str | None, int]] = []
    for n, step in enumerate(steps):
        if step == "take":
            item = mailbox.take()
            expected = model.pop(0)[1] if model else None
            assert (item.seq if item is not None else None) == expected
            continue
        place = next((i for i, (symbol, _) in enumerate(model) if symbol == step and step is not None), None)
        assert mailbox.offer(envelope(n, step)) is (place is None)
        if place is None:
            model.append((step, n))
        else:
            model[place] = (step, n)
    assert drain(mailbox) == [n for _, n in model]


def test_the_newest_quote_is_never_lost_to_a_reader_at_work() -> None:
    mailbox = Mailbox(10_000, frozenset([Quote]))
    last = 20_000
    added = [0]

    def write() -> None:
        for n in range(1, last + 1):
            added[0] += mailbox.offer(envelope(n, "A"))

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[int] = []
    while writer.is_alive() or not mailbox.idle:
        item = mailbox.take()
        if item is not None:
            taken.append(item.seq)
    writer.join()
    taken += drain(mailbox)
    assert taken[-1] == last
    assert taken == sorted(set(taken))
    assert len(taken) == added[0], "one token for each that was added, none for one that was replaced"
