"""What a model must beat: bits per character of a uniform, a unigram and a bigram model on the held-out text.

V is the size of the vocabulary; c(a), c(ab) are counts in the training text, N its length, and d(a) the number of
different characters seen after a.

uniform   1 / V
unigram   p(b) = (c(b) + 1) / (N + V)
bigram    p(b | a) = (c(ab) + d(a) * p(b)) / (c(a) + d(a))     Witten-Bell: the rarer a, the more p(b) counts
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .text import Corpus

Floats = npt.NDArray[np.float64]


class Baselines(NamedTuple):
    """Bits per character on the held-out text."""

    uniform: float
    unigram: float
    bigram: float


def baselines(corpus: Corpus) -> Baselines:
    """Return the bits per character that simple models reach on the held-out text, its first row being context."""
    size = len(corpus.vocabulary)
    train = corpus.train.astype(np.int64)
    context = corpus.held_out[:-1].ravel().astype(np.int64)
    target = corpus.held_out[1:].ravel().astype(np.int64)

    counts = np.bincount(train, minlength=size)
    unigram = (counts + 1) / (len(train) + size)

    pairs, pair_counts = np.unique(train[:-1] * size + train[1:], return_counts=True)
    followers = np.bincount(pairs // size, minlength=size)
    starts = np.bincount(train[:-1], minlength=size)
    wanted = context * size + target
    found = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[found] == wanted, pair_counts[found], 0)
    # A character that never came before another one has no followers: the unigram alone speaks for it.
    weight = np.maximum(followers[context], 1)
    bigram = (seen + weight * unigram[target]) / (starts[context] + weight)

    return Baselines(np.log2(size).item(), mean_bits(unigram[target]), mean_bits(bigram))


def mean_bits(probabilities: npt.NDArray[Any]) -> float:
    """Return the mean of -log2 p."""
    return float(-np.log2(probabilities).mean())
