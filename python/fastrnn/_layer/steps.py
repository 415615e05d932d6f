"""The steps of sequences, as the kernels get them: without padding, where sequences have lengths of their own."""

from __future__ import annotations

import math

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.parts import contiguous, parts_of, put, take


class Rows:
    """The steps of sequences of different lengths, sorted so that the kernels get them without padding.

    The rows of step t are those sequences that are longer than t, the longest first: N rows over all steps.
    """

    def __init__(self, lengths: Array, T: int, batch_first: bool) -> None:
        batch = len(lengths)
        order = np.argsort(-lengths, kind="stable")
        self.batch = batch
        self.order = order[: np.count_nonzero(lengths)]  # the sequences that have steps
        sorted_lengths = lengths[self.order]
        #: (T,): how many sequences have step t.
        self.counts = batch - np.cumsum(np.bincount(lengths))[: lengths.max(initial=0)]
        self.shape = (batch, T) if batch_first else (T, batch)
        first = np.concatenate([[0], np.cumsum(self.counts)])
        # (N,): where each row stands among all T * B, and the row as far from the other end of its sequence.
        self._at, self._mirrored = np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
        for steps in parts_of(len(self.counts), 8 * batch):
            t = np.repeat(np.arange(steps.start, steps.stop), self.counts[steps])
            rows = slice(first[steps.start], first[steps.start] + len(t))
            place = np.arange(rows.start, rows.stop) - first[t]
            sequence = self.order[place]
            self._at[rows] = sequence * T + t if batch_first else t * batch + sequence
            self._mirrored[rows] = first[sorted_lengths[place] - 1 - t] + place

    def gather(self, padded: Array) -> Array:
        """Return (N, ...) of what has the axes of x."""
        return take(padded.reshape(-1, *padded.shape[2:]), self._at)

    def scatter(self, rows: Array) -> Array:
        """Return what has the axes of x, of (N, ...); zeros past the end of each sequence."""
        padded = put((math.prod(self.shape), *rows.shape[1:]), self._at, rows)
        return padded.reshape(*self.shape, *rows.shape[1:])

    def reverse(self, rows: Array) -> Array:
        """Return every sequence from its end to its beginning."""
        return take(rows, self._mirrored)

    def after(self, before: Array | None, arrays: list[Array]) -> Array:
        """Return (L*D, B, H) of a state, of that of each layer and direction: without steps it stays what it was."""
        shape = (len(arrays), self.batch, arrays[0].shape[1])
        state = np.zeros(shape, arrays[0].dtype) if before is None else before.copy()
        for place, a in enumerate(arrays):
            state[place, self.order] = a
        return state


class Steps:
    """The steps of sequences of the same length: nothing to sort."""

    counts = None
    order = slice(None)

    def __init__(self, batch_first: bool) -> None:
        self._batch_first = batch_first

    def gather(self, a: Array) -> Array:
        return a.swapaxes(0, 1) if self._batch_first else a

    def scatter(self, a: Array) -> Array:
        return contiguous(a.swapaxes(0, 1) if self._batch_first else a)

    def reverse(self, a: Array) -> Array:
        return a[::-1]

    def after(self, before: Array | None, arrays: list[Array]) -> Array:
        return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]


STEPS = Steps(False), Steps(True)


def steps_of(lengths: Array | None, T: int, batch_first: bool) -> Rows | Steps:
    """Return the steps of sequences with these lengths, or with T steps each."""
    return STEPS[batch_first] if lengths is None else Rows(lengths, T, batch_first)
