"""Streams: single steps of a layer, as they come.

Shapes: B batch, I input size, H hidden size, L layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._base import checks
from ._base.checks import Array
from ._layer.states import State, states_of

__all__ = ["Stream"]


class Stream:
    """Single steps of a layer, bit for bit what one call over all of them gives. Made by :meth:`Layer.stream`.

    ``step(x, out=None)`` returns y (B, H) of the last layer from x (B, I), or tokens (B,). With an ``out`` to write y
    to, which may be x, it allocates nothing. For one thread at a time: a step that meets another thread's raises
    RuntimeError. A step that Ctrl-C interrupts leaves the states as they were before it.
    """

    def __init__(self, core: _core.Stream, layer: str, batch: int, tokens: bool) -> None:
        self._core = core
        self._layer, self._batch, self._tokens = layer, batch, tokens
        # The compiled method itself: a small step takes no longer than a call of a Python function.
        self.step = core.step

    @property
    def state(self) -> State:
        """The state, shaped (L, B, H), or two for an LSTM: a copy to read and keep; assign one to set it.

        None, also for one of the two, is what a row begins with.
        """
        states = self._core.state
        return states if len(states) > 1 else states[0]

    @state.setter
    def state(self, state: State | None) -> None:
        now = self._core.state
        self._core.state = tuple(
            states_of("Stream.state", "state", state, [a.shape for a in now], now[0].dtype, letters="(L, B, H)")
        )

    def reset(self, rows: Any = None) -> None:
        """Have some rows of the batch begin anew, all by default: with zeros, or the states that the layer has learned.

        ``rows`` is a mask, an array (B,) of bools, or of integers or floats that are 0 or 1, as environments give the
        ends of episodes, of a batch of one also a bool; or numbers of rows: an int, a slice, a list, or an array of
        fewer than B integers. A list that may be either, such as [1, 0] of a batch of two, raises ValueError.
        """
        self._core.reset(_rows_meant(rows, self._batch))

    def copy(self) -> Stream:
        """Return a stream with the same weights and states, that goes its own way."""
        return Stream(self._core.copy(), self._layer, self._batch, self._tokens)

    def __copy__(self) -> Stream:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        return self.copy()

    def __reduce__(self) -> Any:
        """Raise TypeError: a stream has only what the kernels have made of the weights."""
        raise TypeError("a stream cannot be pickled: pickle its layer and its state, and make another of them")

    def __repr__(self) -> str:
        tokens = ", tokens=True" if self._tokens else ""
        return f"{self._layer}.stream({self._batch}{tokens})"


def _rows_meant(rows: Any, batch: int) -> Array:
    """Return which rows of the batch are meant, (B,) of bool."""
    name, meant = "Stream.reset", np.zeros(batch, bool)
    if rows is None or rows is ...:
        return ~meant
    if isinstance(rows, slice):
        meant[rows] = True
        return meant
    in_list = isinstance(rows, list | tuple | range)
    scalar = isinstance(rows, int | np.integer | np.bool_)
    try:
        given = np.array([rows]) if scalar else np.asarray(rows)
    except (TypeError, ValueError):
        given = np.asarray(None)
    if given.dtype.kind not in "biuf" or given.ndim != 1 or (scalar and given.dtype.kind == "b" and batch != 1):
        raise TypeError(f"{name}: rows is {checks.shown(rows)}, expected a mask (B,) = ({batch},), or numbers of rows")
    zeros_and_ones = given.shape == (batch,) and bool(((given == 0) | (given == 1)).all())
    if given.size == 0:
        return meant
    if given.dtype.kind in "bf" or (given.shape == (batch,) and not (in_list or scalar)):
        if not zeros_and_ones:
            raise ValueError(
                f"{name}: rows is {checks.shown(rows)}, expected a mask (B,) = ({batch},) of zeros and ones; "
                "numbers of rows come in a list"
            )
        return given.astype(bool)
    if zeros_and_ones and isinstance(rows, list | tuple):
        if len(np.unique(given)) < batch:  # the same row twice would make no sense
            return given.astype(bool)
        raise ValueError(
            f"{name}: rows {rows} of a batch of {batch} may be numbers of rows or a mask: for a mask, np.array(rows); "
            "for all rows, reset()"
        )
    if not (given.min() >= -batch and given.max() < batch):
        raise ValueError(f"{name}: rows has {given.min()} to {given.max()}, expected rows of a batch of {batch}")
    meant[given] = True
    return meant
