"""The steps of sequences, as the kernels get them: those that count, where not all of them do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.parts import contiguous, parts_of, put, quiet, take


class Counted(NamedTuple):
    """Which steps of each sequence count.

    Attributes:
        lengths: (B,), how many.
        mask: (T, B), which; None: the first ones.
        ends: (B,), where sequences end, if they have ends of their own beside a mask.

    """

    lengths: Array
    mask: Array | None = None
    ends: Array | None = None

    def at(self, steps: slice) -> Array:
        """Return whether some steps count, (steps, B)."""
        if self.mask is not None:
            return self.mask[steps]
        at: Array = np.arange(steps.start, steps.stop)[:, None] < self.lengths
        return at

    def between(self, begin: int, end: int) -> Counted:
        """Return which of the steps [begin, end) count."""
        if self.mask is None:
            return Counted(np.clip(self.lengths - begin, 0, end - begin))
        return counted_in(self.mask[begin:end])


def counted_in(mask: Array, ends: Array | None = None) -> Counted:
    """Return what a mask (T, B) says, in which nothing counts past the ends."""
    lengths = np.zeros(mask.shape[1], np.int64)
    for steps in parts_of(*mask.shape):
        lengths += np.count_nonzero(mask[steps], axis=0)
    return Counted(lengths, mask, ends)


class Rows:
    """The steps that count, sequences sorted so that the kernels get them without gaps.

    The rows of step t are those sequences that have more than t steps, the longest first: N rows over all steps.
    """

    def __init__(self, counted: Counted, T: int, batch_first: bool) -> None:
        lengths = counted.lengths
        batch = len(lengths)
        order = np.argsort(-lengths, kind="stable")
        self.batch = batch
        self.order = order[: np.count_nonzero(lengths)]  # the sequences that have steps
        #: (T,): how many sequences have a step t.
        self.counts = batch - np.cumsum(np.bincount(lengths))[: lengths.max(initial=0)]
        self.shape = (batch, T) if batch_first else (T, batch)
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        # (N,): where each row stands among all T * B, and the row as far from the other end of its sequence.
        self._at, self._mirrored = np.empty(self._first[-1], np.int64), np.empty(self._first[-1], np.int64)
        for rows, place, step, t in self._first_steps() if counted.mask is None else self._masked_steps(counted):
            sequence = self.order[place]
            self._at[rows] = sequence * T + t if batch_first else t * batch + sequence
            self._mirrored[rows] = self._first[lengths[sequence] - 1 - step] + place

    def _first_steps(self) -> Iterator[tuple[Array | slice, Array, Array, Array]]:
        """Yield rows, the places of their sequences in order, their steps among those that count, and among all."""
        for steps in parts_of(len(self.counts), 8 * self.batch):
            t = np.repeat(np.arange(steps.start, steps.stop), self.counts[steps])
            rows = slice(self._first[steps.start], self._first[steps.start] + len(t))
            yield rows, np.arange(rows.start, rows.stop) - self._first[t], t, t

    def _masked_steps(self, counted: Counted) -> Iterator[tuple[Array | slice, Array, Array, Array]]:
        assert counted.mask is not None
        place_of = np.empty(self.batch, np.int64)
        place_of[self.order] = np.arange(len(self.order))
        before = np.zeros(self.batch, np.int64)
        for steps in parts_of(len(counted.mask), 16 * self.batch):
            mask = counted.mask[steps]
            so_far = before + np.cumsum(mask, axis=0)
            t, sequence = np.nonzero(mask)
            step, place = so_far[t, sequence] - 1, place_of[sequence]
            yield self._first[step] + place, place, step, t + steps.start
            before = so_far[-1]

    def gather(self, padded: Array) -> Array:
        """Return (N, ...) of what has the axes of x."""
        return take(padded.reshape(math.prod(self.shape), *padded.shape[2:]), self._at)

    def scatter(self, rows: Array) -> Array:
        """Return what has the axes of x, of (N, ...); zeros where steps do not count."""
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


def steps_of(counted: Counted | None, T: int, batch_first: bool) -> Rows | Steps:
    """Return the steps of sequences of which these count, or all T."""
    return STEPS[batch_first] if counted is None else Rows(counted, T, batch_first)


class Repeats:
    """Masked steps whose output is that of the last step before them that counts, as a direction reads them.

    Before the first one that counts the output stays zero, as past the end of a sequence.
    """

    def __init__(self, counted: Counted, batch_first: bool, from_end: bool) -> None:
        assert counted.mask is not None
        T, batch = counted.mask.shape
        # (M,) each, a part of the steps at a time: where steps repeat, and what; all that repeat the same side by side.
        self._parts: list[tuple[Array, Array]] = []
        last = np.full(batch, -1)
        parts = list(parts_of(T, 24 * batch))
        for steps in reversed(parts) if from_end else parts:
            t = np.arange(steps.start, steps.stop)[:, None]
            masked = ~counted.mask[steps]
            source = np.where(masked, -1, t)[:: -1 if from_end else 1]
            # The last that counts: of its number among those that are read before, which only grows.
            read = T - 1 - source if from_end else source
            read[source < 0] = -1
            read[0] = np.maximum(read[0], last)
            np.maximum.accumulate(read, axis=0, out=read)
            last = read[-1].copy()
            read = read[:: -1 if from_end else 1]
            repeats = masked & (read >= 0)
            if counted.ends is not None:
                repeats &= t < counted.ends
            at, sequence = np.nonzero(repeats)
            of = read[at, sequence]
            of = T - 1 - of if from_end else of
            at += steps.start
            places = [sequence * T + s if batch_first else s * batch + sequence for s in (at, of)]
            order = np.argsort(places[1], kind="stable")
            self._parts.append((places[0][order], places[1][order]))

    def fill(self, y: Array) -> None:
        """Have the steps repeat, in y: (T * B, H)."""
        for at, of in self._parts:
            for part in parts_of(len(at), y.shape[1] * y.itemsize):
                y[at[part]] = y[of[part]]

    def add(self, dy: Array) -> None:
        """Add to the gradients by y, (T * B, H), of steps that are repeated those of the steps that repeat them."""
        for at, of in self._parts:
            for part in parts_of(len(at), 8 * dy.shape[1]):
                into, first = np.unique(of[part], return_index=True)
                with quiet():
                    dy[into] += np.add.reduceat(dy[at[part]], first, axis=0, dtype=np.float64).astype(dy.dtype)
