"""The LSTM with peepholes, coupled gates and limits to the cell state and to the gates' sums, each of which may be off.

i = sigmoid(clip(W_ii x + b_ii + W_hi h' + b_hi + p_i * c'))
f = sigmoid(clip(W_if x + b_if + W_hf h' + b_hf + p_f * c'))      or, coupled, 1 - i
g = tanh(clip(W_ig x + b_ig + W_hg h' + b_hg))
c = clip(f * c' + i * g, -limit, limit)
o = sigmoid(clip(W_io x + b_io + W_ho h' + b_ho + p_o * c))
h = o * tanh(c)
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, sigmoid, zeros_if_none


class LstmPeepholeTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (4*H, I)
    w_hh: Array  # (4*H, H)
    peepholes: Array  # (3, H): p_i, p_f, p_o
    coupled: bool
    limit: float
    gate_limit: float
    h: Array  # (T + 1, B, H); h[0] is h0
    c: Array  # (T + 1, B, H); c[0] is c0
    gates: Array  # (T, 4, B, H): i, f, g, o
    inside: Array  # (T, 4, B, H): whether each gate's sum lies within gate_limit


class LstmPeepholeGradients(NamedTuple):
    """Result of :func:`lstm_peephole_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db: Array  # of b_ih and of b_hh
    dpeepholes: Array
    dh0: Array
    dc0: Array


def lstm_peephole_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    peepholes: Array,
    h0: Array,
    c0: Array,
    *,
    coupled: bool = False,
    limit: float = np.inf,
    gate_limit: float = np.inf,
) -> LstmPeepholeTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T = len(x)
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    c = np.zeros_like(h)
    h[0], c[0] = h0, c0
    gates = np.zeros((T, 4, *h0.shape), w_ih.dtype)
    inside = np.zeros(gates.shape, bool)
    p_i, p_f, p_o = peepholes

    def clip(a: Array) -> Array:
        return np.clip(a, -gate_limit, gate_limit)

    for t in range(T):
        ai, af, ag, ao = np.split(affine(x[t], w_ih, b_ih) + affine(h[t], w_hh, b_hh), 4, axis=1)
        ai, af = ai + p_i * c[t], af + p_f * c[t]
        i, clipped_f, g = sigmoid(clip(ai)), sigmoid(clip(af)), np.tanh(clip(ag))
        f = 1 - i if coupled else clipped_f
        c[t + 1] = np.clip(f * c[t] + i * g, -limit, limit)
        ao = ao + p_o * c[t + 1]
        o = sigmoid(clip(ao))
        h[t + 1] = o * np.tanh(c[t + 1])
        gates[t] = i, f, g, o
        inside[t] = np.abs([ai, af, ag, ao]) < gate_limit
    return LstmPeepholeTape(x, w_ih, w_hh, peepholes, coupled, limit, gate_limit, h, c, gates, inside)


def lstm_peephole_backward(
    tape: LstmPeepholeTape, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> LstmPeepholeGradients:
    """Return the gradients, given those of all h after the first and of the last h and c (None is zeros)."""
    x, w_ih, w_hh, (p_i, p_f, p_o), coupled, limit, _, h, c, gates, inside = tape
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dc = zeros_if_none(dc_n, like=c[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, dw_hh, db = np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros_like(w_ih, shape=len(w_ih))
    dpeepholes = np.zeros_like(tape.peepholes)
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        tanh_c = np.tanh(c[t + 1])
        dh = dh + dy[t]
        do = dh * tanh_c * o * (1 - o) * inside[t, 3]
        dc = dc + dh * o * (1 - tanh_c**2) + do * p_o
        dc = np.where(np.abs(f * c[t] + i * g) < limit, dc, 0)
        df = np.zeros_like(f) if coupled else dc * c[t] * f * (1 - f) * inside[t, 1]
        di = dc * (g - c[t] if coupled else g) * i * (1 - i) * inside[t, 0]
        dg = dc * i * (1 - g**2) * inside[t, 2]
        da = np.concatenate([di, df, dg, do], axis=1)
        if dx is not None:
            dx[t] = da @ w_ih
        add_outer(dw_ih, da, x[t])
        add_outer(dw_hh, da, h[t])
        db += da.sum(axis=0)
        dpeepholes += np.stack([(di * c[t]).sum(axis=0), (df * c[t]).sum(axis=0), (do * c[t + 1]).sum(axis=0)])
        dh = da @ w_hh
        dc = dc * f + di * p_i + df * p_f
    return LstmPeepholeGradients(dx, dw_ih, dw_hh, db, dpeepholes, np.array(dh), np.array(dc))
