"""Small texts, corpora and training runs for the tests of the character model."""

import dataclasses
from typing import Any

import numpy as np

from fastrnn.charlm.checkpoint import Checkpoint
from fastrnn.charlm.settings import Settings
from fastrnn.charlm.text import Corpus, make_corpus
from fastrnn.charlm.train import Trainer

SETTINGS = Settings(hidden=5, batch=2, steps=8, lr=0.01)
# Greek with combining accents, characters beyond the first plane, and enough of them.
TEXT = "The cat sat on the mat; τὸ ἄλφα και\u0301 🐈🎵🐀. " * 12


def corpus() -> Corpus:
    return make_corpus(TEXT)


def trainer(**changes: Any) -> Trainer:
    """A small run, not yet begun."""
    return Trainer(dataclasses.replace(SETTINGS, **changes), corpus())


def advance(trainer: Trainer, steps: int) -> Trainer:
    """Take steps, and evaluate when it is due."""
    for _ in range(steps):
        trainer.advance()
        if trainer.evaluation_due:
            trainer.evaluate()
    return trainer


def arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray[Any, Any]]:
    """Everything numeric in a checkpoint, by name."""
    training = checkpoint.training
    groups = {
        "weights": checkpoint.weights,
        "training": training.weights,
        "average": training.average,
        "adam_m": training.adam_m,
        "adam_v": training.adam_v,
        "carried": {str(i): state for i, state in enumerate(training.carried)},
        "rest": {"history": training.history, "numbers": np.array([training.step, training.loss_sum])},
    }
    return {f"{group}.{name}": array for group, members in groups.items() for name, array in members.items()}


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    """Both checkpoints are the same, bit for bit."""
    assert one.settings == other.settings
    assert one.vocabulary == other.vocabulary
    assert one.training.fingerprint == other.training.fingerprint
    assert one.training.samples == other.training.samples
    left, right = arrays(one), arrays(other)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].tobytes() == right[name].tobytes(), name
