"""RNN, LSTM and GRU of equal size, trained on the same text for the same time.

The runs take turns, a slice of time each, so that whatever else the machine does meets all of them alike. Measuring on
the held-out text comes between the slices, and counts for no one's time.

Bits are those per character of held-out text, of the best weights so far: what ``fastrnn train`` would have saved.
"""

import dataclasses
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from fastrnn.charlm import session
from fastrnn.charlm.model import weight_shapes
from fastrnn.charlm.report import Report
from fastrnn.charlm.settings import CELLS, LARGEST_SIZE, Settings
from fastrnn.charlm.text import Corpus
from fastrnn.charlm.train import Trainer

from .columns import aligned

HIDDEN = 128
BATCH = 16
# The learning rates that took each cell furthest in 800 steps of the built-in text, at HIDDEN. With one rate for all it
# would be a comparison of rates: at the LSTM's, a plain RNN learns next to nothing.
RATES = {"rnn": 0.006, "lstm": 0.02, "gru": 0.015}
SECONDS = 12.0
SEEDS = 3
# The first slices are short, for bits fall fast at first: slice k ends at (k / SLICES)**2 of the time.
SLICES = 16

Bits = Mapping[str, Sequence[float]]  # of each seed, by cell


class Point(NamedTuple):
    """Where a run stood after a slice."""

    seconds: float  # of training
    characters: int  # read, over all epochs
    bits: float


class Run:
    """One cell with one seed, trained slice by slice; ``curve`` has a point for each."""

    def __init__(self, settings: Settings, corpus: Corpus, clock: Callable[[], float]) -> None:
        self.trainer = Trainer(settings, corpus)
        self.clock = clock
        self.seconds = 0.0
        self.curve: list[Point] = []

    def train(self, until: float) -> None:
        """Take steps until the run has had ``until`` seconds in all; measure it, if there was a step to take."""
        trainer, before = self.trainer, self.trainer.step
        while self.seconds < until:
            started = self.clock()
            trainer.advance()
            self.seconds += self.clock() - started
        if trainer.step > before:
            trainer.evaluate()
            characters = trainer.step * trainer.settings.batch * trainer.settings.steps
            self.curve.append(Point(self.seconds, characters, trainer.best_bits))


@dataclass(frozen=True)
class Result:
    """What came out for one cell."""

    settings: Settings  # of the first seed
    parameters: int
    curves: Sequence[Sequence[Point]]  # of each seed

    @property
    def speed(self) -> float:
        """Characters read in a second of training."""
        return sum(curve[-1].characters for curve in self.curves) / sum(curve[-1].seconds for curve in self.curves)

    def after_time(self) -> list[float]:
        """Return the bits of each seed at the end."""
        return [curve[-1].bits for curve in self.curves]

    def after_characters(self, characters: int) -> list[float]:
        """Return the bits of each seed when it had read so many, on straight lines between its points."""
        return [
            float(np.interp(characters, [point.characters for point in curve], [point.bits for point in curve]))
            for curve in self.curves
        ]


def parameters(settings: Settings, vocabulary: int) -> int:
    """Return how many numbers a model learns, of a text with so many different characters."""
    return sum(map(math.prod, weight_shapes(settings, vocabulary).values()))


def nearest_hidden(cell: str, target: int, vocabulary: int) -> int:
    """Return the hidden size with which a model has the number of parameters nearest to ``target``."""

    def size(hidden: int) -> int:
        return parameters(Settings(cell=cell, hidden=hidden), vocabulary)

    sizes = range(1, LARGEST_SIZE + 1)
    above = bisect_left(sizes, target, key=size)
    return min(sizes[max(0, above - 1) : above + 1], key=lambda hidden: abs(size(hidden) - target))


def equal_budgets(hidden: int, vocabulary: int) -> list[Settings]:
    """Return the settings of every cell, all with about the parameters of an LSTM with ``hidden`` units."""
    target = parameters(Settings(cell="lstm", hidden=hidden), vocabulary)
    slower = min(1.0, HIDDEN / hidden)  # a step of Adam moves a sum over H units H times as far as one of its weights
    return [
        Settings(
            cell=cell,
            hidden=nearest_hidden(cell, target, vocabulary),
            batch=BATCH,
            lr=RATES[cell] * slower,
        )
        for cell in CELLS
    ]


def compare(
    corpus: Corpus,
    *,
    hidden: int = HIDDEN,
    seconds: float = SECONDS,
    seeds: int = SEEDS,
    report: Report | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Result]:
    """Train every cell with every seed for ``seconds``, by turns.

    Args:
        corpus: what they learn, and what is held out.
        hidden: size of the LSTM; the others get as many parameters.
        seconds: of training, of each run.
        seeds: how many runs each cell has, with seeds from 0.
        report: where progress is shown.
        clock: tells the seconds.

    """
    models = equal_budgets(hidden, len(corpus.vocabulary))
    runs = [[Run(dataclasses.replace(model, seed=seed), corpus, clock) for seed in range(seeds)] for model in models]
    turns = [run for same_seed in zip(*runs, strict=True) for run in same_seed]
    for k in range(SLICES):
        for turn, run in enumerate(turns):
            if report:
                done = (k**2 + (2 * k + 1) * turn / len(turns)) / SLICES**2
                left = session.clock(len(turns) * seconds * (1 - done))
                report.update(
                    done, f"{run.trainer.settings.cell.upper()}, seed {run.trainer.settings.seed}  {left} left"
                )
            run.train(seconds * ((k + 1) / SLICES) ** 2)
    return [
        Result(model, parameters(model, len(corpus.vocabulary)), [run.curve for run in runs_of_model])
        for model, runs_of_model in zip(models, runs, strict=True)
    ]


def read_by_all(results: Sequence[Result]) -> int:
    """Return the largest number of characters that every run has read."""
    return min(curve[-1].characters for result in results for curve in result.curves)


def leaders(bits: Bits) -> list[str]:
    """Return the cell with the lowest mean, and then those whose ranges over seeds overlap with its range."""
    order = sorted(bits, key=lambda cell: fmean(bits[cell]))
    return [order[0], *(cell for cell in order[1:] if min(bits[cell]) <= max(bits[order[0]]))]


def advice(after_time: Bits, after_characters: Bits) -> str:
    """Return in plain words which cell to take."""
    names = {cell: f"the {cell.upper()}" for cell in after_time}
    first, second, *_ = order = sorted(after_time, key=lambda cell: fmean(after_time[cell]))
    level = leaders(after_time)

    def gap(cell: str) -> str:
        return f"{fmean(after_time[cell]) - fmean(after_time[first]):.3f} bits per character"

    if len(after_time[first]) == 1:
        return (
            f"After the same time {names[first]} is ahead of {names[second]} by {gap(second)}, but one seed cannot "
            "tell what of it is luck: compare with --seeds 3 or more."
        )
    if len(level) == len(order):
        words = (
            "No clear difference: after the same time the ranges over seeds overlap. Take any, or look again with more "
            "--seconds or --seeds."
        )
    elif len(level) > 1:
        words = (
            f"Take {names[first]} or {names[level[1]]}: after the same time there is no clear difference between them, "
            f"for their ranges over seeds overlap; {names[order[-1]]} is {gap(order[-1])} behind {names[first]}."
        )
    else:
        words = (
            f"Take {names[first]}: after the same time it is ahead of {names[second]} by {gap(second)}, and its worst "
            "seed is better than the best of the others."
        )
    again = leaders(after_characters)
    if set(again) == set(level):
        return f"{words} After the same number of characters it is the same."
    if len(again) == 1:
        return f"{words} After the same number of characters {names[again[0]]} is ahead."
    among = "among them" if len(again) == len(order) else f"between {' and '.join(names[cell] for cell in again)}"
    return f"{words} After the same number of characters there is no clear difference {among}."


def table(results: Sequence[Result], seconds: float) -> str:
    """Return the figures of all cells, a line each."""
    characters = read_by_all(results)
    rows = [("cell", "hidden", "parameters", "char/s", f"bits after {seconds:g} s", f"after {characters:,} characters")]
    rows += [
        (
            result.settings.cell.upper(),
            f"{result.settings.hidden}",
            f"{result.parameters:,}",
            f"{result.speed:,.0f}",
            spread(result.after_time()),
            spread(result.after_characters(characters)),
        )
        for result in results
    ]
    return aligned(rows)


def spread(bits: Sequence[float]) -> str:
    """Return the mean, and the range over seeds."""
    return f"{fmean(bits):.3f} ({min(bits):.3f} to {max(bits):.3f})"


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """Return what ``--json`` prints of the cells; lists have an entry for each seed."""
    characters = read_by_all(results)
    return {
        "characters": characters,
        "cells": {
            result.settings.cell: {
                "hidden": result.settings.hidden,
                "learning_rate": result.settings.lr,
                "parameters": result.parameters,
                "characters_per_second": result.speed,
                "bits_after_time": result.after_time(),
                "bits_after_characters": result.after_characters(characters),
                "curves": [[point._asdict() for point in curve] for curve in result.curves],
            }
            for result in results
        },
    }


def plot(results: Sequence[Result], path: str) -> None:
    """Draw bits against time and against characters read: means, and ranges over seeds. Raises SaveError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.8, 3.6), dpi=80, layout="constrained")
    plots = figure.subplots(1, 2, sharey=True)
    for axes, field, unit in zip(plots, ("seconds", "characters"), (1.0, 1e6), strict=True):
        for result, colour, line in zip(results, ("#7f7f7f", "#c0392b", "#1f4e79"), (":", "-", "--"), strict=True):
            xs = [[getattr(point, field) / unit for point in curve] for curve in result.curves]
            x = np.geomspace(max(one[0] for one in xs), min(one[-1] for one in xs), 100)
            bits = [
                np.interp(x, one, [point.bits for point in curve]) for one, curve in zip(xs, result.curves, strict=True)
            ]
            axes.fill_between(x, np.min(bits, axis=0), np.max(bits, axis=0), color=colour, alpha=0.25, linewidth=0)
            label = f"{result.settings.cell.upper()}, {result.settings.hidden} units"
            axes.plot(x, np.mean(bits, axis=0), color=colour, linestyle=line, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    plots[0].set(xlabel="seconds of training", ylabel="held-out bits per character")
    plots[1].set(xlabel="million characters read")
    plots[1].legend()
    session.save_figure(figure, path)
