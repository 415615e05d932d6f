"""The ``fastrnn`` command."""

import argparse
import contextlib
import os
import platform
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

import numpy as np

import fastrnn

from ._base.startup import INTERRUPTED, Interrupts, catch
from .arguments import Parser, add, count, natural, not_negative, positive, probability, share
from .charlm import checkpoint, history, session
from .charlm.demo import run_demo
from .charlm.errors import SaveError, SettingsError, TextError, UserError, require
from .charlm.sample import generate, write
from .charlm.settings import CELLS, Settings
from .charlm.text import Corpus, corpus_of, library_sources, make_corpus
from .charlm.train import Trainer
from .course import compare, gradients, inspect

DEMO_MODEL = "fastrnn-demo.safetensors"
TRAIN_MODEL = "model.safetensors"
EPOCHS = 10
DEFAULT = Settings()
EXIT_STATUS = """exit status:
  0    done (also when whoever reads the output, such as head, has read enough; demo and train go on to their end)
  2    a mistake in the arguments, files or environment, told in one line on the standard error output
  130  Ctrl-C; demo and train save the model first, as they do on SIGTERM (143) and SIGHUP (129)
"""


def command() -> NoReturn:
    """Run the command of this process, and end it."""
    catch(Interrupts.handle)
    status = main()
    catch(signal.SIG_IGN)  # it is over: Ctrl-C has nothing to interrupt
    if status == INTERRUPTED:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)  # whatever Ctrl-C has left half-made, such as a library in the middle of its import
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        top = parser()
        options = top.parse_args(arguments)
        if "run" not in options:
            top.print_help()
            return 0
        check_files(options)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except UserError as error:
        return interrupted() if Interrupts.seen else fail(str(error))
    except KeyboardInterrupt:
        return interrupted()
    except MemoryError:
        return fail("there is not enough memory for this")
    except BrokenPipeError:
        discard_output()
        return 0
    except OSError as error:
        discard_output()
        return fail(f"cannot write the output: {error.strerror}")


def interrupted() -> int:
    """Say that Ctrl-C ended the command; returns the exit status."""
    print("fastrnn: stopped by Ctrl-C", file=sys.stderr)
    return INTERRUPTED


def fail(message: str) -> int:
    """Print the one line that the user gets; returns the exit status."""
    print(f"fastrnn: {message}", file=sys.stderr)
    return 2


def discard_output() -> None:
    """Let what is left in the buffer of the standard output go nowhere, so that exiting does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Unbroken:
    """The standard output, for what is to be finished also if nobody reads it any more, or it cannot be written to."""

    def write(self, text: str) -> int:
        """Write as far as that goes."""
        with self._whatever_comes_of_it():
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush likewise."""
        with self._whatever_comes_of_it():
            sys.stdout.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    @contextlib.contextmanager
    def _whatever_comes_of_it(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            discard_output()
        except OSError as error:
            discard_output()
            with contextlib.suppress(OSError):  # of a terminal that is gone
                print(f"fastrnn: goes on without its output: {error.strerror}", file=sys.stderr, flush=True)


def parser() -> Parser:
    """Return the parser of the whole command."""
    top = Parser(
        prog="fastrnn",
        description="Fast recurrent nets on the CPU. Start with: fastrnn demo",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

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

    sample = add(
        commands,
        "sample",
        sample_command,
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
    sample.add_argument("--seed", type=natural, default=0, metavar="N", help="another seed, another text (default: 0)")

    history.add_command(commands)
    gradients.add_command(commands)
    inspect.add_command(commands)
    compare.add_command(commands)
    add(commands, "info", info_command, "show the version, the CPU and how fastrnn uses it")
    top.add_argument("--version", action="version", version=f"fastrnn {fastrnn.__version__}")
    return top


def check_files(options: argparse.Namespace) -> None:
    """Raise :class:`SaveError` where a file to be saved has no name, or is one that is read, or saved, besides."""

    def named(*names: str) -> list[str]:
        given = [getattr(options, name, None) for name in names]
        return [path for one in given if one is not None for path in ([one] if isinstance(one, str) else one)]

    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"there is no current folder: {error.strerror}") from None
    taken = set(map(os.path.realpath, named("files", "model")))
    for name in ("out", "plot"):
        for path in named(name):
            if not path:
                raise SaveError(f"--{name}: the name of the file is empty")
            if not os.path.basename(path):
                raise SaveError(f"cannot save {path}: it is the name of a folder")
            place = os.path.realpath(path)
            if place in taken:
                raise SaveError(f"will not replace {path}, which is also to be read, or saved as something else")
            taken.add(place)
        taken |= set(map(os.path.realpath, named("resume")))  # in the place of which the model may be saved


def demo_command(options: argparse.Namespace) -> int:
    """``fastrnn demo``."""
    out: Any = Unbroken()
    if options.plot:
        session.check_plot(options.plot)
    trainer, ended_by = run_demo(options.out, out)
    if options.plot:
        session.plot(trainer, options.plot)
    model = shlex.quote(options.out)
    print(f"\nThe model is in {options.out}. Go on:", file=out)
    commands = {
        f"fastrnn sample {model} --prime 'The ' --temperature 0.8": "more of its text",
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
    print(f"what it wrote on the way: fastrnn history {shlex.quote(path)}", file=out)
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


def sample_command(options: argparse.Namespace) -> int:
    """``fastrnn sample``."""
    require("safetensors", "threadpoolctl")
    loaded = checkpoint.load(options.model)
    text = generate(
        loaded.model(),
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


def info_command(options: argparse.Namespace) -> int:
    """``fastrnn info``."""
    rows = {
        "fastrnn": fastrnn.__version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "NumPy": np.__version__,
        "CPU": cpu_name(),
        "instructions": f"{fastrnn.isa()} (available: {', '.join(fastrnn.available_isas())})",
        "threads": str(fastrnn.get_num_threads()),
    }
    for name, value in rows.items():
        print(f"{name:13} {value}")
    return 0


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
