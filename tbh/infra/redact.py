"""What must never be written down, and how it is masked in whatever is.

Three nets, each for what slips through the others:

- fields whose *name* says secret (token, key, password ...) are masked whole;
- *known values*, announced by ``register_secret``, are masked wherever they stand, also inside other words and in
  their escaped forms;
- *shapes* that can only be secrets: JWTs, ``sb_secret_``, bearer headers, passwords in URLs, ``token=...``.

``SECRETS`` is the one thing that every sink of the process shares, since a secret is secret for all of them.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[redacted]"
SECRET_LENGTH_MIN = 4
TEXT_LENGTH_MAX = 8_000
NAME_LENGTH_MAX = 200
NAMES_MAX = 5_000
"""Names that are remembered with their verdict: a program's fields are few, a stranger's keys may be many."""
ITEMS_MAX = 200
DEPTH_MAX = 8

_LINE_OF_A_SECRET_MIN = 16
_NAME_PART = re.compile(
    r"token|secret|passw|passphrase|authorization|credential|api_?key|private_?key|bearer|cookie", re.IGNORECASE
)
_NAME_WORDS = frozenset({"key", "keys", "dsn", "pwd", "pass", "jwt", "signature"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SHAPES = re.compile(
    r"""
      eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?                  # JSON web token
    | \bsb_(?:secret|publishable)_[\w-]+
    | (?<=\bbearer\ )[^\s"',;]+
    | (?<=\bbasic\ )[A-Za-z0-9+/]{16,}={0,2}
    | (?<=://)[^/\s:@]*:[^/\s@]+(?=@)                       # user:password in a URL
    | (?<=-----BEGIN\ )[A-Z ]*PRIVATE\ KEY-----.*?(?:-----END|\Z)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_ASSIGNED = re.compile(
    r"""((?:token|secret|password|passwd|passphrase|authorization|api[_-]?key|private[_-]?key|signature)
        ["']?\s*[=:]\s*["']?) (?!bearer\b|basic\b|\[redacted\]) [^\s"'&,;)}\]]+""",
    re.IGNORECASE | re.VERBOSE,
)

# Most texts in a log are words and numbers. None of the shapes above fits these, and finding that out is cheap.
_HARMLESS = re.compile(r"[A-Za-z0-9/+-]*|[0-9.]*|[A-Za-z0-9]+(?:_(?!secret|publishable)[A-Za-z0-9]+)*", re.IGNORECASE)


class Redactor:
    """Masks secrets in texts and nested values. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._names: dict[str, tuple[str, bool]] = {}

    def register(self, value: str) -> None:
        """Mask ``value`` from now on, wherever it stands.

        ``ValueError`` for one that is too short, or part of the mask itself: it could not be told from ordinary text.
        """
        if len(value) < SECRET_LENGTH_MIN or value in MASK:
            raise ValueError(f"a secret needs at least {SECRET_LENGTH_MIN} characters to be recognised in a text")
        forms = {value, *(line for line in value.splitlines() if len(line) >= _LINE_OF_A_SECRET_MIN)}
        for form in tuple(forms):
            forms |= {repr(form)[1:-1], json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1]}
            quotable = form.encode(errors="surrogatepass")
            forms |= {quote(quotable, safe=""), quote(quotable), quote_plus(quotable)}
        with self._lock:
            self._known |= forms
            # Longest first, so that a secret that begins with another is masked whole.
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            self._names = {}

    def known(self, text: str) -> str:
        """``text`` without the registered values."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def text(self, text: str) -> str:
        """``text`` without registered values and without what has the shape of a secret."""
        if _HARMLESS.fullmatch(text):
            return self.known(text)
        return _ASSIGNED.sub(rf"\1{MASK}", _SHAPES.sub(MASK, self.known(text)))

    def value(self, value: Any, *, depth: int = 0) -> Any:
        """``value`` in JSON types, redacted; long texts lose their middle, deep and long containers their ends.

        NaN and infinities become null, whatever JSON does not know its text.
        """
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.value(value.value, depth=depth)
        if isinstance(value, int | float):
            if isinstance(value, float) and not math.isfinite(value):
                return None
            return value if self.known(repr(value)) == repr(value) else MASK
        if isinstance(value, str):
            return shortened(self.text(value), TEXT_LENGTH_MAX)
        if isinstance(value, Mapping | list | tuple | AbstractSet) and depth >= DEPTH_MAX:
            return "..."
        if isinstance(value, Mapping):
            return self.fields(value, depth=depth)
        if isinstance(value, list | tuple | AbstractSet):
            made = [self.value(item, depth=depth + 1) for item, _ in zip(value, range(ITEMS_MAX), strict=False)]
            return made if len(value) <= ITEMS_MAX else [*made, f"... {len(value) - ITEMS_MAX} more"]
        return shortened(self.text(_described(value)), TEXT_LENGTH_MAX)

    def name(self, name: str) -> tuple[str, bool]:
        """A field's name as it may be told, and whether what it holds is a secret."""
        names = self._names
        found = names.get(name)
        if found is None:
            found = shortened(self.text(name), NAME_LENGTH_MAX), is_secret_name(name)
            if len(names) < NAMES_MAX:
                names[name] = found
        return found

    def fields(self, fields: Mapping[Any, Any], *, depth: int = 0) -> dict[str, Any]:
        """The fields by name, each redacted, those with a secret's name masked."""
        made: dict[str, Any] = {}
        for index, (key, value) in enumerate(fields.items()):
            if index == ITEMS_MAX:
                made["..."] = f"{len(fields) - ITEMS_MAX} more"
                break
            name, secret = self.name(key if isinstance(key, str) else _described(key))
            hidden = secret and value is not None and not isinstance(value, bool)
            made[name] = MASK if hidden else self.value(value, depth=depth + 1)
        return made


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret: ``apiKey``, ``RUNTIME_TOKEN``, ``db_dsn`` ..."""
    return bool(_NAME_PART.search(name)) or any(word.lower() in _NAME_WORDS for word in _WORD.findall(name))


def shortened(text: str, length_max: int) -> str:
    """``text`` with its middle cut out: the end of a traceback says more than its middle."""
    if len(text) <= length_max:
        return text
    half = length_max // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters ... {text[-half:]}"


def _described(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="backslashreplace")
    try:
        return str(value) if not isinstance(value, BaseException) else f"{type(value).__name__}: {value}"
    except Exception as error:  # noqa: BLE001  # a stranger's __str__ may raise anything, and a log line must not
        return f"<{type(value).__name__} whose text failed with {type(error).__name__}>"


SECRETS = Redactor()
"""The process's own."""

register_secret = SECRETS.register
