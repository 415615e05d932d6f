"""``fastrnn demo`` and ``fastrnn train``: a model learns."""

import argparse
import signal
from typing import Any

from fastrnn.charlm import checkpoint, session
from fastrnn.charlm.demo import run_demo
from fastrnn.charlm.errors import SettingsError, TextError
from fastrnn.charlm.settings import CELLS, Settings
from fastrnn.charlm.text import Corpus, corpus_of, library_sources, make_corpus
from fastrnn.charlm.train import Trainer

from .arguments import Parser, add, count, natural, positive, share
from .output import Unbroken, quoted

DEMO_MODEL = "fastrnn-demo.safetensors"
TRAIN_MODEL = "model.safetensors"
EPOCHS = 10
DEFAULT = Settings()


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add ``demo`` and ``train`` to the commands."""
    demo = add(commands, "demo", demo_command, "train a small model on text that comes with Python, in under a minute")
    demo.add_argument(
        "--out", default=DEMO_MODEL, metavar="FILE", help="where to save the model (default: %(default)s)"
    )
    demo.add_argument("--plot", metavar="FILE", help="draw the learning curve to this .png, .svg or .pdf file")

    train = add(
        commands,
        "train",
        train_command,
        "train a model on your own text",
        "Train a character-level language model. Runs with the same text, settings and seed give bit-identical models\n"
        "when they are bounded by --epochs; --minutes ends at whatever step the clock allows. Ctrl-C saves and stops;\n"
        "--resume goes on from there as if nothing had happened. After 16, 32, 64, ... steps a sample of what the\n"
        "model writes is shown on a terminal, and kept in its file, where fastrnn history finds it.",
    )
    train.add_argument("files", nargs="*", metavar="FILE", help="UTF-8 text; without any, text that comes with Python")
    train.add_argument("--stdlib", action="store_true", help="instead, the sources of Python's standard library")
    train.add_argument("--cell", choices=CELLS, help=f"kind of net (default: {DEFAULT.cell})")
    train.add_argument(
        "--hidden", type=count, metavar="N", help=f"hidden units: more learn more, slower (default: {DEFAULT.hidden:g})"
    )
    train.add_argument("--layers", type=count, metavar="N", help=f"layers (default: {DEFAULT.layers})")
    train.add_argument(
        "--dropout", type=share, metavar="X", help=f"share of outputs zeroed in training (default: {DEFAULT.dropout:g})"
    )
    train.add_argument(
        "--batch", type=count, metavar="N", help=f"parts of the text read side by side (default: {DEFAULT.batch:g})"
    )
    train.add_argument(
        "--steps", type=count, metavar="N", help=f"characters that gradients reach back (default: {DEFAULT.steps:g})"
    )
    train.add_argument("--lr", type=positive, metavar="X", help=f"learning rate of Adam (default: {DEFAULT.lr:g})")
    train.add_argument(
        "--clip", type=positive, metavar="X", help=f"largest norm of the gradients (default: {DEFAULT.clip:g})"
    )
    train.add_argument("--seed", type=natural, metavar="N", help=f"of the first weights (default: {DEFAULT.seed})")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=count, metavar="N", help=f"times to read the text, in all (default: {EPOCHS})")
    length.add_argument("--minutes", type=positive, metavar="X", help="stop after so many minutes instead")
    train.add_argument("--out", metavar="MODEL", help=f"where to save (default: {TRAIN_MODEL}, or the resumed model)")
    train.add_argument("--resume", metavar="MODEL", help="go on with this model, on the same FILEs, with its settings")
    train.add_argument("--plot", metavar="FILE", help="draw the learning curve to this .png, .svg or .pdf file")


def demo_command(options: argparse.Namespace) -> int:
    """``fastrnn demo``."""
    out: Any = Unbroken()
    if options.plot:
        session.check_plot(options.plot)
    trainer, ended_by = run_demo(options.out, out)
    if options.plot:
        session.plot(trainer, options.plot)
    model = quoted(options.out)
    print(f"\nThe model is in {options.out}. Go on:", file=out)
    commands = {
        f'fastrnn sample {model} --prime "The " --temperature 0.8': "more of its text",
        f"fastrnn history {model}": "what it wrote as it learned",
        f"fastrnn train --resume {model} --minutes 5": "learn for longer",
        "fastrnn train your-text.txt": "learn from your own text",
    }
    width = max(map(len, commands))
    for command, what in commands.items():
        print(f"  {command:{width}}  {what}", file=out)
    out.flush()
    return status_of(ended_by)


def train_command(options: argparse.Namespace) -> int:
    """``fastrnn train``."""
    out: Any = Unbroken()
    path = options.out or options.resume or TRAIN_MODEL
    session.check_extras(out)
    if options.plot:
        session.check_plot(options.plot)
    checkpoint.check_writable(path)
    given = {name: getattr(options, name) for name in vars(DEFAULT) if getattr(options, name) is not None}
    if options.resume:
        resumed = checkpoint.load(options.resume)
        for name, value in given.items():
            if value != getattr(resumed.settings, name):
                raise SettingsError(
                    f"{options.resume} was trained with {name} {getattr(resumed.settings, name)}, not {value}"
                )
        trainer = Trainer.resume(resumed, training_text(options))
    else:
        trainer = Trainer(Settings(**given), training_text(options))
    if options.minutes:
        bounds = session.Bounds(seconds=60 * options.minutes)
    else:
        bounds = session.Bounds(epochs=options.epochs or EPOCHS)
    session.introduce(trainer, out)
    ended_by = session.run(trainer, bounds, path, out, show_samples=out.isatty())
    session.summarise(trainer, out)
    if options.plot:
        session.plot(trainer, options.plot)
    print(f"\n{stopped_by(ended_by)}saved {path} at step {trainer.step}", file=out)
    print(f"what it wrote on the way: fastrnn history {quoted(path)}", file=out)
    out.flush()
    return status_of(ended_by)


def status_of(number: int | None) -> int:
    """Return the exit status of a run that this signal has ended, or none."""
    return 0 if number is None else 128 + number


def stopped_by(number: int | None) -> str:
    """Return the beginning of a sentence that names the signal."""
    if number is None:
        return ""
    return f"stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}; "


def training_text(options: argparse.Namespace) -> Corpus:
    """Return the text that ``fastrnn train`` is to learn from."""
    if options.stdlib:
        if options.files:
            raise TextError("--stdlib takes the place of files to learn from: give one or the other")
        return make_corpus(library_sources())
    return corpus_of(options.files)
