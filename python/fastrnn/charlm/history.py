"""``fastrnn history``: what a model wrote as it learned."""

import argparse
import json
from typing import Any

from fastrnn.arguments import Parser, add

from .checkpoint import Checkpoint, Sample, load
from .sample import excerpt
from .train import SAMPLE_LENGTH

DESCRIPTION = """\
Show what a model wrote while it learned: the samples that demo and train keep in its file after 16 steps, 32, 64, and
so on, and one of the weights in the file. With each stand the characters it had read by then, and how many bits the
next character of held-out text cost it on average: the fewer the better."""


def add_command(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``fastrnn history`` to the parser."""
    history = add(commands, "history", history_command, "show what a model wrote as it learned", DESCRIPTION)
    history.add_argument("model", metavar="MODEL", help="a file that demo or train saved")
    history.add_argument("--json", action="store_true", help="print it as JSON, with the figures of every evaluation")


def history_command(options: argparse.Namespace) -> int:
    """``fastrnn history``."""
    loaded = load(options.model)
    samples = with_present(loaded)
    if options.json:
        print(json.dumps(as_json(loaded, samples), indent=2))
        return 0
    for sample in samples:
        characters = sample.step * characters_a_step(loaded)
        print(f"--- step {sample.step:,}, {characters:,} characters read, {sample.held_out:.2f} bits/char held out")
        print(f"{sample.text}\n")
    return 0


def with_present(checkpoint: Checkpoint) -> list[Sample]:
    """Return the kept samples, and one of the weights in the file, which are those of the best evaluation."""
    kept, evaluations = checkpoint.training.samples, checkpoint.training.history
    if not len(evaluations):
        return list(kept)
    step, _, held_out = evaluations[evaluations[:, 2].argmin()].tolist()
    if any(sample.step == step for sample in kept):
        return list(kept)
    text = excerpt(checkpoint.model(), checkpoint.vocabulary, SAMPLE_LENGTH, checkpoint.settings.seed)
    return sorted([*kept, Sample(int(step), held_out, text)], key=lambda sample: sample.step)


def characters_a_step(checkpoint: Checkpoint) -> int:
    """Return how many characters a step of training reads."""
    return checkpoint.settings.batch * checkpoint.settings.steps


def as_json(checkpoint: Checkpoint, samples: list[Sample]) -> dict[str, Any]:
    """Return the history for programs; bits are per character."""
    each = characters_a_step(checkpoint)
    return {
        "step": checkpoint.training.step,
        "characters_read": checkpoint.training.step * each,
        "evaluations": [
            {
                "step": int(step),
                "characters_read": int(step) * each,
                "training_bits": training,
                "held_out_bits": held_out,
            }
            for step, training, held_out in checkpoint.training.history.tolist()
        ],
        "samples": [
            {
                "step": sample.step,
                "characters_read": sample.step * each,
                "held_out_bits": sample.held_out,
                "text": sample.text,
            }
            for sample in samples
        ],
    }
