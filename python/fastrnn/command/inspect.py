"""``fastrnn inspect``: what single units of a model do along a text."""

import argparse
import json

from fastrnn.charlm import checkpoint
from fastrnn.charlm.checkpoint import Checkpoint
from fastrnn.charlm.errors import SettingsError, TextError
from fastrnn.course.inspect import (
    SERIES,
    STATES,
    TOO_RARE,
    as_json,
    check_out,
    picture,
    print_table,
    read,
    save,
    text_to_read,
)
from fastrnn.course.probes import FEATURES

from .arguments import Parser, add, count, natural
from .weights import add_weights, frozen_model

LENGTH = 1000  # characters of the passage that is shown
EPILOG = """features:
  quotation    inside a quotation in double quotes
  brackets     inside brackets
  word         in a word, beyond its first letter
  position     far into the line
  indentation  in an indented line

A unit's threshold is fitted on the first half of the text. "score" is its balanced accuracy on the second half, where
0.5 is chance; "shuffled" what the best of all units reaches in the best of 20 tries with the labels at the wrong
places; "character" what the character just read tells by itself. The feature is found where the score is further above
what the character tells than the shuffled one is above chance.
"""


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``inspect`` to the commands."""
    command = add(
        commands,
        "inspect",
        run,
        "see what single units of a model do along a text",
        "Read a text with a model, look for the units that follow quotations, brackets, words and lines best, and\n"
        "colour a passage of the text by what one of them does: --out page.html, --out page.png.",
    )
    command.epilog = EPILOG
    command.add_argument("model", metavar="MODEL", help="a file that demo or train saved")
    command.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="UTF-8 text, by default text that comes with Python; where the model has learned from it, only the part "
        "that was held out is read",
    )
    command.add_argument(
        "--find", choices=FEATURES, default="quotation", help="show the best unit for this (default: %(default)s)"
    )
    command.add_argument("--unit", type=natural, metavar="N", help="look only at this unit, counted from 0")
    command.add_argument("--layer", type=natural, metavar="N", help="look only at this layer, counted from 0")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--state", choices=tuple("ch"), help="look only at this state (default: all there are)")
    what.add_argument("--gate", choices=tuple("ifgorzn"), help="look at this gate, instead of states")
    command.add_argument(
        "--out", action="append", default=[], metavar="FILE", help="save the passage as .html or .png; may be repeated"
    )
    command.add_argument(
        "--start", type=natural, metavar="N", help="where the passage starts (default: where the feature varies most)"
    )
    command.add_argument(
        "--length", type=count, default=LENGTH, metavar="N", help="characters of the passage (default: %(default)s)"
    )
    add_weights(command)
    command.add_argument("--seed", type=natural, default=0, metavar="N", help="of the shuffles (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """``fastrnn inspect``."""
    for path in options.out:
        check_out(path)
    loaded = checkpoint.load(options.model)
    names, units = candidates(loaded, options)
    source, text = text_to_read(loaded, options.files)
    if not options.files and not set(text) <= set(loaded.vocabulary):
        raise TextError(
            f"{options.model} has never seen some characters of the text that comes with Python: name a FILE to read, "
            f"such as the one that it learned from"
        )
    if options.start is not None and options.start >= len(text):
        raise SettingsError(f"--start must be below {len(text)}, the characters of the text; got {options.start}")
    model = frozen_model(loaded, options)
    reading = read(loaded, model, options.model, source, text, names, units, options.seed)
    if options.out:
        if options.find not in reading.findings and options.unit is None:
            raise TextError(f"{options.find} is {TOO_RARE}: choose another with --find, or name a --unit")
        shown = picture(reading, options.find, names[0], options.unit, start=options.start, length=options.length)
        for path in options.out:
            save(path, shown)
    if options.json:
        print(json.dumps(as_json(reading)))
    else:
        print_table(reading, f"{len(names) * len(units):,} values: {', '.join(names)}")
    return 0


def candidates(loaded: Checkpoint, options: argparse.Namespace) -> tuple[list[str], range]:
    """Return the names, as in a layer's trace, and the units that the options leave to look at."""
    settings = loaded.settings
    kinds = options.state or options.gate or STATES[settings.cell]
    if not set(kinds) <= set(SERIES[settings.cell]):
        there = ", ".join(SERIES[settings.cell])
        raise SettingsError(f"the model is of kind {settings.cell}, which has {there}; got {kinds}")
    for what, index, size in (("layer", options.layer, settings.layers), ("unit", options.unit, settings.hidden)):
        if index is not None and index >= size:
            raise SettingsError(f"--{what} must be from 0 to {size - 1} for this model, got {index}")
    layers = range(settings.layers) if options.layer is None else [options.layer]
    units = range(settings.hidden) if options.unit is None else range(options.unit, options.unit + 1)
    return [f"{kind}_l{k}" for k in layers for kind in kinds], units
