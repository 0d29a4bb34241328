"""What keeps the repository readable and installable, read from its files.

Each check is a function over text with a test that it catches its offence, beside the one that holds it here.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE_LINES_MAX = 330
FUNCTION_LINES_MAX = 70
# A longer file or function stands here with the reason why it is better whole: {"tbh/domain/x.py": "why"} and
# {"tbh/domain/x.py:name": "why"}.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

LOCKS = ("build.txt", "dev.txt", "runtime.txt")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
LOCATION = re.compile(
    r"https?://|file:|--(index|extra-index|find-links|trusted-host)|^-[if]\b|\s@\s|(^|\s)/\w", re.MULTILINE
)
# In code only: "make sure" is no target.
README_TARGET = re.compile(r"(?:^|`|\$ )make ([a-z][a-z-]*)", re.MULTILINE)


def long_functions(path: str, source: str, lines_max: int = FUNCTION_LINES_MAX) -> Iterator[str]:
    """``path:name`` of each function or method longer than ``lines_max`` lines, its docstring included."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if (node.end_lineno or node.lineno) - node.lineno + 1 > lines_max:
            yield f"{path}:{node.name}"


def undocumented(path: str, source: str) -> Iterator[str]:
    """Modules with code, and public classes with methods of their own, that have no docstring.

    A class of fields alone is explained by its name and its module; so is an exception.
    """
    tree = ast.parse(source)
    if tree.body and not ast.get_docstring(tree):
        yield path
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or ast.get_docstring(node):
            continue
        if any(isinstance(part, ast.FunctionDef) and not part.name.startswith("_") for part in node.body):
            yield f"{path}:{node.name}"


def unpinned(lock: str) -> Iterator[str]:
    """Requirements of a lock that lack an exact version or a hash."""
    for requirement in re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n?", "", lock, flags=re.MULTILINE).strip()):
        if not re.match(r"[a-z0-9-]+==\S+", requirement) or "--hash=sha256:" not in requirement:
            yield requirement.splitlines()[0]


def make_targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))


def test_files_are_short_enough_to_hold_in_the_head(sources: dict[str, str]) -> None:
    long = {path for path, source in sources.items() if source.count("\n") > FILE_LINES_MAX}
    assert long == set(LONG_FILES)


def test_functions_are_short_enough_to_hold_in_the_head(sources: dict[str, str]) -> None:
    assert {name for path, source in sources.items() for name in long_functions(path, source)} == set(LONG_FUNCTIONS)


def test_a_long_function_is_caught() -> None:
    body = "    pass\n" * 3
    assert list(long_functions("a.py", f"class A:\n  def f(self):\n{body}", lines_max=3)) == ["a.py:f"]
    assert list(long_functions("a.py", f"class A:\n  def f(self):\n{body}", lines_max=4)) == []


def test_modules_and_public_classes_say_what_they_are(sources: dict[str, str]) -> None:
    assert [name for path, source in sources.items() for name in undocumented(path, source)] == []


def test_a_missing_docstring_is_caught() -> None:
    assert list(undocumented("a.py", "x = 1")) == ["a.py"]
    assert list(undocumented("a.py", '"""A."""\nclass B:\n    def act(self): ...')) == ["a.py:B"]
    assert list(undocumented("__init__.py", "")) == []


def test_no_unfinished_business_is_left_in_the_sources(sources: dict[str, str]) -> None:
    assert [path for path, source in sources.items() if UNFINISHED.search(source)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_says_what_and_never_where_from(repository: Path, name: str) -> None:
    lock = (repository / "requirements" / name).read_text()
    assert LOCATION.findall(lock) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example/simple",
        "--extra-index-url x",
        "-i x",
        "-f wheels",
        "--find-links wheels",
        "tbh @ file:///src/tbh",
        "numpy @ wheels/numpy.whl",
        "    # via -r /home/someone/requirements.in",
    ],
)
def test_a_location_in_a_lock_is_caught(line: str) -> None:
    assert LOCATION.search(f"pykka==4.5.0\n{line}\n")


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_is_pinned_by_version_and_hash(repository: Path, name: str) -> None:
    assert list(unpinned((repository / "requirements" / name).read_text())) == []


def test_a_requirement_without_version_or_hash_is_caught() -> None:
    lock = "# made\na==1 \\\n    --hash=sha256:00\n    # via b\nb==2\n    # via c\nc>=3 \\\n    --hash=sha256:00\n"
    assert list(unpinned(lock)) == ["b==2", "c>=3 \\"]


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("heavy", ["pandas", "polars"])
def test_no_lock_holds_what_ta_lib_would_import(repository: Path, name: str, heavy: str) -> None:
    assert not re.search(rf"^{heavy}\b", (repository / "requirements" / name).read_text(), flags=re.MULTILINE)


def test_the_runtime_lock_is_a_part_of_the_development_lock(repository: Path) -> None:
    pins = {
        name: set(re.findall(r"^\S+==\S+", (repository / "requirements" / name).read_text(), re.MULTILINE))
        for name in LOCKS
    }
    assert pins["runtime.txt"] <= pins["dev.txt"]
    assert pins["build.txt"] <= pins["dev.txt"]


def test_the_locks_cover_every_declared_dependency(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    runtime = {_package(line) for line in project["dependencies"]}
    extras = {_package(line) for lines in project["optional-dependencies"].values() for line in lines} - {"tbh"}
    assert runtime <= _locked(repository / "requirements" / "runtime.txt")
    assert runtime | extras <= _locked(repository / "requirements" / "dev.txt")


def _package(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement)[0].split(">")[0].lower().replace("_", "-")


def _locked(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), flags=re.MULTILINE))


def test_the_readme_names_only_targets_that_exist(repository: Path) -> None:
    named = set(README_TARGET.findall((repository / "README.md").read_text()))
    assert {"demo", "test"} <= named
    assert named <= make_targets((repository / "Makefile").read_text())


def test_continuous_integration_runs_the_readmes_own_test_command(repository: Path) -> None:
    assert re.search(r"^run make test$", (repository / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert os.access(repository / ".ci" / "run", os.X_OK)


def test_the_version_is_written_once(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert re.search(r'^__version__ = "\d+\.\d+\.\d+"$', (repository / "tbh" / "__init__.py").read_text(), re.MULTILINE)
