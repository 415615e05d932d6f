"""The LSTM and the GRU with layer normalisation (Ba et al., 2016), of each sum of a gate over the H units.

normalise(s) = (s - mean(s)) / sqrt(variance(s) + 1e-5)

LSTM    i, f, o = sigmoid(gain * normalise(W_ih x + W_hh h') + shift)      g = tanh(likewise)
        c = f * c' + i * g
        h = o * tanh(c)
GRU     r, z = sigmoid(gain * normalise(W_ih x + W_hh h') + shift)
        n = tanh(gain * normalise(W_in x) + shift + r * (gain * normalise(W_hn h') + shift))
        h = (1 - z) * n + z * h'

Gains and shifts are (4, H) each: of i, f, g, o; or of r, z and both sums of n.
"""

from typing import NamedTuple

import numpy as np

from .arithmetic import Array, add_outer, affine, is_tokens, sigmoid, zeros_if_none
from .gru import gru_state
from .lstm import lstm_gradients, lstm_states


class NormalisedTape(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (T, B, I), or tokens (T, B)
    w_ih: Array  # (G*H, I)
    w_hh: Array  # (G*H, H)
    gain: Array  # (4, H)
    shift: Array  # (4, H)
    h: Array  # (T + 1, B, H); h[0] is h0
    c: Array | None  # (T + 1, B, H); c[0] is c0; None of a GRU
    gates: Array  # (T, G, B, H)
    normalised: Array  # (T, 4, B, H)
    scale: Array  # (T, 4, B, 1): what normalising multiplied with


class NormalisedGradients(NamedTuple):
    """Result of the backward functions; each has the shape of what it is the gradient of."""

    dx: Array | None  # None with tokens
    dw_ih: Array
    dw_hh: Array
    dgain: Array
    dshift: Array
    dh0: Array
    dc0: Array | None  # None of a GRU


def normalise(s: Array) -> tuple[Array, Array]:
    """Return ``s`` (..., H) normalised, and what that multiplied with, (..., 1)."""
    scale = 1 / np.sqrt(s.var(axis=-1, keepdims=True) + 1e-5)
    return (s - s.mean(axis=-1, keepdims=True)) * scale, scale


def normalise_gradient(d: Array, normalised: Array, scale: Array) -> Array:
    """Return the gradient by ``s``, given that by what :func:`normalise` made of it, (..., H)."""
    along = (d * normalised).mean(axis=-1, keepdims=True)
    ds: Array = scale * (d - d.mean(axis=-1, keepdims=True) - normalised * along)
    return ds


def normalised_forward(
    x: Array, w_ih: Array, w_hh: Array, gain: Array, shift: Array, h0: Array, c0: Array | None = None
) -> NormalisedTape:
    """Run all steps of ``x`` (T, B, I), or tokens (T, B), of an LSTM, or without ``c0`` of a GRU."""
    T, (B, H), G = len(x), h0.shape, len(w_ih) // h0.shape[1]
    h = np.stack([h0] * (T + 1))
    c = None if c0 is None else np.stack([c0] * (T + 1))
    gates = np.zeros((T, G, B, H), w_ih.dtype)
    normalised = np.zeros((T, 4, B, H), w_ih.dtype)
    scale = np.zeros((T, 4, B, 1), w_ih.dtype)
    for t in range(T):
        input_sums = np.stack(np.split(affine(x[t], w_ih, None), G, axis=1))
        hidden_sums = np.stack(np.split(affine(h[t], w_hh, None), G, axis=1))
        if c is not None:
            normalised[t], scale[t] = normalise(input_sums + hidden_sums)
            i, f, g, o = gain[:, None] * normalised[t] + shift[:, None]
            gates[t] = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            h[t + 1], c[t + 1] = lstm_states(gates[t], c[t])
        else:
            both = input_sums[:2] + hidden_sums[:2]
            normalised[t], scale[t] = normalise(np.stack([*both, input_sums[2], hidden_sums[2]]))
            r, z, n_x, n_h = gain[:, None] * normalised[t] + shift[:, None]
            gates[t] = sigmoid(r), sigmoid(z), np.tanh(n_x + sigmoid(r) * n_h)
            h[t + 1] = gru_state(gates[t], h[t])
    return NormalisedTape(x, w_ih, w_hh, gain, shift, h, c, gates, normalised, scale)


def normalised_backward(
    tape: NormalisedTape, dy: Array | None = None, dh_n: Array | None = None, dc_n: Array | None = None
) -> NormalisedGradients:
    """Return the gradients, given those of all h after the first and of the last states (None is zeros)."""
    x, w_ih, w_hh, gain, shift, h, c, gates, normalised, scale = tape
    dy = zeros_if_none(dy, like=h[1:])
    dh = zeros_if_none(dh_n, like=h[0])
    dc = zeros_if_none(dc_n, like=h[0])
    dx = None if is_tokens(x) else np.zeros_like(x)
    dw_ih, dw_hh, dgain, dshift = np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros_like(gain), np.zeros_like(shift)
    for t in reversed(range(len(x))):
        dh = dh + dy[t]
        if c is not None:
            da, dc = lstm_gradients(gates[t], c[t], c[t + 1], dh, dc)
            dh_direct = 0.0
        else:
            r, z, n = gates[t]
            n_h = gain[3] * normalised[t, 3] + shift[3]
            dn = dh * (1 - z) * (1 - n**2)
            da = np.stack([dn * n_h * r * (1 - r), dh * (h[t] - n) * z * (1 - z), dn, dn * r])
            dh_direct = dh * z
        dgain += (da * normalised[t]).sum(axis=1)
        dshift += da.sum(axis=1)
        ds = normalise_gradient(gain[:, None] * da, normalised[t], scale[t])
        of_input = np.concatenate(ds if c is not None else ds[:3], axis=1)
        of_hidden = np.concatenate(ds if c is not None else [ds[0], ds[1], ds[3]], axis=1)
        if dx is not None:
            dx[t] = of_input @ w_ih
        add_outer(dw_ih, of_input, x[t])
        add_outer(dw_hh, of_hidden, h[t])
        dh = of_hidden @ w_hh + dh_direct
    return NormalisedGradients(dx, dw_ih, dw_hh, dgain, dshift, np.array(dh), None if c is None else np.array(dc))
