"""The gated recurrent unit, with the reset gate after or before the recurrent product.

r, z = sigmoid(W_ih x + b_ih + W_hh h' + b_hh)
n = tanh(W_in x + b_in + r * (W_hn h' + b_hn))          reset_after
n = tanh(W_in x + b_in + W_hn (r * h') + b_hn)          reset_before
h = (1 - z) * n + z * h'
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, sigmoid, states, zeros_if_none


class GruTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (3*H, I)
    w_hh: Array  # (3*H, H)
    h: Array  # (T + 1, B, H); h[0] is h0
    gates: Array  # (T, 3, B, H): r, z, n
    hn: Array  # (T, B, H): W_hn h' + b_hn; zeros with reset_before
    reset_after: bool


class GruOutput(NamedTuple):
    """Result of :func:`gru_forward`."""

    y: Array  # (T, B, H)
    h_n: Array  # (B, H)
    tape: GruTape | None


class GruGradients(NamedTuple):
    """Result of :func:`gru_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array


def gru_gates(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    h_prev: Array,
    reset_after: bool,
) -> tuple[Array, Array]:
    """Return r, z, n as one array (3, B, H), and W_hn h' + b_hn (zeros with reset_before)."""
    H = w_hh.shape[1]
    w_rz, w_hn = w_hh[: 2 * H], w_hh[2 * H :]
    b_rz, b_hn = (None, None) if b_hh is None else (b_hh[: 2 * H], b_hh[2 * H :])
    xr, xz, xn = np.split(affine(x, w_ih, b_ih), 3, axis=1)
    hr, hz = np.split(affine(h_prev, w_rz, b_rz), 2, axis=1)
    r = sigmoid(xr + hr)
    z = sigmoid(xz + hz)
    if reset_after:
        hn = affine(h_prev, w_hn, b_hn)
        n = np.tanh(xn + r * hn)
    else:
        hn = np.zeros_like(h_prev)
        n = np.tanh(xn + affine(r * h_prev, w_hn, b_hn))
    return np.stack([r, z, n]), hn


def gru_state(gates: Array, h_prev: Array) -> Array:
    """Return the new h, (B, H)."""
    _, z, n = gates
    h: Array = (1 - z) * n + z * h_prev
    return h


def gru_step(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h: Array | None = None,
    *,
    reset_after: bool = True,
) -> Array:
    """Return the state after one step, (B, H), from ``x`` (B, I) or tokens (B,) and the state ``h`` (B, H)."""
    h_prev = states(0, len(x), w_hh, h)[0]
    gates, _ = gru_gates(x, w_ih, w_hh, b_ih, b_hh, h_prev, reset_after)
    return gru_state(gates, h_prev)


def gru_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    *,
    reset_after: bool = True,
    training: bool = False,
) -> GruOutput:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B)."""
    T, B = x.shape[:2]
    h = states(T, B, w_hh, h0)
    hn = np.zeros_like(h[1:])
    gates = np.zeros_like(h, shape=(T, 3, B, w_hh.shape[1]))
    for t in range(T):
        gates[t], hn[t] = gru_gates(x[t], w_ih, w_hh, b_ih, b_hh, h[t], reset_after)
        h[t + 1] = gru_state(gates[t], h[t])
    tape = GruTape(x.copy(), w_ih.copy(), w_hh.copy(), h.copy(), gates, hn, reset_after) if training else None
    return GruOutput(h[1:], h[T].copy(), tape)


def gru_backward(tape: GruTape, dy: Array | None = None, dh_n: Array | None = None) -> GruGradients:
    """Return the gradients, given those of ``y`` and ``h_n`` (None is zeros)."""
    x, w_ih, w_hh, h, gates, hn, reset_after = tape
    T, H = len(x), w_hh.shape[1]
    w_rz, w_hn = w_hh[: 2 * H], w_hh[2 * H :]
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih = np.zeros_like(w_ih)
    dw_hh = np.zeros_like(w_hh)
    dw_rz, dw_hn = dw_hh[: 2 * H], dw_hh[2 * H :]
    db_ih = np.zeros_like(w_ih, shape=w_ih.shape[0])
    db_hh = np.zeros_like(db_ih)
    for t in reversed(range(T)):
        r, z, n = gates[t]
        dh = dh + dy[t]
        dn = dh * (1 - z) * (1 - n**2)  # at the argument of tanh
        dz = dh * (h[t] - n) * z * (1 - z)
        if reset_after:
            dhn = dn * r  # at W_hn h' + b_hn
            dr = dn * hn[t] * r * (1 - r)
            dh_prev = dhn @ w_hn
            add_outer(dw_hn, dhn, h[t])
        else:
            dhn = dn
            drh = dn @ w_hn  # at r * h'
            dr = drh * h[t] * r * (1 - r)
            dh_prev = drh * r
            add_outer(dw_hn, dhn, r * h[t])
        da_x = np.concatenate([dr, dz, dn], axis=1)
        da_h = np.concatenate([dr, dz, dhn], axis=1)
        if dx is not None:
            dx[t] = da_x @ w_ih
        add_outer(dw_ih, da_x, x[t])
        add_outer(dw_rz, da_h[:, : 2 * H], h[t])
        db_ih += da_x.sum(axis=0)
        db_hh += da_h.sum(axis=0)
        dh = dh * z + dh_prev + da_h[:, : 2 * H] @ w_rz
    return GruGradients(dx, dw_ih, dw_hh, db_ih, db_hh, np.array(dh))
