"""Truncated back-propagation through time, with Adam.

The text is cut into B streams that are read side by side, T characters a step. The state is carried from step to step,
gradients are not; an epoch starts at the beginning of the streams with a zero state.

Predictions are made with an average of the weights of the recent steps (polynomial-decay averaging, Shamir and Zhang,
2013). It does for a constant learning rate what lowering the rate towards the end does, without having to know when the
end is: training can go on from wherever it stopped. Of these averages, the best on the held-out text is kept.

What a step computes depends on the settings, the text and the number of the step alone. Runs with the same seed are
bit-identical, and so are an interrupted, resumed run and one that was never interrupted.
"""

import contextlib
import math
import signal
from types import FrameType
from typing import Any

import numpy as np

from fastrnn.data import side_by_side
from fastrnn.optim import Adam, clip_global_norm

from .checkpoint import Checkpoint, Sample, TrainingState
from .errors import TextError, TrainingError
from .model import Array, CharModel, state_shapes
from .sample import excerpt
from .settings import Settings
from .text import Corpus

# An evaluation follows each epoch, and within one each so many characters.
EVALUATION_EVERY = 1_000_000
# Another one, with a sample, follows this many steps, and each doubling of them.
FIRST_SAMPLE = 16
SAMPLE_LENGTH = 240
# The average reaches back over about the last tenth of all steps.
AVERAGING = 9.0
NATS_TO_BITS = 1 / math.log(2)


class Trainer:
    """A training run: everything that changes from step to step, and the step.

    Raises :class:`TextError` if the text is too short for one step of the given settings.
    """

    def __init__(self, settings: Settings, corpus: Corpus) -> None:
        B, T = settings.batch, settings.steps
        self.settings = settings
        self.corpus = corpus
        if len(corpus.train) < B * (T + 1):
            raise TextError(
                f"the text is too short: {len(corpus.train)} characters to learn from, and one step takes "
                f"{B * (T + 1)} with batch {B} and steps {T}"
            )
        self.streams = side_by_side(corpus.train, B)
        self.epoch_steps = (len(self.streams) - 1) // T
        self.evaluation_steps = max(1, EVALUATION_EVERY // (B * T))

        self.model = CharModel(settings, len(corpus.vocabulary))
        self.adam = Adam(self.model.params, settings.lr)
        self.average = self.model.state_dict()
        self.best = self.model.state_dict()
        # (L, B, H) of h, and of c where there is one
        self.carried = tuple(np.zeros(shape, np.float32) for shape in state_shapes(settings))
        self.loss_sum = 0.0  # of the steps since the last evaluation, in nats
        self.history: list[tuple[float, float, float]] = []  # step, bits per character: training, held-out
        self.samples: list[Sample] = []

    @classmethod
    def resume(cls, checkpoint: Checkpoint, corpus: Corpus) -> "Trainer":
        """Return a run that goes on where the checkpoint was taken.

        Raises :class:`TextError` if it is not the text that the checkpoint was trained on.
        """
        saved = checkpoint.training
        if saved.fingerprint != corpus.fingerprint:
            raise TextError(
                "the text is not the one the model was trained on: resume with the same files in the same order"
            )
        trainer = cls(checkpoint.settings, corpus)
        trainer.model.load_state_dict(saved.weights)
        trainer.adam.steps = saved.step
        trainer.adam.m = saved.adam_m
        trainer.adam.v = saved.adam_v
        trainer.average = saved.average
        trainer.best = checkpoint.weights
        trainer.carried = saved.carried
        trainer.loss_sum = saved.loss_sum
        trainer.history = [tuple(row) for row in saved.history.tolist()]
        trainer.samples = list(saved.samples)
        return trainer

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return self.adam.steps

    @property
    def best_bits(self) -> float:
        """Held-out bits per character of the weights in ``best``; infinity before the first evaluation."""
        return min((held_out for _, _, held_out in self.history), default=math.inf)

    @property
    def sample_due(self) -> bool:
        """Whether the evaluation after the steps taken so far keeps a sample."""
        return self.step >= FIRST_SAMPLE and self.step & (self.step - 1) == 0

    @property
    def evaluation_due(self) -> bool:
        """Whether an evaluation belongs after the steps taken so far."""
        within_epoch = self.step % self.epoch_steps
        return self.sample_due or (self.step > 0 and within_epoch % self.evaluation_steps == 0)

    def advance(self) -> float:
        """Take one step; return its training loss in bits per character.

        Raises :class:`TrainingError` if the loss or the gradients are not finite; nothing is changed then.
        """
        T = self.settings.steps
        index = self.step % self.epoch_steps
        window = self.streams[index * T : (index + 1) * T + 1]
        before = (self.carried if len(self.carried) > 1 else self.carried[0]) if index else None
        rng = np.random.default_rng([self.settings.seed, self.step])  # whatever was drawn before a run was resumed
        with np.errstate(over="ignore", invalid="ignore"):  # checked below
            loss, carried = self.model.gradients(window[:-1], window[1:], before, rng)
            grads = self.model.grads
            norm = clip_global_norm(grads.values(), self.settings.clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(f"training diverged at step {self.step + 1}: try a lower learning rate")
        self.adam.step(grads)
        self.carried = carried if isinstance(carried, tuple) else (carried,)
        self.loss_sum += loss
        share = (AVERAGING + 1) / (self.step + AVERAGING)
        for name, average in self.average.items():
            difference = np.subtract(self.adam.params[name], average, out=grads[name])
            difference *= share
            average += difference
        return loss * NATS_TO_BITS

    def evaluate(self) -> float:
        """Return the held-out bits per character of the averaged weights, and keep them if they are the best so far.

        Keeps a sample of their text if it is due.
        """
        held_out = self.held_out_bits(self.average)
        last = self.history[-1][0] if self.history else 0.0
        if held_out < self.best_bits or not self.history:
            self.best = {name: weight.copy() for name, weight in self.average.items()}
        self.history.append((float(self.step), self.loss_sum / (self.step - last) * NATS_TO_BITS, held_out))
        self.loss_sum = 0.0
        if self.sample_due:
            text = excerpt(self.predictor(self.average), self.corpus.vocabulary, SAMPLE_LENGTH, self.settings.seed)
            self.samples.append(Sample(self.step, held_out, text))
        return held_out

    def predictor(self, weights: dict[str, Array]) -> CharModel:
        """Return a model with these weights."""
        model = CharModel(self.settings, len(self.corpus.vocabulary))
        model.load_state_dict(weights)
        return model

    def held_out_bits(self, weights: dict[str, Array]) -> float:
        """Return the bits per character of a model with these weights on the held-out text."""
        tokens = self.corpus.held_out
        nats, _ = self.predictor(weights).loss(tokens[:-1], tokens[1:])
        return nats * NATS_TO_BITS

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on, and the weights to predict with; arrays are shared, not copied."""
        return Checkpoint(
            settings=self.settings,
            vocabulary=self.corpus.vocabulary,
            weights=self.best if self.history else self.average,
            training=TrainingState(
                step=self.step,
                loss_sum=self.loss_sum,
                fingerprint=self.corpus.fingerprint,
                weights=dict(self.model.params),
                average=self.average,
                adam_m=self.adam.m,
                adam_v=self.adam.v,
                carried=self.carried,
                history=np.array(self.history, np.float64).reshape(-1, 3),
                samples=tuple(self.samples),
            ),
        )


class Interruption:
    """While it is entered, Ctrl-C asks the run to stop after its step instead of breaking into it.

    So do SIGTERM, by which a system ends its processes, and SIGHUP, which comes of a terminal that is closed. The
    second of a kind does what it did before. Outside of the main thread, where Python delivers no signals, nothing
    changes.

    Attributes:
        signal: the one that came; None as long as there was none.

    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether one of the signals came."""
        return self.signal is not None

    def __enter__(self) -> "Interruption":
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # Whoever has a command go on without its terminal ignores SIGHUP.
            if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                continue
            with contextlib.suppress(ValueError):  # not the main thread
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
