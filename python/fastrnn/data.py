"""Long sequences, cut for truncated back-propagation through time.

>>> import numpy as np
>>> streams = side_by_side(np.arange(10), batch=2)
>>> streams.T.tolist()
[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
>>> [(x.T.tolist(), following.T.tolist()) for x, following in windows(streams, steps=2)]
[([[0, 1], [5, 6]], [[1, 2], [6, 7]]), ([[2, 3], [7, 8]], [[3, 4], [8, 9]])]
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

__all__ = ["side_by_side", "windows"]


def side_by_side(sequence: Array, batch: int) -> Array:
    """Return a sequence (N, ...) cut into streams of equal length, as steps of a batch: (N // batch, batch, ...).

    What is left at the end is dropped. A layer that carries its state on reads every stream as if it were whole.
    """
    if batch < 1:
        raise ValueError(f"side_by_side: batch is {batch}, expected at least 1")
    length = len(sequence) // batch
    cut = sequence[: batch * length].reshape(batch, length, *sequence.shape[1:])
    return np.ascontiguousarray(cut.swapaxes(0, 1))


def windows(streams: Array, steps: int) -> Iterator[tuple[Array, Array]]:
    """Yield ``steps`` steps after each other, (steps, B, ...), each with what follows every one of them.

    Carry the state from one to the next. What is left at the end is dropped.
    """
    if steps < 1:
        raise ValueError(f"windows: steps is {steps}, expected at least 1")
    for t in range(0, len(streams) - steps, steps):
        yield streams[t : t + steps], streams[t + 1 : t + steps + 1]
