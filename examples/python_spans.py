"""Many to many, step by step: is a character of Python source code, string or comment? Told as soon as it arrives.

What is right is what tokenize says, where that follows from the text so far: a string begins with its quote, since r or
f before it might begin a name. An f-string is a string to its end, though from Python 3.12 on tokenize looks inside.

    python examples/python_spans.py --plot docs/course/python-spans.png
"""

import argparse
import io
import sysconfig
import time
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fastrnn import GRU, Linear, Modules, cross_entropy
from fastrnn.data import side_by_side, windows
from fastrnn.optim import Adam, clip_global_norm

TRAIN = """argparse ast calendar codecs collections/__init__ configparser csv difflib dis doctest enum ftplib functools
gettext http/client http/server imaplib inspect ipaddress locale mailbox optparse os pdb pickle random shutil smtplib
socket ssl subprocess tarfile threading traceback typing unittest/case urllib/parse uuid"""
TEST = "fractions heapq html/parser json/decoder shlex statistics tempfile textwrap tokenize"
LABELS = ("code", "string", "comment")
SHOWN = r"""print('it\'s "one" #', f"{n['#']}", '''"two"''')  # isn't "it"?""" + "\n"
BATCH, STEPS, HIDDEN = 32, 100, 64


def label(source: str) -> np.ndarray:
    """Return the labels (N,) of N characters."""
    labels = np.zeros(len(source), np.uint8)
    lines = np.cumsum([0, *(len(line) + 1 for line in source.split("\n"))])
    opened = []  # where f-strings begin, which may have others in them
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind, prefix = tokenize.tok_name[token.type], len(token.string) - len(token.string.lstrip("bfrtuBFRTU"))
        begin, end = (lines[row - 1] + column for row, column in (token.start, token.end))
        if kind.endswith("STRING_START"):
            opened.append(begin + prefix)
        elif kind.endswith("STRING_END"):
            labels[opened.pop() : end] = LABELS.index("string")
        elif kind in ("STRING", "COMMENT"):
            labels[begin + prefix : end] = LABELS.index(kind.lower())
    return labels


def read(modules: str) -> list[np.ndarray]:
    """Return for modules of the standard library the characters, as tokens below 128, and their labels (N, 2)."""
    sources = [Path(sysconfig.get_path("stdlib"), f"{name}.py").read_text(encoding="utf-8") for name in modules.split()]
    return [np.stack([np.frombuffer(s.encode("ascii", "replace"), np.uint8), label(s)], axis=1) for s in sources]


def batches(modules: Sequence[np.ndarray], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield tokens and labels (2, T, B), each going on from those before, with the modules in ever another order."""
    while True:
        text = np.concatenate([modules[n] for n in rng.permutation(len(modules))])
        yield from (np.moveaxis(window, -1, 0) for window, _ in windows(side_by_side(text, BATCH), STEPS))


def stream(rnn: GRU, decoder: Linear, tokens: np.ndarray) -> np.ndarray:
    """Return the label of each of N tokens, found before the next is looked at, and the nanoseconds it took (2, N)."""
    steps, found = rnn.stream(1, tokens=True), np.empty((2, len(tokens)), np.int64)
    for n in range(len(tokens)):
        began = time.perf_counter_ns()
        found[0, n] = decoder(steps.step(tokens[n : n + 1])).argmax()
        found[1, n] = time.perf_counter_ns() - began
    return found


def plot(path: str, logits: np.ndarray) -> None:
    """Draw how probable each label is after each character of SHOWN, from logits (N, 3), and which is right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.9), layout="constrained")
    axes = figure.add_subplot(xlabel="characters, as they arrive (dots: what is right)")
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    image = axes.imshow(probabilities.T, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    axes.plot(label(SHOWN), "o", color="grey", markersize=3)
    axes.set(xticks=range(len(SHOWN)), xticklabels=SHOWN, yticks=range(len(LABELS)), yticklabels=LABELS)
    figure.colorbar(image, label="probability")
    figure.savefig(path, dpi=80)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train on some modules, label others as a stream; return the shares of labels that are right, and latencies."""
    parser = argparse.ArgumentParser(description="Tell code, strings and comments of Python source as it arrives.")
    parser.add_argument("--steps", type=int, default=2000, help="of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args(arguments)
    tokens, truth = np.concatenate(read(TEST)).T
    rnn = GRU(128, HIDDEN, init="orthogonal", seed=options.seed)
    decoder = Linear(HIDDEN, len(LABELS), seed=options.seed)
    net, state = Modules(rnn=rnn, decoder=decoder), None
    adam, following = Adam(net.params), batches(read(TRAIN), np.random.default_rng(options.seed))
    for step, (x, labels) in zip(range(1, options.steps + 1), following, strict=False):
        y, state = rnn(x, state)
        loss, dlogits = cross_entropy(decoder(y), labels)
        rnn.backward(decoder.backward(dlogits))
        clip_global_norm(net.grads.values(), 1.0)
        adam.lr = 1e-2 * (1 - step / options.steps)
        adam.step(net.grads)
        if step % 200 == 0:
            print(f"{step:5} steps, loss {loss:.4f}")
    net.eval()
    whole = decoder(rnn(tokens)[0]).argmax(axis=1)
    told, took = stream(rnn, decoder, tokens)
    figures = {"right": (told == truth).mean(), "majority": (truth == 0).mean(), "as one call": (told == whole).mean()}
    figures |= {f"right of {name}": (told[truth == n] == n).mean() for n, name in enumerate(LABELS)}
    figures |= {f"us a step, {q}%": np.percentile(took, q) / 1000 for q in (50, 99)}
    print(*(f"{name:>17} {value:.4f}" for name, value in figures.items()), sep="\n")
    if options.plot:
        plot(options.plot, decoder(rnn(np.frombuffer(("import os\n\n" + SHOWN).encode(), np.uint8))[0][-len(SHOWN) :]))
    return figures


if __name__ == "__main__":
    main()
