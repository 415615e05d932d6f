"""Turns the JSON of `pytest bench --benchmark-json=FILE.json` into Markdown tables of ratios.

    python bench/table.py FILE.json

One table for each of inference, training and one step: fastrnn's time and rate, then how many times as long each other
contender takes in the same contest. Below stands what the machine can do, and which aims of shapes.py were missed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shapes import FORMATS, MODES, Shape, bar, flops

RIVALS = ("torch", "onnxruntime", "jax", "openvino", "reference")
KEPT = "fastrnn-layer"  # fastrnn with weights that are packed already, as the others' are

Info = dict[str, Any]  # the extra_info of one benchmark


class Contest(NamedTuple):
    """One row: the median seconds and the largest error of every contender, and the machine's peak in the same run."""

    mode: str
    cell: str
    shape: Shape
    threads: int
    seconds: dict[str, float]
    errors: dict[str, float]
    peak: float | None = None  # GFLOP/s of products with the same weights

    @property
    def ours(self) -> str:
        """What the others are compared with."""
        return "fastrnn" if "fastrnn" in self.seconds else KEPT

    @property
    def gflops(self) -> float:
        return flops(self.mode, self.cell, self.shape) / self.seconds[self.ours] / 1e9

    def ratios(self, rivals: Sequence[str] = RIVALS) -> dict[str, float]:
        """How many times as long as fastrnn each of `rivals` takes, as far as they took part."""
        return {name: self.seconds[name] / self.seconds[self.ours] for name in rivals if name in self.seconds}

    def aim(self) -> tuple[float, float] | None:
        """The ratio aimed at and the one reached; None where there is no aim, or nobody to compare with."""
        aim = bar(self.mode, self.cell, self.shape)
        ratios = self.ratios(aim.peers) if aim else {}
        return (aim.ratio, min(ratios.values())) if aim and ratios else None


def peaks_of(infos: Sequence[Info]) -> dict[tuple[str, str, int], float]:
    """GFLOP/s of each instruction set, weight format and number of threads."""
    return {(i["isa"], i["weights"], i["threads"]): i["gflops"] for i in infos if "weights" in i}


def contests(benchmarks: Sequence[Info]) -> list[Contest]:
    """The contests in which fastrnn took part, in the order of the run."""
    peaks = peaks_of([benchmark["extra_info"] for benchmark in benchmarks])
    found: dict[tuple[str, str, Shape, int], dict[str, tuple[float, Info]]] = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        if "contender" in info and "sweep" not in info:
            key = info["mode"], info["cell"], Shape.parse(info["shape"]), info["threads"]
            found.setdefault(key, {})[info["contender"]] = benchmark["stats"]["median"], info
    return [
        Contest(
            *key,
            {name: seconds for name, (seconds, _) in by_name.items()},
            {name: info["error"] for name, (_, info) in by_name.items()},
            peaks.get((by_name["fastrnn"][1]["isa"], "float32", key[-1])),
        )
        for key, by_name in found.items()
        if "fastrnn" in by_name
    ]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table whose columns beyond the first are aligned to the right."""
    yield f"| {' | '.join(header)} |"
    yield f"|---|{'---:|' * (len(header) - 1)}"
    yield from (f"| {' | '.join(line)} |" for line in lines)
    yield ""


def contest_table(rows: Sequence[Contest]) -> Iterator[str]:
    """One mode's table. With weights of fewer bits it says how far off everyone is, where others have their aim."""
    rivals = [name for name in (KEPT, *RIVALS) if any(name in row.seconds and name != row.ours for row in rows)]
    ours, mode = rows[0].ours, rows[0].mode
    lines = []
    for row in rows:
        ratios, aim = row.ratios(rivals), row.aim()
        best = min((name for name in ratios if name != KEPT), key=lambda name: ratios[name], default=None)
        lines.append(
            [
                f"{row.cell} {row.shape}",
                str(row.threads),
                significant(1e6 * row.seconds[ours]),
                significant(row.gflops),
                f"{row.gflops / row.peak:.2f}" if row.peak else "no instruction" if mode in FORMATS else "",
                *(f"{ratios[name]:.2f}" if name in ratios else "" for name in rivals),
                f"{ratios[best]:.2f} {best}" if best else "",
            ]
        )
        if mode in FORMATS:
            lines[-1] += [f"{row.errors[name]:.0e}" if name in row.errors else "" for name in (ours, *rivals)]
        else:
            lines[-1].append("" if aim is None else f"{aim[0]}" if aim[1] >= aim[0] else f"**{aim[0]} missed**")
    last = ["error", *(f"of {name}" for name in rivals)] if mode in FORMATS else ["aim"]
    yield from table(["cell T,B,H", "threads", "us", "GFLOP/s", "of peak", *rivals, "best other", *last], lines)


def summary(rows: Sequence[Contest]) -> str:
    """How many times as long as fastrnn the best other takes, over all rows that have one."""
    best = [min(ratios.values()) for row in rows if (ratios := row.ratios())]
    mean, lowest = (statistics.geometric_mean(best), min(best)) if best else (math.nan, math.nan)
    return f"Geometric mean of the best other: {mean:.2f}; lowest: {lowest:.2f}.\n"


def machine_tables(infos: Sequence[Info]) -> Iterator[str]:
    """Peaks of arithmetic and read bandwidths of the same run."""
    peaks = [[isa, weights, str(n), significant(gflops)] for (isa, weights, n), gflops in peaks_of(infos).items()]
    reads = [
        [i["place"], str(i["threads"]), f"{i['bytes_per_thread'] / 1024:.0f}", significant(i["gigabytes_per_second"])]
        for i in infos
        if "place" in i
    ]
    if peaks:
        yield from table(["products in registers", "weights", "threads", "GFLOP/s"], peaks)
    if reads:
        yield from table(["reading from", "threads", "KiB a thread", "GB/s"], reads)


def significant(value: float) -> str:
    """Three digits or all that stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def report(document: Info) -> Iterator[str]:
    """The whole page, line by line."""
    infos = [benchmark["extra_info"] for benchmark in document["benchmarks"]]
    rows = contests(document["benchmarks"])
    versions = {info["contender"]: info["version"] for info in infos if "contender" in info}
    isas = {info["isa"] for info in infos if info.get("contender") == "fastrnn"}
    yield f"{', '.join(sorted({info['cpu'] for info in infos}))}; {document['datetime'][:10]}."
    yield f"{', '.join(f'{name} {version}' for name, version in versions.items())};"
    yield f"kernels of fastrnn: {', '.join(sorted(isas))}. float32, I = H, medians."
    yield "Under a contender's name stands how many times as long as fastrnn it takes. Aims: in inference, a multiple"
    yield "of the speed of the better of torch and onnxruntime; in training, of torch; in one step, of onnxruntime.\n"
    for mode in MODES:
        chosen = [row for row in rows if row.mode == mode]
        if chosen:
            yield f"### {mode.capitalize()}\n"
            yield from contest_table(chosen)
            yield summary(chosen)
    yield "### Machine\n"
    yield from machine_tables(infos)
    aims = [(row, aim) for row in rows if (aim := row.aim())]
    missed = [(row, ratio, reached) for row, (ratio, reached) in aims if reached < ratio]
    yield f"{len(aims) - len(missed)} of {len(aims)} aims reached."
    for row, ratio, reached in missed:
        threads = f"{row.threads} thread{'s' if row.threads > 1 else ''}"
        yield f"- missed: {row.mode}, {row.cell} {row.shape}, {threads}: {reached:.2f} instead of {ratio}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what pytest wrote with --benchmark-json")
    print(*report(json.loads(parser.parse_args().file.read_text())), sep="\n")


if __name__ == "__main__":
    main()
