"""Weights of bfloat16 and int8 beside float32: how fast, how small, how far off. Some minutes; tables, and a picture.

    python bench/precision.py [--threads 1 2] [--steps 1000] [--picture docs/precision.png]

Speed and errors are those of random nets, with weights as layers have them at first, inputs and first states from a
normal distribution; frozen layers take turns, and ratios are medians. Then a character model (LSTM, 256 units) learns
the built-in text for a number of steps, and reads what it has not seen: the error of its outputs over 3,000 characters
in a row, and what it costs in bits a character.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.charlm.model import CharModel
from fastrnn.charlm.settings import Settings
from fastrnn.charlm.text import Corpus, builtin_text, make_corpus
from fastrnn.data import side_by_side
from fastrnn.losses import cross_entropy
from fastrnn.optim import Adam, clip_global_norm
from limits import in_turns

FORMATS = ("bfloat16", "int8")
FEW = ((100, 1, 64), (100, 1, 128), (100, 1, 256), (50, 1, 512), (25, 1, 1024), (25, 4, 512))
MANY = ((100, 32, 128), (100, 32, 256), (50, 32, 512), (25, 64, 1024))
KINDS = ("LSTM", "GRU", "RNN")


def frozen(kind: str, *sizes: int) -> list[Any]:
    """The same layer with weights of float32 and of each format."""
    return [getattr(fastrnn, kind)(*sizes, seed=0).eval().freeze(weights) for weights in ("float32", *FORMATS)]


def medians(calls: list[Any]) -> list[float]:
    """How many times as long the first takes as each of the others; seconds of the first."""
    rounds = in_turns(*calls)
    return [
        *(statistics.median(r[0] / r[k] for r in rounds) for k in range(1, len(calls))),
        statistics.median(r[0] for r in rounds),
    ]


def speed(threads: list[int]) -> None:
    print("\n| layer T,B,H | threads | float32, us | bfloat16 | int8 | largest error of y: bfloat16 | int8 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    rng = np.random.default_rng(0)
    for count in threads:
        fastrnn.set_num_threads(count)
        means: dict[str, list[list[float]]] = {"one row": [], "32 rows and more, H >= 256": []}
        for kind in KINDS:
            for T, B, H in (*FEW, *MANY):
                layers = frozen(kind, H, H)
                x = rng.standard_normal((T, B, H), np.float32)
                ys = [layer(x)[0] for layer in layers]
                *ratios, first = medians([partial(layer, x) for layer in layers])
                errors = [float(np.abs(y - ys[0]).max()) for y in ys[1:]]
                row = [f"{kind} {T},{B},{H}", count, f"{first * 1e6:.0f}", *(f"{r:.2f}" for r in ratios)]
                print("|", " | ".join(map(str, [*row, *(f"{e:.1e}" for e in errors)])), "|", flush=True)
                if B == 1 and H >= 128:
                    means["one row"].append(ratios)
                if B >= 32 and H >= 256:
                    means["32 rows and more, H >= 256"].append(ratios)
        for what, each in means.items():
            mean = [math.exp(statistics.fmean(map(math.log, column))) for column in zip(*each, strict=True)]
            print(f"| mean, {what} | {count} | | {mean[0]:.2f} | {mean[1]:.2f} | | |")


def streams() -> None:
    fastrnn.set_num_threads(1)
    print("\n| a step of a stream, H = 256 | float32, us | bfloat16 | int8 |\n|---|---:|---:|---:|")
    x = np.random.default_rng(0).standard_normal((1, 256), np.float32)
    for kind in KINDS:
        steps = [layer.stream().step for layer in frozen(kind, 256, 256)]
        *ratios, first = medians([partial(step, x) for step in steps])
        print(f"| {kind} | {first * 1e6:.1f} | " + " | ".join(f"{r:.2f}" for r in ratios) + " |", flush=True)


def trained(steps: int, corpus: Corpus) -> CharModel:
    model = CharModel(Settings(), len(corpus.vocabulary))
    rows, adam, state, rng = side_by_side(corpus.train, 32), Adam(model.params, lr=0.004), None, np.random.default_rng()
    fastrnn.set_num_threads(2)
    for step in range(steps):
        begin = step * 64 % (len(rows) - 65)
        state = state if begin else None
        _, state = model.gradients(rows[begin : begin + 64], rows[begin + 1 : begin + 65], state, rng)
        clip_global_norm(model.grads.values(), 1.0)
        adam.step(model.grads)
    return model


def character_model(steps: int) -> Iterator[tuple[str, np.ndarray[Any, Any], float]]:
    """Errors of y (T, H) over 3,000 characters in a row, and held-out bits a character, of each format."""
    corpus = make_corpus(builtin_text()[1])
    model = trained(steps, corpus).eval()
    right = None
    sample = corpus.train[5000:8000, None]
    for weights, calibrate in (("float32", None), *((weights, None) for weights in FORMATS), ("int8", sample)):
        rnn = fastrnn.LSTM(model.rnn.input_size, model.rnn.hidden_size)
        rnn.load_state_dict(model.rnn.state_dict())
        y, _ = rnn.freeze(weights, calibrate=calibrate).eval()(corpus.train[:3000, None])
        right = y if right is None else right
        heard, _ = rnn(corpus.held_out[:-1])
        loss, _ = cross_entropy(model.decoder(heard), corpus.held_out[1:])
        yield weights if calibrate is None else f"{weights}, calibrated", np.abs(y - right)[:, 0], loss / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="that the character model learns for")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw its error over time; takes matplotlib")
    options = parser.parse_args()
    print(f"{fastrnn.__version__}, {fastrnn.isa()}")
    speed(options.threads)
    streams()
    print(
        "\n| character model | mean error of y | 99.9 % below | largest | bits a character |\n|---|---:|---:|---:|---:|"
    )
    errors = {}
    for weights, error, bits in character_model(options.steps):
        errors[weights] = error
        print(
            f"| {weights} | {error.mean():.1e} | {np.quantile(error, 0.999):.1e} | {error.max():.1e} | {bits:.4f} |",
            flush=True,
        )
    if options.picture:
        draw(errors, options.picture)


def draw(errors: dict[str, np.ndarray[Any, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for weights in FORMATS:
        axes.plot(errors[weights].mean(1), label=weights, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("character")
    axes.set_ylabel("mean error of h")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
