"""The figures of the course's pages: python docs/course/figures.py lstm docs/course/lstm.png."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fastrnn import GRU, LSTM, Layer, Linear, Modules
from fastrnn.losses import mean_squared_error
from fastrnn.optim import Adam, clip_global_norm

Array = npt.NDArray[Any]
STEPS = 60


def sample_and_hold(rng: np.random.Generator, batch: int) -> tuple[Array, Array]:
    """Return numbers and rare marks (T, B, 2), and at every step the number at the last mark (T, B, 1)."""
    x = np.zeros((STEPS, batch, 2), np.float32)
    x[..., 0] = rng.uniform(-1, 1, (STEPS, batch))
    x[..., 1] = rng.random((STEPS, batch)) < 0.08
    x[0, :, 1] = 1
    last = np.maximum.accumulate(np.where(x[..., 1] == 1, np.arange(STEPS)[:, None], 0))
    return x, np.take_along_axis(x[..., :1], last[..., None], axis=0)


def train(layer: Layer) -> tuple[Array, Array]:
    """Train on the task; return x (T, 2) and the answers (T,) of a new sequence, whose trace is left in the layer."""
    decoder = Linear(1, 1, seed=0)
    model = Modules(rnn=layer, decoder=decoder)
    adam = Adam(model.params, lr=0.03)
    rng = np.random.default_rng(0)
    for _ in range(600):
        x, target = sample_and_hold(rng, 32)
        y, _ = layer(x)
        _, dy = mean_squared_error(decoder(y), target)
        layer.backward(decoder.backward(dy))
        clip_global_norm(model.grads.values(), 1.0)
        adam.step(model.grads)
    x, _ = sample_and_hold(np.random.default_rng(1), 1)
    y, _ = layer(x, trace=True)
    return x[:, 0], decoder(y)[:, 0, 0]


def draw(layer: Layer, panels: list[tuple[str, str]], path: str) -> None:
    """Draw the task and the answers, and below them panels: their label, and the letters of what is in them."""
    x, answers = train(layer)
    figure = Figure(figsize=(7, 1.7 * (1 + len(panels))), layout="constrained")
    task, *others = figure.subplots(1 + len(panels), 1, sharex=True)
    marked = np.flatnonzero(x[:, 1])
    task.plot(x[:, 0], ".", color="0.6", markersize=4, label="number")
    task.plot(marked, x[marked, 0], "ks", markersize=5, label="with a mark")
    task.plot(answers, "k-", linewidth=1, label="answer")
    task.set_ylabel("task")
    for axes, (label, letters) in zip(others, panels, strict=True):
        for letter, style, shade in zip(letters, ("-", "--", ":"), ("0", "0.3", "0.5"), strict=False):
            axes.plot(layer.trace[f"{letter}_l0"][:, 0, 0], style, color=shade, label=letter)
        axes.set_ylabel(label)
    for axes in (task, *others):
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    others[-1].set_xlabel("step t")
    figure.savefig(path, dpi=80)


def lstm(path: str) -> None:
    """Page 07: the gates of an LSTM of one unit, what could be written, its c and its h."""
    draw(LSTM(2, 1, init="orthogonal", seed=0), [("gates", "ifo"), ("c, h and g", "chg")], path)


def gru(path: str) -> None:
    """Page 08: the gates of a GRU of one unit, its new n and its h."""
    draw(GRU(2, 1, init="orthogonal", seed=0), [("gates", "zr"), ("h and n", "hn")], path)


if __name__ == "__main__":
    {"lstm": lstm, "gru": gru}[sys.argv[1]](sys.argv[2])
