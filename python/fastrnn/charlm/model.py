"""One recurrent layer that reads characters, and a linear decoder that predicts the next one.

T steps, B batch, H hidden size, V size of the vocabulary, G gates of the cell. Tokens go in as integers: the one-hot
input of size V is never expanded. Weights have PyTorch's names, shapes and gate order.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn import functional

Array = npt.NDArray[Any]
State = tuple[Array, ...]  # h, or h and c: (B, H) each

# Rows of logits, T*B, that evaluation holds at a time.
EVALUATION_ROWS = 4096


class Cell(NamedTuple):
    """The functions of one cell."""

    gates: int
    states: int
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    step: Callable[..., Any]


CELLS = {
    "rnn": Cell(1, 1, functional.rnn_forward, functional.rnn_backward, functional.rnn_step),
    "lstm": Cell(4, 2, functional.lstm_forward, functional.lstm_backward, functional.lstm_step),
    "gru": Cell(3, 1, functional.gru_forward, functional.gru_backward, functional.gru_step),
}

RECURRENT = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def weight_shapes(cell: str, vocabulary: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight."""
    rows = CELLS[cell].gates * hidden
    return {
        "weight_ih_l0": (rows, vocabulary),
        "weight_hh_l0": (rows, hidden),
        "bias_ih_l0": (rows,),
        "bias_hh_l0": (rows,),
        "decoder.weight": (vocabulary, hidden),
        "decoder.bias": (vocabulary,),
    }


class CharModel:
    """Predicts the next character: logits = W h + b over the hidden states h of an RNN, LSTM or GRU.

    ``weights`` maps the names of :func:`weight_shapes` to arrays, all float32 or all float64; they are not copied.
    """

    def __init__(self, cell: str, weights: Mapping[str, Array]) -> None:
        self.cell = cell
        self.weights = dict(weights)
        self.vocabulary, self.hidden = self.weights["decoder.weight"].shape
        self.dtype = self.weights["decoder.weight"].dtype

    @classmethod
    def initial(
        cls, cell: str, vocabulary: int, hidden: int, seed: int, dtype: npt.DTypeLike = np.float32
    ) -> "CharModel":
        """Return an untrained model: PyTorch's uniform distribution, and an LSTM that starts out by remembering."""
        rng = np.random.default_rng(seed)
        weights: dict[str, Array] = {}
        for name, shape in weight_shapes(cell, vocabulary, hidden).items():
            weight: Array = rng.random(shape, np.dtype(dtype))  # type: ignore[arg-type]
            weight -= 0.5
            weight *= 2 * hidden**-0.5
            weights[name] = weight
        if cell == "lstm":
            weights["bias_ih_l0"][hidden : 2 * hidden] += 1  # forget gates open (Jozefowicz et al., 2015)
        return cls(cell, weights)

    def zero_state(self, batch: int) -> State:
        """Return the state before the first character of ``batch`` texts."""
        return tuple(np.zeros((batch, self.hidden), self.dtype) for _ in range(CELLS[self.cell].states))

    def loss(self, tokens: Array, targets: Array, state: State) -> tuple[float, State]:
        """Return the mean cross-entropy in nats, and the state after the last step; tokens as in :meth:`gradients`."""
        T, B = tokens.shape
        block = max(1, EVALUATION_ROWS // B)
        total = 0.0
        for t in range(0, T, block):
            y, *states, _ = self._forward(tokens[t : t + block], state, training=False)
            state = tuple(states)
            total += float(self._cross_entropy(y, targets[t : t + block])[0].sum(dtype=np.float64))
        return total / (T * B), state

    def gradients(self, tokens: Array, targets: Array, state: State) -> tuple[float, dict[str, Array], State]:
        """Return the mean cross-entropy in nats, its gradient by every weight, and the state after the last step.

        ``tokens`` and ``targets`` are (T, B). Nothing flows back through ``state``.
        """
        y, *states, tape = self._forward(tokens, state, training=True)
        losses, probabilities, total = self._cross_entropy(y, targets)
        rows = len(losses)
        # The gradient by the logits is (softmax - one-hot) / rows, built where the exponentials stand.
        dlogits = probabilities
        dlogits *= 1 / (rows * total[:, None])
        dlogits[np.arange(rows), targets.ravel()] -= 1 / rows
        dy = dlogits @ self.weights["decoder.weight"]
        _, dw_ih, dw_hh, db_ih, db_hh, *_ = CELLS[self.cell].backward(tape, dy.reshape(y.shape))
        grads = dict(zip(RECURRENT, (dw_ih, dw_hh, db_ih, db_hh), strict=True))
        grads["decoder.weight"] = dlogits.T @ y.reshape(rows, self.hidden)
        grads["decoder.bias"] = dlogits.sum(axis=0)
        return float(losses.mean(dtype=np.float64)), grads, tuple(states)

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """Read one character each, tokens (B,); return the logits (B, V) of the next, and the state."""
        result = CELLS[self.cell].step(tokens, *(self.weights[name] for name in RECURRENT), *state)
        new_state: State = result if isinstance(result, tuple) else (result,)
        logits = new_state[0] @ self.weights["decoder.weight"].T
        logits += self.weights["decoder.bias"]
        return logits, new_state

    def _forward(self, tokens: Array, state: State, *, training: bool) -> Any:
        weights = (self.weights[name] for name in RECURRENT)
        return CELLS[self.cell].forward(tokens, *weights, *state, training=training)

    def _cross_entropy(self, y: Array, targets: Array) -> tuple[Array, Array, Array]:
        """Return the cross-entropy of each row (T*B,), and exp(logits - max) (T*B, V) with its sum over V (T*B,)."""
        rows = targets.size
        logits = y.reshape(rows, self.hidden) @ self.weights["decoder.weight"].T
        logits += self.weights["decoder.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        picked = logits[np.arange(rows), targets.ravel()]
        exponentials = np.exp(logits, out=logits)
        total = exponentials.sum(axis=1)
        return np.log(total) - picked, exponentials, total
