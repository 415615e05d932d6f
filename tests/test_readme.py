"""The examples of the README and of docs/ run as they stand there, and commands and tests that they name exist."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import fastrnn
import fastrnn.data
from fastrnn.command.main import parser
from isolated import run_code

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [path for path in DOCS if "```python" in path.read_text(encoding="utf-8")]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_example_runs() -> None:
    (example,) = blocks("python")
    assert len(example.splitlines()) <= 10
    assert run_code(example).strip() == "(50, 8, 32) (50, 8, 16) (128, 32)"


assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pages_run(page: Path) -> None:
    run_code("\n".join(blocks("python", page.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "module", [fastrnn, fastrnn.data, fastrnn.layers, fastrnn.modules, fastrnn.nets], ids=lambda module: module.__name__
)
def test_docstrings_run(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


TEXTS = [README, *(path.read_text(encoding="utf-8") for path in DOCS)]
COMMANDS = sorted(
    {
        line
        for text in TEXTS
        for block in blocks("sh", text)
        for line in block.splitlines()
        if line.startswith("fastrnn ")
    }
)


assert COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    parser().parse_args(shlex.split(command.partition(" | ")[0], comments=True)[1:])


def test_each_promise_has_its_tests() -> None:
    promises = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    tables = [line.split("|")[2] for line in promises.splitlines() if line.startswith("| ") and "test_" in line]
    assert len(tables) > 25
    for shown_by in tables:
        defined = ""
        for file, name in re.findall(r"`([\w/]+\.py)?(?:::)?(test_\w+)?`", shown_by):
            if file:
                defined = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert f"def {name}" in defined, f"{name} is in none of {shown_by}"
