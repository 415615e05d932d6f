"""``fastrnn history``: what a model wrote as it learned."""

import argparse
import json

from fastrnn.charlm import checkpoint
from fastrnn.charlm.history import as_json, characters_a_step, with_present

from .arguments import Parser, add

DESCRIPTION = """\
Show what a model wrote while it learned: the samples that demo and train keep in its file after 16 steps, 32, 64, and
so on, and one of the weights in the file. With each stand the characters it had read by then, and how many bits the
next character of held-out text cost it on average: the fewer the better."""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``history`` to the commands."""
    history = add(commands, "history", run, "show what a model wrote as it learned", DESCRIPTION)
    history.add_argument("model", metavar="MODEL", help="a file that demo or train saved")
    history.add_argument("--json", action="store_true", help="print it as JSON, with the figures of every evaluation")


def run(options: argparse.Namespace) -> int:
    """``fastrnn history``."""
    loaded = checkpoint.load(options.model)
    samples = with_present(loaded)
    if options.json:
        print(json.dumps(as_json(loaded, samples), indent=2))
        return 0
    for sample in samples:
        characters = sample.step * characters_a_step(loaded)
        print(f"--- step {sample.step:,}, {characters:,} characters read, {sample.held_out:.2f} bits/char held out")
        print(f"{sample.text}\n")
    return 0
