"""All threads over one, as calls are made: back to back, after a pause, beside another program. Two minutes; a table.

    python bench/threads.py [--pause 0.003] [--seconds 0.4] [--training]

The time of a call with all threads, over that with one: below 1 the others help. After a pause they sleep, and a call
must not wait for them to wake up; a program that spins takes a core now and then from one of them. There, the mean
counts beside the median: a thread that is taken off its core holds up few calls, but for milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

import fastrnn

SHAPES = (
    ("LSTM", 37, 3, 48, 96),
    ("RNN", 80, 1, 100, 200),
    ("GRU", 40, 2, 64, 128),
    ("LSTM", 1, 1, 512, 512),
    ("LSTM", 25, 32, 64, 64),
    ("GRU", 50, 1, 256, 256),
    ("LSTM", 25, 8, 128, 256),
    ("RNN", 100, 32, 128, 128),
    ("LSTM", 100, 32, 128, 128),
)
ROUNDS = 6


def call_of(kind: str, T: int, B: int, I: int, H: int, training: bool) -> Callable[[], object]:
    """Return a call of a frozen layer, or one there and back."""
    layer = getattr(fastrnn, kind)(I, H, seed=0)
    x = np.random.default_rng(0).standard_normal((T, B, I), np.float32)
    if not training:
        layer.eval().freeze()
        return lambda: layer(x)

    def there_and_back() -> None:
        call = layer.record(x)
        call.backward(call.y)

    return there_and_back


@contextmanager
def neighbour() -> Iterator[None]:
    """Have another program spin meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


def times(call: Callable[[], object], threads: int, pause: float, seconds: float) -> list[float]:
    """Return the seconds of calls, made for so many seconds."""
    fastrnn.set_num_threads(threads)
    found = []
    call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def ratios(call: Callable[[], object], pause: float, seconds: float, most: int) -> tuple[float, float, float]:
    """Return a call's median with all threads over that with one, the same of means, and the seconds with one."""
    medians, means, alone = [], [], []
    for turn in range(ROUNDS):
        order = (1, most) if turn % 2 else (most, 1)
        of = {threads: times(call, threads, pause, seconds) for threads in order}
        medians.append(statistics.median(of[most]) / statistics.median(of[1]))
        means.append(statistics.fmean(of[most]) / statistics.fmean(of[1]))
        alone.append(statistics.median(of[1]))
    return statistics.median(medians), statistics.median(means), statistics.median(alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pause", type=float, default=0.003, help="seconds between calls")
    parser.add_argument("--seconds", type=float, default=0.4, help="of calls in each turn")
    parser.add_argument("--training", action="store_true", help="calls there and back")
    args = parser.parse_args()
    most = fastrnn.get_num_threads()
    print(f"\n| layer T,B,I,H | one thread, us | {most} threads over one | after a pause | beside a program | both |")
    print("|---|---:|---:|---:|---:|---:|")
    calls = [call_of(kind, *sizes, args.training) for kind, *sizes in SHAPES]

    def each() -> list[list[tuple[float, float, float]]]:
        return [[ratios(call, pause, args.seconds, most) for pause in (0, args.pause)] for call in calls]

    all_quiet = each()  # first: who was held up remembers it for some calls
    with neighbour():
        all_busy = each()
    for (kind, *sizes), quiet, busy in zip(SHAPES, all_quiet, all_busy, strict=True):
        row = [f"{kind} {','.join(map(str, sizes))}", f"{quiet[0][2] * 1e6:.0f}", *(f"{q[0]:.2f}" for q in quiet)]
        row += [f"{median:.2f}, mean {mean:.2f}" for median, mean, _ in busy]
        print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
