"""Long sequences, cut for truncated back-propagation through time.

>>> import numpy as np
>>> streams = side_by_side(np.arange(10), batch=2)
>>> streams.T.tolist()
[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
>>> [(x.T.tolist(), following.T.tolist()) for x, following in windows(streams, steps=2)]
[([[0, 1], [5, 6]], [[1, 2], [6, 7]]), ([[2, 3], [7, 8]], [[3, 4], [8, 9]])]
"""

from __future__ import annotations

from collections.abc import Iterator

from ._base import checks
from ._base.checks import Array
from ._base.parts import contiguous

__all__ = ["side_by_side", "windows"]


def side_by_side(sequence: Array, batch: int) -> Array:
    """Return a sequence (N, ...) cut into streams of equal length, as steps of a batch: (N // batch, batch, ...).

    What is left at the end is dropped. A layer that carries its state on reads every stream as if it were whole. Raises
    ValueError if there is less than a step of every stream.
    """
    batch = checks.integer("side_by_side", "batch", batch, 1)
    sequence = checks.array("side_by_side", "sequence", sequence)
    if sequence.ndim == 0 or len(sequence) < batch:
        raise ValueError(
            f"side_by_side: sequence has shape {sequence.shape}, expected (N, ...) with N of at least batch = {batch}"
        )
    length = len(sequence) // batch
    cut = sequence[: batch * length].reshape(batch, length, *sequence.shape[1:])
    return contiguous(cut.swapaxes(0, 1))


def windows(streams: Array, steps: int) -> Iterator[tuple[Array, Array]]:
    """Return an iterator over ``steps`` steps at a time, (steps, B, ...), each with what follows every one of them.

    Carry the state from one to the next. What is left at the end is dropped. Raises ValueError if there is not one.
    """
    steps = checks.integer("windows", "steps", steps, 1)
    streams = checks.array("windows", "streams", streams)
    if streams.ndim == 0 or len(streams) <= steps:
        raise ValueError(
            f"windows: streams has shape {streams.shape}, expected (T, B, ...), T of at least steps + 1 = {steps + 1}"
        )
    return ((streams[t : t + steps], streams[t + 1 : t + steps + 1]) for t in range(0, len(streams) - steps, steps))
