"""The minimal GRU, whose gates do not see h'.

z = sigmoid(W_iz x + b_iz)      n = W_in x + b_in
h = (1 - z) * h' + z * n
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, sigmoid, zeros_if_none


class MinGruTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (2*H, I)
    h: Array  # (T + 1, B, H); h[0] is h0
    gates: Array  # (T, 2, B, H): z, n


class MinGruGradients(NamedTuple):
    """Result of :func:`mingru_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    db: Array
    dh0: Array


def mingru_forward(x: Array, w_ih: Array, b: Array | None, h0: Array) -> MinGruTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T = len(x)
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    h[0] = h0
    gates = np.zeros((T, 2, *h0.shape), w_ih.dtype)
    for t in range(T):
        az, an = np.split(affine(x[t], w_ih, b), 2, axis=1)
        z, n = gates[t] = np.stack([sigmoid(az), an])
        h[t + 1] = (1 - z) * h[t] + z * n
    return MinGruTape(x, w_ih, h, gates)


def mingru_backward(tape: MinGruTape, dy: Array | None = None, dh_n: Array | None = None) -> MinGruGradients:
    """Return the gradients, given those of all h after the first and of the last (None is zeros)."""
    x, w_ih, h, gates = tape
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, db = np.zeros_like(w_ih), np.zeros_like(w_ih, shape=len(w_ih))
    for t in reversed(range(len(x))):
        z, n = gates[t]
        dh = dh + dy[t]
        dz = dh * (n - h[t]) * z * (1 - z)
        dn = dh * z
        da = np.concatenate([dz, dn], axis=1)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        db += da.sum(axis=0)
        dh = dh * (1 - z)
    return MinGruGradients(dx, dw_ih, db, np.array(dh))
