"""The runs behind ``fastrnn train`` and ``fastrnn demo``: train, show, save."""

import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from .baselines import baselines
from .checkpoint import save
from .errors import SaveError, require
from .report import report_on
from .train import Interruption, Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAVE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Bounds:
    """When a run ends: after ``seconds`` from its start, or else after ``epochs`` in all, earlier runs included."""

    epochs: int = 0
    seconds: float | None = None


class Pace:
    """Where a run stands, how fast it goes, and when it is over."""

    def __init__(self, trainer: Trainer, bounds: Bounds) -> None:
        self.trainer = trainer
        self.seconds = bounds.seconds
        self.first_step = trainer.step
        self.last_step = bounds.epochs * trainer.epoch_steps
        self.started = time.perf_counter()
        self.training_bits = 0.0  # smoothed over about the last fifty steps

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.started

    def over(self) -> bool:
        """Return whether the bounds are reached."""
        return self.trainer.step >= self.last_step if self.seconds is None else self.elapsed() >= self.seconds

    def note(self, bits: float) -> None:
        """Take in the training loss of the step just taken."""
        self.training_bits += (bits - self.training_bits) / min(50, self.trainer.step - self.first_step)

    def fraction(self) -> float:
        """Return how much of the run is done."""
        if self.seconds is not None:
            return min(1.0, self.elapsed() / self.seconds)
        return (self.trainer.step - self.first_step) / (self.last_step - self.first_step)

    def describe(self) -> str:
        """Return a line about where the run stands."""
        step, settings = self.trainer.step, self.trainer.settings
        elapsed = self.elapsed()
        rate = (step - self.first_step) * settings.batch * settings.steps / elapsed
        fraction = self.fraction()
        held_out = f", held-out {self.trainer.history[-1][2]:.3f}" if self.trainer.history else ""
        return (
            f"epoch {step / self.trainer.epoch_steps:.1f}  {self.training_bits:.3f}{held_out} bits/char  "
            f"{rate:,.0f} char/s  {clock(elapsed * (1 - fraction) / fraction)} left"
        )


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def run(trainer: Trainer, bounds: Bounds, path: str, out: TextIO, *, show_samples: bool) -> int | None:
    """Train until the bounds are reached or a signal ends it, such as Ctrl-C; save at ``path``. Return the signal.

    Shows progress on ``out``, and, if asked to, the samples that are kept. Saves every minute and at the end.
    """
    pace = Pace(trainer, bounds)
    saved = 0.0
    with Interruption() as interruption, report_on(out) as report, one_blas_thread():
        while not (interruption.requested or pace.over()):
            pace.note(trainer.advance())
            if trainer.evaluation_due:
                trainer.evaluate()
                if show_samples and trainer.sample_due:
                    report.text(pace.describe(), trainer.samples[-1].text)
            report.update(pace.fraction(), pace.describe())
            elapsed = pace.elapsed()
            if elapsed - saved >= SAVE_EVERY:
                saved = elapsed
                save(path, trainer.checkpoint())
        save(path, trainer.checkpoint())
    return interruption.signal


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep NumPy's BLAS to one thread while entered: its threads would spin on the cores that fastrnn's work on.

    Besides, its results then depend on the number of cores no more than fastrnn's do.
    """
    require("threadpoolctl")
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def introduce(trainer: Trainer, out: TextIO) -> None:
    """Print what is about to be trained, and on what."""
    corpus, settings = trainer.corpus, trainer.settings
    layers = "one-layer" if settings.layers == 1 else f"{settings.layers}-layer"
    print(
        f"A {layers} character {settings.cell.upper()} with {settings.hidden} units: {len(corpus.train):,} characters "
        f"to learn from, {corpus.held_out.size:,} held out, {len(corpus.vocabulary):,} different ones.",
        file=out,
        flush=True,
    )


def summarise(trainer: Trainer, out: TextIO) -> None:
    """Print the held-out bits per character of the model beside those of simple models."""
    simple = baselines(trainer.corpus)
    bits = trainer.best_bits if trainer.history else trainer.held_out_bits(trainer.average)
    name = f"this {trainer.settings.cell.upper()}, {trainer.settings.hidden} units"
    rows = [*zip(("uniform", "unigram", "bigram"), simple, strict=True), (name, bits)]
    width = max(len(name) for name, _ in rows)
    print("\nbits per character on held-out text (lower is better)", file=out)
    for name, value in rows:
        print(f"  {name:{width}}  {value:6.3f}  {'#' * round(value * 5)}", file=out)


PLOT_FORMATS = ("pdf", "png", "svg")


def check_plot(path: str) -> None:
    """Raise an error now that :func:`plot` would raise after training."""
    require("matplotlib.figure")
    if path.rpartition(".")[2].lower() not in PLOT_FORMATS:
        raise SaveError(
            f"cannot plot to {path}: its name must end in one of {', '.join('.' + f for f in PLOT_FORMATS)}"
        )
    check_place(path)


def check_place(path: str) -> None:
    """Raise :class:`SaveError` where a file cannot be: without a folder, or in the place of what is no regular file."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise SaveError(f"cannot save {path}: there is no folder {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise SaveError(f"cannot save {path}: it is not a regular file")


def check_extras(out: TextIO) -> None:
    """Raise now what training would raise later, for want of a library; ``out`` is where progress goes."""
    require("threadpoolctl", *(("rich",) if out.isatty() else ()))


def plot(trainer: Trainer, path: str) -> None:
    """Draw the learning curve; the name of the file decides the format. Raises :class:`SaveError`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    per_step = trainer.settings.batch * trainer.settings.steps
    characters = [row[0] * per_step / 1e6 for row in trainer.history]
    axes.plot(characters, [row[1] for row in trainer.history], "--", label="training")
    axes.plot(characters, [row[2] for row in trainer.history], label="held-out")
    for name, value in baselines(trainer.corpus)._asdict().items():
        axes.axhline(value, color="grey", linestyle=":", linewidth=1)
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey")
    axes.set_xlabel("million characters read")
    axes.set_ylabel("bits per character")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{trainer.settings.cell.upper()}, {trainer.settings.hidden} units")
    axes.legend(loc="lower left")
    save_figure(figure, path)


def save_figure(figure: "Figure", path: str) -> None:
    """Write a figure; the name of the file decides the format. Raises :class:`SaveError`."""
    try:
        figure.savefig(path)
    except OSError as error:
        raise SaveError(f"cannot save {path}: {error.strerror}") from None
