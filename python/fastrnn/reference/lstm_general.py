"""The LSTM with any activations, and with all that may be added to it.

i = of_gates(clip(W_ii x + b_ii + W_hi h' + b_hi + p_i * c'))
f = of_gates(clip(W_if x + b_if + W_hf h' + b_hf + p_f * c'))      or, coupled, 1 - i
g = of_input(clip(W_ig x + b_ig + W_hg h' + b_hg))
c = min(max(f * c' + i * g, -cell_limit), cell_limit)
o = of_gates(clip(W_io x + b_io + W_ho h' + b_ho + p_o * c))
h = o * of_cell(c)                                                 or, projected, W_hr (o * of_cell(c))

The activations are of_gates, of_input and of_cell, ONNX's f, g and h. Peepholes, coupled gates, the limits to the cell
state and to the gates' sums, and the projection may each be off.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .activations import Activation, Notation, activation, limited, limited_slope
from .arithmetic import Array, add_outer, affine, is_tokens, zeros_if_none


class LstmGeneralTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (4*H, I)
    w_hh: Array  # (4*H, P), where P is H without a projection
    peepholes: Array | None  # (3, H): p_i, p_f, p_o
    w_hr: Array | None  # (P, H)
    activations: tuple[Activation, ...]  # of_gates, of_input, of_cell
    coupled: bool
    cell_limit: float
    gate_limit: float
    h: Array  # (T + 1, B, P); h[0] is h0
    c: Array  # (T + 1, B, H); c[0] is c0
    a: Array  # (T, 4, B, H): what clip gets for i, f, g, o
    gates: Array  # (T, 4, B, H): i, f, g, o


class LstmGeneralGradients(NamedTuple):
    """Result of :func:`lstm_general_backward`; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    db: Array  # of b_ih and of b_hh
    dpeepholes: Array | None  # None without peepholes
    dw_hr: Array | None  # None without a projection
    dh0: Array
    dc0: Array


def lstm_general_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    h0: Array,
    c0: Array,
    *,
    peepholes: Array | None = None,
    w_hr: Array | None = None,
    activations: Sequence[Notation] = ("sigmoid", "tanh", "tanh"),
    coupled: bool = False,
    cell_limit: float = np.inf,
    gate_limit: float = np.inf,
) -> LstmGeneralTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B); the states are in the tape."""
    T = len(x)
    of_gates, of_input, of_cell = map(activation, activations)
    p_i, p_f, p_o = np.zeros_like(c0, shape=(3, c0.shape[1])) if peepholes is None else peepholes
    h = np.zeros((T + 1, *h0.shape), w_ih.dtype)
    c = np.zeros((T + 1, *c0.shape), w_ih.dtype)
    h[0], c[0] = h0, c0
    a = np.zeros((T, 4, *c0.shape), w_ih.dtype)
    gates = np.zeros_like(a)
    for t in range(T):
        ai, af, ag, ao = np.split(affine(x[t], w_ih, b_ih) + affine(h[t], w_hh, b_hh), 4, axis=1)
        ai, af = ai + p_i * c[t], af + p_f * c[t]
        i = of_gates.value(limited(ai, gate_limit))
        f = 1 - i if coupled else of_gates.value(limited(af, gate_limit))
        g = of_input.value(limited(ag, gate_limit))
        c[t + 1] = limited(f * c[t] + i * g, cell_limit)
        ao = ao + p_o * c[t + 1]
        o = of_gates.value(limited(ao, gate_limit))
        q = o * of_cell.value(c[t + 1])
        h[t + 1] = q if w_hr is None else q @ w_hr.T
        a[t], gates[t] = (ai, af, ag, ao), (i, f, g, o)
    used = (of_gates, of_input, of_cell)
    return LstmGeneralTape(x, w_ih, w_hh, peepholes, w_hr, used, coupled, cell_limit, gate_limit, h, c, a, gates)


def lstm_general_backward(
    tape: LstmGeneralTape, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> LstmGeneralGradients:
    """Return the gradients, given those of all h after the first and of the last h and c (None is zeros)."""
    x, w_ih, w_hh, peepholes, w_hr, used, coupled, cell_limit, gate_limit, h, c, a, gates = tape
    of_gates, of_input, of_cell = used
    p_i, p_f, p_o = np.zeros_like(c, shape=(3, c.shape[2])) if peepholes is None else peepholes
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dc = zeros_if_none(dc_n, like=c[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, dw_hh, db = np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros_like(w_ih, shape=len(w_ih))
    dpeepholes = None if peepholes is None else np.zeros_like(peepholes)
    dw_hr = None if w_hr is None else np.zeros_like(w_hr)
    for t in reversed(range(len(x))):
        ai, af, ag, ao = a[t]
        i, f, g, o = gates[t]
        output = of_cell.value(c[t + 1])
        dh = dh + dy[t]
        dq = dh if w_hr is None else dh @ w_hr  # at o * of_cell(c)
        do = dq * output * limited_slope(of_gates, ao, gate_limit)  # at ao, and so are di, df and dg at ai, af and ag
        dc = dc + dq * o * of_cell.slope(c[t + 1]) + do * p_o
        dc = np.where(np.abs(f * c[t] + i * g) < cell_limit, dc, 0)
        df = np.zeros_like(f) if coupled else dc * c[t] * limited_slope(of_gates, af, gate_limit)
        di = dc * (g - c[t] if coupled else g) * limited_slope(of_gates, ai, gate_limit)
        dg = dc * i * limited_slope(of_input, ag, gate_limit)
        da = np.concatenate([di, df, dg, do], axis=1)
        if dx is not None:
            dx[t] = da @ w_ih
        if dpeepholes is not None:
            dpeepholes += np.stack([(di * c[t]).sum(axis=0), (df * c[t]).sum(axis=0), (do * c[t + 1]).sum(axis=0)])
        if dw_hr is not None:
            add_outer(dw_hr, dh, o * output)
        add_outer(dw_ih, da, x[t])
        add_outer(dw_hh, da, h[t])
        db += da.sum(axis=0)
        dh = da @ w_hh
        dc = dc * f + di * p_i + df * p_f
    return LstmGeneralGradients(dx, dw_ih, dw_hh, db, dpeepholes, dw_hr, np.array(dh), np.array(dc))
