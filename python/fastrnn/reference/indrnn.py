"""The independently recurrent net: h = relu(W_ih x + b + u * h'), or tanh."""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, zeros_if_none


class IndRnnTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (H, I)
    u: Array  # (H,)
    nonlinearity: str
    h: Array  # (T + 1, B, H); h[0] is h0


class IndRnnGradients(NamedTuple):
    """Result of :func:`indrnn_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    du: Array
    db: Array
    dh0: Array


def indrnn_forward(
    x: Array, w_ih: Array, u: Array, b: Array | None, h0: Array, *, nonlinearity: str = "relu"
) -> IndRnnTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T = len(x)
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    h[0] = h0
    for t in range(T):
        a = affine(x[t], w_ih, b) + u * h[t]
        h[t + 1] = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)
    return IndRnnTape(x, w_ih, u, nonlinearity, h)


def indrnn_backward(tape: IndRnnTape, dy: Array | None = None, dh_n: Array | None = None) -> IndRnnGradients:
    """Return the gradients, given those of all h after the first and of the last (None is zeros)."""
    x, w_ih, u, nonlinearity, h = tape
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, du, db = np.zeros_like(w_ih), np.zeros_like(u), np.zeros_like(u)
    for t in reversed(range(len(x))):
        dh = dh + dy[t]
        da = dh * (1 - h[t + 1] ** 2) if nonlinearity == "tanh" else np.where(h[t + 1] > 0, dh, 0)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        du += (da * h[t]).sum(axis=0)
        db += da.sum(axis=0)
        dh = da * u
    return IndRnnGradients(dx, dw_ih, du, db, np.array(dh))
