"""The simple net with any activation f, and a limit to what goes into it, which may be off.

h = f(clip(W_ih x + b_ih + W_hh h' + b_hh))
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .activations import Activation, Notation, activation, limited, limited_slope
from .arithmetic import Array, add_outer, affine, is_tokens, zeros_if_none


class RnnGeneralTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (H, I)
    w_hh: Array  # (H, H)
    activations: tuple[Activation]
    gate_limit: float
    h: Array  # (T + 1, B, H); h[0] is h0
    a: Array  # (T, 1, B, H): what clip gets


class RnnGeneralGradients(NamedTuple):
    """Result of :func:`rnn_general_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db: Array  # of b_ih and of b_hh
    dh0: Array


def rnn_general_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    h0: Array,
    *,
    activations: Sequence[Notation] = ("tanh",),
    gate_limit: float = np.inf,
) -> RnnGeneralTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T = len(x)
    (f,) = map(activation, activations)
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    h[0] = h0
    a = np.zeros((T, 1, *h0.shape), w_ih.dtype)
    for t in range(T):
        a[t, 0] = affine(x[t], w_ih, b_ih) + affine(h[t], w_hh, b_hh)
        h[t + 1] = f.value(limited(a[t, 0], gate_limit))
    return RnnGeneralTape(x, w_ih, w_hh, (f,), gate_limit, h, a)


def rnn_general_backward(
    tape: RnnGeneralTape, dy: Array | None = None, dh_n: Array | None = None
) -> RnnGeneralGradients:
    """Return the gradients, given those of all h after the first and of the last (None is zeros)."""
    x, w_ih, w_hh, (f,), gate_limit, h, a = tape
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, dw_hh, db = np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros_like(w_ih, shape=len(w_ih))
    for t in reversed(range(len(x))):
        dh = dh + dy[t]
        da = dh * limited_slope(f, a[t, 0], gate_limit)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        add_outer(dw_hh, da, h[t])
        db += da.sum(axis=0)
        dh = da @ w_hh
    return RnnGeneralGradients(dx, dw_ih, dw_hh, db, np.array(dh))
