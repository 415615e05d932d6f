"""Recurrent layers that read characters, and a linear decoder that predicts the next one.

T steps, B batch, L layers, H hidden size, V size of the vocabulary. Tokens go in as integers: the one-hot input of size
V is never expanded. Weights have PyTorch's names, shapes and gate order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.calls import State
from fastrnn.functional import linear
from fastrnn.layers import GRU, LSTM, RNN, Layer, parameter_shapes
from fastrnn.losses import cross_entropy
from fastrnn.modules import Dropout, Linear, Modules

from .settings import Settings

Array = npt.NDArray[Any]

# Rows of logits, T*B, that evaluation holds at a time.
EVALUATION_ROWS = 4096
CELLS: dict[str, type[Layer]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def weight_shapes(settings: Settings, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight, without making any."""
    H = settings.hidden
    rnn = parameter_shapes(CELLS[settings.cell], vocabulary, H, settings.layers)
    return {f"rnn.{name}": shape for name, shape in rnn.items()} | {
        "decoder.weight": (vocabulary, H),
        "decoder.bias": (vocabulary,),
    }


def state_shapes(settings: Settings) -> list[tuple[int, ...]]:
    """Return the shape (L, B, H) of every state: that of h, and that of c where there is one."""
    return [(settings.layers, settings.batch, settings.hidden)] * CELLS[settings.cell]._family.states


class CharModel(Modules):
    """Predicts the next character: logits = W h + b over the hidden states h of the last layer.

    Untrained, it has PyTorch's initial weights, but for an LSTM that starts out by remembering.
    """

    def __init__(self, settings: Settings, vocabulary: int, dtype: npt.DTypeLike = np.float32) -> None:
        self.rnn = CELLS[settings.cell](
            vocabulary,
            settings.hidden,
            settings.layers,
            dropout=settings.dropout if settings.layers > 1 else 0.0,
            dtype=dtype,
            seed=settings.seed,
        )
        self.dropout = Dropout(settings.dropout)
        self.decoder = Linear(settings.hidden, vocabulary, dtype=dtype, seed=settings.seed)
        super().__init__(rnn=self.rnn, dropout=self.dropout, decoder=self.decoder)
        if settings.cell == "lstm":
            for k in range(settings.layers):  # forget gates open (Jozefowicz et al., 2015)
                self.params[f"rnn.bias_ih_l{k}"][settings.hidden : 2 * settings.hidden] += 1

    def loss(self, tokens: Array, targets: Array, state: State | None = None) -> tuple[float, State]:
        """Return the mean cross-entropy in nats, and the state after the last step; tokens as in :meth:`gradients`."""
        self.eval()
        T, B = tokens.shape
        block = max(1, EVALUATION_ROWS // B)
        total = 0.0
        for t in range(0, T, block):
            y, state = self.rnn(tokens[t : t + block], state)
            total += cross_entropy(self.decoder(y), targets[t : t + block])[0] * len(y)
        assert state is not None
        return total / T, state

    def gradients(
        self, tokens: Array, targets: Array, state: State | None, rng: np.random.Generator
    ) -> tuple[float, State]:
        """Return the mean cross-entropy in nats and the state after the last step; fill ``grads``.

        ``tokens`` and ``targets`` are (T, B). Nothing flows back through ``state``. Dropout draws from ``rng``.
        """
        self.train()
        self.rnn.rng = self.dropout.rng = rng
        y, state = self.rnn(tokens, state)
        loss, dlogits = cross_entropy(self.decoder(self.dropout(y)), targets)
        self.rnn.backward(self.dropout.backward(self.decoder.backward(dlogits)))
        return loss, state

    def reader(self, batch: int = 1) -> Callable[[Array], Array]:
        """Return a function that reads one character each, tokens (B,), and gives the logits (B, V) of the next.

        It has the weights as they are now, and writes to the same logits each time, so that nothing is allocated.
        """
        self.eval()
        step, decoder = self.rnn.stream(batch, tokens=True).step, self.decoder.state_dict()
        weight, bias = decoder["weight"], decoder["bias"]
        h = np.empty((batch, self.rnn.hidden_size), self.rnn.dtype)
        logits = np.empty((batch, len(weight)), self.rnn.dtype)
        return lambda tokens: linear(step(tokens, h), weight, bias, logits)
