"""Text from a model, one character at a time."""

from collections.abc import Iterator

import numpy as np

from .model import Array, CharModel
from .text import decode, encode_text


def generate(
    model: CharModel, vocabulary: str, *, prime: str = "", length: int, temperature: float = 1.0, seed: int = 0
) -> Iterator[str]:
    """Yield ``length`` characters that follow ``prime``, one by one.

    Low temperatures give likely text, high ones varied text. An empty prime stands for the start of a line. The same
    seed gives the same text. Raises TextError if ``prime`` has characters that the vocabulary lacks.
    """
    # Encoded before the generator starts, so that a bad prime is an error here and not at the first character.
    tokens = encode_text(prime or ("\n" if "\n" in vocabulary else vocabulary[0]), vocabulary)
    return _generate(model, vocabulary, tokens, length, temperature, np.random.default_rng(seed))


def _generate(
    model: CharModel, vocabulary: str, prime: Array, length: int, temperature: float, rng: np.random.Generator
) -> Iterator[str]:
    read = model.reader()
    for token in prime.reshape(-1, 1):
        logits = read(token)
    for _ in range(length):
        token = np.array([draw(logits[0], temperature, rng)])
        yield decode(token, vocabulary)
        logits = read(token)


def draw(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    """Return one token, drawn with probabilities softmax(logits / temperature); logits are (V,)."""
    scaled = logits.astype(np.float64)
    scaled -= scaled.max()
    with np.errstate(over="ignore"):  # at the lowest temperatures all but the likeliest go to minus infinity
        scaled /= temperature
    cumulative = np.exp(scaled).cumsum()
    drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return min(int(drawn), len(logits) - 1)
