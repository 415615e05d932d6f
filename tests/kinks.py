"""One of each activation, and where its slope jumps, or changes too suddenly for a finite difference."""

from __future__ import annotations

from fastrnn.reference.activations import Notation, activation

# Of parameters with which sums below 0.5 come to lie on all sides of their kinks.
SPREAD: tuple[Notation, ...] = (
    "sigmoid",
    "tanh",
    "relu",
    ("hard_sigmoid", 3.0, 0.5),
    ("affine", 0.5, 0.3),
    ("leaky_relu", 0.2),
    ("thresholded_relu", 0.05),
    ("scaled_tanh", 1.2, 0.8),
    ("elu", 0.7),
    "softsign",
    "softplus",
    "identity",
)


def name_of(notation: Notation) -> str:
    return notation if isinstance(notation, str) else notation[0]


def kinks(notation: Notation) -> list[float]:
    """The arguments, in ascending order."""
    name, parameters = name_of(notation), activation(notation).parameters
    if name == "hard_sigmoid":
        alpha, beta = parameters
        return [-beta / alpha, (1 - beta) / alpha]
    if name == "thresholded_relu":
        return [*parameters]
    return [0.0] if name in ("relu", "leaky_relu", "elu", "softsign") else []
