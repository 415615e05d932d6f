"""Losses, each with its gradient: means over all rows, or over those that a mask keeps."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

__all__ = ["cross_entropy", "mean_squared_error"]


def cross_entropy(logits: Array, targets: Array, *, mask: Array | None = None) -> tuple[float, Array]:
    """Return the mean of ``-log softmax(logits)[target]``, in nats, and its gradient by the logits.

    Args:
        logits: (..., V), float32 or float64, of any size: nothing overflows.
        targets: (...), integers from 0 to V - 1.
        mask: (...), booleans: which rows count, such as ``np.arange(T)[:, None] < lengths``; None is all.

    """
    if logits.ndim == 0 or targets.shape != logits.shape[:-1]:
        raise ValueError(f"cross_entropy: targets has shape {targets.shape}, expected {logits.shape[:-1]}, as logits")
    if targets.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets has dtype {targets.dtype}, expected integers")
    V = logits.shape[-1]
    if targets.size and not (targets.min() >= 0 and targets.max() < V):
        raise ValueError(f"cross_entropy: targets has {targets.min()} to {targets.max()}, expected 0 to {V - 1}")
    rows = np.arange(targets.size)
    flat = logits.reshape(targets.size, V)
    shifted = flat - flat.max(axis=1, keepdims=True, initial=-np.inf)
    picked = shifted[rows, targets.ravel()]
    exponentials = np.exp(shifted, out=shifted)
    total = exponentials.sum(axis=1)
    losses = np.log(total) - picked
    # The gradient is (softmax - one-hot) / count, built where the exponentials stand.
    counted, count = _counted("cross_entropy", mask, targets.shape)
    exponentials *= (1 / (count * total))[:, None]
    exponentials[rows, targets.ravel()] -= 1 / count
    exponentials[~counted] = 0
    loss = float(np.where(counted, losses, 0).sum(dtype=np.float64) / count)
    return loss, exponentials.reshape(logits.shape)


def mean_squared_error(y: Array, target: Array, *, mask: Array | None = None) -> tuple[float, Array]:
    """Return the mean of ``(y - target)**2`` and its gradient by y.

    Args:
        y: (..., N), float32 or float64.
        target: of the same shape.
        mask: (...), booleans: which rows count; None is all.

    """
    if target.shape != y.shape or y.ndim == 0:
        raise ValueError(f"mean_squared_error: target has shape {target.shape}, expected that of y = {y.shape}")
    counted, count = _counted("mean_squared_error", mask, y.shape[:-1])
    difference = np.where(counted.reshape(*y.shape[:-1], 1), y - target, y.dtype.type(0))
    numbers = count * max(1, y.shape[-1])
    loss = float(np.vdot(difference, difference)) / numbers
    difference *= 2 / numbers
    return loss, difference


def _counted(name: str, mask: Array | None, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Return which rows count, flat, and how many; 1 instead of none, so that means come out as 0."""
    if mask is None:
        mask = np.ones(shape, bool)
    if mask.shape != shape or mask.dtype != np.bool_:
        raise ValueError(f"{name}: mask has shape {mask.shape} and dtype {mask.dtype}, expected {shape} of bool")
    return mask.ravel(), max(1, int(np.count_nonzero(mask)))
