"""The activations that general cells may have, and their derivatives, with the names, parameters and defaults of ONNX.

At a kink the derivative is that of the lower branch; inside hard_sigmoid's limits it is alpha, at them and beyond 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .arithmetic import Array, sigmoid

Notation = str | tuple[Any, ...]  # a name; or a tuple of it and alpha, or alpha and beta


class Activation(NamedTuple):
    """A function of each element, its derivative, and the parameters of both: none, alpha, or alpha and beta."""

    function: Callable[..., Any]
    derivative: Callable[..., Any]
    parameters: tuple[float, ...] = ()

    def value(self, a: Array) -> Array:
        """Return f(a), of the shape and dtype of ``a``."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinity where it belongs, or in the branch not taken
            return np.asarray(self.function(a, *self.parameters), a.dtype)

    def slope(self, a: Array) -> Array:
        """Return f'(a), of the shape and dtype of ``a``."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.derivative(a, *self.parameters), a.dtype)


ACTIVATIONS = {
    "sigmoid": Activation(
        sigmoid,
        lambda x: sigmoid(x) * (1 - sigmoid(x)),
    ),
    "tanh": Activation(
        np.tanh,
        lambda x: 1 - np.tanh(x) ** 2,
    ),
    "relu": Activation(
        lambda x: np.maximum(x, 0),
        lambda x: np.where(x > 0, 1, 0),
    ),
    "hard_sigmoid": Activation(
        lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
        lambda x, alpha, beta: np.where((alpha * x + beta > 0) & (alpha * x + beta < 1), alpha, 0),
        (0.2, 0.5),
    ),
    "affine": Activation(
        lambda x, alpha, beta: alpha * x + beta,
        lambda x, alpha, beta: np.full_like(x, alpha),
        (1.0, 0.0),
    ),
    "leaky_relu": Activation(
        lambda x, alpha: np.where(x > 0, x, alpha * x),
        lambda x, alpha: np.where(x > 0, 1, alpha),
        (0.01,),
    ),
    "thresholded_relu": Activation(
        lambda x, alpha: np.where(x <= alpha, 0, x),  # which leaves NaN what it is
        lambda x, alpha: np.where(x > alpha, 1, 0),
        (1.0,),
    ),
    "scaled_tanh": Activation(
        lambda x, alpha, beta: alpha * np.tanh(beta * x),
        lambda x, alpha, beta: alpha * beta * (1 - np.tanh(beta * x) ** 2),
        (1.0, 1.0),
    ),
    "elu": Activation(
        lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
        lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(x)),
        (1.0,),
    ),
    "softsign": Activation(
        lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))),
        lambda x: (1 / (1 + np.abs(x))) ** 2,
    ),
    "softplus": Activation(
        lambda x: np.logaddexp(0, x),
        sigmoid,
    ),
    "identity": Activation(
        lambda x: x,
        lambda x: np.ones_like(x),
    ),
}


def activation(notation: Notation) -> Activation:
    """Return what ``notation`` stands for; parameters that it leaves out have their defaults."""
    name, *given = (notation,) if isinstance(notation, str) else notation
    known = ACTIVATIONS[name]
    return known._replace(parameters=(*given, *known.parameters[len(given) :]))


def limited(a: Array, limit: float) -> Array:
    """Return ``a`` with what is beyond -limit or limit set back to it."""
    return np.clip(a, -limit, limit)


def limited_slope(f: Activation, a: Array, limit: float) -> Array:
    """Return the derivative of f(limited(a)) by ``a``: none where ``a`` is at the limit or beyond."""
    slope: Array = f.slope(a) * (np.abs(a) < limit)
    return slope
