"""The LSTM with a projection (Sak et al., 2014): h has P numbers, fewer than the H of the gates and of c.

i, f, o = sigmoid(W_ih x + b_ih + W_hh h' + b_hh)      g = tanh(W_ih x + b_ih + W_hh h' + b_hh)
c = f * c' + i * g
h = W_hr (o * tanh(c))
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, is_tokens, zeros_if_none
from .lstm import lstm_gates, lstm_gradients, lstm_states


class LstmProjectedTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (4*H, I)
    w_hh: Array  # (4*H, P)
    w_hr: Array  # (P, H)
    h: Array  # (T + 1, B, P); h[0] is h0
    c: Array  # (T + 1, B, H); c[0] is c0
    gates: Array  # (T, 4, B, H): i, f, g, o


class LstmProjectedGradients(NamedTuple):
    """Result of :func:`lstm_projected_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db: Array  # of b_ih and of b_hh
    dw_hr: Array
    dh0: Array
    dc0: Array


def lstm_projected_forward(
    x: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None, w_hr: Array, h0: Array, c0: Array
) -> LstmProjectedTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T = len(x)
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    c = np.zeros((T + 1, *c0.shape), w_ih.dtype)
    h[0], c[0] = h0, c0
    gates = np.zeros((T, 4, *c0.shape), w_ih.dtype)
    for t in range(T):
        gates[t] = lstm_gates(x[t], w_ih, w_hh, b_ih, b_hh, h[t])
        q, c[t + 1] = lstm_states(gates[t], c[t])
        h[t + 1] = q @ w_hr.T
    return LstmProjectedTape(x, w_ih, w_hh, w_hr, h, c, gates)


def lstm_projected_backward(
    tape: LstmProjectedTape, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> LstmProjectedGradients:
    """Return the gradients, given those of all h after the first and of the last h and c (None is zeros)."""
    x, w_ih, w_hh, w_hr, h, c, gates = tape
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dc = zeros_if_none(dc_n, like=c[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, dw_hh, dw_hr = np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros_like(w_hr)
    db = np.zeros_like(w_ih, shape=len(w_ih))
    for t in reversed(range(len(x))):
        dh = dh + dy[t]
        add_outer(dw_hr, dh, lstm_states(gates[t], c[t])[0])
        da, dc = lstm_gradients(gates[t], c[t], c[t + 1], dh @ w_hr, dc)
        da = np.concatenate(da, axis=1)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        add_outer(dw_hh, da, h[t])
        db += da.sum(axis=0)
        dh = da @ w_hh
    return LstmProjectedGradients(dx, dw_ih, dw_hh, db, dw_hr, np.array(dh), np.array(dc))
