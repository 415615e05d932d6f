"""Recurrent dropout and zoneout over the reference of any cell.

A mask (B, H) that stays the same for a whole sequence multiplies h on its way to W_hh (Gal and Ghahramani, 2016). For
one sequence b that is the plain cell with other weights, W_hh diag(mask[b]), so sequences are gone through one by one.

Zoneout (Krueger et al., 2017) lets a step take over only a share, keep (T, B, H), of what the cell makes of a state s:

s = keep * s_cell + (1 - keep) * s'
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .arithmetic import Array

Step = Callable[..., Any]  # a forward or backward function of the reference, with its options


def regularised_forward(
    forward: Step, x: Array, weights: tuple[Array, ...], states: tuple[Array, ...], mask: Array, keep: tuple[Array, ...]
) -> tuple[list[Array], list[list[Any]]]:
    """Return all states, (T + 1, B, H) of each with ``states`` (B, H) first, and the tapes of all rows and steps.

    ``weights`` are w_ih, w_hh, b_ih, b_hh.
    """
    w_ih, w_hh, *biases = weights
    T, B = x.shape[:2]
    all_states = [np.stack([s] * (T + 1)) for s in states]
    tapes: list[list[Any]] = []
    for b in range(B):
        tapes.append([])
        for t in range(T):
            before = [s[t, b] for s in all_states]
            out = forward(
                x[t : t + 1, b : b + 1], w_ih, w_hh * mask[b], *biases, *(s[None] for s in before), training=True
            )
            tapes[b].append(out.tape)
            for s, after, k in zip(all_states, out[1:-1], keep, strict=True):
                s[t + 1, b] = k[t, b] * after[0] + (1 - k[t, b]) * s[t, b]
    return all_states, tapes


def regularised_backward(
    backward: Step,
    tapes: list[list[Any]],
    dy: Array,
    dstates: tuple[Array, ...],
    mask: Array,
    keep: tuple[Array, ...],
) -> tuple[Array, list[Array], list[Array]]:
    """Return dx (T, B, I), the gradients of the four ``weights`` and those of the first states, (B, H) each.

    ``dy`` (T, B, H) comes in at all h but the first, ``dstates`` (B, H) at the last states.
    """
    T, B, _ = dy.shape
    dx: list[list[Array]] = []
    dstates_0 = [d.copy() for d in dstates]
    dweights: list[Array] = []
    for b in range(B):
        dx.append([])
        d = [s[b] for s in dstates]
        for t in reversed(range(T)):
            d[0] = d[0] + dy[t, b]
            g = backward(tapes[b][t], None, *((k[t, b] * s)[None] for k, s in zip(keep, d, strict=True)))
            d = [(1 - k[t, b]) * s + before[0] for k, s, before in zip(keep, d, g[5:], strict=True)]
            dx[b].insert(0, g.dx[0, 0])
            found = [g.dw_ih, g.dw_hh * mask[b], g.db_ih, g.db_hh]
            dweights = [a + f for a, f in zip(dweights, found, strict=True)] if dweights else found
        for into, s in zip(dstates_0, d, strict=True):
            into[b] = s
    return np.array(dx).swapaxes(0, 1), dweights, dstates_0
