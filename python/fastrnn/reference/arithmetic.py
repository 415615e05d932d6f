"""What all cells share: the logistic function, the affine map and its gradients, and the optional arguments."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)); exp may overflow to infinity, which gives the right 0."""
    with np.errstate(over="ignore"):
        s: Array = 1 / (1 + np.exp(-x))
    return s


def affine(x: Array, w: Array, b: Array | None) -> Array:
    """Return W x + b for every row of ``x`` (B, N) or, with integers ``x`` (B,), for the one-hot rows they stand for.

    ``w`` is (M, N), ``b`` is (M,) or None; the result is (B, M).
    """
    wx: Array = w.T[x] if is_tokens(x) else x @ w.T
    return wx if b is None else wx + b


def add_outer(dw: Array, da: Array, x: Array) -> None:
    """Add to ``dw`` (M, N) what the rows of ``da`` (B, M) and ``x`` (B, N), or tokens (B,), contribute to it."""
    if is_tokens(x):
        np.add.at(dw.T, x, da)
    else:
        dw += da.T @ x


def is_tokens(x: Array) -> bool:
    """Whether ``x`` holds integers, each standing for a one-hot vector."""
    return x.dtype.kind in "iu"


def states(T: int, B: int, w_hh: Array, state_0: Array | None) -> Array:
    """Return room for a state before and after each step, (T + 1, B, H), with ``state_0`` (None is zeros) in place."""
    s: Array = np.zeros((T + 1, B, w_hh.shape[1]), w_hh.dtype)
    if state_0 is not None:
        s[0] = state_0
    return s


def zeros_if_none(array: Array | None, like: Array) -> Array:
    """Return ``array``, or zeros of the shape of ``like`` where it is None."""
    return np.zeros_like(like) if array is None else array
