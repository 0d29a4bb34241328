"""SQL as text: where statements end, and what is code in it.

Enough of PostgreSQL's lexer to tell quotes, comments and dollar quotes from code. Nothing is executed by it.
"""

from __future__ import annotations

import re

_COMMENT = r"--[^\n]* | /\*(?:[^*/]|\*(?!/)|/(?!\*)|/\*(?:[^*]|\*(?!/))*\*/)*\*/"
# Each alternative begins with a letter of its own, so that most of a file is skipped without trying one.
_TOKEN = re.compile(
    rf"""
    (?P<comment>{_COMMENT})
  | (?P<text>'(?<=\b[eE]')(?:[^'\\]|\\.|'')*' | '(?<!\b[eE]')(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")*")
  | (?P<dollar>\$(?<![\w$]\$)(?P<tag>[A-Za-z_]\w*)\$.*?\$(?P=tag)\$ | \$(?<![\w$]\$)\$.*?\$\$)
  | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_LEAD = re.compile(rf"(?:\s+ | {_COMMENT})*", re.VERBOSE)


def statements_of(text: str) -> list[str]:
    """The statements of an SQL file, trimmed, without their semicolons; comments stay, empty ones go."""
    found, start = [], 0
    for token in _TOKEN.finditer(text):
        if token["end"]:
            found.append(text[start : token.start()])
            start = token.end()
    found.append(text[start:])
    return [statement.strip() for statement in found if without_lead(statement)]


def without_lead(statement: str) -> str:
    """``statement`` from its first word on, past the comments before it."""
    lead = _LEAD.match(statement)
    return statement[lead.end() :] if lead else statement


def code_only(text: str) -> str:
    """``text`` without comments, trimmed. Bodies of functions are code and stay; so do strings."""
    return _TOKEN.sub(_without_comments, text).strip()


def _without_comments(token: re.Match[str]) -> str:
    if token["comment"]:
        return " "
    if token["dollar"]:
        opening = token[0][: token[0].index("$", 1) + 1]
        return f"{opening}{code_only(token[0][len(opening) : -len(opening)])}{opening}"
    return token[0]
