"""One call of a layer, from the arguments to the kernels and back.

Shapes: T steps, B batch, I input size, H hidden size, L layers, D directions.
"""

import copy
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _core
from .modules import dropout_mask

if TYPE_CHECKING:
    from .layers import Layer

Array = npt.NDArray[Any]
States = list[Array | None]  # of h, and of c: (L*D, B, H) each; None is zeros


class Rows:
    """The steps of sequences of different lengths, sorted so that the kernels get them without padding.

    The rows of step t are those sequences that are longer than t, the longest first: N rows over all steps.
    """

    def __init__(self, lengths: Array, T: int) -> None:
        batch = len(lengths)
        order = np.argsort(-lengths, kind="stable")
        self.order = order[: np.count_nonzero(lengths)]  # the sequences that have steps
        sorted_lengths = lengths[self.order]
        #: (T,): how many sequences have step t.
        self.counts = np.count_nonzero(sorted_lengths[:, None] > np.arange(lengths.max(initial=0)), axis=0)
        self.shape = (T, batch)
        first = np.concatenate([[0], np.cumsum(self.counts)])
        t = np.repeat(np.arange(len(self.counts)), self.counts)
        place = np.arange(first[-1]) - first[t]
        self._at = t * batch + self.order[place]  # (N,): where each row stands among all T * B
        self._mirrored = first[sorted_lengths[place] - 1 - t] + place  # (N,): the row as far from the other end

    def gather(self, padded: Array) -> Array:
        """(N, ...) of (T, B, ...)."""
        rows: Array = padded.reshape(-1, *padded.shape[2:])[self._at]
        return rows

    def scatter(self, rows: Array) -> Array:
        """(T, B, ...) of (N, ...), zeros past the end of each sequence."""
        T, batch = self.shape
        padded = np.zeros((T * batch, *rows.shape[1:]), rows.dtype)
        padded[self._at] = rows
        return padded.reshape(T, batch, *rows.shape[1:])

    def reverse(self, rows: Array) -> Array:
        """Every sequence from its end to its beginning."""
        reversed_rows: Array = rows[self._mirrored]
        return reversed_rows

    def after(self, before: Array | None, arrays: list[Array]) -> Array:
        """(L*D, B, H) of a state, from that of each layer and direction: without steps it stays what it was."""
        shape = (len(arrays), self.shape[1], arrays[0].shape[1])
        state = np.zeros(shape, arrays[0].dtype) if before is None else before.copy()
        for place, a in enumerate(arrays):
            state[place, self.order] = a
        return state


class Steps:
    """The steps of sequences of the same length: nothing to sort."""

    counts = None
    order = slice(None)

    def gather(self, a: Array) -> Array:
        return a

    def scatter(self, a: Array) -> Array:
        return a

    def reverse(self, a: Array) -> Array:
        return a[::-1]

    def after(self, before: Array | None, arrays: list[Array]) -> Array:
        return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]


def steps_of(x: Array, lengths: Array | None) -> Rows | Steps:
    """Return the steps of x, (T, B, ...), where sequences have so many of them, or fewer than none."""
    return Steps() if lengths is None else Rows(np.clip(lengths, 0, len(x)), len(x))


def widened(a: Array, width: int) -> Array:
    """Return ``a`` with zeros after what there is on its last axis."""
    missing = width - a.shape[-1]
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)]) if missing else a


def narrowed(a: Array, width: int) -> Array:
    """Return the first columns of ``a`` on its last axis."""
    return a[..., :width] if width < a.shape[-1] else a


class Noise:
    """What a call in training draws, for each purpose from a generator of its own.

    So a sequence that is gone through in parts draws what it would draw as a whole.
    """

    def __init__(self, rng: "np.random.Generator") -> None:
        self._seed = int(rng.integers(2**63))
        self._rngs: dict[str, np.random.Generator] = {}

    def first(self, purpose: str, suffix: str) -> "np.random.Generator":
        """Return a new generator, which draws the same each time."""
        return np.random.default_rng([self._seed, zlib.crc32((purpose + suffix).encode())])

    def rng(self, purpose: str, suffix: str) -> "np.random.Generator":
        """Return the generator that goes on where the part before has left it."""
        name = purpose + suffix
        if name not in self._rngs:
            self._rngs[name] = self.first(purpose, suffix)
        return self._rngs[name]

    def numbers(self, purpose: str, suffix: str, rows: int, width: int) -> Array:
        """Return (rows, width) numbers from 0 to 2^32 - 1, drawn with :meth:`rng`, two at a time."""
        pairs = (width + 1) // 2
        raw: Array = self.rng(purpose, suffix).bit_generator.random_raw(rows * pairs)
        return raw.view(np.uint32).reshape(rows, 2 * pairs)[:, :width]


class Call:
    """One call of a layer, and what it leaves for the way back."""

    def __init__(
        self, layer: "Layer", x: Array, lengths: Any, return_sequence: bool, trace: bool, recompute: bool
    ) -> None:
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{layer._name}: x is a {type(x).__name__}, expected a NumPy array")
        axes = x.ndim + (x.dtype.kind in "iu")
        if axes not in (2, 3):
            order = "(B, T, I)" if layer.batch_first else "(T, B, I)"
            raise ValueError(f"{layer._name}: x has shape {x.shape}, expected {order} or (T, I), without I for tokens")
        if recompute and (layer.bidirectional or trace):
            raise ValueError(f"{layer._name}: recompute goes together neither with bidirectional nor with trace")
        self.layer = layer
        self.single = axes == 2
        self.return_sequence = return_sequence
        self.trace = trace
        x = self._steps_first(x)
        self.T, self.batch = T, _ = x.shape[:2]
        if lengths is not None:
            lengths = self._checked(lengths)
        part = max(1, T)
        if recompute:
            # Of each step backward needs some 8 numbers, of each part about 2: together they are the fewest where a
            # part has half the square root of T. In a part of one block of steps what it costs to begin counts.
            blocks = _core.block_steps(
                self.batch if lengths is None else int(np.count_nonzero(lengths)), layer.hidden_size
            )
            part = blocks * max(2, math.ceil(math.sqrt(T) / 2 / blocks)) if T else 1
        noise = Noise(layer.rng) if layer.training and layer._is_noisy else None
        self.parts = [
            Part(
                layer,
                x[t : t + part],
                steps_of(x[t : t + part], None if lengths is None else lengths - t),
                layer.training,
                noise,
            )
            for t in range(0, max(1, T), part)
        ]

    def _steps_first(self, a: Array) -> Array:
        """(T, B, ...) of what the caller gave."""
        return a[:, None] if self.single else a.swapaxes(0, 1) if self.layer.batch_first else a

    def _as_given(self, parts: list[Array]) -> Array:
        """In the order of axes that x had; each part is (T, B, ...)."""
        a = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return a[:, 0] if self.single else a.swapaxes(0, 1) if self.layer.batch_first else a

    def _checked(self, lengths: Any) -> Array:
        checked = np.asarray(lengths)
        name = self.layer._name
        if checked.dtype.kind not in "iu":
            raise TypeError(f"{name}: lengths has dtype {checked.dtype}, expected integers")
        if checked.shape != (self.batch,):
            raise ValueError(f"{name}: lengths has shape {checked.shape}, expected (B,) = ({self.batch},)")
        checked = checked.astype(np.int64)
        if ((checked < 0) | (checked > self.T)).any():
            raise ValueError(f"{name}: lengths has {checked.min()} to {checked.max()}, expected 0 to T = {self.T}")
        return checked

    def check_gradient(self, dy: Array) -> None:
        name = self.layer._name
        if not isinstance(dy, np.ndarray) or dy.dtype != self.layer.dtype:
            got = dy.dtype if isinstance(dy, np.ndarray) else type(dy).__name__
            raise TypeError(f"{name}.backward: dy is {got}, expected an array of {self.layer.dtype}")
        features = self.layer._state_sizes[0] * (1 + self.layer.bidirectional)
        steps = [self.T] if self.return_sequence else []
        batch = [] if self.single else [self.batch]
        expected = (*(batch + steps if self.layer.batch_first else steps + batch), features)
        if dy.shape != expected:
            raise ValueError(f"{name}.backward: dy has shape {dy.shape}, expected that of y = {expected}")

    def run(self, state: States) -> tuple[Array, list[Array]]:
        """Return y and the state after the call, (L*D, B, H) each; ``state`` is that before."""
        layer = self.layer
        ys: list[Array] = []
        for part in self.parts:
            # Backward begins with the last part, which it need not compute again.
            y, state = part.run(state, layer.training and part is self.parts[-1], self.return_sequence, self.trace)
            if y is not None:
                ys.append(y)
        layer.trace = {name: self._as_given([a]) for name, a in self.parts[0].trace.items()}
        after = [a for a in state if a is not None]
        if self.return_sequence:
            return self._as_given(ys), after
        y = np.concatenate(after[0][-(1 + layer.bidirectional) :], axis=-1)
        return y[0] if self.single else y, after

    def run_back(
        self, dy: Array | None, dstate_n: States, trace: bool
    ) -> tuple[Array | None, list[Array], dict[str, Array]]:
        """Return the gradients by x, by the state before the call and by the parameters, by name."""
        layer, P = self.layer, self.layer._state_sizes[0]
        dstate = [
            np.zeros((len(layer._kept), self.batch, size), layer.dtype) if a is None else a.copy()
            for a, size in zip(dstate_n, layer._state_sizes, strict=True)
        ]
        if dy is not None and not self.return_sequence:
            last = dstate[0][-(1 + layer.bidirectional) :]
            for direction, dh in enumerate(last):
                dh += dy[..., direction * P : (direction + 1) * P]
            dy = None
        steps_first = None if dy is None else self._steps_first(dy)
        grads: dict[str, tuple[Array, ...]] = {}
        dxs: list[Array] = []
        dhs: list[dict[str, Array]] = []
        end = self.T
        for part in reversed(self.parts):
            begin = end - len(part.x)
            dx, dh = part.run_back(None if steps_first is None else steps_first[begin:end], dstate, grads, trace)
            if dx is not None:
                dxs.insert(0, dx)
            dhs.insert(0, dh)
            end = begin
        layer.trace |= {name: self._as_given([dh[name] for dh in dhs]) for name in dhs[0]}
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
            for suffix in grads:
                of_gates = 4 * layer.hidden_size * P
                both = named["weight_hh" + suffix]
                named["weight_hh" + suffix], named["weight_hr" + suffix] = both[:of_gates], both[of_gates:]
        shaped = {name: named[name].reshape(p.shape) for name, p in layer.params.items()}
        return self._as_given(dxs) if dxs else None, dstate, shaped


class Part:
    """Some steps of a call, all of them unless it is to recompute. Arrays have the steps first."""

    def __init__(self, layer: "Layer", x: Array, steps: "Rows | Steps", training: bool, noise: Noise | None) -> None:
        self.layer = layer
        self.x = x
        self.steps = steps
        self.training = training
        self.noise = noise
        self.tapes: dict[str, _core.Tape] = {}
        self.masks: list[Array] = []  # of dropout, after each layer but the last
        self.trace: dict[str, Array] = {}

    def run(self, state: States, tapes: bool, sequence: bool, trace: bool) -> tuple[Array | None, States]:
        """Return y, if the whole sequence is wanted, and the state after it; ``state`` is (L*D, B, H) each."""
        layer, steps, H, P = self.layer, self.steps, self.layer.hidden_size, self.layer._state_sizes[0]
        if self.training and not tapes:  # for when it is run again
            self.before = copy.deepcopy((self.noise, state))
        rows, place = steps.gather(self.x), 0
        after: list[list[Array]] = [[] for _ in state]
        for k, suffixes in enumerate(layer._suffixes):
            outputs = []
            for direction, suffix in enumerate(suffixes):
                before = [None if a is None else widened(a[place][steps.order], H) for a in state]
                arguments = (
                    *layer._weights(suffix),
                    *before,
                    *layer._no_c,
                    layer._vectors(suffix),
                    layer._regularised(suffix, self.noise, self.x.shape[1], steps.order, rows),
                )
                y, *states, tape = _core.forward(
                    layer._family,
                    layer._option,
                    tapes or trace,
                    sequence or k + 1 < layer.num_layers,
                    layer._kept[suffix],
                    steps.counts,
                    steps.reverse(rows) if direction else rows,
                    *arguments,
                )
                if y is not None:
                    outputs.append(narrowed(steps.reverse(y) if direction else y, P))
                for arrays, a, size in zip(after, states, layer._state_sizes, strict=True):
                    arrays.append(narrowed(a, size))
                if tapes:
                    self.tapes[suffix] = tape
                if trace:
                    for name, a in _core.trace(tape).items():
                        a = narrowed(a, P) if name == "h" else a
                        self.trace[name + suffix] = steps.scatter(steps.reverse(a) if direction else a)
                place += 1
            if outputs:
                rows = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if self.training and layer.dropout > 0 and k + 1 < layer.num_layers:
                assert self.noise is not None
                mask = dropout_mask(self.noise.rng("dropout", suffix), layer.dropout, rows.shape, rows.dtype)
                rows = rows * mask
                if tapes:
                    self.masks.append(mask)
        y = steps.scatter(rows) if outputs else None
        return y, [steps.after(a, arrays) for a, arrays in zip(state, after, strict=True)]

    def run_back(
        self, dy: Array | None, dstate: list[Array], grads: dict[str, tuple[Array, ...]], trace: bool
    ) -> tuple[Array | None, dict[str, Array]]:
        """Return dx, and dL/dh by name if there is to be a trace.

        ``dstate``, of the states after the part, becomes that of those before it; ``grads`` by suffix are added to.
        """
        layer, steps, H, P = self.layer, self.steps, self.layer.hidden_size, self.layer._state_sizes[0]
        if not self.tapes:
            noise, state = copy.deepcopy(self.before)
            again = Part(layer, self.x, steps, self.training, noise)
            again.run(state, True, False, False)
            return again.run_back(dy, dstate, grads, trace)
        dhs: dict[str, Array] = {}
        drows = None if dy is None else steps.gather(dy)
        for k in reversed(range(layer.num_layers)):
            if drows is not None and k < len(self.masks):
                drows = drows * self.masks[k]
            dinputs: list[Array] = []
            for direction, suffix in enumerate(layer._suffixes[k]):
                place = k * (1 + layer.bidirectional) + direction
                dout = None if drows is None else widened(drows[..., direction * P : (direction + 1) * P], H)
                if dout is not None and direction:
                    dout = steps.reverse(dout)
                dinput, *found, dh = _core.backward(
                    layer._family,
                    self.tapes[suffix],
                    grads.get(suffix),
                    trace,
                    dout,
                    *(widened(a[place][steps.order], H) for a in dstate),
                    *layer._no_c,
                )
                grads[suffix] = tuple(found[:5])
                for a, d in zip(dstate, found[5:], strict=True):
                    a[place, steps.order] = narrowed(d, a.shape[-1])
                if trace:
                    dhs["dh" + suffix] = narrowed(steps.scatter(steps.reverse(dh) if direction else dh), P)
                if dinput is not None:
                    dinputs.append(steps.reverse(dinput) if direction else dinput)
            drows = sum(dinputs[1:], dinputs[0]) if dinputs else None
        return None if drows is None else steps.scatter(drows), dhs
