"""The GRU with any activations, and a limit to what goes into them, which may be off.

r, z = of_gates(clip(W_ih x + b_ih + W_hh h' + b_hh))
n = of_n(clip(W_in x + b_in + r * (W_hn h' + b_hn)))          reset_after
n = of_n(clip(W_in x + b_in + W_hn (r * h') + b_hn))          reset_before
h = (1 - z) * n + z * h'

The activations are of_gates and of_n, ONNX's f and g.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .activations import Activation, Notation, activation, limited, limited_slope
from .arithmetic import Array, add_outer, affine, is_tokens, zeros_if_none
from .gru import gru_state


class GruGeneralTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (3*H, I)
    w_hh: Array  # (3*H, H)
    activations: tuple[Activation, ...]  # of_gates, of_n
    gate_limit: float
    reset_after: bool
    h: Array  # (T + 1, B, H); h[0] is h0
    a: Array  # (T, 3, B, H): what clip gets for r, z, n
    gates: Array  # (T, 3, B, H): r, z, n
    hn: Array  # (T, B, H): W_hn h' + b_hn; zeros with reset_before


class GruGeneralGradients(NamedTuple):
    """Result of :func:`gru_general_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array


def gru_general_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    h0: Array,
    *,
    activations: Sequence[Notation] = ("sigmoid", "tanh"),
    gate_limit: float = np.inf,
    reset_after: bool = True,
) -> GruGeneralTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T, H = len(x), h0.shape[1]
    w_rz, w_hn = w_hh[: 2 * H], w_hh[2 * H :]
    b_rz, b_hn = (None, None) if b_hh is None else (b_hh[: 2 * H], b_hh[2 * H :])
    of_gates, of_n = map(activation, activations)
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    h[0] = h0
    a = np.zeros((T, 3, *h0.shape), w_ih.dtype)
    gates, hn = np.zeros_like(a), np.zeros_like(h[1:])
    for t in range(T):
        xr, xz, xn = np.split(affine(x[t], w_ih, b_ih), 3, axis=1)
        hr, hz = np.split(affine(h[t], w_rz, b_rz), 2, axis=1)
        ar, az = xr + hr, xz + hz
        r = of_gates.value(limited(ar, gate_limit))
        z = of_gates.value(limited(az, gate_limit))
        if reset_after:
            hn[t] = affine(h[t], w_hn, b_hn)
            an = xn + r * hn[t]
        else:
            an = xn + affine(r * h[t], w_hn, b_hn)
        n = of_n.value(limited(an, gate_limit))
        a[t], gates[t] = (ar, az, an), (r, z, n)
        h[t + 1] = gru_state(gates[t], h[t])
    return GruGeneralTape(x, w_ih, w_hh, (of_gates, of_n), gate_limit, reset_after, h, a, gates, hn)


def gru_general_backward(
    tape: GruGeneralTape, dy: Array | None = None, dh_n: Array | None = None
) -> GruGeneralGradients:
    """Return the gradients, given those of all h after the first and of the last (None is zeros)."""
    x, w_ih, w_hh, (of_gates, of_n), gate_limit, reset_after, h, a, gates, hn = tape
    H = h.shape[2]
    w_rz, w_hn = w_hh[: 2 * H], w_hh[2 * H :]
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, dw_hh = np.zeros_like(w_ih), np.zeros_like(w_hh)
    dw_rz, dw_hn = dw_hh[: 2 * H], dw_hh[2 * H :]
    db_ih, db_hh = np.zeros_like(w_ih, shape=len(w_ih)), np.zeros_like(w_ih, shape=len(w_ih))
    for t in reversed(range(len(x))):
        ar, az, an = a[t]
        r, z, n = gates[t]
        dh = dh + dy[t]
        dn = dh * (1 - z) * limited_slope(of_n, an, gate_limit)  # at an, and so are dz and dr at az and ar
        dz = dh * (h[t] - n) * limited_slope(of_gates, az, gate_limit)
        if reset_after:
            dhn = dn * r  # at W_hn h' + b_hn
            dr = dn * hn[t] * limited_slope(of_gates, ar, gate_limit)
            dh_prev = dhn @ w_hn
            add_outer(dw_hn, dhn, h[t])
        else:
            dhn = dn
            drh = dn @ w_hn  # at r * h'
            dr = drh * h[t] * limited_slope(of_gates, ar, gate_limit)
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
    return GruGeneralGradients(dx, dw_ih, dw_hh, db_ih, db_hh, np.array(dh))
