"""Weights of int8 for what they will be multiplied with, of which there is a sample: GPTQ (Frantar et al., 2023).

Columns of a matrix are rounded one after the other, and what each rounding changes of the products is made up for as
well as it can be by the columns that are still to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.parts import quiet

from .formats import LARGEST, SCALE
from .spec import Spec

# Of the mean square of the inputs, what is added to each one's, that the sample is not followed where it says little.
DAMPING = 0.01
BLOCK = 64  # columns whose errors are passed on to all later ones at once
ROWS_AT_ONCE = 4096


def calibrate_kept(
    owner: str,
    spec: Spec,
    params: Mapping[str, Array],
    kept: Mapping[str, Array],
    x: Array | None,
    trace: Mapping[str, Array],
    time_axis: int,
    reset_after: bool,
) -> None:
    """Round the matrices in ``kept`` anew, with the scales that they have, for a call that left a trace.

    Args:
        owner: who is to be named in errors.
        spec: of the layer.
        params: its float32 parameters.
        kept: what int8 keeps of them, which is written to.
        x: the input, or None for tokens: of these each meets one column alone, and nothing is to be made up for.
        trace: all states and gates.
        time_axis: of arrays in it.
        reset_after: see :class:`fastrnn.GRU`.

    Raises:
        ValueError: what a matrix was multiplied with is not finite, and then ``kept`` is of no use.

    """
    for name, rows, operands in _products(spec, x, trace, time_axis, reset_after):
        if name + SCALE not in kept:  # of a cell that has another kind of weights there
            continue
        squares = _squares(operands)
        if not np.isfinite(squares).all():
            raise ValueError(f"{owner} has {name} multiplied with numbers that are not finite")
        kept[name][rows] = rounded_in_turn(params[name][rows], kept[name][rows], kept[name + SCALE][rows], squares)


def _products(
    spec: Spec, x: Array | None, trace: Mapping[str, Array], time_axis: int, reset_after: bool
) -> Iterator[tuple[str, slice, Array]]:
    """Yield each matrix, which of its rows, and (..., n) what they were multiplied with."""
    H = spec.hidden_size
    for suffixes in spec.suffixes:
        for suffix, from_end in zip(suffixes, spec.from_end, strict=True):
            if x is not None:
                yield "weight_ih" + suffix, slice(None), x
            before, after = slice(None, -1), slice(1, None)
            if from_end:
                before, after = after, before
            h = np.moveaxis(trace["h" + suffix], time_axis, 0)[before]
            if reset_after:
                yield "weight_hh" + suffix, slice(None), h
            else:
                r = np.moveaxis(trace["r" + suffix], time_axis, 0)[after]
                yield "weight_hh" + suffix, slice(2 * H), h
                yield "weight_hh" + suffix, slice(2 * H, None), r * h
        x = np.concatenate([trace["h" + suffix] for suffix in suffixes], axis=-1)


def _squares(operands: Array) -> Array:
    """Return the sums (n, n) of the products of each two of n numbers, in float64, over all rows (..., n)."""
    rows = operands.reshape(-1, operands.shape[-1])
    sums = np.zeros((rows.shape[1], rows.shape[1]))
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[begin : begin + ROWS_AT_ONCE].astype(np.float64)
        with quiet():
            sums += some.T @ some
    return sums


def rounded_in_turn(w: Array, q: Array, scale: Array, squares: Array) -> Array:
    """Return integers (m, n) in the place of q, which are w (m, n) over the scale (m,) of each row.

    ``squares`` (n, n): sums of the products of each two inputs. The largest of each row stays as it is, which its
    scale is told from.
    """
    size = float(np.diagonal(squares).mean()) if squares.size else 0.0
    if size == 0:
        return q
    order = np.argsort(-np.diagonal(squares), kind="stable")  # the most important columns have the most to come
    damped = squares[np.ix_(order, order)] / size + DAMPING * np.eye(len(order))
    passed_on = np.linalg.cholesky(np.linalg.inv(damped)).T
    usable = scale > 0  # not 0, nor NaN: such rows have zeros
    divisor = np.where(usable, scale, 1).astype(np.float64)
    exact = np.where(usable[:, None], w, 0).astype(np.float64).T[order] / divisor  # (n, m)
    given = q.T[order]
    found = np.empty_like(given)
    errors = np.empty((BLOCK, len(w)))
    for begin in range(0, len(order), BLOCK):
        end = min(begin + BLOCK, len(order))
        for k in range(begin, end):
            integers = np.rint(exact[k]).clip(-LARGEST, LARGEST)
            found[k] = np.where(np.abs(given[k]) == LARGEST, given[k], integers)
            errors[k - begin] = (exact[k] - found[k]) / passed_on[k, k]
            exact[k + 1 : end] -= passed_on[k, k + 1 : end, None] * errors[k - begin]
        exact[end:] -= passed_on[begin:end, end:].T @ errors[: end - begin]
    result = np.empty_like(q)
    result[:, order] = found.T
    return result
