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
# At these the logits themselves can take the noise: it is not lost beside them in float32, nor they beside it.
PLAIN_TEMPERATURES = (0.05, 20.0)
# Choices whose noise is drawn at a time: one by one, that takes as long as all the rest.
DRAWN_AT_A_TIME = 64
EXCERPT_TEMPERATURE = 0.8  # lower ones lead a net that has just begun into endless blanks
FLUSH_EVERY = 0.1  # seconds


class Chooser:
    """Chooses tokens at random.

    The largest of logits / temperature + g, with an own g of Gumbel's distribution for each token, is a token with the
    probability softmax(logits / temperature) (Yellott, 1977): one sum and one search. At temperature 0 it is the
    likeliest, and one of them at random if there are several. ``top_k`` and ``top_p`` may both apply, or neither: None.
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
        low, high = PLAIN_TEMPERATURES
        self._plain = top_k is None and top_p is None and low <= temperature <= high
        self._noise = _noise(vocabulary, temperature if self._plain else 1.0, np.random.default_rng(seed))
        self._scores = np.empty(vocabulary, np.float32)

    def probabilities(self, logits: Array) -> npt.NDArray[np.float64]:
        """Return what tokens are drawn with, (V,), where the logits are (V,)."""
        weights = logits.astype(np.float64)
        weights -= weights.max()
        weights = np.exp(weights / self.temperature)
        if self.top_k is not None or self.top_p is not None:
            order = np.argsort(-weights, kind="stable")
            kept = len(order) if self.top_k is None else min(self.top_k, len(order))
            if self.top_p is not None:
                sums = weights[order[:kept]].cumsum()
                kept = min(int(sums.searchsorted(self.top_p * sums[-1])) + 1, kept)
            weights[order[kept:]] = 0
        probabilities: npt.NDArray[np.float64] = weights / weights.sum()
        return probabilities

    def draw(self, logits: Array) -> int:
        """Return one token; logits are (V,)."""
        if not self._plain:
            with np.errstate(divide="ignore"):  # the logarithm of 0, which no noise makes up for
                logits = np.log(self.probabilities(logits))
        return int(np.add(logits, next(self._noise), self._scores).argmax())


def _noise(vocabulary: int, scale: float, rng: np.random.Generator) -> Iterator[Array]:
    """Yield (V,) numbers of Gumbel's distribution, times ``scale``, without end."""
    while True:
        # Drawn in float64, where none is 0, whose token would be chosen whatever its probability.
        drawn = rng.standard_exponential((DRAWN_AT_A_TIME, vocabulary)).astype(np.float32)
        yield from -scale * np.log(drawn)


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
        logits = read(token)
    token = np.empty(1, np.int64)
    written = 0
    while length is None or written < length:
        token[0] = chosen = chooser.draw(logits[0])
        yield vocabulary[chosen]
        written += 1
        logits = read(token)


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
