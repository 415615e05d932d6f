"""One to many: from a class, a net writes a handwritten digit, row by row.

    python examples/digits_write.py --plot docs/course/digits-write.png

The class, one-hot, and a style are the input of the first step, and zeros that of all others: from then on the state
has to know what is written, and where it is. A style is a vector of four numbers. Each digit to learn from has its own,
learned along with the weights from the gradient by the first input: generative latent optimisation (Bojanowski et al.,
2018). For new digits, styles are drawn from the normal distribution that fits those of the class. The reader of
digits_classify.py, which learns from the same digits, then says what is written.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from digits_classify import BATCH, CLASSES, Array, Digits, I, T, load
from digits_classify import train as train_reader
from fastrnn import GRU, Embedding, Linear, Modules, mean_squared_error
from fastrnn.optim import Adam

H, STYLE, LEARNING_RATE, EACH, SHOWN = 64, 4, 0.02, 100, 6  # EACH digits of a class are written, and SHOWN drawn


class Writer(Modules):
    """A GRU with input at the first step only, a linear layer to pixels, and the styles of the digits to learn from."""

    def __init__(self, digits: int, seed: int) -> None:
        self.style = Embedding(digits, STYLE, seed=seed)
        self.rnn, self.decoder = GRU(CLASSES + STYLE, H, seed=seed), Linear(H, I, seed=seed)
        super().__init__(style=self.style, rnn=self.rnn, decoder=self.decoder)

    def __call__(self, labels: Array, styles: Array) -> Array:
        """Return rows (T, N, I), from 0 to 1, of digits of the classes (N,) in the styles (N, STYLE)."""
        x = np.zeros((T, len(labels), CLASSES + STYLE), np.float32)
        x[0, :, :CLASSES], x[0, :, CLASSES:] = np.eye(CLASSES)[labels], styles
        self._rows = 1 / (1 + np.exp(-self.decoder(self.rnn(x)[0])))
        return self._rows

    def backward(self, drows: Array) -> None:
        """Fill ``grads`` from the gradient by the rows, (T, N, I)."""
        dx, _ = self.rnn.backward(self.decoder.backward(drows * self._rows * (1 - self._rows)))
        self.style.backward(dx[0, :, CLASSES:])


def train(digits: Digits, *, epochs: int, seed: int) -> Writer:
    """Return a writer that has copied every digit ``epochs`` times; print how well it does."""
    writer, rng = Writer(len(digits.labels), seed), np.random.default_rng(seed)
    adam = Adam(writer.params)
    for epoch in range(epochs):
        adam.lr = LEARNING_RATE * (1 - epoch / epochs)
        order, losses = rng.permutation(len(digits.labels)), []
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            rows = writer(digits.labels[batch], writer.style(batch))
            loss, drows = mean_squared_error(rows, digits.x[:, batch])
            writer.backward(drows)
            adam.step(writer.grads)
            losses.append(loss)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: copies with a mean squared error of {np.mean(losses):.4f} a pixel", flush=True)
    writer.eval()
    return writer


def new_styles(writer: Writer, digits: Digits, count: int, rng: np.random.Generator) -> Array:
    """Return styles (CLASSES * count, STYLE), class after class, distributed as those that were learned."""
    learned = [writer.style.params["weight"][digits.labels == label] for label in range(CLASSES)]
    return np.concatenate([rng.multivariate_normal(s.mean(axis=0), np.cov(s.T), count) for s in learned])


def spread(x: Array, labels: Array) -> float:
    """Return the standard deviation of a pixel among digits x (T, N, I) of the same class, as a root mean square."""
    return float(np.sqrt(np.mean([x[:, labels == label].var(axis=1).mean() for label in range(CLASSES)])))


def plot(path: str, written: Array, read: Array) -> None:
    """Draw written digits (T, N, I), class after class, a column each, with what they are read as where it differs."""
    from matplotlib.figure import Figure

    sheet = np.zeros((SHOWN, T + 1, CLASSES, I + 1))  # with a blank pixel between digits
    sheet[:, :T, :, :I] = written.reshape(T, CLASSES, -1, I)[:, :, :SHOWN].transpose(2, 0, 1, 3)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(sheet.reshape(SHOWN * (T + 1), -1), cmap="gray_r")
    for (label, row), guess in np.ndenumerate(read.reshape(CLASSES, -1)[:, :SHOWN]):
        if guess != label:
            box = {"facecolor": "white", "pad": 1.5}
            axes.text(label * (I + 1) + 7, row * (T + 1) + 0.5, guess, fontsize=8, ha="center", va="center", bbox=box)
    axes.set(xticks=np.arange(CLASSES) * (I + 1) + 3.5, xticklabels=range(CLASSES), yticks=[])
    axes.set(xlabel="class asked for (boxed: what the reader takes a digit for instead)")
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    """Train a writer and a reader; return of written and real digits the share recognised, and the spread."""
    parser = argparse.ArgumentParser(description="Write handwritten digits, and have them read.")
    parser.add_argument("--seed", type=int, default=0, help="of weights, styles and the order of learning (0)")
    parser.add_argument("--epochs", type=int, default=60, help="how often the writer copies every digit (60)")
    parser.add_argument("--plot", metavar="FILE", help="draw some of the written digits")
    options = parser.parse_args(arguments)
    learn, test = load()
    writer = train(learn, epochs=options.epochs, seed=options.seed)
    reader, figures = train_reader(learn, epochs=30, seed=options.seed), {}
    asked = np.repeat(np.arange(CLASSES), EACH)
    written = writer(asked, new_styles(writer, learn, EACH, np.random.default_rng(options.seed)))
    for name, x, labels in (("written", written, asked), ("real", test.x, test.labels)):
        share, deviation = float(np.mean(reader(x).argmax(axis=1) == labels)), spread(x, labels)
        print(f"{len(labels):,} {name} digits: {share:.3f} recognised, pixels of a class deviate by {deviation:.3f}")
        figures[name] = share, deviation
    if options.plot:
        plot(options.plot, written, reader(written).argmax(axis=1))
    return figures


if __name__ == "__main__":
    main()
