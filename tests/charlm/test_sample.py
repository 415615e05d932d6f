"""Text from a model."""

import io
from itertools import islice

import numpy as np
import pytest
import small

from fastrnn.charlm import sample
from fastrnn.charlm.errors import TextError
from fastrnn.charlm.sample import Chooser, generate, write


def test_same_seed_same_text() -> None:
    run = small.advance(small.trainer(), 5)
    vocabulary = run.corpus.vocabulary
    texts = ["".join(generate(run.model, vocabulary, length=80, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) == 80 and set(text) <= set(vocabulary) for text in texts)


def test_text_without_end_begins_as_a_short_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "DRAWN_AT_A_TIME", 7)
    run = small.advance(small.trainer(), 5)
    vocabulary = run.corpus.vocabulary
    endless = generate(run.model, vocabulary, length=None, seed=1)
    begun = "".join(islice(endless, 3000))
    monkeypatch.undo()
    assert begun[:500] == "".join(generate(run.model, vocabulary, length=500, seed=1))
    assert len(begun) == 3000


def test_characters_are_those_of_the_model() -> None:
    """What is written is drawn, step by step, from what the net says over the whole text so far."""
    run = small.advance(small.trainer(hidden=16), 60)
    model, vocabulary = run.model, run.corpus.vocabulary
    text = "The " + "".join(generate(model, vocabulary, prime="The ", length=30, temperature=0.8, seed=3))
    chooser = Chooser(len(vocabulary), temperature=0.8, seed=3)
    model.eval()
    for end in range(4, len(text)):
        tokens = np.array([[vocabulary.index(c)] for c in text[:end]])
        y, _ = model.rnn(tokens)
        assert vocabulary[chooser.draw(model.decoder(y)[-1, 0])] == text[end]


def test_the_prime_matters_and_unknown_characters_are_an_error() -> None:
    run = small.advance(small.trainer(hidden=16), 200)
    vocabulary = run.corpus.vocabulary
    one, other = ("".join(generate(run.model, vocabulary, prime=p, length=40, seed=1)) for p in ("The", "mat;"))
    assert one != other
    with pytest.raises(TextError, match="never seen"):
        generate(run.model, vocabulary, prime="漢", length=1)


LOGITS = np.log(np.array([0.05, 0.4, 0.1, 0.3, 0.15], np.float32))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.05, 0.4, 0.1, 0.3, 0.15]),
        ({"temperature": 0.5}, np.array([0.0025, 0.16, 0.01, 0.09, 0.0225]) / 0.285),
        ({"temperature": 0.0}, [0, 1, 0, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0, 0]),
        ({"top_k": 2}, [0, 0.4 / 0.7, 0, 0.3 / 0.7, 0]),
        ({"top_k": 99}, [0.05, 0.4, 0.1, 0.3, 0.15]),
        ({"top_p": 1e-9}, [0, 1, 0, 0, 0]),
        ({"top_p": 0.6}, [0, 0.4 / 0.7, 0, 0.3 / 0.7, 0]),  # the second one passes 0.6
        ({"top_p": 0.8}, [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]),
        ({"top_p": 1.0}, [0.05, 0.4, 0.1, 0.3, 0.15]),
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0, 0]),  # 0.4 of the 0.7 that are left
        ({"temperature": 0.5, "top_p": 0.6}, [0, 0.16 / 0.25, 0, 0.09 / 0.25, 0]),  # the temperature comes first
    ],
)
def test_probabilities_and_draws(options: dict[str, float], expected: list[float]) -> None:
    chooser = Chooser(5, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(chooser.probabilities(LOGITS), expected, rtol=1e-6)
    n = 5_000
    counts = np.bincount([chooser.draw(LOGITS) for _ in range(n)], minlength=5)
    np.testing.assert_allclose(counts / n, expected, atol=4 * 0.5 / n**0.5)  # four standard deviations
    assert not counts[np.equal(expected, 0)].any()


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-6])
def test_without_temperature_the_likeliest_is_drawn(temperature: float) -> None:
    chooser = Chooser(3, temperature=temperature)
    assert {chooser.draw(np.array([1, 3, 2], np.float32)) for _ in range(50)} == {1}
    assert {chooser.draw(np.array([1, 3, 3], np.float32)) for _ in range(50)} == {1, 2}


def test_at_any_temperature_a_token_is_drawn() -> None:
    logits = np.array([-3e38, 3e38], np.float32)
    hot, cold = Chooser(2, temperature=1e300), Chooser(2, temperature=0.0)
    assert {hot.draw(logits) for _ in range(50)} == {0, 1}
    assert {cold.draw(logits) for _ in range(50)} == {1}


class Recorder(io.StringIO):
    """Counts how often it is flushed."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal
        self.flushes = 0

    def isatty(self) -> bool:
        return self.terminal

    def flush(self) -> None:
        self.flushes += 1


def test_a_terminal_gets_each_character_and_files_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, flushes in ((True, 100), (False, 9)):
        clock = iter(np.arange(1000) * 0.01)
        monkeypatch.setattr("fastrnn.charlm.sample.time.monotonic", lambda clock=clock: next(clock))
        out = Recorder(terminal)
        write("a" * 100, out)
        assert out.getvalue() == "a" * 100
        assert abs(out.flushes - flushes) <= 1
