"""``fastrnn gradients``: how gradients vanish, explode or hold on their way back through a net."""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

from fastrnn.charlm.errors import SettingsError
from fastrnn.charlm.session import check_plot
from fastrnn.course.gradients import (
    CHANCE,
    CLIP,
    CLIP_RATE,
    HIDDEN,
    LEARNT,
    NETS,
    by_bias,
    by_radius,
    clipping,
    lessons,
    plot,
    show_clipping,
    show_curves,
    show_lessons,
)

from .arguments import Parser, add, count, natural, number, positive

STEPS = 100
RADII = (0.8, 1.0, 1.5, 2.0)
BIASES = (0.0, 1.0, 2.0, 4.0)
LENGTHS = (50, 100, 200, 400)
UPDATES = 4000
SEEDS = 3


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``gradients`` to the commands."""
    command = add(
        commands,
        "gradients",
        run,
        "show how gradients vanish, explode or hold on their way back through a net",
        "Send a loss of the last step back through RNN, LSTM and GRU, with one backward call a curve, and show what\n"
        "becomes of dL/dh step by step, beside what theory says; then what clipping does to an update; and with\n"
        "--learn, which net learns to add two numbers that it saw long ago.",
    )
    command.add_argument(
        "--steps", type=count, default=STEPS, metavar="N", help="steps of the curves (default: %(default)s)"
    )
    command.add_argument(
        "--radius",
        type=positive,
        nargs="+",
        default=RADII,
        metavar="X",
        help=f"spectral radii of W_hh (default: {listed(RADII)})",
    )
    command.add_argument(
        "--bias",
        type=gate_bias,
        nargs="+",
        default=BIASES,
        metavar="X",
        help=f"biases of the gate that keeps, f or z (default: {listed(BIASES)})",
    )
    command.add_argument("--seed", type=natural, default=0, metavar="N", help="of the curves' weights (default: 0)")
    command.add_argument("--out", metavar="FILE", help="draw the curves to this .png, .svg or .pdf file")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead")
    command.add_argument(
        "--learn",
        type=count,
        nargs="*",
        metavar="T",
        help=f"train every net on the adding problem of T steps (default: {listed(LENGTHS)}): about ten minutes",
    )
    command.add_argument(
        "--updates", type=count, default=UPDATES, metavar="N", help="at most so many a net (default: %(default)s)"
    )
    command.add_argument(
        "--lr", type=positive, metavar="X", help="learning rate of Adam (default: RNN 0.001, LSTM and GRU 0.01)"
    )
    command.add_argument(
        "--seeds", type=count, default=SEEDS, metavar="N", help="nets of each kind and T (default: %(default)s)"
    )


def gate_bias(text: str) -> float:
    """Read the bias of a gate."""
    return number(text, float, "a number from -20 to 20", lambda value: -20 <= value <= 20)


def listed(numbers: Iterable[float]) -> str:
    """Return numbers as they are typed after an option."""
    return " ".join(f"{number:g}" for number in numbers)


def run(options: argparse.Namespace) -> int:
    """``fastrnn gradients``."""
    lengths = LENGTHS if options.learn == [] else options.learn or ()
    for name, steps in [("--steps", options.steps), *(("--learn", steps) for steps in lengths)]:
        if steps < 3:
            raise SettingsError(f"{name} must be at least 3, not {steps}")
    if options.out:
        check_plot(options.out)
    steps = options.steps
    radii = by_radius(steps, options.radius, options.seed)
    biases = by_bias(steps, options.bias, options.seed)
    clipped = [clipping(net, radius, steps, options.seed) for radius in sorted(options.radius)[-2:] for net in NETS]
    if options.out:
        plot(radii, biases, options.out)
    learnt = lessons(lengths, options.seeds, options.updates, options.lr)
    if options.json:
        result = {
            "curves": [
                {**asdict(c), "norms": c.norms.tolist(), "theory": c.theory, "measured": c.measured, "total": c.total}
                for c in (*radii, *biases)
            ],
            "clipping": [asdict(c) for c in clipped],
            "lessons": [asdict(lesson) for lesson in learnt],
        }
        print(json.dumps(result))
        return 0
    print(
        f"The adding problem over {steps} steps, {HIDDEN} units, a loss of 1. What becomes of dL/dh on its way back:\n"
    )
    show_curves([*radii, *biases], sys.stdout)
    print(f"\nGradient descent at rate {CLIP_RATE:g}, as it is and with gradients clipped to a norm of {CLIP:g}:\n")
    show_clipping(clipped, sys.stdout)
    if lengths:
        print(
            f"\nUpdates until the mean squared error is below {LEARNT:g}, of at most {options.updates}; else the error,"
            f" which is {CHANCE:.3f}\nfor a net that always answers with the mean:\n"
        )
        show_lessons(learnt, sys.stdout)
    else:
        print("\nfastrnn gradients --learn trains them: who still learns what was so long ago?")
    return 0
