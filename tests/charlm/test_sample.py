"""Text from a model."""

import numpy as np
import pytest
import small

from fastrnn.charlm.errors import TextError
from fastrnn.charlm.sample import draw, generate


def test_same_seed_same_text() -> None:
    run = small.advance(small.trainer(), 5)
    vocabulary = run.corpus.vocabulary
    texts = ["".join(generate(run.model, vocabulary, length=80, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) == 80 and set(text) <= set(vocabulary) for text in texts)


def test_the_prime_matters_and_unknown_characters_are_an_error() -> None:
    run = small.advance(small.trainer(hidden=16), 200)
    vocabulary = run.corpus.vocabulary
    one, other = ("".join(generate(run.model, vocabulary, prime=p, length=40, seed=1)) for p in ("The", "mat;"))
    assert one != other
    with pytest.raises(TextError, match="never seen"):
        generate(run.model, vocabulary, prime="漢", length=1)


def test_draws_follow_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    logits = np.log(np.array([0.1, 0.2, 0.7], np.float32))
    n = 20_000
    for temperature, expected in ((1.0, [0.1, 0.2, 0.7]), (0.5, np.array([0.01, 0.04, 0.49]) / 0.54)):
        counts = np.bincount([draw(logits, temperature, rng) for _ in range(n)], minlength=3)
        np.testing.assert_allclose(counts / n, expected, atol=4 * 0.5 / n**0.5)  # four standard deviations


@pytest.mark.parametrize("temperature", [1e-320, 1e-6])
def test_without_temperature_the_likeliest_is_drawn(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = np.array([1, 3, 2], np.float32)
    assert {draw(logits, temperature, rng) for _ in range(50)} == {1}


def test_at_any_temperature_a_token_is_drawn() -> None:
    rng = np.random.default_rng(0)
    logits = np.array([-3e38, 3e38], np.float32)
    assert {draw(logits, 1e300, rng) for _ in range(50)} == {0, 1}
