"""The long short-term memory net.

i, f, o = sigmoid(W_ih x + b_ih + W_hh h' + b_hh)      g = tanh(W_ih x + b_ih + W_hh h' + b_hh)
c = f * c' + i * g
h = o * tanh(c)
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, sigmoid, states, zeros_if_none


class LstmTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (4*H, I)
    w_hh: Array  # (4*H, H)
    h: Array  # (T + 1, B, H); h[0] is h0
    c: Array  # (T + 1, B, H); c[0] is c0
    gates: Array  # (T, 4, B, H): i, f, g, o


class LstmOutput(NamedTuple):
    """Result of :func:`lstm_forward`."""

    y: Array  # (T, B, H)
    h_n: Array  # (B, H)
    c_n: Array  # (B, H)
    tape: LstmTape | None


class LstmGradients(NamedTuple):
    """Result of :func:`lstm_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array
    dc0: Array


def lstm_gates(x: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None, h_prev: Array) -> Array:
    """Return i, f, g, o as one array (4, B, H)."""
    a = affine(x, w_ih, b_ih) + affine(h_prev, w_hh, b_hh)
    i, f, g, o = np.split(a, 4, axis=1)
    return np.stack([sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)])


def lstm_states(gates: Array, c_prev: Array) -> tuple[Array, Array]:
    """Return the new h and c, each (B, H)."""
    i, f, g, o = gates
    c = f * c_prev + i * g
    h = o * np.tanh(c)
    return h, c


def lstm_gradients(gates: Array, c_prev: Array, c: Array, dq: Array, dc: Array) -> tuple[Array, Array]:
    """Return the gradients by the gates' sums, (4, B, H), and by ``c_prev``, given those by q = o * tanh(c) and c."""
    i, f, g, o = gates
    tanh_c = np.tanh(c)
    dc = dc + dq * o * (1 - tanh_c**2)
    di = dc * g * i * (1 - i)
    df = dc * c_prev * f * (1 - f)
    dg = dc * i * (1 - g**2)
    do = dq * tanh_c * o * (1 - o)
    return np.stack([di, df, dg, do]), dc * f


def lstm_step(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
) -> tuple[Array, Array]:
    """Return the states h and c after one step, (B, H), from ``x`` (B, I) or tokens (B,) and the states before it."""
    h_prev = states(0, len(x), w_hh, h)[0]
    c_prev = states(0, len(x), w_hh, c)[0]
    return lstm_states(lstm_gates(x, w_ih, w_hh, b_ih, b_hh, h_prev), c_prev)


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    *,
    training: bool = False,
) -> LstmOutput:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B)."""
    T, B = x.shape[:2]
    h = states(T, B, w_hh, h0)
    c = states(T, B, w_hh, c0)
    gates = np.zeros_like(h, shape=(T, 4, B, w_hh.shape[1]))
    for t in range(T):
        gates[t] = lstm_gates(x[t], w_ih, w_hh, b_ih, b_hh, h[t])
        h[t + 1], c[t + 1] = lstm_states(gates[t], c[t])
    tape = LstmTape(x.copy(), w_ih.copy(), w_hh.copy(), h.copy(), c, gates) if training else None
    return LstmOutput(h[1:], h[T].copy(), c[T].copy(), tape)


def lstm_backward(
    tape: LstmTape, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> LstmGradients:
    """Return the gradients, given those of ``y``, ``h_n`` and ``c_n`` (None is zeros)."""
    x, w_ih, w_hh, h, c, gates = tape
    T = len(x)
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dc = zeros_if_none(dc_n, like=c[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih = np.zeros_like(w_ih)
    dw_hh = np.zeros_like(w_hh)
    db = np.zeros_like(w_ih, shape=w_ih.shape[0])
    for t in reversed(range(T)):
        dh = dh + dy[t]
        da, dc = lstm_gradients(gates[t], c[t], c[t + 1], dh, dc)
        da = np.concatenate(da, axis=1)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        add_outer(dw_hh, da, h[t])
        db += da.sum(axis=0)
        dh = da @ w_hh
    return LstmGradients(dx, dw_ih, dw_hh, db, db.copy(), np.array(dh), np.array(dc))
