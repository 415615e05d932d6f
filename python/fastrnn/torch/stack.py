"""A module's nets, layer by layer and in each direction, from arrays to the kernels and back.

Shapes: T steps, B batch, N rows of all steps, I input size, H hidden size, P units of h, L layers, D directions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastrnn import _core
from fastrnn._base.checks import Array
from fastrnn._base.parts import add, joined, scale, take
from fastrnn._layer.spec import shapes_of, suffixes_of
from fastrnn._layer.states import narrowed, widened
from fastrnn.layers import GRU, LSTM, RNN

# By what PyTorch calls the mode of a module: what the kernels know of such cells, and what they call them.
MODES = {
    "LSTM": (LSTM._family, "lstm"),
    "GRU": (GRU._family, "gru_reset_after"),
    "RNN_TANH": (RNN._family, "rnn_tanh"),
    "RNN_RELU": (RNN._family, "rnn_relu"),
}
Known = tuple[Any, ...]  # w_ih, w_hh, b_ih, b_hh, of which the last two may be None
DTYPES = {torch.float32, torch.float64}
TENSORS = {torch.Tensor, torch.nn.Parameter}  # and no subclasses, which do as they like

# For the way back the kernels pack the weights, which takes as long as two steps of one row, and a tape has a copy of
# what they have packed. Of weights of so many bytes that counts for little. A single step with larger ones PyTorch does
# faster, but for an LSTM, and so it does any step of an RNNCell; and modules that are called for a few steps at a time
# have many tapes alive: there they are made when they are needed.
SMALL_WEIGHTS = 2**19
SMALL_WEIGHTS_OF_CELL = {"rnn": 0, "gru": 2**18, "lstm": 2**18}
FEW_STEPS = 8

# A single step of so many rows reads the weights where they are, once, in half the time of a sequence of one step,
# which first looks whether they are still those that it has packed.
ROWS_OF_STEP = 8


def is_plain(tensor: Any, dtype: Any) -> bool:
    """Return whether a tensor is of this dtype, and has numbers in memory that arrays can be."""
    return (
        type(tensor) in TENSORS
        and tensor.dtype is dtype
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not tensor.is_neg()
        and not tensor.is_nested
    )


def is_empty(tensor: Any) -> bool:
    """Return whether a tensor has no elements; if it has some whose memory is freed, raise what PyTorch does."""
    if tensor.numel() and not tensor.data_ptr():
        raise RuntimeError("The tensor has a non-zero number of elements, but its data is not allocated yet.")
    return not tensor.numel()


def are_of_nets(
    mode: Any,
    input_size: Any,
    hidden_size: Any,
    num_layers: Any = 1,
    bias: Any = True,
    bidirectional: Any = False,
    *_: Any,
) -> bool:
    """Return whether there are nets of such options, those of Stack: in a module they may be set to anything."""
    sizes = input_size, hidden_size, num_layers
    counted = all(isinstance(n, int | np.integer) and n > 0 for n in sizes)
    return counted and mode in MODES and bidirectional in (False, True)


class Padded:
    """The steps of sequences of the same length; what has axes as x has them, (T, B, ...) or (B, T, ...), to rows."""

    counts = None

    def __init__(self, batch_first: bool) -> None:
        self.batch_first = batch_first

    def count(self, x: Any) -> int:
        """Return T."""
        T: int = x.shape[self.batch_first]
        return T

    def turned(self, a: Array) -> Array:
        """Return rows (T, B, ...) of what has the axes of x, or the other way round."""
        return a.swapaxes(0, 1) if self.batch_first else a

    def reverse(self, rows: Array) -> Array:
        """Return the steps from the last to the first."""
        return rows[::-1]


PADDED = Padded(False), Padded(True)


class Packed:
    """The steps of a PackedSequence, whose rows (N, ...) are the kernels': of each step, the longest sequences first.

    Attributes:
        counts: (T,), how many sequences have each step.

    """

    batch_first = False

    def __init__(self, counts: Array) -> None:
        self.counts = counts

    @functools.cached_property
    def _mirrored(self) -> Array:
        """(N,): the row as far from the other end of its sequence."""
        counts = self.counts
        first = np.concatenate([[0], np.cumsum(counts)])
        t = np.repeat(np.arange(len(counts)), counts)
        sequence = np.arange(first[-1]) - first[t]
        lengths = np.searchsorted(-counts, -np.arange(counts[0]))
        mirrored: Array = first[lengths[sequence] - 1 - t] + sequence
        return mirrored

    def count(self, x: Any) -> int:
        """Return T."""
        return len(self.counts)

    def turned(self, rows: Array) -> Array:
        """Return the rows as they are."""
        return rows

    def reverse(self, rows: Array) -> Array:
        """Return every sequence from its end to its beginning."""
        return take(rows, self._mirrored)


Steps = Padded | Packed


class Stack:
    """The nets of a module as the kernels know them, and what these keep of the weights from call to call.

    Attributes:
        mode: what PyTorch calls the kind of cell.
        of_x: the last axis of x.
        states: 1, h; or 2, h and c.
        sizes: units of h, and of c.
        places: L * D.
        each: how many parameters each of the nets has.

    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        family, cell = MODES[mode]
        self.mode, self.hidden_size, self.layers = mode, hidden_size, num_layers
        self.bias, self.proj_size, self.of_x = bias, proj_size, (input_size,)
        self.family, self.states = family.name, family.states
        self.cell = f"{cell}_projected" if proj_size else cell
        self.directions = 1 + bidirectional
        self.places = num_layers * self.directions
        self.sizes = (proj_size or hidden_size, hidden_size)[: self.states]
        suffixes = suffixes_of(num_layers, bidirectional)
        shapes = shapes_of(family, input_size, hidden_size, suffixes, bias=bias, proj_size=proj_size, own={}, states={})
        self._shapes = list(shapes.values())
        self._numbers = sum(map(math.prod, self._shapes))
        self.each = len(self._shapes) // self.places
        self._kept = [_core.KeptWeights(False) for _ in range(self.places)]
        self._seen: tuple[list[Any], list[Array], list[Known], Any] = [], [], [], None

    def weights(self, tensors: Sequence[Any]) -> tuple[list[Known], Any]:
        """Return what kernels know of weights, and their dtype, which is None where they have no use for them.

        It is made once for as long as the tensors stand where they do; their numbers may change at any time.
        """
        if not TENSORS.issuperset(map(type, tensors)):
            return [], None
        places = [(w.data_ptr(), w.dtype, w.shape, w.stride()) for w in tensors]
        before, arrays, known, dtype = self._seen
        if places != before:
            dtype = tensors[0].dtype
            fits = dtype in DTYPES and [w.shape for w in tensors] == self._shapes
            if not (fits and all(is_plain(w, dtype) and not is_empty(w) for w in tensors)):
                self._seen = [], [], [], None  # of memory that is no longer theirs
                return [], None
            # By DLPack: a tensor whose array has been made by numpy() can never be resized again.
            arrays = [np.from_dlpack(w.detach()) for w in tensors]
            known = self.known(arrays)
            self._seen = places, arrays, known, dtype
        # Of projections they are copies: see known().
        return self.known(arrays) if self.proj_size else known, dtype

    def known(self, arrays: Sequence[Array]) -> list[Known]:
        """Return w_ih, w_hh, b_ih and b_hh of each layer and direction."""
        found: list[Known] = []
        for begin in range(0, len(arrays), self.each):
            w_ih, w_hh, *others = arrays[begin : begin + self.each]
            if self.proj_size:  # W_hr is a gate more: see csrc/cells/lstm.h
                w_hh = np.concatenate([w_hh.ravel(), others.pop().ravel()])
            found.append((w_ih, w_hh, *others) if self.bias else (w_ih, w_hh, None, None))
        return found

    def trains_well(self, steps: Steps, x: Any) -> bool:
        """Return whether a call that is gone back through is faster than PyTorch's."""
        return self.family == "lstm" or self._bytes(x) <= SMALL_WEIGHTS or steps.count(x) > 1

    def trains_cell_well(self, x: Any) -> bool:
        """Return whether a step that is gone back through is faster than PyTorch's."""
        return self._bytes(x) <= SMALL_WEIGHTS_OF_CELL[self.family]

    def keeps_tapes(self, steps: Steps, x: Any) -> bool:
        """Return whether a call leaves tapes behind, or is computed again for the way back."""
        return self._bytes(x) <= SMALL_WEIGHTS or steps.count(x) >= FEW_STEPS

    def _bytes(self, x: Any) -> int:
        """Return how many bytes the weights have, of x's dtype."""
        return self._numbers * int(x.itemsize)

    def step(self, x: Array, states: Sequence[Array | None], weights: Known) -> tuple[Array, ...]:
        """Return the states (B, H) after one step of a net."""
        if self.family == "lstm":
            return _core.lstm_step(x, *weights, *states)
        if self.family == "gru":
            return (_core.gru_step(x, *weights, *states),)
        nonlinearity: Any = self.cell.removeprefix("rnn_")
        return (_core.rnn_step(x, *weights, *states, nonlinearity=nonlinearity),)

    def forward(
        self,
        steps: Steps,
        x: Array,
        states: Sequence[Array | None],
        weights: list[Known],
        masks: Sequence[Array],
        tapes: bool,
    ) -> tuple[list[Array], list[_core.Tape]]:
        """Return y and the states after it, and the tapes of the nets.

        ``states`` are (L*D, B, units) each, None is zeros; ``masks`` what dropout multiplies the outputs of each layer
        but the last with, if it does.
        """
        rows, place = steps.turned(x), 0
        steps_once = steps.count(x) == 1 and rows.shape[-2] <= ROWS_OF_STEP and not (tapes or self.proj_size)
        after: list[Any] = []  # of each net
        left: list[Any] = []
        for k in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                given = steps.reverse(rows) if direction else rows
                h, c = self._of_place(states, place)
                if steps_once:
                    found = list(self.step(given.reshape(rows.shape[-2:]), (h, c)[: self.states], weights[place]))
                    y, tape = found[0].copy().reshape(*rows.shape[:-1], -1), None
                else:
                    kept, counts = self._kept[place], steps.counts
                    w_ih, w_hh, b_ih, b_hh = weights[place]
                    y, *found, tape = _core.forward(
                        self.cell, tapes, True, kept, counts, given, w_ih, w_hh, b_ih, b_hh, h, c, None, None, None
                    )
                y = steps.reverse(y) if direction else y
                if self.proj_size:
                    y, found[0] = narrowed(y, self.proj_size), narrowed(found[0], self.proj_size)
                outputs.append(y)
                after.append(found)
                left.append(tape)
                place += 1
            rows = joined(outputs, -1)
            if k < len(masks):
                rows = scale(rows, masks[k])
        return [steps.turned(rows), *of_states(after)], left

    def backward(
        self,
        steps: Steps,
        tapes: list[_core.Tape],
        masks: Sequence[Array],
        dy: Array | None,
        dstates: Sequence[Array | None],
    ) -> list[Array]:
        """Return the gradients by x, by the states before the first step, and by the weights, one after the other."""
        H, P, D = self.hidden_size, self.sizes[0], self.directions
        drows: Any = None if dy is None else steps.turned(dy)
        before: list[Any] = []  # of each net, from the last to the first
        dweights: list[Array] = []
        for k in reversed(range(self.layers)):
            if k < len(masks):
                drows = scale(drows, masks[k])
            dinputs: list[Array] = []
            for direction in reversed(range(D)):
                place = k * D + direction
                dout = drows if D == 1 or drows is None else drows[..., direction * P : (direction + 1) * P]
                if dout is not None and direction:
                    dout = steps.reverse(dout)
                if dout is not None and self.proj_size:
                    dout = widened(dout, H)
                dh, dc = self._of_place(dstates, place)
                dx, dw_ih, dw_hh, db_ih, db_hh, _, *found, _ = _core.backward(
                    self.family, tapes[place], None, False, dout, dh, dc
                )
                dinputs.append(steps.reverse(dx) if direction else dx)
                of_net = [dw_ih, dw_hh, db_ih, db_hh] if self.bias else [dw_ih, dw_hh]
                if self.proj_size:
                    found[0] = narrowed(found[0], P)
                    of_net[1], dw_hr = dw_hh[: 4 * H * P].reshape(4 * H, P), dw_hh[4 * H * P :].reshape(P, H)
                    of_net.append(dw_hr)
                before.append(found)
                dweights = of_net + dweights
            drows = add(dinputs)
        return [steps.turned(drows), *of_states(before[::-1]), *dweights]

    def _of_place(self, states: Sequence[Array | None], place: int) -> tuple[Array | None, Array | None]:
        """Return h and c of a layer and direction, of H units; None where there is none."""
        h = states[0]
        c = states[1] if self.states > 1 else None
        if h is not None:
            h = widened(h[place], self.hidden_size) if self.proj_size else h[place]
        return h, None if c is None else c[place]


def of_states(of_nets: list[Any]) -> list[Array]:
    """Return (L*D, B, units) of each state, of the states of each net."""
    if len(of_nets) > 1:
        return [np.stack(of_state) for of_state in zip(*of_nets, strict=True)]
    return [a.reshape(1, *a.shape) for a in of_nets[0]]


class _Threads:
    """How many threads fastrnn may use, whoever has said so; how many PyTorch, and hence fastrnn here."""

    may, torch, used = 0, 0, 0


_threads = _Threads()


def follow_threads() -> None:
    """Have the kernels use as many threads as PyTorch, and no more than fastrnn may use."""
    now, wanted = _core.get_num_threads(), torch.get_num_threads()
    if now == _threads.used and wanted == _threads.torch:
        return
    if now != _threads.used:  # somebody else has set it
        _threads.may = now
    _threads.torch, _threads.used = wanted, min(wanted, _threads.may)
    _core.set_num_threads(_threads.used)
