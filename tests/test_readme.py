"""The README's example runs as it stands there, and its commands are those of the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fastrnn import cli
from isolated import run_code

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_example_runs() -> None:
    (example,) = blocks("python")
    assert len(example.splitlines()) <= 10
    assert run_code(example).strip() == "(50, 8, 32) (50, 8, 16) (128, 32)"


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("fastrnn ")]


assert COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    cli.parser().parse_args(shlex.split(command, comments=True)[1:])
