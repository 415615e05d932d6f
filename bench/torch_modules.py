"""Modules of fastrnn.torch beside PyTorch's, and beside the bare layer. Some minutes; one table.

    python bench/torch_modules.py [--threads 1 2]

The three take turns in one process, each when the threads of the one before have gone to sleep. A row has the time of
the bare layer, how many times as long PyTorch takes as the module of fastrnn.torch, and what share of the bare layer's
speed that module has: what is around it, Python and autograd, takes the rest. Where there is no bare layer (cells in a
loop of Python, which a layer is instead of), there is no share. Training is a call and its gradients by all weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
import fastrnn.torch
from limits import ROUNDS, seconds

Call = Callable[[], Any]
PAUSE = 0.03  # seconds, until threads sleep


@dataclass
class Contest:
    """A module's calls at a shape; ``mean`` is the mean length of packed sequences."""

    kind: str
    T: int
    B: int
    H: int
    options: dict[str, Any] = field(default_factory=dict)
    packed: bool = False
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        words = [f"{self.kind} {self.T},{self.B},{self.H}", *(f"{name}={v}" for name, v in self.options.items())]
        words += ["packed, mean length T/4"] * self.packed + ["float64"] * (self.dtype == torch.float64)
        return ", ".join(words)

    def modules(self) -> list[Any]:
        """The module of PyTorch and that of fastrnn, with the same weights."""
        theirs = getattr(torch.nn, self.kind)(self.H, self.H, dtype=self.dtype, **self.options)
        ours = getattr(fastrnn.torch, self.kind)(self.H, self.H, dtype=self.dtype, **self.options)
        ours.load_state_dict(theirs.state_dict())
        return [theirs, ours]

    def lengths(self) -> Any:
        """(B,), the longest first: one has T steps, and the mean is about T / 4."""
        return np.concatenate([[self.T], np.linspace(0.45 * self.T, 1, self.B - 1).astype(np.int64)])

    def calls(self, training: bool) -> list[Call]:
        """PyTorch's, fastrnn.torch's, and the bare layer's."""
        theirs, ours = self.modules()
        layer = fastrnn.from_torch(theirs)
        x = torch.randn(self.T, self.B, self.H, dtype=self.dtype)
        lengths = self.lengths() if self.packed else None
        given: Any = x if lengths is None else pack_padded_sequence(x, torch.from_numpy(lengths))
        dy = torch.ones_like(theirs(x)[0])
        array, gradient = x.numpy(), dy.numpy()
        if training:
            packed_dy = dy if lengths is None else pack_padded_sequence(dy, torch.from_numpy(lengths)).data
            calls = [lambda m=m: gradients(m, m(given)[0], packed_dy) for m in (theirs, ours)]
            return [*calls, lambda: layer.record(array, lengths=lengths).backward(gradient)]
        return [*(inference(m, given) for m in (theirs, ours)), lambda: layer(array, lengths=lengths)]


class Cells(Contest):
    """A cell in a loop of Python."""

    def calls(self, training: bool) -> list[Call]:
        xs = torch.randn(self.T, self.B, self.H, dtype=self.dtype)
        first = (torch.zeros(self.B, self.H, dtype=self.dtype),) * (2 if self.kind == "LSTMCell" else 1)

        def loop(cell: Any) -> Any:
            states = first
            for x in xs:
                found = cell(x, states if len(states) > 1 else states[0])
                states = found if isinstance(found, tuple) else (found,)
            return states[0]

        def inferred(cell: Any) -> None:
            with torch.inference_mode():
                loop(cell)

        dh = torch.ones(self.B, self.H, dtype=self.dtype)
        work: Any = (lambda cell: gradients(cell, loop(cell), dh)) if training else inferred
        return [lambda m=m: work(m) for m in self.modules()]


def gradients(module: Any, y: Any, dy: Any) -> None:
    torch.autograd.grad(
        y.data if isinstance(y, torch.nn.utils.rnn.PackedSequence) else y, list(module.parameters()), dy
    )


def inference(module: Any, x: Any) -> Call:
    def call() -> None:
        with torch.inference_mode():
            module(x)

    return call


def contests() -> Iterator[Contest]:
    for kind in ("LSTM", "GRU", "RNN"):
        for shape in (
            (1, 1, 32),
            (100, 1, 64),
            (100, 1, 256),
            (50, 1, 512),
            (100, 32, 64),
            (100, 32, 256),
            (50, 32, 512),
        ):
            yield Contest(kind, *shape)
        yield Contest(kind, 100, 32, 256, packed=True)
        yield Contest(kind, 50, 32, 128, {"num_layers": 2, "bidirectional": True})
        yield Contest(kind, 50, 32, 128, dtype=torch.float64)
    yield Contest("LSTM", 50, 32, 256, {"proj_size": 64})
    for kind in ("LSTMCell", "GRUCell", "RNNCell"):
        for B, H in ((1, 64), (32, 128)):
            yield Cells(kind, 50, B, H)


def in_turns(calls: Sequence[Call]) -> list[list[float]]:
    """Seconds of each call, round after round."""
    found: list[list[float]] = []
    for k in range(1 + ROUNDS):  # the first to warm up
        times = []
        for call in calls:
            time.sleep(PAUSE)
            times.append(seconds(call))
        found += [times] if k else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N")
    options = parser.parse_args()
    print("| module T,B,H | what | threads | bare layer, us | times as fast as PyTorch | of the bare layer |")
    print("|---|---|---:|---:|---:|---:|")
    for threads in options.threads:
        fastrnn.set_num_threads(threads)
        torch.set_num_threads(threads)
        for contest in contests():
            for training in (False, True):
                rounds = in_turns(contest.calls(training))
                theirs = statistics.median(r[0] / r[1] for r in rounds)
                bare = [f"{statistics.median(r[2] for r in rounds) * 1e6:.0f}"] if len(rounds[0]) > 2 else [""]
                share = [f"{statistics.median(r[2] / r[1] for r in rounds):.2f}"] if len(rounds[0]) > 2 else [""]
                what = "training" if training else "inference"
                print(f"| {contest} | {what} | {threads} | {bare[0]} | {theirs:.2f} | {share[0]} |", flush=True)


if __name__ == "__main__":
    main()
