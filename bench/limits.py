"""How near fastrnn comes to what the machine can do: one table, in some minutes. Needs fastrnn and NumPy only.

    python bench/limits.py [--threads 1 2]

What is compared takes turns, and every figure is a median of ratios, so that a machine whose speed changes from one
second to the next does not matter much. Tokens have no input projection, so that with them a step is the recurrence
alone; the difference of two lengths leaves out what a call does once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastrnn
import machine
from fastrnn import _core
from peers import Problem
from shapes import Shape, flops

Call = Callable[[], Any]
ROUNDS = 9
SECONDS = 0.05  # of each in a round


def seconds(call: Call) -> float:
    """Of one call, from as many as take SECONDS."""
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS or not calls:
        call()
        calls += 1
    return spent / calls


def in_turns(*calls: Call) -> list[tuple[float, ...]]:
    """Seconds of each, round after round."""
    for call in calls:
        call()
    return [tuple(seconds(call) for call in calls) for _ in range(ROUNDS)]


def inference(problem: Problem) -> Call:
    forward = getattr(fastrnn, f"{problem.cell}_forward")
    return lambda: forward(problem.x, *problem.weights, *problem.state)


def training(problem: Problem) -> Call:
    forward, backward = (getattr(fastrnn, f"{problem.cell}_{verb}") for verb in ("forward", "backward"))
    return lambda: backward(
        forward(problem.x, *problem.weights, *problem.state, training=True).tape, problem.dy, *problem.dstate
    )


def recurrence(cell: str, T: int, H: int) -> Call:
    """Inference of one row of batch from a single token."""
    problem = Problem.draw(cell, Shape(1, 1, 1, H))
    x = np.zeros((T, 1), np.int64)
    forward = getattr(fastrnn, f"{cell}_forward")
    return lambda: forward(x, *problem.weights, *problem.state)


def fma_fractions(threads: int) -> Iterator[tuple[str, float]]:
    """Rates over that of FMAs in registers."""
    for mode, kind in (("inference", inference), ("training", training)):
        for cell in ("lstm", "gru", "rnn"):
            for shape in (Shape(100, 32, 256, 256), Shape(50, 32, 512, 512), Shape(25, 64, 1024, 1024)):
                call = kind(Problem.draw(cell, shape))
                call()
                fractions = []
                for _ in range(ROUNDS):
                    samples, amount = machine.probe_fma(threads)
                    peak = amount / statistics.median(samples)
                    fractions.append(flops(mode, cell, shape) / seconds(call) / peak)
                yield f"of the FMA peak: {mode}, {cell} {shape}", statistics.median(fractions)


def read_fractions(threads: int) -> Iterator[tuple[str, float]]:
    """Bytes of W_hh a second, in steps of one row, over those of a loop that only reads as many."""
    for cell, gates in (("lstm", 4), ("gru", 3)):
        for H in (256, 512, 1024, 1760):
            T = max(50, 2**25 // (gates * H * H))
            size = gates * H * H * 4
            fractions = []
            for once, twice in in_turns(recurrence(cell, T, H), recurrence(cell, 2 * T, H)):
                samples, amount = machine.probe_read(threads, size // threads)
                fractions.append(size * T / (twice - once) / (amount / statistics.median(samples)))
            yield f"of reading W_hh: {cell}, batch 1, H = {H}", statistics.median(fractions)


def float64_rates(_: int) -> Iterator[tuple[str, float]]:
    """Rates in float64 over those in float32."""
    for cell in ("lstm", "gru", "rnn"):
        for shape in (Shape(100, 1, 128, 128), Shape(100, 32, 256, 256)):
            single = Problem.draw(cell, shape)
            rounds = in_turns(inference(single), inference(single.as_float64()))
            yield f"float64 over float32: {cell} {shape}", statistics.median(a / b for a, b in rounds)


def packing_shares(_: int) -> Iterator[tuple[str, float]]:
    """What a call takes that does not grow with T, over all that a call of 100 steps takes."""
    for cell in ("lstm", "gru", "rnn"):
        for H in (128, 256, 512, 1024):
            shapes = Shape(100, 1, H, H), Shape(200, 1, H, H)
            rounds = in_turns(*(inference(Problem.draw(cell, shape)) for shape in shapes))
            yield (
                f"packing in 100 steps: {cell}, batch 1, H = {H}",
                statistics.median((2 * a - b) / a for a, b in rounds),
            )


def length_ratio(_: int) -> Iterator[tuple[str, float]]:
    """The time of 100,000 steps over 1000 times that of 100."""
    for cell in ("lstm", "gru", "rnn"):
        short, long = (inference(Problem.draw(cell, Shape(T, 1, 32, 32))) for T in (100, 100_000))
        yield (
            f"100,000 steps over 1000 x 100: {cell} H = 32",
            statistics.median(b / a / 1000 for a, b in in_turns(short, long)),
        )


def thread_gains(threads: int) -> Iterator[tuple[str, float]]:
    """Times on one thread over those on `threads`, beside how the FMA loop gains."""
    if threads == 1:
        return
    gains = []
    for _ in range(ROUNDS):
        rates = [amount / statistics.median(samples) for samples, amount in map(machine.probe_fma, (1, threads))]
        gains.append(rates[1] / rates[0])
    yield "1 thread over this many: FMA loop", statistics.median(gains)
    for mode, kind in (("inference", inference), ("training", training)):
        for shape in (Shape(100, 32, 256, 256), Shape(50, 32, 512, 512), Shape(25, 64, 1024, 1024)):
            call = kind(Problem.draw("lstm", shape))

            def on(n: int, call: Call = call) -> Call:
                def run() -> None:
                    fastrnn.set_num_threads(n)
                    call()

                return run

            rounds = in_turns(on(1), on(threads))
            yield f"1 thread over this many: {mode}, lstm {shape}", statistics.median(a / b for a, b in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    options = parser.parse_args()
    print(f"{machine.cpu_model()}, {_core.isa()} kernels\n\n| what | threads | ratio |\n|---|---:|---:|")
    for threads in options.threads:
        fastrnn.set_num_threads(threads)
        for measure in (fma_fractions, read_fractions, thread_gains):
            for what, ratio in measure(threads):
                print(f"| {what} | {threads} | {ratio:.2f} |", flush=True)
    fastrnn.set_num_threads(1)
    for measure in (float64_rates, packing_shares, length_ratio):
        for what, ratio in measure(1):
            print(f"| {what} | 1 | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
