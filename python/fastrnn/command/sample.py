"""``fastrnn sample``: a model writes."""

import argparse
import sys

from fastrnn._base.startup import INTERRUPTED
from fastrnn.charlm import checkpoint, session
from fastrnn.charlm.errors import require
from fastrnn.charlm.sample import generate, write

from .arguments import Parser, add, count, natural, not_negative, probability
from .weights import add_weights, frozen_model


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``sample`` to the commands."""
    sample = add(
        commands,
        "sample",
        run,
        "let a model write text",
        "Let a model write text, each character drawn with the probability that the model gives it after all before.\n"
        "The same seed gives the same text. Ctrl-C ends it.",
    )
    sample.add_argument("model", metavar="MODEL", help="a file that demo or train saved")
    sample.add_argument("--prime", default="", metavar="TEXT", help="how the text begins")
    sample.add_argument(
        "--length", type=natural, default=500, metavar="N", help="characters to write; 0: without end (default: 500)"
    )
    sample.add_argument(
        "--temperature",
        type=not_negative,
        default=0.7,
        metavar="X",
        help="below 1 safe and repetitive, above 1 varied and odd; 0: always the likeliest (default: 0.7)",
    )
    sample.add_argument("--top-k", type=count, metavar="N", help="draw from the N likeliest characters only")
    sample.add_argument(
        "--top-p",
        type=probability,
        metavar="X",
        help="draw from the likeliest characters only: so many that together they have a probability of X",
    )
    add_weights(sample)
    sample.add_argument("--seed", type=natural, default=0, metavar="N", help="another seed, another text (default: 0)")


def run(options: argparse.Namespace) -> int:
    """``fastrnn sample``."""
    require("threadpoolctl")
    loaded = checkpoint.load(options.model)
    text = generate(
        frozen_model(loaded, options),
        loaded.vocabulary,
        prime=options.prime,
        length=options.length or None,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    status = 0
    try:
        with session.one_blas_thread():
            sys.stdout.write(options.prime)
            write(text, sys.stdout)
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.stdout.write("\n")
    return status
