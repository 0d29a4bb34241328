"""What the documents say, held against what is there: functions, commands, links."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tbh.cli.arguments import build_parser
from tbh.cli.parser import CommandError
from tbh.infra.rpcdocs import Function, main, render
from tbh.simulation.invariants import INVARIANTS

LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# From `tbh` to whatever ends a command in a shell, where the quotes are closed.
COMMAND = re.compile(r"""(?<![\w./-])tbh ((?:'[^']*'|"[^"]*"|[^'"#;&|<>()\n])*)""")


def commands() -> dict[str, list[str]]:
    """Each command with its verbs, none for one that does something by itself."""
    found = {}
    for name, parser in _choices(build_parser()).items():
        found[name] = list(_choices(parser))
    return found


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


def unnamed(readme: str) -> Iterator[str]:
    """Commands and verbs that no row of the table of commands names."""
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `tbh ")]
    for name, verbs in commands().items():
        row = " ".join(row for row in rows if row.startswith((f" `tbh {name} ", f" `tbh {name}`")))
        words = re.findall(r"[\w-]+", row)
        yield from (f"tbh {name} {verb}" for verb in verbs if verb not in words)
        if not row and not verbs:
            yield f"tbh {name}"


def shell_commands(text: str) -> Iterator[list[str]]:
    """The arguments of each ``tbh`` in the shell blocks of a document."""
    for block in SHELL_BLOCK.findall(text):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            yield from (shlex.split(command) for command in COMMAND.findall(line.partition(" #")[0]))


def refused(text: str) -> list[str]:
    """The commands of a document that the command line does not know."""
    found = []
    for arguments in shell_commands(text):
        try:
            build_parser().parse_args(arguments)
        except CommandError as error:
            found.append(f"tbh {shlex.join(arguments)}: {error}")
    return found


def broken_links(file: Path, text: str) -> Iterator[str]:
    """Links to files or headings that do not exist."""
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            yield link


def anchors(text: str) -> set[str]:
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def judges(guarantees: str) -> list[str]:
    """What the table of promises names in its column of judges."""
    rows = guarantees.partition("| judged by |")[2].partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])]


@pytest.fixture(scope="module")
def documents(repository: Path) -> dict[Path, str]:
    files = [repository / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return {file: file.read_text("utf-8") for file in [*files, *sorted((repository / "docs").glob("*.md"))]}


def test_the_functions_are_described_as_a_migrated_database_describes_them(repository, tmp_path) -> None:
    assert main([str(tmp_path / "RPC.md")]) == 0
    if (repository / "docs" / "RPC.md").read_text("utf-8") != (tmp_path / "RPC.md").read_text("utf-8"):
        pytest.fail("docs/RPC.md is not what the migrations say: run `make docs`", pytrace=False)


def test_a_function_that_has_no_place_in_the_document_is_found_out() -> None:
    stray = Function(name="bot_runtime_new", arguments=(), purpose="It.", told=(), result="{}", refuses="PT401 x_y.")
    with pytest.raises(ValueError, match="bot_runtime_new"):
        render([stray], [])


def test_the_readme_names_every_command(repository) -> None:
    assert list(unnamed((repository / "README.md").read_text("utf-8"))) == []


def test_a_command_that_the_readme_forgets_is_found_out(repository) -> None:
    readme = (repository / "README.md").read_text("utf-8")
    assert list(unnamed(readme.replace("| `tbh version` |", "| `version` |"))) == ["tbh version"]
    assert list(unnamed(readme.replace("`tbh db migrate`, ", ""))) == ["tbh db migrate"]


def test_every_command_in_a_shell_block_is_one(documents) -> None:
    assert {file.name: found for file, text in documents.items() if (found := refused(text))} == {}


def test_a_command_that_does_not_exist_is_found_out() -> None:
    text = '```sh\n(umask 077; eval "$(tbh local env)"; tbh bot crate --name x > f)  # tbh nonsense\n```'
    assert list(shell_commands(text)) == [["local", "env"], ["bot", "crate", "--name", "x"]]
    assert [line.partition(":")[0] for line in refused(text)] == ["tbh bot crate --name x"]


def test_every_link_in_the_documents_leads_somewhere(documents) -> None:
    assert {file.name: found for file, text in documents.items() if (found := list(broken_links(file, text)))} == {}


def test_a_link_that_leads_nowhere_is_found_out(tmp_path) -> None:
    file = tmp_path / "A.md"
    file.write_text("# One thing\n")
    assert list(broken_links(file, "[a](B.md) [b](A.md#one-thing) [c](A.md#two) [d](https://x.y)")) == [
        "B.md",
        "A.md#two",
    ]


def test_the_table_of_promises_names_each_judge_there_is_and_no_other(repository) -> None:
    named = judges((repository / "docs" / "GUARANTEES.md").read_text("utf-8"))
    assert sorted(named) == sorted(invariant.name for invariant in INVARIANTS)


def test_judges_are_read_from_the_last_column_of_the_table() -> None:
    table = (
        "| promise | judged by |\n| --- | --- |\n| `never` this | `one` `two` |\n| that | `three` |\n\n| x | `four` |\n"
    )
    assert judges(table) == ["one", "two", "three"]
