"""One call of a layer, from the arguments to the kernels and back.

Shapes: T steps, B batch, I input size, H hidden size, L layers, D directions.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._base import checks
from ._base.checks import Array
from ._base.parts import add, contiguous, dropout_mask, joined, parts_of, put, quiet, scale, take
from .modules import Gradients, Grads

if TYPE_CHECKING:
    from .layers import Layer

State = Array | tuple[Array, ...]
States = list[Array | None]  # of h, and of c: (L*D, B, H) each; None is zeros

__all__ = ["Call"]


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


def widened(a: Array, width: int) -> Array:
    """Return ``a`` with zeros after what there is on its last axis."""
    missing = width - a.shape[-1]
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)]) if missing else a


def narrowed(a: Array, width: int) -> Array:
    """Return the first columns of ``a`` on its last axis."""
    return contiguous(a[..., :width]) if width < a.shape[-1] else a


class Noise:
    """What a call in training draws, for each purpose from a generator of its own.

    So a sequence that is gone through in parts draws what it would draw as a whole.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(2**63))
        self._rngs: dict[str, np.random.Generator] = {}

    def first(self, purpose: str, suffix: str) -> np.random.Generator:
        """Return a new generator, which draws the same each time."""
        return np.random.default_rng([self._seed, zlib.crc32((purpose + suffix).encode())])

    def rng(self, purpose: str, suffix: str) -> np.random.Generator:
        """Return the generator that goes on where the part before has left it."""
        name = purpose + suffix
        if name not in self._rngs:
            self._rngs[name] = self.first(purpose, suffix)
        return self._rngs[name]

    def kept(self, purpose: str, suffix: str, rows: int, shares: Sequence[float], H: int, dtype: Any) -> States:
        """Return for each share (rows, H): 0 with this probability, else 1; None where the share is 0."""
        pairs = (len(shares) * H + 1) // 2
        keeps: States = [np.empty((rows, H), dtype) if p else None for p in shares]
        bits = self.rng(purpose, suffix).bit_generator
        for part in parts_of(rows, 8 * pairs):
            count = part.stop - part.start
            drawn = bits.random_raw(count * pairs).view(np.uint32).reshape(count, 2 * pairs)
            for s, (p, keep) in enumerate(zip(shares, keeps, strict=True)):
                if keep is not None:
                    keep[part] = drawn[:, s * H : (s + 1) * H] >= round(p * 2**32)
        return keeps


class Call:
    """One call of a layer, made by :meth:`Layer.record`: what it returned, and the way back through it.

    Attributes:
        y: see :meth:`Layer.__call__`.
        state: the state after the last step of each sequence, as there.
        trace: with ``trace=True`` every state and gate by name, layer and direction, such as ``c_l0`` or
            ``i_l1_reverse``, (T, B, H) each with axes as x has them, zero past the end of a sequence; ``backward`` with
            ``trace=True`` adds ``dh_l0`` and so on.

    """

    y: Array
    state: State
    trace: dict[str, Array]

    def __init__(
        self,
        layer: Layer,
        x: Array,
        state: Any,
        lengths: Any,
        return_sequence: bool,
        trace: bool,
        recompute: bool,
        *,
        goes_back: bool,
    ) -> None:
        self.layer = layer
        if not (type(return_sequence) is type(trace) is type(recompute) is bool):
            return_sequence = checks.boolean(layer._name, "return_sequence", return_sequence)
            trace = checks.boolean(layer._name, "trace", trace)
            recompute = checks.boolean(layer._name, "recompute", recompute)
        x = self._checked_input(x)
        T, batch = self.T, self.batch
        self.return_sequence = return_sequence
        self.goes_back = goes_back
        if lengths is not None:
            lengths = self._checked_lengths(lengths)
        steps = max(T, 1)  # without any there are states yet
        if steps * batch > 2**31 and not _core.addressable(
            layer._cell, steps, batch, layer.input_size, layer.hidden_size
        ):
            raise ValueError(f"{layer._name}: x has shape {x.shape}, which is more than memory can hold")
        before = self._no_states if state is None else self._checked_states(layer._name, "state", state)
        self.dropout = layer.dropout if layer.num_layers > 1 else 0.0
        self.recurrent_dropout, self.zoneouts = layer.recurrent_dropout, layer._zoneouts
        self.regularised = self.recurrent_dropout > 0 or any(self.zoneouts)
        self.noise = Noise(layer.rng) if layer.training and (self.dropout or self.regularised) else None
        self.kept = layer._kept
        self.weights = {suffix: layer._weights(suffix) for suffix in self.kept}
        if recompute and (layer.bidirectional or trace):
            raise ValueError(f"{layer._name}: recompute goes together neither with bidirectional nor with trace")
        if recompute and goes_back:
            self.parts = self._parts(x, lengths)
        else:
            self.parts = [Part(0, x, lengths, self.batch_first)]
        try:
            self._run(before, trace)
        except ValueError:
            self._explain_tokens(x, lengths)
            raise
        if len(self.parts) == 1:  # which has its tape
            del self.weights, self.parts[0].x

    def _parts(self, x: Array, lengths: Array | None) -> list[Part]:
        """Return the parts of a call that is to compute again all but the last of them."""
        layer, T = self.layer, self.T
        # Of each step backward needs some 8 numbers, of each part about 2: together they are the fewest where a part
        # has half the square root of T. In a part of one block of steps what it costs to begin counts.
        steps = T if lengths is None else int(lengths.max(initial=0))
        rows = self.batch if lengths is None else int(np.count_nonzero(lengths))
        block = _core.block_steps(rows, layer.hidden_size)
        each = block * max(2, math.ceil(math.sqrt(steps) / 2 / block)) if block else 1
        if each >= steps:
            return [Part(0, x, lengths, self.batch_first)]
        for suffix, arrays in self.weights.items():  # whatever becomes of them until then
            self.weights[suffix] = tuple(None if a is None else a.copy() for a in arrays)
        parts = []
        for t in range(0, steps, each):
            end = min(t + each, steps)
            left = None if lengths is None else np.clip(lengths - t, 0, end - t)
            parts.append(Part(t, self._cut(x, t, end), left, self.batch_first))
        return parts

    @property
    def _no_states(self) -> States:
        return [None] * self.layer._states

    # --- what is checked

    def _checked_input(self, given: Any) -> Array:
        """Return x as a plain array with a batch, and note its sizes."""
        layer = self.layer
        x = given if type(given) is np.ndarray else checks.array(layer._name, "x", given, made_of=layer.dtype)
        dtype, shape = x.dtype, x.shape
        self.tokens = dtype is not layer.dtype and dtype != layer.dtype
        if self.tokens and not (dtype.kind in "iu" and dtype.isnative):
            raise self._wrong_dtype(dtype)
        axes = len(shape) + self.tokens
        self.single = axes == 2
        if not (axes == 3 or axes == 2) or not (self.tokens or shape[-1] == layer.input_size):
            raise self._wrong_shape(shape)
        if self.single:
            x = x[:, None]
            shape = x.shape
        self.batch_first = layer.batch_first and not self.single
        if self.batch_first:
            self.batch, self.T = shape[:2]
        else:
            self.T, self.batch = shape[:2]
        return x

    def _wrong_dtype(self, dtype: np.dtype[Any]) -> TypeError:
        name, own = self.layer._name, self.layer.dtype
        if dtype.kind in "iu":
            return TypeError(f"{name}: x is {dtype}, expected the byte order of this machine: x.astype(np.int64)")
        other = f", or {name}(..., dtype=np.{dtype})" if dtype in (np.float32, np.float64) else ""
        return TypeError(f"{name}: x is {dtype}, the layer is {own}: x.astype(np.{own}){other}")

    def _wrong_shape(self, shape: tuple[int, ...]) -> ValueError:
        name, I, order = self.layer._name, self.layer.input_size, "(B, T" if self.layer.batch_first else "(T, B"
        if self.tokens:
            hint = f"; for numbers, x.astype(np.{self.layer.dtype})" if len(shape) == 3 else ""
            what = "integers, which are tokens,"
            return ValueError(f"{name}: x has {what} of shape {shape}, expected {order}) or (T,){hint}")
        hint = ": a missing last axis? x[..., None]" if I == 1 and 1 <= len(shape) <= 2 else ""
        return ValueError(f"{name}: x has shape {shape}, expected {order}, {I}), or (T, {I}) for one sequence{hint}")

    def _checked_lengths(self, lengths: Any) -> Array:
        try:
            checked = np.asarray(lengths)
        except (TypeError, ValueError):
            raise TypeError(f"{self.layer._name}: lengths is {checks.shown(lengths)}, expected integers (B,)") from None
        if checked.dtype.kind not in "iu" and not (checked.size == 0 and not isinstance(lengths, np.ndarray)):
            way = f": its sum over the steps, .sum(axis={int(self.batch_first)})" if checked.dtype == np.bool_ else ""
            raise TypeError(f"{self.layer._name}: lengths is {checks.shown(lengths)}, expected integers (B,){way}")
        if checked.shape != (self.batch,):
            raise ValueError(f"{self.layer._name}: lengths has shape {checked.shape}, expected (B,) = ({self.batch},)")
        own = checked.astype(np.int64)  # first: there may be no room for so many
        if checked.size and not (checked.min() >= 0 and checked.max() <= self.T):
            raise ValueError(
                f"{self.layer._name}: lengths has {checked.min()} to {checked.max()}, expected 0 to T = {self.T}"
            )
        return own

    def _checked_states(self, owner: str, what: str, state: Any) -> States:
        """Return (L*D, B, H) of each state, or None."""
        layer = self.layer
        return states_of(
            owner,
            what,
            state,
            [(len(layer._kept), self.batch, size) for size in layer._state_sizes],
            layer.dtype,
            single=self.single,
        )

    def _checked_gradient(self, dy: Any) -> Array:
        owner = f"{self.layer._name}.backward"
        gradient = checks.array(owner, "dy", dy, self.layer.dtype, "the layer is")
        features = self.layer._state_sizes[0] * (1 + self.layer.bidirectional)
        steps = [self.T] if self.return_sequence else []
        batch = [] if self.single else [self.batch]
        expected = (*(batch + steps if self.batch_first else steps + batch), features)
        checks.shape(owner, "dy", gradient, expected, "that of y")
        return gradient

    def _explain_tokens(self, x: Array, lengths: Array | None) -> None:
        """Raise ValueError that says which token of x is not in 0 .. I-1, if one is the reason."""
        if not self.tokens:
            return
        name, I = self.layer._name, self.layer.input_size
        for steps in parts_of(self.T, 8 * self.batch):
            tokens = STEPS[self.batch_first].gather(self._cut(x, steps.start, steps.stop))
            bad = (tokens < 0) | (tokens >= I)
            if lengths is not None:
                bad &= np.arange(steps.start, steps.stop)[:, None] < lengths
            if bad.any():
                t, b = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
                at = t + steps.start
                place = at if self.single else f"{b}, {at}" if self.batch_first else f"{at}, {b}"
                expected = f"0 to I-1 = {I - 1}" if I else "none, as I is 0"
                numbers = f"for numbers instead of tokens, x.astype(np.{self.layer.dtype})"
                raise ValueError(
                    f"{name}: x[{place}] is token {tokens[t, b]}, expected {expected}; {numbers}"
                ) from None

    # --- forward

    def _cut(self, a: Array, begin: int, end: int) -> Array:
        """Return steps [begin, end) of what has the axes of x."""
        return a[:, begin:end] if self.batch_first else a[begin:end]

    def _whole(self, of_parts: list[Array]) -> Array:
        """Return what has the axes that x was given with, of that of the parts."""
        if len(of_parts) == 1:
            whole = of_parts[0]
        else:
            first = of_parts[0]
            shape = (self.batch, self.T) if self.batch_first else (self.T, self.batch)
            whole = np.empty((*shape, *first.shape[2:]), first.dtype)
            t = 0
            for of_part in of_parts:
                steps = of_part.shape[self.batch_first]
                self._cut(whole, t, t + steps)[:] = of_part
                t += steps
            self._cut(whole, t, self.T)[:] = 0
        return whole[:, 0] if self.single else whole

    def _run(self, state: States, trace: bool) -> None:
        ys: list[Array] = []
        for part in self.parts:
            # Backward begins with the last part, which it need not compute again.
            goes_back = self.goes_back and part is self.parts[-1]
            y, state = part.run(self, state, goes_back, self.return_sequence, trace)
            if y is not None:
                ys.append(y)
        self.trace = {name: self._whole([a]) for name, a in self.parts[0].trace.items()} if trace else {}
        after: Any = state
        self.state = self._as_state(after)
        if self.return_sequence:
            self.y = self._whole(ys)
        else:
            last = after[0][-(1 + self.layer.bidirectional) :]
            y = joined(last, -1) if self.layer.bidirectional else last[0].copy()  # not a part of the state
            self.y = y[0] if self.single else y

    def _as_state(self, arrays: list[Array]) -> State:
        if self.single:
            arrays = [a[:, 0] for a in arrays]
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    # --- backward

    def backward(self, dy: Array | None = None, dstate: Any = None, *, trace: bool = False) -> Gradients:
        """Go back through the call; may be called again.

        Args:
            dy: the gradient by y, of y's shape; None is zeros. What it says past the end of a sequence counts nothing.
            dstate: the gradient by ``state``, of its shape; None is zeros.
            trace: whether to add to ``trace`` the gradient by h of every layer and step, all that comes from later
                steps and upper layers included: ``dh_l{k}``.

        Returns:
            A named tuple: ``dx``, of x's shape, None for tokens; ``dstate``, by the initial state, of the shape of
            ``state``; and ``grads``, by the parameters, a dict of this call's own.

        Raises:
            TypeError, ValueError: an argument has not the dtype or shape that belongs to it.
            RuntimeError: with ``recompute``, x has changed since the call.

        """
        layer, P = self.layer, self.layer._state_sizes[0]
        if type(trace) is not bool:
            trace = checks.boolean(f"{layer._name}.backward", "trace", trace)
        if dy is not None:
            dy = self._checked_gradient(dy)
        owner = f"{layer._name}.backward"
        given = self._no_states if dstate is None else self._checked_states(owner, "dstate", dstate)
        dstates = [
            np.zeros((len(self.kept), self.batch, size), layer.dtype) if a is None else a.copy()
            for a, size in zip(given, layer._state_sizes, strict=True)
        ]
        if dy is not None and not self.return_sequence:
            last = dstates[0][-(1 + layer.bidirectional) :]
            with quiet():
                for direction, dh in enumerate(last):
                    dh += dy[..., direction * P : (direction + 1) * P]
            dy = None
        if dy is not None and self.single:
            dy = dy[:, None]
        several = len(self.parts) > 1
        sums = {suffix: _core.Sums() for suffix in self.kept} if several else {}
        grads: dict[str, tuple[Any, ...]] = {}
        dxs: list[Array] = []
        dhs: list[dict[str, Array]] = []
        for part in reversed(self.parts):
            of_part = self._cut(dy, part.begin, part.begin + part.T) if several and dy is not None else dy
            dx, dh = part.run_back(self, of_part, dstates, sums, grads, trace)
            if dx is not None:
                dxs.insert(0, dx)
            dhs.insert(0, dh)
        if trace:
            self.trace |= {name: self._whole([dh[name] for dh in dhs]) for name in dhs[0]}
        for suffix, total in sums.items():
            grads[suffix] = total.finish()
        return Gradients(self._whole(dxs) if dxs else None, self._as_state(dstates), self._named(grads))

    def _named(self, grads: dict[str, tuple[Any, ...]]) -> Grads:
        """Return the gradients by the names of the parameters, in their order."""
        layer = self.layer
        named: dict[str, Array] = {}
        for suffix, (*of_weights, of_own) in grads.items():
            for name, g in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), of_weights, strict=True):
                named[name + suffix] = g
            row = 0
            for name, shape in layer._own().items():
                rows = math.prod(shape[:-1])
                named[name + suffix] = of_own[row : row + rows]
                row += rows
            if layer.proj_size:
                of_gates = 4 * layer.hidden_size * layer.proj_size
                both = named["weight_hh" + suffix]
                named["weight_hh" + suffix], named["weight_hr" + suffix] = both[:of_gates], both[of_gates:]
        ordered = {name: named[name] for name in layer._shapes}
        for name, g in ordered.items():
            if g.shape != layer._shapes[name]:
                ordered[name] = g.reshape(layer._shapes[name])
        return Grads(ordered)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raise TypeError: a call belongs to its layer."""
        raise TypeError("a call cannot be copied or pickled: its y, state and gradients can")

    def __repr__(self) -> str:
        layer = f"{self.layer._name}({self.layer._arguments()})"
        return f"<Call of {layer}: y {self.y.dtype} of shape {self.y.shape}>"


class Part:
    """Some steps of a call, all of them unless it is to recompute.

    It does not hold the call, which holds it: so both are gone as soon as nobody has the call any more.
    """

    def __init__(self, begin: int, x: Array, lengths: Array | None, batch_first: bool) -> None:
        self.begin = begin
        self.x = x
        self.T = x.shape[batch_first]
        self.lengths = lengths
        self.batch_first = batch_first
        self.tapes: dict[str, _core.Tape] = {}
        self.masks: list[Array] = []  # of dropout, after each layer but the last
        self.trace: dict[str, Array] = {}

    def _steps(self) -> Rows | Steps:
        if self.lengths is None:
            return STEPS[self.batch_first]
        return Rows(self.lengths, self.T, self.batch_first)

    def _regularised(self, call: Call, suffix: str, steps: Rows | Steps, rows: int) -> tuple[Array | None, ...] | None:
        """Return what the kernels know of recurrent dropout and zoneout, without noise what is to be expected.

        That is a mask (B, H) and, for each state, how much of its change it takes over: (N, H) of all rows, or (1, H).
        """
        layer = call.layer
        H, noise, dtype = layer.hidden_size, call.noise, layer.dtype
        if noise is None:
            return expected_zoneout(call.zoneouts, H, dtype)
        mask = None
        if call.recurrent_dropout:
            of_h = (call.batch, layer._state_sizes[0])
            ones = dropout_mask(noise.first("recurrent_dropout", suffix), call.recurrent_dropout, of_h, dtype)
            mask = widened(ones[steps.order], H)
        keeps: States = [None for _ in call.zoneouts]
        if any(call.zoneouts):
            keeps = noise.kept("zoneout", suffix, rows, call.zoneouts, H, dtype)
        return (mask, *keeps)

    def run(self, call: Call, state: States, tapes: bool, sequence: bool, trace: bool) -> tuple[Array | None, States]:
        """Return y, if the whole sequence is wanted, and the state after it; ``state`` is (L*D, B, H) each."""
        layer = call.layer
        H, P = layer.hidden_size, layer._state_sizes[0]
        if call.goes_back and not tapes:  # for when it is run again
            self.before = copy.deepcopy((call.noise, state))
            self.fingerprint = _core.fingerprint(self.x)
        steps = self.steps = self._steps()
        rows, place = steps.gather(self.x), 0
        after: list[list[Array]] = [[] for _ in state]
        for k, suffixes in enumerate(layer._suffixes):
            outputs = []
            for direction, suffix in enumerate(suffixes):
                before = [None if a is None else widened(a[place][steps.order], H) for a in state]
                h0, c0 = before if len(before) > 1 else (before[0], None)
                w_ih, w_hh, b_ih, b_hh, vectors = call.weights[suffix]
                regularised = None
                if call.regularised:
                    count = len(rows) if steps.counts is not None else len(rows) * call.batch
                    regularised = self._regularised(call, suffix, steps, count)
                y, *states, tape = _core.forward(
                    layer._cell,
                    tapes or trace,
                    sequence or k + 1 < layer.num_layers,
                    call.kept[suffix],
                    steps.counts,
                    steps.reverse(rows) if direction else rows,
                    w_ih,
                    w_hh,
                    b_ih,
                    b_hh,
                    h0,
                    c0,
                    vectors,
                    regularised,
                )
                if y is not None:
                    y = steps.reverse(y) if direction else y
                    outputs.append(narrowed(y, P) if P < H else y)
                if P < H:
                    states[0] = narrowed(states[0], P)
                for arrays, a in zip(after, states, strict=True):
                    arrays.append(a)
                if tapes:
                    self.tapes[suffix] = tape
                if trace:
                    for name, a in _core.trace(tape).items():
                        a = narrowed(a, P) if name == "h" else a
                        self.trace[name + suffix] = steps.scatter(steps.reverse(a) if direction else a)
                place += 1
            if outputs:
                rows = outputs[0] if len(outputs) == 1 else joined(outputs, -1)
            if call.noise is not None and call.dropout > 0 and k + 1 < layer.num_layers:
                mask = dropout_mask(call.noise.rng("dropout", suffix), call.dropout, rows.shape, rows.dtype)
                rows = scale(rows, mask)
                if tapes:
                    self.masks.append(mask)
        y = steps.scatter(rows) if outputs else None
        return y, [steps.after(a, arrays) for a, arrays in zip(state, after, strict=True)]

    def run_back(
        self,
        call: Call,
        dy: Array | None,
        dstate: list[Array],
        sums: dict[str, _core.Sums],
        grads: dict[str, tuple[Any, ...]],
        trace: bool,
    ) -> tuple[Array | None, dict[str, Array]]:
        """Return dx, and dL/dh by name if there is to be a trace.

        ``dstate``, of the states after the part, becomes that of those before it. The gradients by the weights go to
        ``sums``, by suffix, or where there is none to ``grads``.
        """
        layer = call.layer
        H, P = layer.hidden_size, layer._state_sizes[0]
        if not self.tapes:
            return self._again(call).run_back(call, dy, dstate, sums, grads, trace)
        steps = self.steps
        dhs: dict[str, Array] = {}
        drows = None if dy is None else steps.gather(dy)
        for k in reversed(range(layer.num_layers)):
            if drows is not None and k < len(self.masks):
                drows = scale(drows, self.masks[k])
            dinputs: list[Array] = []
            for direction, suffix in enumerate(layer._suffixes[k]):
                place = k * (1 + layer.bidirectional) + direction
                dout = None if drows is None else widened(drows[..., direction * P : (direction + 1) * P], H)
                if dout is not None and direction:
                    dout = steps.reverse(dout)
                after = [widened(a[place][steps.order], H) for a in dstate]
                dinput, *found, dh = _core.backward(
                    layer._family,
                    self.tapes[suffix],
                    sums.get(suffix),
                    trace,
                    dout,
                    after[0],
                    after[1] if len(after) > 1 else None,
                )
                grads[suffix] = tuple(found[:5])
                for a, d in zip(dstate, found[5:], strict=True):
                    a[place, steps.order] = narrowed(d, a.shape[-1])
                if trace:
                    dhs["dh" + suffix] = narrowed(steps.scatter(steps.reverse(dh) if direction else dh), P)
                if dinput is not None:
                    dinputs.append(steps.reverse(dinput) if direction else dinput)
            drows = add(dinputs) if dinputs else None
        return None if drows is None else steps.scatter(drows), dhs

    def _again(self, call: Call) -> Part:
        """Return this part, computed again for the way back."""
        if _core.fingerprint(self.x) != self.fingerprint:
            raise RuntimeError(
                f"{call.layer._name}.backward: x has changed since the call, which was to recompute: pass a copy"
            )
        again = Part(self.begin, self.x, self.lengths, self.batch_first)
        its_call = object.__new__(Call)  # which copy.copy refuses
        its_call.__dict__.update(call.__dict__)
        its_call.noise, state = copy.deepcopy(self.before)
        again.run(its_call, state, True, False, False)
        return again


def expected_zoneout(shares: Sequence[float], H: int, dtype: Any) -> tuple[Array | None, ...] | None:
    """Return what the kernels know of zoneout where nothing is drawn: no mask, and (1, H) of each state's change."""
    if not any(shares):
        return None
    return (None, *(np.full((1, H), 1 - p, dtype) if p else None for p in shares))


def states_of(
    owner: str,
    what: str,
    given: Any,
    shapes: list[tuple[int, ...]],
    dtype: Any,
    *,
    single: bool = False,
    letters: str = "(L*D, B, units)",
) -> States:
    """Return the states that a caller gave, as plain arrays of these shapes, or None for zeros.

    One state is an array, two are a tuple or a list of h and c. ``single``: the axis of the batch may be missing.
    """
    if given is None:
        return [None] * len(shapes)
    if len(shapes) == 1 and not isinstance(given, tuple | list):
        given = (given,)
    if not isinstance(given, tuple | list) or len(given) != len(shapes):
        if isinstance(given, np.ndarray):
            got = "one array"
        else:
            got = f"{len(given)} of them" if isinstance(given, tuple | list) else checks.shown(given)
        expected = "the tuple (h, c)" if len(shapes) == 2 else "one array"
        raise TypeError(f"{owner}: {what} is {got}, expected {expected}")
    states: States = []
    for letter, a, shape in zip("hc", given, shapes, strict=False):
        if a is None:
            states.append(None)
            continue
        name = what if len(shapes) == 1 else f"{what}'s {letter}"
        a = checks.array(owner, name, a)
        if a.dtype != dtype:
            raise TypeError(f"{owner}: {name} is {a.dtype}, expected {dtype}, as its weights: .astype(np.{dtype})")
        if single and a.ndim == 2:
            a = a[:, None]
        if a.shape != shape:
            without = f", or {(shape[0], shape[2])}" if single else ""
            raise ValueError(f"{owner}: {name} has shape {a.shape}, expected {letters} = {shape}{without}")
        states.append(a)
    return states
