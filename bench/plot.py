"""Draws the JSON of `pytest bench --benchmark-json=FILE.json`: a roofline, and time against T, B and H.

    python bench/plot.py FILE.json DIRECTORY

writes roofline.png and sizes.png. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

from shapes import SWEEPS, Shape
from table import Contest, Info, contests

matplotlib.use("agg")

COLOURS = {"fastrnn": "#c0392b", "onnxruntime": "#2c7fb8", "torch": "#e08214", "jax": "#4d9221", "openvino": "#7b3294"}
MARKERS = {"rnn": "s", "lstm": "o", "gru": "^"}


def roofline(rows: Sequence[Contest], infos: Sequence[Info]) -> Any:
    """Rates of inference on one thread against the operations for each byte of W_hh, under the machine's ceilings."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    rows = [row for row in rows if row.mode == "inference" and row.threads == 1]
    peak = rows[0].peak
    intensity = np.geomspace(0.4, 80, 100)
    places = [info for info in infos if "place" in info and info["threads"] == 1]
    for info, side in zip(places, cycle(("bottom", "top")), strict=False):  # L1 and L2 may be equally fast
        rate = info["gigabytes_per_second"]
        axes.plot(intensity, np.minimum(peak, rate * intensity), color="grey", linewidth=0.8)
        axes.annotate(f" {info['place']} {rate:.0f} GB/s", (0.42, rate * 0.42), fontsize=8, color="grey", va=side)
    axes.axhline(peak, color="black", linewidth=0.8)
    axes.annotate(f"FMA peak {peak:.0f} GFLOP/s", (80, peak), fontsize=8, ha="right", va="bottom")
    for name in ("onnxruntime", "torch", "fastrnn"):
        for cell, marker in MARKERS.items():
            points = [
                (row.shape.B / 2, row.gflops * row.seconds["fastrnn"] / row.seconds[name])
                for row in rows
                if row.cell == cell and name in row.seconds
            ]
            size, alpha = (22, 0.8) if name == "fastrnn" else (14, 0.5)
            if points:
                x, y = zip(*points, strict=True)
                axes.scatter(x, y, s=size, alpha=alpha, marker=marker, color=COLOURS[name], label=f"{name} {cell}")
    axes.set(xscale="log", yscale="log", xlabel="operations for each byte of W_hh (B / 2)", ylabel="GFLOP/s")
    axes.set_ylim(1, peak * 1.5)
    axes.legend(fontsize=7, ncols=3, loc="lower right")
    return figure


def sizes(benchmarks: Sequence[Any]) -> Any:
    """Medians of LSTM inference on one thread, along each sweep."""
    figure, plots = plt.subplots(1, len(SWEEPS), figsize=(12, 4), layout="constrained")
    for axes, (size, shapes) in zip(plots, SWEEPS.items(), strict=True):
        for name, colour in COLOURS.items():
            line = sorted(
                (getattr(Shape.parse(benchmark["extra_info"]["shape"]), size), 1e3 * benchmark["stats"]["median"])
                for benchmark in benchmarks
                if size in benchmark["extra_info"].get("sweep", ()) and benchmark["extra_info"]["contender"] == name
            )
            if line:
                x, y = zip(*line, strict=True)
                axes.plot(x, y, marker=".", color=colour, label=name)
        held = ", ".join(f"{n} = {getattr(shapes[0], n)}" for n in "TBH" if n != size)
        axes.set(xscale="log", yscale="log", xlabel=size, ylabel="ms", title=held)
        axes.grid(alpha=0.3)
    plots[0].legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what pytest wrote with --benchmark-json")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    benchmarks = json.loads(options.file.read_text())["benchmarks"]
    infos = [benchmark["extra_info"] for benchmark in benchmarks]
    roofline(contests(benchmarks), infos).savefig(options.directory / "roofline.png", dpi=110)
    sizes(benchmarks).savefig(options.directory / "sizes.png", dpi=110)


if __name__ == "__main__":
    main()
