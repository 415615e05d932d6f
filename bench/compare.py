"""Times chosen shapes in a few seconds, for tuning: one line per contender, with its ratio to fastrnn.

    python bench/compare.py --cell lstm --mode training --shape 100,32,256 --threads 1
    python bench/compare.py --cell lstm gru --shape 100,1,128 50,16,64 --threads 1 2 --contenders fastrnn torch
    python bench/compare.py --mode bfloat16 int8 --cell lstm gru --shape all      # weights of fewer bits, everyone's
    python bench/compare.py --cell lstm --shape held-out                          # sizes that nothing was tuned for

Without --shape it takes the quick subset of shapes.py; `--shape all` takes the whole grid, or, with weights of fewer
bits, theirs. A ratio says how many times as long as fastrnn a contender takes (with weights of fewer bits: as a frozen
layer of fastrnn's; where that is missing: as the fastest). `err` is the largest difference from the reference's answer
in float64, relative to each array's largest element; it says so where another's had to serve. Of several tasks there
are tables at the end, like those of table.py, with shares of a peak that was measured after each.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing

import machine
from measure import TOLERANCES, Arena, Plan, Result, Task
from peers import CONTENDERS
from shapes import CELLS, FORMATS, HELD_OUT, MODES, Shape, bar, flops, shapes
from table import KEPT, Contest, contest_table, summary


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", nargs="+", choices=CELLS, default=["lstm"])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=["inference"])
    parser.add_argument("--shape", nargs="+", metavar="T,B,H", help="T,B,H with I = H, or T,B,I,H; or all, or held-out")
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
        elif options.shape == ["held-out"]:
            chosen = HELD_OUT
        else:
            chosen = tuple(Shape.parse(text) for text in options.shape)
        if mode == "step":
            chosen = tuple(shape._replace(T=1) for shape in chosen)
        yield from (Task(mode, cell, shape, n) for cell in options.cell for shape in chosen for n in options.threads)


def report(task: Task, results: dict[str, Result]) -> Iterator[str]:
    mode, cell, shape, threads = task
    timed = {name: result for name, result in results.items() if result.samples}
    base = (
        timed.get("fastrnn") or timed.get(KEPT) or min(timed.values(), key=lambda result: result.median, default=None)
    )
    yield f"{cell} {mode} {shape}, {threads} thread{'s' if threads > 1 else ''}"
    for name, result in results.items():
        if result.failure or base is None:
            yield f"  {name:<12} {result.failure}"
            continue
        wrong = "" if result.error <= TOLERANCES[mode] else "  WRONG"
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


def contest(arena: Arena, task: Task, results: dict[str, Result]) -> Contest | None:
    """A row of a table, with the machine's peak as it is now; None where fastrnn took no part."""
    timed = {name: result for name, result in results.items() if result.samples}
    row = Contest(
        *task,
        {name: result.median for name, result in timed.items()},
        {name: result.error for name, result in timed.items()},
    )
    if row.ours not in timed:
        return None
    weights = task.mode if task.mode in FORMATS else "float32"
    peak = arena.worker(row.ours, task.threads).ask("probe", machine.peak, task.threads, weights)
    return row._replace(peak=peak / 1e9 if peak else None)


def main() -> None:
    options = arguments()
    rows = []
    with closing(Arena(Plan(options.blocks, options.seconds))) as arena:
        for task in tasks(options):
            contenders = [name for name in options.contenders if task.mode in CONTENDERS[name].modes()]
            results = arena.compete(task, contenders)
            print(*report(task, results), sep="\n", flush=True)
            rows.append(contest(arena, task, results))
    for mode in options.mode:
        chosen = [row for row in rows if row and row.mode == mode]
        if len(chosen) > 1:
            print(f"\n{mode}, {machine.cpu_model()}\n", *contest_table(chosen), summary(chosen), sep="\n")


if __name__ == "__main__":
    main()
