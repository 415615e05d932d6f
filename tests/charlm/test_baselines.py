"""The simple models, against an example computed by hand."""

import math

import numpy as np
import pytest

from fastrnn.charlm.baselines import baselines
from fastrnn.charlm.text import Corpus, make_corpus


def test_by_hand() -> None:
    # Vocabulary abc; training text "aabab"; held out "abc" and "bac", as columns.
    corpus = Corpus(
        vocabulary="abc",
        train=np.array([0, 0, 1, 0, 1], np.uint8),
        held_out=np.array([[0, 1], [1, 0], [2, 2]], np.uint8),
        fingerprint="",
    )
    # Counts a 3, b 2, c 0, one more each: 4/8, 3/8, 1/8.
    p = {"a": 4 / 8, "b": 3 / 8, "c": 1 / 8}
    # Pairs: aa 1, ab 2, ba 1; a is followed 3 times by 2 different characters, b once by 1.
    b_after_a = (2 + 2 * p["b"]) / (3 + 2)
    a_after_b = (1 + 1 * p["a"]) / (1 + 1)
    c_after_b = (0 + 1 * p["c"]) / (1 + 1)
    c_after_a = (0 + 2 * p["c"]) / (3 + 2)
    result = baselines(corpus)
    assert result.uniform == pytest.approx(math.log2(3))
    assert result.unigram == pytest.approx(-sum(math.log2(p[b]) for b in "bcac") / 4)
    assert result.bigram == pytest.approx(
        -(math.log2(b_after_a) + math.log2(c_after_b) + math.log2(a_after_b) + math.log2(c_after_a)) / 4
    )


def test_probabilities_add_up_to_one() -> None:
    size, train = 4, np.array([0, 1, 1, 2, 0, 1, 0], np.uint8)  # 3 never comes
    for context in range(size):
        total = 0.0
        for following in range(size):
            corpus = Corpus("abcd", train, np.array([[context], [following]], np.uint8), "")
            total += 2 ** -baselines(corpus).bigram
        assert total == pytest.approx(1)


def test_each_beats_the_one_before_on_text() -> None:
    result = baselines(make_corpus("the quick brown fox jumps over the lazy dog. " * 50))
    assert result.uniform > result.unigram > result.bigram > 0


def test_one_character_alone_is_certain() -> None:
    assert baselines(make_corpus("a" * 500)) == pytest.approx((0, 0, 0))
