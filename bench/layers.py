"""Layers beside PyTorch's modules: stacks in both directions, and sequences of different lengths. A few minutes.

    python bench/layers.py [--threads 1 2]

Both take turns in one process, with PyTorch's threads asleep while fastrnn works and the other way round; figures are
medians of ratios, and say how many times as long PyTorch takes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import fastrnn
import machine
from fastrnn import _core

ROUNDS = 7
PAUSE = 0.03  # seconds, until the threads of the one before sleep


def times(call: Callable[[], Any]) -> float:
    """Seconds of one call, the better of two."""
    time.sleep(PAUSE)
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def ratio(ours: Callable[[], Any], theirs: Callable[[], Any]) -> float:
    ours(), theirs()
    return statistics.median(times(theirs) / times(ours) for _ in range(ROUNDS))


def pair(kind: str, layers: int, bidirectional: bool, H: int) -> tuple[fastrnn.Layer, Any]:
    """A layer and a module with the same weights."""
    layer = getattr(fastrnn, kind)(H, H, layers, bidirectional=bidirectional, seed=0)
    module = getattr(torch.nn, kind)(H, H, layers, bidirectional=bidirectional)
    module.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in layer.params.items()})
    return layer, module


def contests(T: int, B: int, H: int) -> Iterator[tuple[str, float]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, H), np.float32)
    tensor = torch.from_numpy(x.copy())
    lengths = rng.permutation(np.concatenate([[T], np.linspace(1, 0.45 * T, B - 1).astype(int)]))
    counts = torch.from_numpy(lengths)
    for what, kinds, layers, bidirectional, ragged in (
        ("2 layers, 2 directions", ("LSTM", "GRU", "RNN"), 2, True, False),
        (f"1 layer, mean length {lengths.mean():.0f}", ("LSTM", "GRU", "RNN"), 1, False, True),
    ):
        for kind in kinds:
            layer, module = pair(kind, layers, bidirectional, H)
            given = {"lengths": lengths} if ragged else {}

            def run(module: Any = module, ragged: bool = ragged) -> Any:
                if not ragged:
                    return module(tensor)[0]
                packed = torch.nn.utils.rnn.pack_padded_sequence(tensor, counts, enforce_sorted=False)
                return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0], total_length=T)[0]

            def infer(layer: fastrnn.Layer = layer, given: dict[str, Any] = given) -> Any:
                return layer.eval()(x, **given)[0]

            def infer_theirs(run: Callable[[], Any] = run) -> Any:
                with torch.inference_mode():
                    return run()

            def train(layer: fastrnn.Layer = layer, given: dict[str, Any] = given) -> None:
                y, _ = layer.train()(x, **given)
                layer.backward(y)

            def train_theirs(run: Callable[[], Any] = run, module: Any = module) -> None:
                module.zero_grad()
                tensor.requires_grad_(True)
                tensor.grad = None
                y = run()
                y.backward(y.detach())
                tensor.requires_grad_(False)

            np.testing.assert_allclose(infer(), infer_theirs().numpy(), rtol=0, atol=1e-5)
            yield f"inference, {kind}, {what}, {T},{B},{H}", ratio(infer, infer_theirs)
            yield f"training, {kind}, {what}, {T},{B},{H}", ratio(train, train_theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    options = parser.parse_args()
    print(f"{machine.cpu_model()}, {_core.isa()} kernels, PyTorch {torch.__version__}\n")
    print("| what | threads | times PyTorch |\n|---|---:|---:|")
    for threads in options.threads:
        fastrnn.set_num_threads(threads)
        torch.set_num_threads(threads)
        for what, gain in contests(100, 32, 256):
            print(f"| {what} | {threads} | {gain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
