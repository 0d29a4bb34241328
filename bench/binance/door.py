"""Each request's way through the exchange: limits, signature, faults, time, effect, kill hooks, reply."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bench.binance.control import control
from bench.binance.errors import BinanceError, mandatory
from bench.binance.exchange import Exchange
from bench.binance.faults import BEFORE, Kill, Rule
from bench.binance.rest import ROUTES, Route, authorise, check_time, place
from bench.binance.wire import Lost, Reply, Request

_PAGE = b"<html><head><title>Service</title></head><body>Please try again later.</body></html>"
_ORDER = ("POST", "order")
_NOT_PART_OF_A_QUESTION = ("timestamp", "recvWindow", "signature")


class Door:
    """Where requests come in. The state between two of them changes only in here and by the ticks."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._last_replies: dict[str, Any] = {}

    async def __call__(self, request: Request) -> Reply:
        """Raises ``Lost`` when the connection shall end without a word."""
        if request.path.startswith("/control/"):
            return control(self._exchange, request)
        exchange = self._exchange
        exchange.requests[f"{request.method} {request.path}"] += 1
        route = ROUTES.get((request.method, request.path))
        leaf = request.path.rpartition("/")[2]
        if route is None:
            return Reply(
                status=404, body={"code": -1000, "msg": f"Path {request.path}, Method {request.method} unknown."}
            )
        rule = exchange.faults.of(request.method, leaf) if route.signed or self._names(leaf) else None
        try:
            return await self._answer(request, route, leaf, rule)
        except BinanceError as error:
            exchange.refused[f"{request.method} {leaf} {error.code}"] += 1
            body = {"code": error.code, "msg": error.msg}
            return Reply(status=error.status, body=body, headers=self._headers(leaf) | error.headers)

    async def _answer(self, request: Request, route: Route, leaf: str, rule: Rule | None) -> Reply:
        exchange, fault = self._exchange, "" if rule is None else rule.fault
        exchange.limits.weigh(route.weight, exchange.now_ms())
        if route.signed:
            authorise(exchange, request)
        if rule is not None and fault == "delay":
            await asyncio.sleep(rule.ms / 1000)
        if fault in BEFORE:
            return self._never_done(fault)
        if route.signed:
            check_time(exchange, request.params)
        if route.symbol and not request.params.get("symbol"):
            exchange.unscoped += 1
            raise mandatory("symbol")
        kill = exchange.faults.due_kill() if (request.method, leaf) == _ORDER else None
        if kill is not None and kill.when == "before_effect":
            self._fire(kill, request)
            if not kill.effect:
                raise Lost
        try:
            body = self._effect(request, route, rule)
        except BinanceError:
            if kill is not None and kill.when != "before_effect":
                exchange.faults.kill = kill  # this order had no effect: the next one is the one
            raise
        if kill is not None and kill.when == "after_effect":
            self._fire(kill, request)
            raise Lost
        if kill is not None and kill.when == "before_reply":
            # The market goes on meanwhile: what rests may have filled before the process dies.
            await asyncio.sleep(kill.after_ms / 1000)
            self._fire(kill, request)
        return await self._sent(body, leaf, rule)

    def _effect(self, request: Request, route: Route, rule: Rule | None) -> Any:
        exchange, fault = self._exchange, "" if rule is None else rule.fault
        if route.answer is place:
            hidden_ms = rule.ms if rule is not None and fault == "not_found" else 0
            return place(exchange, request.params, thin=fault == "thin", hidden_ms=hidden_ms)
        question = _question(request)
        if fault == "stale" and question in self._last_replies:
            return self._last_replies[question]
        body = route.answer(exchange, request.params)
        if request.method == "GET":
            self._last_replies[question] = body
        return body

    async def _sent(self, body: Any, leaf: str, rule: Rule | None) -> Reply:
        headers = self._headers(leaf)
        fault = "" if rule is None else rule.fault
        if rule is not None and fault == "delay_reply":
            await asyncio.sleep(rule.ms / 1000)
        if fault == "drop_reply":
            raise Lost
        if fault == "error_after":
            return Reply(status=503, body=_PAGE, headers=headers)
        if fault == "timeout_after":
            text = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
            return Reply(status=400, body={"code": -1007, "msg": text}, headers=headers)
        if fault == "html":
            return Reply(body=_PAGE, headers=headers)
        if fault == "empty":
            return Reply(body=b"", headers=headers)
        return Reply(body=body, headers=headers, cut=fault == "cut")

    def _never_done(self, fault: str) -> Reply:
        if fault == "drop_request":
            raise Lost
        if fault == "error_before":
            return Reply(status=503, body=_PAGE)
        if fault == "html_before":
            return Reply(body=_PAGE)
        status = 418 if fault == "ban" else 429
        words = "Way too much request weight used; IP banned." if fault == "ban" else "Too much request weight used."
        raise BinanceError(-1003, words, status=status, headers={"Retry-After": "1"})

    def _fire(self, kill: Kill, request: Request) -> None:
        told = {"client_order_id": request.params.get("newClientOrderId", ""), "at_ms": self._exchange.now_ms()}
        fired = kill.fire()
        self._exchange.faults.kills.append({"when": kill.when, "pid": kill.pid, "fired": fired, **told})

    def _headers(self, leaf: str) -> dict[str, str]:
        return self._exchange.limits.headers(order=leaf == "order")

    def _names(self, leaf: str) -> bool:
        return any(leaf in rule.paths for rule in self._exchange.faults.rules)


def _question(request: Request) -> str:
    asked = {name: value for name, value in request.params.items() if name not in _NOT_PART_OF_A_QUESTION}
    return json.dumps([request.path, asked], sort_keys=True)
