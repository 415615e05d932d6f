"""Many to one: a net reads a handwritten digit row by row, and says at the end which one it is.

    python examples/digits_classify.py --plot docs/course/digits-classify.png

The 1,797 digits of scikit-learn are sequences of T = 8 rows of I = 8 pixels. Shuffled once, the same for every seed,
1,297 are to learn from and 500 for the test. The figure shows what the nets say where the lower rows are covered.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from fastrnn import LSTM, Linear, Modules, cross_entropy
from fastrnn.optim import Adam

Array = npt.NDArray[Any]
T, I, H, CLASSES = 8, 8, 64, 10
TEST, BATCH, LEARNING_RATE = 500, 32, 0.01


class Digits(NamedTuple):
    x: Array  # (T, N, I): sequences of rows, from the top, of pixels from 0 to 1
    labels: Array  # (N,): the classes


def load() -> tuple[Digits, Digits]:
    """Return the digits to learn from and those for the test."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, labels = (data.images[order] / 16).astype(np.float32).swapaxes(0, 1), data.target[order]
    return Digits(x[:, TEST:], labels[TEST:]), Digits(x[:, :TEST], labels[:TEST])


class Reader(Modules):
    """An LSTM over the rows, and a linear layer on its last output."""

    def __init__(self, seed: int) -> None:
        self.rnn, self.decoder = LSTM(I, H, seed=seed), Linear(H, CLASSES, seed=seed)
        super().__init__(rnn=self.rnn, decoder=self.decoder)

    def __call__(self, x: Array) -> Array:
        """Return the logits (N, CLASSES) of digits x (T, N, I)."""
        last, _ = self.rnn(x, return_sequence=False)
        return self.decoder(last)

    def backward(self, dlogits: Array) -> None:
        """Fill ``grads`` from the gradient by the logits, (N, CLASSES)."""
        self.rnn.backward(self.decoder.backward(dlogits))


def train(digits: Digits, *, epochs: int, seed: int) -> Reader:
    """Return a reader that has learned from every digit ``epochs`` times."""
    reader, rng = Reader(seed), np.random.default_rng(seed)
    adam = Adam(reader.params)
    for epoch in range(epochs):
        adam.lr = LEARNING_RATE * (1 - epoch / epochs)
        order = rng.permutation(len(digits.labels))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            _, dlogits = cross_entropy(reader(digits.x[:, batch]), digits.labels[batch])
            reader.backward(dlogits)
            adam.step(reader.grads)
    reader.eval()
    return reader


def covered(reader: Reader, x: Array) -> Array:
    """Return the probabilities (T, N, CLASSES) of digits x (T, N, I) of which 1, 2, ..., T rows are not blank."""
    odds = np.exp([reader(np.concatenate([x[:t], np.zeros_like(x[t:])])) for t in range(1, T + 1)])
    return odds / odds.sum(axis=-1, keepdims=True)


def plot(path: str, test: Digits, beliefs: Array, accuracy: dict[int, Array]) -> None:
    """Draw accuracies (T,) by seed, and beliefs (T, N, CLASSES) about three digits: clear early, late, and mistaken."""
    from matplotlib.figure import Figure

    right, sure = beliefs.argmax(axis=-1) == test.labels, beliefs.max(axis=-1)  # (T, N)
    early = np.where(right[3:].all(axis=0), sure[3], 0).argmax()
    late = np.where(right[-1] & ~right[-2], sure[-2] * sure[-1], 0).argmax()
    mistaken = np.where(right[-1], 0, sure[-1]).argmax()
    figure = Figure(figsize=(7.5, 5.8), layout="constrained")
    axes = figure.subplot_mosaic("abc;ade;afg", width_ratios=[16, 8, 10])
    for marker, (seed, values) in zip("osv^Dx" * len(accuracy), accuracy.items(), strict=False):
        axes["a"].plot(range(1, T + 1), values, marker=marker, label=f"seed {seed}")
    axes["a"].set(xlabel="rows seen, the rest blank", ylabel="share of the test digits recognised", ylim=(0, 1.02))
    axes["a"].legend(loc="lower right")
    for n, pixels, belief in zip((early, late, mistaken), "bdf", "ceg", strict=True):
        axes[pixels].imshow(test.x[:, n], cmap="gray_r", extent=(0.5, I + 0.5, T + 0.5, 0.5))
        axes[pixels].set(title=f"a {test.labels[n]}", xticks=[], yticks=[1, 4, 8], ylabel="row")
        axes[belief].imshow(beliefs[:, n], cmap="gray_r", vmin=0, vmax=1)
        axes[belief].set(title=f"read as {beliefs[-1, n].argmax()}", xticks=range(CLASSES), yticks=[])
    axes["g"].set_xlabel("probability of each class,\nseen down to this row\n(white is 0, black 1)")
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> dict[int, float]:
    """Train once for each seed; return the test accuracies by seed."""
    parser = argparse.ArgumentParser(description="Read handwritten digits row by row, and say which they are.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of one training each (0 1 2)")
    parser.add_argument("--epochs", type=int, default=30, help="how often every digit is learned from (30)")
    parser.add_argument("--plot", metavar="FILE", help="draw what is recognised of digits seen in part")
    options = parser.parse_args(arguments)
    (learn, test), accuracy = load(), {}
    for seed in options.seeds:
        start = time.perf_counter()
        reader = train(learn, epochs=options.epochs, seed=seed)
        beliefs = covered(reader, test.x)
        accuracy[seed] = (beliefs.argmax(axis=-1) == test.labels).mean(axis=-1)
        print(f"seed {seed}: test accuracy {accuracy[seed][-1]:.3f}, in {time.perf_counter() - start:.1f} s")
    if options.plot:
        plot(options.plot, test, beliefs, accuracy)
    return {seed: float(values[-1]) for seed, values in accuracy.items()}


if __name__ == "__main__":
    main()
