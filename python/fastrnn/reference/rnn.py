"""The simple (Elman) net: h = tanh(W_ih x + b_ih + W_hh h' + b_hh), or relu instead of tanh."""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, states, zeros_if_none


class RnnTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (H, I)
    w_hh: Array  # (H, H)
    h: Array  # (T + 1, B, H); h[0] is h0
    nonlinearity: str


class RnnOutput(NamedTuple):
    """Result of :func:`rnn_forward`."""

    y: Array  # (T, B, H)
    h_n: Array  # (B, H)
    tape: RnnTape | None


class RnnGradients(NamedTuple):
    """Result of :func:`rnn_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array


def rnn_step(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h: Array | None = None,
    *,
    nonlinearity: str = "tanh",
) -> Array:
    """Return the state after one step, (B, H), from ``x`` (B, I) or tokens (B,) and the state ``h`` (B, H)."""
    h_prev = states(0, len(x), w_hh, h)[0]
    a = affine(x, w_ih, b_ih) + affine(h_prev, w_hh, b_hh)
    h_next: Array = np.tanh(a) if nonlinearity == "tanh" else np.maximum(a, 0)
    return h_next


def rnn_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    training: bool = False,
) -> RnnOutput:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B)."""
    T, B = x.shape[:2]
    h = states(T, B, w_hh, h0)
    for t in range(T):
        h[t + 1] = rnn_step(x[t], w_ih, w_hh, b_ih, b_hh, h[t], nonlinearity=nonlinearity)
    tape = RnnTape(x.copy(), w_ih.copy(), w_hh.copy(), h.copy(), nonlinearity) if training else None
    return RnnOutput(h[1:], h[T].copy(), tape)


def rnn_backward(tape: RnnTape, dy: Array | None = None, dh_n: Array | None = None) -> RnnGradients:
    """Return the gradients, given those of ``y`` and ``h_n`` (None is zeros)."""
    x, w_ih, w_hh, h, nonlinearity = tape
    T = len(x)
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih = np.zeros_like(w_ih)
    dw_hh = np.zeros_like(w_hh)
    db = np.zeros_like(w_ih, shape=w_ih.shape[0])
    for t in reversed(range(T)):
        dh = dh + dy[t]
        da = dh * (1 - h[t + 1] ** 2) if nonlinearity == "tanh" else np.where(h[t + 1] > 0, dh, 0)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        add_outer(dw_hh, da, h[t])
        db += da.sum(axis=0)
        dh = da @ w_hh
    return RnnGradients(dx, dw_ih, dw_hh, db, db.copy(), np.array(dh))
