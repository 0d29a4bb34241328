"""One exchange of the ccxt library, without the hundred others and without its transport.

``import ccxt`` takes 1.9 s and 81 MB, for its ``__init__`` imports every exchange. A module of one exchange needs only
to find the package's folder, so it is imported under a bare package object. Half of what is left would be ``requests``,
which never carries a request here (``ccxt_http`` does); names stand in for what the library takes from it.

All that was imported so belongs to this module alone: it is taken out of ``sys.modules`` again, and who imports ccxt or
requests later gets the real ones.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from tbh.ports import Fatal

_PACKAGE: Final = "ccxt"
_TRANSPORT: Final = "requests"
_FAILURES: Final = ("HTTPError", "Timeout", "TooManyRedirects", "RequestException", "ConnectionError")
_importing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Library:
    """An exchange's class, and the module of the errors that the library raises."""

    exchange: Any
    errors: ModuleType

    @property
    def base_error(self) -> Any:
        """The class above all of them."""
        return self.errors.BaseError


def library(name: str) -> Library:
    """The class ``ccxt.NAME``. ``Fatal(78)`` when the library is not installed or has no such exchange."""
    with _importing:
        return _imported(name)


@functools.cache
def _imported(name: str) -> Library:
    names = (_PACKAGE, _TRANSPORT)
    aside = {one: sys.modules.pop(one) for one in list(sys.modules) if one.partition(".")[0] in names}
    try:
        sys.modules.update(_stand_ins())
        sys.modules[_PACKAGE] = _bare_package()
        found = importlib.import_module(f"{_PACKAGE}.{name}")
        return Library(getattr(found, name), sys.modules[f"{_PACKAGE}.base.errors"])
    except ModuleNotFoundError as error:
        raise Fatal("ccxt_missing", exit_code=78, detail=f"{error}: install ccxt 4.5 or later") from error
    finally:
        for one in list(sys.modules):
            if one.partition(".")[0] in names:
                del sys.modules[one]
        sys.modules.update(aside)


def _bare_package() -> ModuleType:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {_PACKAGE}")
    package = ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    return package


class _NoSession:
    """Carries nothing: whoever makes a connection gives it its own transport."""

    trust_env = False

    def close(self) -> None:
        """Nothing is open."""


def _stand_ins() -> dict[str, ModuleType]:
    transport, utils, failures = (ModuleType(_TRANSPORT + part) for part in ("", ".utils", ".exceptions"))
    transport.Session = _NoSession  # type: ignore[attr-defined]
    utils.default_user_agent = lambda: ""  # type: ignore[attr-defined]
    for name in _FAILURES:
        setattr(failures, name, type(name, (OSError,), {}))
    return {module.__name__: module for module in (transport, utils, failures)}
