"""Losses, each with its gradient: means over all rows, or over those that count.

Sums are of float64, whatever the dtype: a loss and its gradient neither overflow nor vanish where they can be held.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._base import checks
from ._base.checks import Array
from ._base.parts import parts, quiet

__all__ = ["cross_entropy", "mean_squared_error"]


def cross_entropy(
    logits: Array, targets: Array, *, mask: Array | None = None, ignore_index: int | None = None
) -> tuple[float, Array]:
    """Return the mean of ``-log softmax(logits)[target]``, in nats, and its gradient by the logits.

    Args:
        logits: (..., V), float32 or float64, of any size: nothing overflows.
        targets: (...), integers from 0 to V - 1 in the rows that count.
        mask: (...), booleans: which rows count, such as ``np.arange(T)[:, None] < lengths``; None is all.
        ignore_index: a target whose rows do not count, such as -100; None is none.

    Returns:
        The loss, 0 if no row counts, and its gradient, of the shape and dtype of the logits, 0 where rows do not count.

    Raises:
        TypeError: an argument is not an array of such numbers.
        ValueError: a shape does not fit, or a target that counts is outside 0 .. V-1.

    """
    name = "cross_entropy"
    logits = checks.floats(name, "logits", logits)
    targets = checks.array(name, "targets", targets)
    if logits.ndim == 0 or targets.shape != logits.shape[:-1]:
        expected = logits.shape[:-1] if logits.ndim else "(...) for logits (..., V)"
        way = ""
        if targets.shape == logits.shape:
            way = ": of one-hot rows, targets.argmax(-1)"
        elif logits.ndim > 2 and targets.shape == (*logits.shape[:1], *logits.shape[2:]):
            way = ": np.moveaxis(logits, 1, -1)"
        raise ValueError(
            f"{name}: targets has shape {targets.shape}, expected {expected}, as logits {logits.shape}{way}"
        )
    targets = checks.integers(name, "targets", targets)
    V = logits.shape[-1]
    chosen: Array = targets.ravel()
    counted = _counted(name, mask, targets.shape)
    if ignore_index is not None:
        ignore = checks.integer(name, "ignore_index", ignore_index, -(2**63), 2**64 - 1)
        counted = (chosen != ignore) if counted is None else counted & (chosen != ignore)
    if counted is not None:
        chosen = np.where(counted, chosen, 0)
    some = chosen.size > 0 and (counted is None or bool(counted.any()))
    if some and not (chosen.min() >= 0 and chosen.max() < V):
        least, most = int(chosen.min()), int(chosen.max())
        way = f", or ignore_index={least}" if least < 0 and ignore_index is None else ""
        raise ValueError(f"{name}: targets has {least} to {most}, expected 0 to {V - 1}{way}")
    count = chosen.size if counted is None else int(np.count_nonzero(counted))
    flat = logits.reshape(chosen.size, V)
    gradient = np.empty_like(flat, order="C")
    loss = 0.0
    with quiet():
        for part in parts(flat):
            of_part = None if counted is None else counted[part]
            loss += _cross_entropy(flat[part], chosen[part], of_part, max(1, count), gradient[part])
    return loss, gradient.reshape(logits.shape)


def _cross_entropy(logits: Array, targets: Array, counted: Array | None, count: int, gradient: Array) -> float:
    """Return what some rows make of the mean over ``count`` of them, and write their gradients."""
    if counted is not None and not counted.all():
        gradient[~counted] = 0
        logits, targets, into = logits[counted], targets[counted], gradient
        gradient = np.empty_like(logits)
    else:
        into = None
    rows = np.arange(len(logits))
    largest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(np.subtract(logits, largest, out=gradient), out=gradient)
    # The target's own apart from the others: where it is nearly all, 1 minus it would be 0.
    below = largest[:, 0].astype(np.float64) - logits[rows, targets].astype(np.float64)
    own = np.exp(-below)
    exponentials[rows, targets] = 0
    others = exponentials.sum(axis=1, dtype=np.float64)
    losses = np.where(own == 1, np.log1p(others), below + np.log(own + others))
    # The gradient is (softmax - one-hot) / count, built where the exponentials stand.
    share = 1 / ((own + others) * count)
    exponentials *= share[:, None].astype(exponentials.dtype)
    exponentials[rows, targets] = -others * share
    if into is not None and counted is not None:
        into[counted] = exponentials
    return _mean(losses, count)


def _mean(numbers: Array, count: int) -> float:
    """Return the sum over ``count``, also where the sum itself is too large to be held."""
    total = float(numbers.sum())
    return total / count if math.isfinite(total) else float((numbers / count).sum())


def mean_squared_error(y: Array, target: Array, *, mask: Array | None = None) -> tuple[float, Array]:
    """Return the mean of ``(y - target)**2`` and its gradient by y, which has y's dtype.

    Args:
        y: (..., N), float32 or float64.
        target: of the same shape, any numbers.
        mask: (...), booleans: which rows count; None is all.

    Raises:
        TypeError: an argument is not an array of such numbers.
        ValueError: a shape does not fit.

    """
    name = "mean_squared_error"
    y = checks.floats(name, "y", y)
    target = checks.array(name, "target", target)
    if target.dtype.kind not in "fiub":
        raise TypeError(f"{name}: target is {target.dtype}, expected numbers")
    if y.ndim == 0:
        raise ValueError(f"{name}: y has shape (), expected (..., N): y[None]")
    checks.shape(name, "target", target, y.shape, "that of y")
    counted = _counted(name, mask, y.shape[:-1])
    N = y.shape[-1]
    numbers = max(1, (math.prod(y.shape[:-1]) if counted is None else int(np.count_nonzero(counted))) * N)
    gradient = np.empty_like(y, order="C")
    rows, wanted, into = (a.reshape(-1, N) if a.size else a.reshape(0, N) for a in (y, target, gradient))
    loss = 0.0
    with quiet():
        for part in parts(rows):
            difference = np.subtract(rows[part], wanted[part], dtype=np.float64, casting="unsafe")
            if counted is not None:
                difference[~counted[part]] = 0
            flat = difference.ravel()
            total = float(flat @ flat)
            loss += total / numbers if math.isfinite(total) else _mean(flat * (flat / numbers), 1)
            into[part] = difference * (2 / numbers)
    return loss, gradient


def _counted(name: str, mask: Any, shape: tuple[int, ...]) -> Array | None:
    """Return which rows count, flat; None is all."""
    if mask is None:
        return None
    mask = checks.array(name, "mask", mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"{name}: mask is {mask.dtype}, expected bool: mask.astype(bool)")
    checks.shape(name, "mask", mask, shape, "the rows'")
    flat: Array = mask.ravel()
    return flat
