"""Many to many, after all of the input: dates as people write them become ISO dates.

An encoder reads "March 3rd, 2021" and hands its last state to a decoder, which writes "2021-03-03". In training the
decoder reads what it should have written so far (teacher forcing); in use, what it wrote.

    python examples/dates.py --plot docs/course/dates.png
"""

import argparse
from collections.abc import Sequence
from datetime import date

import numpy as np

from fastrnn import GRU, Linear, Modules, cross_entropy
from fastrnn.optim import Adam, clip_global_norm

LANGUAGES = (  # months, and ways to write a date: 3/4/21 is in March, 3.4.21 in April; 69 to 68 are 1969 to 2068
    """January February March April May June July August September October November December
    {d} {name} {y}|{name} {d}{th}, {y}|the {d}{th} of {name} {y}|{day:.3} {d} {name:.3} {y}|{day}, {name} {d}, {y}|\
{d:02}-{name:.3}-{yy:02}|{m}/{d}/{y}|{m:02}/{d:02}/{yy:02}|{y}.{m:02}.{d:02}|{y}/{m}/{d}|{y}{m:02}{d:02}""",
    """Januar Februar März April Mai Juni Juli August September Oktober November Dezember
    {d}. {name} {y}|den {d}. {name} {y}|{d}.{m}.{y}|{d:02}.{m:02}.{yy:02}""",
    """janvier février mars avril mai juin juillet août septembre octobre novembre décembre
    {d}{er} {name} {y}|le {d}{er} {name} {y}""",
)
WAYS = [(months.split(), way.strip()) for months, ways in map(str.splitlines, LANGUAGES) for way in ways.split("|")]
OUTPUT, START = "0123456789-", 11  # ten characters are written, always; START is what the decoder reads first
PARTS = {"year": slice(4), "month": slice(5, 7), "day": slice(8, 10), "whole date": slice(10)}
TEST, BATCH, HIDDEN = 2000, 64, 128


def spell(day: date, rng: np.random.Generator) -> str:
    """Return the date in one of the ways, perhaps in small letters or capitals; strftime knows the weekday."""
    months, way = WAYS[rng.integers(len(WAYS))]
    d, m, y = day.day, day.month, day.year
    th = "th" if d in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(d % 10, "th")
    text = way.format(d=d, m=m, y=y, yy=y % 100, name=months[m - 1], day=f"{day:%A}", th=th, er="er" * (d == 1))
    return (text, text.lower(), text.upper())[rng.integers(3)]


def examples(days: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Return dates (B,) as spelled, and what is to be written, as places in OUTPUT (10, B)."""
    iso = np.array([[OUTPUT.index(character) for character in str(day)] for day in days])
    return [spell(day, rng) for day in days.tolist()], iso.T


class Translator(Modules):
    """An encoder, and a decoder that begins where it ended."""

    def __init__(self, seed: int) -> None:
        self.encoder, self.decoder = (GRU(n, HIDDEN, init="orthogonal", seed=seed + n) for n in (256, START + 1))
        self.output = Linear(HIDDEN, len(OUTPUT), seed=seed)
        super().__init__(encoder=self.encoder, decoder=self.decoder, output=self.output)

    def read(self, texts: Sequence[str]) -> np.ndarray:
        """Return the encoder's state at the end of each of B texts (1, B, H)."""
        lengths = np.array([len(text) for text in texts])
        padded = b"".join(text.encode("latin-1").ljust(lengths.max()) for text in texts)
        tokens = np.frombuffer(padded, np.uint8).reshape(len(texts), -1).T  # (T, B)
        return self.encoder(tokens, lengths=lengths, return_sequence=False)[1]

    def learn(self, texts: Sequence[str], iso: np.ndarray) -> None:
        """Fill ``grads``, from B texts and what they are to become (10, B)."""
        y, _ = self.decoder(np.concatenate([np.full_like(iso[:1], START), iso[:-1]]), self.read(texts))
        _, dlogits = cross_entropy(self.output(y), iso)
        _, dstate = self.decoder.backward(self.output.backward(dlogits))
        self.encoder.backward(dstate=dstate)

    def write(self, texts: Sequence[str]) -> np.ndarray:
        """Return what is written (10, B): each time the most probable character after those before."""
        stream, written = self.decoder.stream(len(texts), tokens=True), [np.full(len(texts), START)]
        stream.state = self.read(texts)
        while len(written) <= 10:
            written.append(self.output(stream.step(written[-1])).argmax(axis=-1))
        return np.array(written[1:])


def plot(path: str, history: np.ndarray) -> None:
    """Draw the share of unseen dates that is right after so many steps, in parts and whole; history is (N, 5)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel=f"training steps of {BATCH} dates", ylabel="share right, of unseen dates")
    for name, style, share in zip(PARTS, ("--", "-.", ":", "-"), history.T[1:], strict=True):
        axes.plot(history[:, 0], share, style, color="black", label=name)
    axes.legend()
    figure.savefig(path, dpi=80)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train, translate dates that were not seen, and return the share that is right, in parts and whole."""
    parser = argparse.ArgumentParser(description="Turn dates in many spellings into ISO dates.")
    parser.add_argument("--steps", type=int, default=1500, help="of training (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="FILE")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    days = rng.permutation(np.arange("1969", "2069", dtype="datetime64[D]"))
    texts, iso = examples(days[:TEST], rng)
    net, history = Translator(options.seed), []
    adam = Adam(net.params)
    for step in range(1, options.steps + 1):
        adam.lr = 2e-2 * (1 - step / options.steps)
        net.learn(*examples(rng.choice(days[TEST:], BATCH), rng))
        clip_global_norm(net.grads.values(), 1.0)
        adam.step(net.grads)
        if step % 100 == 0 or step == options.steps:
            right = net.write(texts) == iso
            history.append([step, *(right[part].all(axis=0).mean() for part in PARTS.values())])
            print(f"{step:5} steps, right: ", *(f"{n} {s:.3f} " for n, s in zip(PARTS, history[-1][1:], strict=True)))
    for text, characters in zip(texts[:8], net.write(texts[:8]).T, strict=True):
        print(f"{text:>30}  {''.join(OUTPUT[n] for n in characters)}")
    if options.plot:
        plot(options.plot, np.array(history))
    return dict(zip(PARTS, history[-1][1:], strict=True))


if __name__ == "__main__":
    main()
