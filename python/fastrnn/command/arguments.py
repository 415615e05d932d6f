"""The parser of the command line, and the numbers in its arguments."""

import argparse
import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """Reports mistakes in one line, and names what may have been meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is not known: no command has any use for it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and "files" in found and not any(word.startswith("-") for word in unknown):
            found.files += unknown  # of which argparse finds none after an option
            unknown = []
        if unknown:
            words = [word for word in unknown if word.startswith("-")] or unknown
            near = _nearest(words[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            near = _nearest(str(value), choices)
            raise argparse.ArgumentError(action, f"there is no {value!r}{near}; there are {', '.join(choices)}")

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def _nearest(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), 1, 0.6)
    return f": did you mean {near[0]}?" if near else ""


def add(
    commands: "argparse._SubParsersAction[Parser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str | None = None,
) -> Parser:
    """Add a command to the parser."""
    command = commands.add_parser(
        name,
        help=summary,
        description=description or summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def count(text: str) -> int:
    """Read a whole number above 0; there is nothing of which there could be more than 2^31."""
    return number(text, int, "a whole number from 1 to 2147483647", lambda value: 0 < value < 2**31)


def natural(text: str) -> int:
    """Read a whole number, 0 or above."""
    return number(text, int, "a whole number, 0 or above", lambda value: value >= 0)


def positive(text: str) -> float:
    """Read a finite number above 0."""
    return number(text, float, "a finite number above 0", lambda value: 0 < value < math.inf)


def share(text: str) -> float:
    """Read a number from 0 to below 1."""
    return number(text, float, "a number from 0 to below 1", lambda value: 0 <= value < 1)


def not_negative(text: str) -> float:
    """Read a finite number, 0 or above."""
    return number(text, float, "a finite number, 0 or above", lambda value: 0 <= value < math.inf)


def probability(text: str) -> float:
    """Read a number above 0, at most 1."""
    return number(text, float, "a number above 0, at most 1", lambda value: 0 < value <= 1)


def number(text: str, kind: type[Number], what: str, good: Callable[[Number], bool]) -> Number:
    """Return the number in an argument, if it is good."""
    try:
        value = kind(text)
    except ValueError:
        pass
    else:
        if good(value):
            return value
    raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
