"""How near fastrnn comes to what the machine can do: one table, in some minutes. Needs fastrnn and NumPy only.

    python bench/limits.py [--threads 1 2]

What is compared takes turns, and nearly every figure is a median of ratios, so that a machine whose speed changes from
one second to the next does not matter much. Tokens have no input projection, so that with them a step is the recurrence
alone; the difference of two lengths leaves out what a call does once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
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
                    peak = machine.peak(threads)
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


def kept_shares(_: int) -> Iterator[tuple[str, float]]:
    """Of a layer, whose weights stay packed: what it takes to see that they are the same, which is all of no step."""
    for frozen in (False, True):
        for H in (128, 256, 512, 1024):
            layer = fastrnn.LSTM(H, H, seed=0).eval()
            if frozen:
                layer.freeze()
            x = Problem.draw("lstm", Shape(100, 1, H, H)).x

            def run(x: Any, layer: fastrnn.Layer = layer) -> None:
                layer(x)

            rounds = in_turns(partial(run, x), partial(run, x[:0]))
            yield (
                f"looking for changed weights in 100 steps: {'frozen ' * frozen}LSTM layer, batch 1, H = {H}",
                statistics.median(b / a for a, b in rounds),
            )


def layer_call(layer: fastrnn.Layer, x: Any, trains: bool, **options: Any) -> Call:
    """A layer's inference, or its forward and backward pass."""

    def infer() -> None:
        layer.eval()(x, **options)

    def train() -> None:
        y, _ = layer.train()(x, **options)
        layer.backward(y)

    return train if trains else infer


def length_costs(_: int) -> Iterator[tuple[str, float]]:
    """A layer's time for sequences a quarter as long on average as the longest, over that without lengths."""
    x = Problem.draw("lstm", Shape(100, 32, 256, 256)).x
    lengths = np.random.default_rng(0).permutation(np.concatenate([[100], np.linspace(1, 45, 31).astype(int)]))
    for kind in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN):
        layer = kind(256, 256, seed=0)
        for what, trains in (("inference", False), ("training", True)):
            rounds = in_turns(layer_call(layer, x, trains), layer_call(layer, x, trains, lengths=lengths))
            yield (
                f"mean length {lengths.mean():.0f} of 100 over all 100: {what}, {kind.__name__} layer",
                statistics.median(b / a for a, b in rounds),
            )


def variant_rates(_: int) -> Iterator[tuple[str, float]]:
    """A layer's time over that of a variant of the same size."""
    for T, B, H in ((100, 1, 128), (100, 32, 256)):
        x = Problem.draw("lstm", Shape(T, B, H, H)).x
        for plain, variant, name in (
            (fastrnn.LSTM(H, H), fastrnn.LSTM(H, H, peepholes=True), "LSTM, with peepholes"),
            (fastrnn.LSTM(H, H), fastrnn.LSTM(H, H, coupled=True, cell_clip=3.0), "LSTM, coupled and clipped"),
            (fastrnn.LSTM(H, H), fastrnn.LSTM(H, H, proj_size=H // 2), "LSTM, projected to H / 2"),
            (fastrnn.LSTM(H, H), fastrnn.LSTM(H, H, recurrent_dropout=0.2), "LSTM, recurrent dropout"),
            (fastrnn.LSTM(H, H), fastrnn.LSTM(H, H, zoneout=(0.05, 0.5)), "LSTM, zoneout"),
            (fastrnn.LSTM(H, H), fastrnn.LSTM(H, H, layer_norm=True), "LSTM, layer norm"),
            (fastrnn.GRU(H, H), fastrnn.GRU(H, H, layer_norm=True), "GRU, layer norm"),
            (fastrnn.GRU(H, H), fastrnn.GRU(H, H, zoneout=0.1), "GRU, zoneout"),
            (fastrnn.GRU(H, H), fastrnn.GRU(H, H, reset_after=False), "GRU, reset before"),
            (fastrnn.RNN(H, H), fastrnn.IndRNN(H, H), "RNN, IndRNN"),
            (fastrnn.GRU(H, H), fastrnn.MinGRU(H, H), "GRU, MinGRU"),
        ):
            for what, trains in (("inference", False), ("training", True)):
                rounds = in_turns(layer_call(plain, x, trains), layer_call(variant, x, trains))
                yield (
                    f"rate of a variant over the plain layer's: {what}, {name}, {T},{B},{H}",
                    statistics.median(a / b for a, b in rounds),
                )


def activation_rates(_: int) -> Iterator[tuple[str, float]]:
    """A layer's time over that of one with other activations; and of one with the same ones, as data."""
    hard = ("hard_sigmoid", 0.2, 0.5)
    nets: tuple[tuple[type[fastrnn.Layer], dict[str, Any], tuple[dict[str, Any], ...]], ...] = (
        (fastrnn.LSTM, {}, ({"gate_clip": 1e30}, {"activations": (hard, "tanh", "tanh")})),
        (fastrnn.LSTM, {}, ({"activations": (hard, "softsign", "elu")}, {"activations": ("sigmoid", "relu", "tanh")})),
        (fastrnn.GRU, {}, ({"gate_clip": 1e30}, {"activations": (hard, "tanh")}, {"activations": (hard, "softplus")})),
        (fastrnn.GRU, {"reset_after": False}, ({"gate_clip": 1e30}, {"activations": (hard, "tanh")})),
        (fastrnn.RNN, {}, ({"gate_clip": 1e30}, {"activations": ("softsign",)}, {"activations": ("elu",)})),
    )
    for T, B, H in ((100, 1, 32), (100, 1, 128), (100, 16, 64), (100, 32, 256)):
        x = Problem.draw("lstm", Shape(T, B, H, H)).x
        for kind, plain, others in nets:
            for other in others:
                layers = [kind(H, H, seed=0, **options) for options in (plain, plain | other)]
                named = " ".join(map(str, (kind.__name__, *(plain | other).values())))
                for what, trains in (("inference", False), ("training", True)):
                    rounds = in_turns(*(layer_call(layer, x, trains) for layer in layers))
                    yield (
                        f"rate with other activations over the plain layer's: {what}, {named}, {T},{B},{H}",
                        statistics.median(a / b for a, b in rounds),
                    )


def recompute_costs(_: int) -> Iterator[tuple[str, float]]:
    """The time of a training step that computes again, over that of one that does not."""
    for T, B, H in ((2000, 32, 256), (3000, 8, 128), (20000, 1, 64)):
        x = Problem.draw("lstm", Shape(T, B, H, H)).x
        for kind in (fastrnn.LSTM, fastrnn.GRU):
            layer = kind(H, H, seed=0)
            rounds = in_turns(layer_call(layer, x, True), layer_call(layer, x, True, recompute=True))
            yield f"recomputing: {kind.__name__} {T},{B},{H}", statistics.median(b / a for a, b in rounds)


def stream_steps(_: int) -> Iterator[tuple[str, float]]:
    """Microseconds of a stream step, of hundreds in a row; of single ones, the 99th percentile over the median."""
    for kind in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN):
        for H in (32, 64, 128, 256):
            step = kind(H, H, seed=0).stream().step
            x, out = np.ones((1, H), np.float32), np.empty((1, H), np.float32)
            rows, single = [], []
            for _ in range(200):
                start = time.perf_counter_ns()
                for _ in range(100):
                    step(x, out)
                rows.append((time.perf_counter_ns() - start) / 100)
            for _ in range(20000):
                start = time.perf_counter_ns()
                step(x, out)
                single.append(time.perf_counter_ns() - start)
            median, late = np.percentile(single, (50, 99))
            yield f"microseconds a step: {kind.__name__} stream, batch 1, H = {H}", statistics.median(rows) / 1000
            yield f"99th percentile over the median: {kind.__name__} stream, batch 1, H = {H}", late / median


def training_memory(_: int) -> Iterator[tuple[str, float]]:
    """Floats for each of T * B * H: the tape without what is made of the weights, y and dx."""
    for cell in ("lstm", "gru", "rnn"):
        forward = getattr(fastrnn, f"{cell}_forward")
        tapes = []
        for T in (1000, 2000):
            problem = Problem.draw(cell, Shape(T, 32, 256, 256))
            tapes.append(forward(problem.x, *problem.weights, training=True).tape.nbytes)
        yield f"floats of training memory: {cell}", (tapes[1] - tapes[0]) / 4 / (1000 * 32 * 256) + 2


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
        one, all_of_them = map(machine.peak, (1, threads))
        gains.append(all_of_them / one)
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


def waking_costs(threads: int) -> Iterator[tuple[str, float]]:
    """Small calls that come one by one, with time between them for threads to fall asleep: on `threads` over on one."""
    if threads == 1:
        return
    shapes = (("rnn", Shape(80, 1, 100, 200)), ("lstm", Shape(20, 1, 64, 100)), ("lstm", Shape(5, 16, 64, 64)))
    for cell, shape in (*shapes, ("gru", Shape(10, 8, 32, 64)), ("rnn", Shape(1, 8, 512, 512))):
        call = inference(Problem.draw(cell, shape))
        ratios = []
        for _ in range(20 * ROUNDS):
            took = []
            for n in (1, threads):
                fastrnn.set_num_threads(n)
                time.sleep(0.003)
                start = time.perf_counter()
                call()
                took.append(time.perf_counter() - start)
            ratios.append(took[1] / took[0])
        yield f"this many threads over 1, after pauses: {cell} {shape}", statistics.median(ratios)


def denormal_costs(_: int) -> Iterator[tuple[str, float]]:
    """Training with inputs, states and gradients that are denormal over training with others."""
    for cell in ("lstm", "gru", "rnn"):
        shape, tiny = Shape(20, 8, 64, 64), np.finfo(np.float32).smallest_normal / 4
        problem = Problem.draw(cell, shape)
        denormal = replace(
            problem,
            x=problem.x * tiny,
            dy=problem.dy * tiny,
            state=tuple(a * tiny for a in problem.state),
            dstate=tuple(a * tiny for a in problem.dstate),
        )
        rounds = in_turns(training(problem), training(denormal))
        yield f"denormal over normal numbers: training, {cell} {shape}", statistics.median(b / a for a, b in rounds)


OF_THREADS = (fma_fractions, read_fractions, thread_gains, waking_costs)
ON_ONE_THREAD = (
    float64_rates,
    denormal_costs,
    packing_shares,
    kept_shares,
    length_costs,
    variant_rates,
    activation_rates,
    recompute_costs,
    stream_steps,
    training_memory,
    length_ratio,
)


def main() -> None:
    names = [measure.__name__ for measure in (*OF_THREADS, *ON_ONE_THREAD)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="MEASURE", help=", ".join(names))
    options = parser.parse_args()
    print(f"{machine.cpu_model()}, {_core.isa()} kernels\n\n| what | threads | ratio |\n|---|---:|---:|")
    todo = [(measure, threads) for threads in options.threads for measure in OF_THREADS]
    for measure, threads in todo + [(measure, 1) for measure in ON_ONE_THREAD]:
        if measure.__name__ not in options.only:
            continue
        fastrnn.set_num_threads(threads)
        for what, ratio in measure(threads):
            print(f"| {what} | {threads} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
