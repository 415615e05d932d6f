"""Times chosen shapes in a few seconds, for tuning: one line per contender, with its ratio to fastrnn.

    python bench/compare.py --cell lstm --mode training --shape 100,32,256 --threads 1
    python bench/compare.py --cell lstm gru --shape 100,1,128 50,16,64 --threads 1 2 --contenders fastrnn torch

Without --shape it takes the quick subset of shapes.py; `--shape all` takes the whole grid. A ratio says how many times
as long as fastrnn a contender takes (where fastrnn is missing: as the fastest). `err` is the largest difference from
the reference's answer in float64, relative to each array's largest element; it says so where another's had to serve.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing

from measure import TOLERANCE, Arena, Plan, Result, Task
from peers import CONTENDERS
from shapes import CELLS, MODES, Shape, bar, flops, shapes


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", nargs="+", choices=CELLS, default=["lstm"])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=["inference"])
    parser.add_argument("--shape", nargs="+", metavar="T,B,H", help="T,B,H with I = H, or T,B,I,H; or all")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N")
    usual = [name for name in CONTENDERS if name != "reference"]
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        default=usual,
        help="%(choices)s; all but the reference",
        metavar="NAME",
    )
    plan = Plan()
    parser.add_argument("--blocks", type=int, default=plan.blocks, help="turns of each contender (%(default)s)")
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of timed calls in a block (%(default)s)")
    return parser.parse_args(argv)


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    for mode in options.mode:
        if not options.shape or options.shape == ["all"]:
            chosen = shapes(mode, quick=not options.shape)
        else:
            chosen = tuple(Shape.parse(text) for text in options.shape)
        if mode == "step":
            chosen = tuple(shape._replace(T=1) for shape in chosen)
        yield from (Task(mode, cell, shape, n) for cell in options.cell for shape in chosen for n in options.threads)


def report(task: Task, results: dict[str, Result]) -> Iterator[str]:
    mode, cell, shape, threads = task
    timed = {name: result for name, result in results.items() if result.samples}
    base = timed.get("fastrnn") or min(timed.values(), key=lambda result: result.median, default=None)
    yield f"{cell} {mode} {shape}, {threads} thread{'s' if threads > 1 else ''}"
    for name, result in results.items():
        if result.failure or base is None:
            yield f"  {name:<12} {result.failure}"
            continue
        wrong = "" if result.error <= TOLERANCE else "  WRONG"
        against = "" if result.against == "reference" else f" from {result.against}"
        yield (
            f"  {name:<12} {1e6 * result.median:>11.1f} us {flops(mode, cell, shape) / result.median / 1e9:>7.1f} GF"
            f"  {result.median / base.median:>7.2f}x  best {1e6 * min(result.samples):>11.1f} us"
            f"  err {result.error:.0e}{against}{wrong}"
        )
    aim = bar(mode, cell, shape)
    rivals = [timed[name].median for name in aim.peers if name in timed] if aim else []
    if aim and rivals and "fastrnn" in timed:
        ratio = min(rivals) / timed["fastrnn"].median
        verdict = "reached" if ratio >= aim.ratio else "MISSED"
        yield f"  aim: {aim.ratio}x the best of {', '.join(aim.peers)}: {verdict} ({ratio:.2f}x)"


def main() -> None:
    options = arguments()
    with closing(Arena(Plan(options.blocks, options.seconds))) as arena:
        for task in tasks(options):
            contenders = [name for name in options.contenders if task.mode in CONTENDERS[name].modes()]
            print(*report(task, arena.compete(task, contenders)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
