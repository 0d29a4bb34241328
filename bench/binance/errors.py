"""How the exchange says no: its codes, its words, its HTTP statuses."""

from __future__ import annotations


class BinanceError(Exception):
    """An error reply ``{"code", "msg"}``. ``headers`` come with it."""

    def __init__(self, code: int, msg: str, *, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{code} {msg}")
        self.code = code
        self.msg = msg
        self.status = status
        self.headers = headers or {}


def filter_failure(name: str) -> BinanceError:
    """An order that a filter of the market refuses."""
    return BinanceError(-1013, f"Filter failure: {name}")


def mandatory(parameter: str) -> BinanceError:
    """A parameter that is absent or no number."""
    return BinanceError(-1102, f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.")


def insufficient() -> BinanceError:
    return BinanceError(-2010, "Account has insufficient balance for requested action.")


def duplicate() -> BinanceError:
    """The client id belongs to an order that is open; a finished one's may be used again."""
    return BinanceError(-2010, "Duplicate order sent.")


def unknown_cancel() -> BinanceError:
    return BinanceError(-2011, "Unknown order sent.")


def no_such_order() -> BinanceError:
    return BinanceError(-2013, "Order does not exist.")
