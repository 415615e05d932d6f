"""How much of a text is Python, line by line: of a model's text, of real sources, or of shuffled characters.

    fastrnn sample python.safetensors --length 100000 | python bench/python_lines.py
    python bench/python_lines.py < some_module.py
    python bench/python_lines.py --shuffle < some_module.py     # the characters of each line in random order

Counted are

- lines that ast.parse accepts, of those that are neither blank nor comments: each on its own, without its indentation,
  with what belongs before it (`try: pass` before `except`, and so on) and, after a block's header, `pass`. Lines inside
  of docstrings and of statements that go on over several lines are not accepted in real sources either.
- block headers, lines that are accepted with `pass` only, whose next line is indented further;
- indented lines whose indentation is a multiple of four;
- opening brackets that are closed by their kind, and in order, before the next blank line, leaving out what stands in
  comments and in strings on one line.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import random
import re
import sys
import warnings
from collections.abc import Sequence

CLOSING = {"(": ")", "[": "]", "{": "}"}
# What a line may need before it to be a statement.
BEFORE = {
    "elif": "if x: pass\n",
    "else": "if x: pass\n",
    "except": "try: pass\n",
    "finally": "try: pass\n",
    "case": "match x:\n ",
}
# Strings that end on their line, and comments: brackets in them need no partner.
STRING_OR_COMMENT = re.compile(r"""("|')(?:\\.|(?!\1)[^\\\n])*\1|#.*""")


def parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def accepted(line: str) -> bool:
    """Whether ast.parse takes a line, which has no indentation."""
    word = re.match(r"\w*", line)
    before = BEFORE.get(word[0] if word else "")
    if line.startswith("@"):
        line += "\ndef f(): pass"
    return parses(line) or (before is not None and parses(before + line))


def is_header(line: str) -> bool:
    """Whether a line wants a block after it."""
    return line.endswith(":") and not accepted(line) and accepted(line + " pass")


def indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def brackets(text: str) -> tuple[int, int]:
    """How many brackets open, and how many of them are closed in order before the next blank line."""
    opened = closed = 0
    for paragraph in re.split(r"\n\s*\n", STRING_OR_COMMENT.sub("", text)):
        waiting: list[str] = []
        for character in paragraph:
            if character in CLOSING:
                waiting.append(CLOSING[character])
                opened += 1
            elif waiting and character == waiting[-1]:
                waiting.pop()
                closed += 1
    return opened, closed


def shuffled(text: str) -> str:
    rng = random.Random(0)
    return "\n".join("".join(rng.sample(line, len(line))) for line in text.split("\n"))


def report(text: str) -> list[tuple[str, int, int]]:
    """What is counted: its name, how many there are, and how many are as they should be."""
    lines = [line.rstrip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    stripped = [line.strip() for line in lines]
    headers = [is_header(line) for line in stripped]
    good = sum(header or accepted(line) for header, line in zip(headers, stripped, strict=True))
    followed = [
        indentation(after) > indentation(line)
        for header, (line, after) in zip(headers, itertools.pairwise(lines), strict=False)
        if header
    ]
    indents: Sequence[int] = [indent for line in lines if (indent := indentation(line))]
    return [
        ("lines that ast.parse accepts", len(lines), good),
        ("block headers with an indented line after them", len(followed), sum(followed)),
        ("indentations that are a multiple of four", len(indents), sum(indent % 4 == 0 for indent in indents)),
        ("brackets closed in order", *brackets(text)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shuffle", action="store_true", help="shuffle the characters of each line first")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # invalid escapes, and the like, of what is parsed
    text = sys.stdin.read()
    for name, total, good in report(shuffled(text) if options.shuffle else text):
        print(f"{name:48} {good / max(1, total):6.1%} of {total:,}")


if __name__ == "__main__":
    main()
