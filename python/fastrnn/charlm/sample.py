"""Text from a model, one character at a time.

V is the size of the vocabulary. The next token is drawn with probabilities softmax(logits / temperature), of which

top_k  keeps the k likeliest tokens
top_p  keeps, of these, the fewest likeliest that together have a probability of at least p (Holtzman et al., 2020)

and what is kept is scaled up to 1 again.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TextIO

import numpy as np
import numpy.typing as npt

from .model import Array, CharModel
from .text import encode_text

# As good as 0: the least difference of two float32 logits, over this, already gives the smaller one no chance; and the
# largest does not overflow.
LEAST_TEMPERATURE = 1e-200
# Numbers drawn at a time: one by one, drawing them takes as long as the rest of the choice.
DRAWN_AT_A_TIME = 1024
EXCERPT_TEMPERATURE = 0.8  # lower ones lead a net that has just begun into endless blanks
FLUSH_EVERY = 0.1  # seconds


class Chooser:
    """Chooses tokens, with what that needs of memory kept from one to the next.

    At temperature 0 it takes the likeliest, and one of them at random if there are several. ``top_k`` and ``top_p``
    may both apply, or neither: None.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> None:
        self.temperature = max(temperature, LEAST_TEMPERATURE)
        self.top_k = top_k
        self.top_p = top_p
        self._filtered = top_k is not None or top_p is not None
        self._weights = np.empty(vocabulary)
        self._sums = np.empty(vocabulary)
        self._numbers = _numbers(np.random.default_rng(seed))

    def probabilities(self, logits: Array) -> npt.NDArray[np.float64]:
        """Return what tokens are drawn with, (V,), where the logits are (V,)."""
        probabilities: npt.NDArray[np.float64] = self._weigh(logits) / self._weights.sum()
        return probabilities

    def draw(self, logits: Array) -> int:
        """Return one token; logits are (V,)."""
        sums = np.add.accumulate(self._weigh(logits), out=self._sums)
        # A token of weight 0 has the sum of the one before it, to the right of which the search goes on.
        drawn = int(sums.searchsorted(next(self._numbers) * sums[-1], "right"))
        return min(drawn, len(sums) - 1)

    def _weigh(self, logits: Array) -> npt.NDArray[np.float64]:
        """(V,): numbers in proportion to the probabilities."""
        weights = self._weights
        weights[:] = logits
        weights -= np.maximum.reduce(weights)
        weights /= self.temperature
        np.exp(weights, out=weights)
        if self._filtered:
            order = np.argsort(-weights, kind="stable")
            kept = len(order) if self.top_k is None else min(self.top_k, len(order))
            if self.top_p is not None:
                sums = weights[order[:kept]].cumsum()
                kept = min(int(sums.searchsorted(self.top_p * sums[-1])) + 1, kept)
            weights[order[kept:]] = 0
        return weights


def _numbers(rng: np.random.Generator) -> Iterator[float]:
    """Yield numbers from 0 to below 1 without end."""
    while True:
        yield from rng.random(DRAWN_AT_A_TIME).tolist()


def generate(
    model: CharModel,
    vocabulary: str,
    *,
    prime: str = "",
    length: int | None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield ``length`` characters that follow ``prime``, one by one; None is without end.

    Low temperatures give likely text, high ones varied text. An empty prime stands for the start of a line. The same
    seed gives the same text. Raises TextError if ``prime`` has characters that the vocabulary lacks.
    """
    # Encoded before the generator starts, so that a bad prime is an error here and not at the first character.
    tokens = encode_text(prime or ("\n" if "\n" in vocabulary else vocabulary[0]), vocabulary)
    chooser = Chooser(len(vocabulary), temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    return _generate(model, vocabulary, tokens, length, chooser)


def _generate(model: CharModel, vocabulary: str, prime: Array, length: int | None, chooser: Chooser) -> Iterator[str]:
    read = model.reader()
    for token in prime.reshape(-1, 1):
        (logits,) = read(token)
    token = np.empty(1, np.int64)
    written = 0
    while length is None or written < length:
        token[0] = chosen = chooser.draw(logits)
        yield vocabulary[chosen]
        written += 1
        (logits,) = read(token)


def excerpt(model: CharModel, vocabulary: str, length: int, seed: int) -> str:
    """Return what the model writes as a sample of its work: from the start of a paragraph."""
    prime = "\n\n" if "\n" in vocabulary else ""
    text = generate(model, vocabulary, prime=prime, length=length, temperature=EXCERPT_TEMPERATURE, seed=seed)
    return "".join(text).strip("\n")


def write(characters: Iterable[str], out: TextIO) -> None:
    """Write characters as they come: one by one to a terminal, elsewhere several times a second."""
    every = 0.0 if out.isatty() else FLUSH_EVERY
    flushed = time.monotonic()
    for character in characters:
        out.write(character)
        now = time.monotonic()
        if now - flushed >= every:
            out.flush()
            flushed = now
