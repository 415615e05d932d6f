"""Layers: stacks of RNN, LSTM or GRU nets that hold their weights, over :mod:`fastrnn.functional`.

Shapes: T steps, B batch, I input size, H hidden size, L layers, D directions (2 if bidirectional, else 1). Arguments,
names and shapes of parameters, and the order of states are those of PyTorch's modules of the same name.

>>> import numpy as np, fastrnn
>>> layer = fastrnn.LSTM(16, 32, num_layers=2, seed=0)
>>> x = np.ones((50, 4, 16), np.float32)
>>> y, (h_n, c_n) = layer(x, lengths=np.array([50, 7, 0, 31]))
>>> y.shape, h_n.shape, float(np.abs(y[7:, 1]).max())
((50, 4, 32), (2, 4, 32), 0.0)
>>> dx, (dh_0, dc_0) = layer.backward(np.ones_like(y))
>>> dx.shape, layer.grads["weight_hh_l1"].shape
((50, 4, 16), (128, 32))
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _core
from .modules import Module, dropout_mask

Array = npt.NDArray[Any]
State = Array | tuple[Array, ...]

__all__ = ["GRU", "LSTM", "RNN", "IndRNN", "Layer", "MinGRU", "Stream"]


class _Rows:
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


class _Steps:
    """The steps of sequences of the same length: nothing to sort."""

    counts = None
    order = slice(None)

    def gather(self, a: Array) -> Array:
        return a

    def scatter(self, a: Array) -> Array:
        return a

    def reverse(self, a: Array) -> Array:
        return a[::-1]


def _steps(x: Array, lengths: Array | None) -> _Rows | _Steps:
    """Return the steps of x, (T, B, ...), where sequences have so many of them, or fewer than none."""
    return _Steps() if lengths is None else _Rows(np.clip(lengths, 0, len(x)), len(x))


def _suffixes(num_layers: int, bidirectional: bool) -> list[list[str]]:
    directions = ("", "_reverse") if bidirectional else ("",)
    return [[f"_l{k}{direction}" for direction in directions] for k in range(num_layers)]


def parameter_shapes(
    kind: "type[Layer]",
    input_size: int,
    hidden_size: int,
    num_layers: int,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    own: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of a layer; ``own`` are those that each unit has for itself."""
    rows, H = kind._gates * hidden_size, hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for k, suffixes in enumerate(_suffixes(num_layers, bidirectional)):
        for suffix in suffixes:
            shapes["weight_ih" + suffix] = (rows, input_size if k == 0 else len(suffixes) * H)
            if kind._recurrent:
                shapes["weight_hh" + suffix] = (rows, H)
            shapes |= {name + suffix: shape for name, shape in (own or {}).items()}
            if bias:
                shapes["bias_ih" + suffix] = (rows,)
                if kind._recurrent:
                    shapes["bias_hh" + suffix] = (rows,)
    return shapes


class Layer(Module):
    """What RNN, LSTM and GRU have in common. Make one of those.

    ``params`` has for layer k ``weight_ih_l{k}`` (G*H, I or D*H) and ``weight_hh_l{k}`` (G*H, H), and, unless ``bias``
    is false, ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (G*H,); with the suffix ``_reverse`` for the other direction.

    Attributes:
        rng: what dropout draws from.
        trace: after a call with ``trace=True``, every state and gate by name, layer and direction, such as ``c_l0`` or
            ``i_l1_reverse``, (T, B, H) each with axes as x has them, zero past the end of a sequence.

    """

    _family: str
    _gates: int
    _states: int
    _recurrent = True  # whether there is a product with weight_hh
    _option: object = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        for name, size, least in (
            ("input_size", input_size, 0),
            ("hidden_size", hidden_size, 1),
            ("num_layers", num_layers, 1),
        ):
            if not isinstance(size, int) or isinstance(size, bool):
                raise TypeError(f"{self._name}: {name} is {size!r}, expected an int")
            if size < least:
                raise ValueError(f"{self._name}: {name} is {size}, expected at least {least}")
        if not 0 <= dropout < 1:
            raise ValueError(f"{self._name}: dropout is {dropout}, expected at least 0 and below 1")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"{self._name}: dtype is {np.dtype(dtype)}, expected float32 or float64")
        if init not in ("uniform", "orthogonal"):
            raise ValueError(f"{self._name}: init is {init!r}, expected 'uniform' or 'orthogonal'")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(seed)
        super().__init__()
        shapes = parameter_shapes(
            type(self), input_size, hidden_size, num_layers, bias=bias, bidirectional=bidirectional, own=self._own()
        )
        self._params = {name: self._initial(name, shape, init) for name, shape in shapes.items()}
        self._forget()

    @property
    def _suffixes(self) -> list[list[str]]:
        """The end of the parameters' names, of each layer and direction."""
        return _suffixes(self.num_layers, self.bidirectional)

    def _own(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters that each unit has for itself: at most one array, by name and shape."""
        return {}

    def _vectors(self, suffix: str) -> Array | None:
        """Return what the kernels know as the units' own parameters: (V, H), the learned ones first."""
        return None

    def _initial(self, name: str, shape: tuple[int, ...], init: str) -> Array:
        H = self.hidden_size
        if init == "uniform":
            return self.rng.uniform(-(H**-0.5), H**-0.5, shape).astype(self.dtype)
        if name.startswith(("bias", "weight_ch")):
            values = np.zeros(shape)
            if self._family == "lstm" and name.startswith("bias_ih"):
                values[H : 2 * H] = 1
        elif name.startswith("weight_hh"):
            values = np.concatenate([np.linalg.qr(self.rng.standard_normal((H, H)))[0] for _ in range(self._gates)])
        else:
            limit = math.sqrt(6 / (shape[1] + H))
            values = self.rng.uniform(-limit, limit, shape)
        return values.astype(self.dtype)

    def _forget(self, frozen: bool = False) -> None:
        """Start without what the last call left."""
        self._frozen = dict(self._params) if frozen else {}
        self._kept = {suffix: _core.KeptWeights(frozen) for suffixes in self._suffixes for suffix in suffixes}
        self._call: _Call | None = None
        self.trace: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_frozen", "_kept", "_call", "trace")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        w_hh = self._params["weight_hh" + suffix] if self._recurrent else None
        return (
            self._params["weight_ih" + suffix],
            w_hh,
            self._params.get("bias_ih" + suffix),
            self._params.get("bias_hh" + suffix),
        )

    def freeze(self) -> "Layer":
        """Promise that parameters stay as they are; return the layer.

        Calls see parameters that have changed in place by reading all of them, which takes some hundredths of a short
        call. Of a frozen layer they need not: its parameters are new arrays that cannot be written to. Copies of the
        layer are not frozen.
        """
        return self._replaced(frozen=True)

    def unfreeze(self) -> "Layer":
        """Take back :meth:`freeze`: parameters are new arrays that can be written to; return the layer."""
        return self._replaced(frozen=False)

    def _replaced(self, frozen: bool) -> "Layer":
        self._params = {name: p.copy() for name, p in self._params.items()}
        for p in self._params.values():
            p.flags.writeable = not frozen
        self._forget(frozen)
        return self

    # --- forward

    def __call__(
        self,
        x: Array,
        state: State | None = None,
        *,
        lengths: Any = None,
        return_sequence: bool = True,
        trace: bool = False,
        recompute: bool = False,
    ) -> tuple[Array, State]:
        """Run all layers over a sequence.

        Args:
            x: (T, B, I), (B, T, I) if ``batch_first``, or (T, I) for one sequence; or tokens, of any integer dtype and
                without the axis I, each a one-hot input of size I.
            state: h_0, and for an LSTM the tuple (h_0, c_0): (L*D, B, H) each, without B for one sequence; None is
                zeros.
            lengths: (B,), integers from 0 to T: how many steps each sequence has, in any order; None is T. The work
                follows the steps that there are.
            return_sequence: whether y has all steps; else it is (B, D*H), h_n of the last layer, and the last layer's
                steps are not stored.
            trace: whether to leave the states and gates of every step in ``trace``.
            recompute: whether :meth:`backward` is to compute most of what it needs again, a part of the sequence at a
                time: it takes a third more time, and memory that grows with the square root of T. Its results are the
                same, bit for bit unless there are ``lengths``. x and the weights must not change until then.

        Returns:
            y, with D*H in the place of I, zero past the end of a sequence; and the state after the last step of each.
            A sequence of length 0 keeps its initial state.

        Raises:
            TypeError: an argument is not an array, or has another dtype than the layer.
            ValueError: a shape does not fit, a length is not in 0 .. T, or a token not in 0 .. I-1; or a layer that is
                bidirectional is to ``recompute``.

        """
        if any(self._params[name] is not p or p.flags.writeable for name, p in self._frozen.items()):
            self._forget()  # the promise was not kept
        call = _Call(self, x, lengths, return_sequence, trace, recompute and self.training)
        y, state_n = call.run(self._rows_of_state("state", state, call))
        self._call = call if self.training else None
        return y, self._as_state(state_n, call)

    def _rows_of_state(self, what: str, state: State | None, call: "_Call") -> list[Array | None]:
        """(L*D, B, H) of each state, or None."""
        if state is None:
            return [None] * self._states
        given = state if isinstance(state, tuple) else (state,)
        if len(given) != self._states:
            expected = "the tuple (h, c)" if self._states == 2 else "an array"
            raise TypeError(f"{self._name}: {what} has {len(given)} parts, expected {expected}")
        shape = (len(self._kept), call.batch, self.hidden_size)
        arrays: list[Array | None] = []
        for a in given:
            if not isinstance(a, np.ndarray) or a.dtype != self.dtype:
                got = a.dtype if isinstance(a, np.ndarray) else type(a).__name__
                raise TypeError(f"{self._name}: {what} is {got}, expected arrays of {self.dtype}")
            a = a[:, None] if call.single and a.ndim == 2 else a
            if a.shape != shape:
                raise ValueError(f"{self._name}: {what} has shape {a.shape}, expected (L*D, B, H) = {shape}")
            arrays.append(a)
        return arrays

    def _as_state(self, arrays: Sequence[Array], call: "_Call") -> State:
        shaped = tuple(a[:, 0] if call.single else a for a in arrays)
        return shaped if self._states == 2 else shaped[0]

    # --- backward

    def backward(
        self, dy: Array | None = None, dstate: State | None = None, *, trace: bool = False
    ) -> tuple[Array | None, State]:
        """Go back through the last call, which was made with ``training``; fill ``grads``.

        Args:
            dy: the gradient by y, of y's shape; None is zeros. What it says past the end of a sequence counts nothing.
            dstate: the gradient by the state that the call returned, of its shape; None is zeros.
            trace: whether to add to ``trace`` the gradient by h of every layer and step, all that comes from later
                steps and upper layers included: ``dh_l{k}``.

        Returns:
            The gradient by x (None for tokens) and that by the initial state.

        Raises:
            RuntimeError: there was no such call.
            TypeError, ValueError: an argument has not the dtype or shape that belongs to it.

        """
        call = self._call
        if call is None:
            raise RuntimeError(f"{self._name}.backward: there was no call in training mode before")
        if dy is not None:
            call.check_gradient(dy)
        dx, dstate_0, self._grads = call.run_back(dy, self._rows_of_state("dstate", dstate, call), trace)
        return dx, self._as_state(dstate_0, call)

    # --- step by step

    def stream(self, batch: int = 1, *, tokens: bool = False) -> "Stream":
        """Return a stream of single steps, with the weights as they are now and zero states.

        ``tokens`` tells whether its inputs are tokens. Only for layers that are not bidirectional.
        """
        if self.bidirectional:
            raise ValueError(f"{self._name}.stream: a bidirectional layer needs the whole sequence")
        if not isinstance(batch, int) or isinstance(batch, bool):
            raise TypeError(f"{self._name}.stream: batch is {batch!r}, expected an int")
        if not 0 <= batch < 2**48:
            raise ValueError(f"{self._name}.stream: batch is {batch}, expected at least 0 and below 2**48")
        weights = [(*self._weights(suffix), self._vectors(suffix)) for (suffix,) in self._suffixes]
        return Stream(_core.Stream(self._family, self._option, weights, batch, tokens))


class _Call:
    """One call of a layer, and what it leaves for the way back."""

    def __init__(
        self, layer: Layer, x: Array, lengths: Any, return_sequence: bool, trace: bool, recompute: bool
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
            # part has half the square root of T.
            blocks = _core.block_steps(
                self.batch if lengths is None else int(np.count_nonzero(lengths)), layer.hidden_size
            )
            part = blocks * math.ceil(math.sqrt(T) / 2 / blocks) if T else 1
        self.parts = [
            _Part(
                layer,
                x[t : t + part],
                _steps(x[t : t + part], None if lengths is None else lengths - t),
                layer.training,
            )
            for t in range(0, max(1, T), part)
        ]
        self.tapes = layer.training and not recompute

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
        features = self.layer.hidden_size * (1 + self.layer.bidirectional)
        steps = [self.T] if self.return_sequence else []
        batch = [] if self.single else [self.batch]
        expected = (*(batch + steps if self.layer.batch_first else steps + batch), features)
        if dy.shape != expected:
            raise ValueError(f"{name}.backward: dy has shape {dy.shape}, expected that of y = {expected}")

    def _copied(self, a: Array | None) -> Array:
        shape = (len(self.layer._kept), self.batch, self.layer.hidden_size)
        return np.zeros(shape, self.layer.dtype) if a is None else a.copy()

    def run(self, state_0: list[Array | None]) -> tuple[Array, list[Array]]:
        layer = self.layer
        state = [self._copied(a) for a in state_0]
        ys = [part.run(state, self.tapes, self.return_sequence, self.trace) for part in self.parts]
        layer.trace = {name: self._as_given([a]) for name, a in self.parts[0].trace.items()}
        if self.return_sequence:
            return self._as_given([y for y in ys if y is not None]), state
        y = np.concatenate(state[0][-(1 + layer.bidirectional) :], axis=-1)
        return y[0] if self.single else y, state

    def run_back(
        self, dy: Array | None, dstate_n: list[Array | None], trace: bool
    ) -> tuple[Array | None, list[Array], dict[str, Array]]:
        layer, H = self.layer, self.layer.hidden_size
        dstate = [self._copied(a) for a in dstate_n]
        if dy is not None and not self.return_sequence:
            last = dstate[0][-(1 + layer.bidirectional) :]
            for direction, dh in enumerate(last):
                dh += dy[..., direction * H : (direction + 1) * H]
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
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *layer._own())
        named = {name + suffix: g for suffix, of in grads.items() for name, g in zip(names, of, strict=False)}
        shaped = {name: named[name].reshape(p.shape) for name, p in layer.params.items()}
        return self._as_given(dxs) if dxs else None, dstate, shaped


class _Part:
    """Some steps of a call, all of them unless it is to recompute. Arrays have the steps first."""

    def __init__(self, layer: Layer, x: Array, steps: Any, training: bool) -> None:
        self.layer = layer
        self.x = x
        self.steps = steps
        self.training = training
        self.tapes: dict[str, _core.Tape] = {}
        self.masks: list[Array] = []  # of dropout, after each layer but the last
        self.trace: dict[str, Array] = {}

    def run(self, state: list[Array], tapes: bool, sequence: bool, trace: bool) -> Array | None:
        """Return y, if the whole sequence is wanted; move on ``state``, (L*D, B, H) each."""
        layer, steps = self.layer, self.steps
        if self.training and not tapes:  # for when it is run again
            self.before = copy.deepcopy((layer.rng, state))
        rows, place = steps.gather(self.x), 0
        for k, suffixes in enumerate(layer._suffixes):
            outputs = []
            for direction, suffix in enumerate(suffixes):
                before: list[Array | None] = [a[place][steps.order] for a in state]
                before += [*[None] * (2 - layer._states), layer._vectors(suffix)]
                y, *states, tape = _core.forward(
                    layer._family,
                    layer._option,
                    tapes or trace,
                    sequence or k + 1 < layer.num_layers,
                    layer._kept[suffix],
                    steps.counts,
                    steps.reverse(rows) if direction else rows,
                    *layer._weights(suffix),
                    *before,
                )
                if y is not None:
                    outputs.append(steps.reverse(y) if direction else y)
                for a, after in zip(state, states, strict=True):
                    a[place, steps.order] = after
                if tapes:
                    self.tapes[suffix] = tape
                if trace:
                    for name, a in _core.trace(tape).items():
                        self.trace[name + suffix] = steps.scatter(steps.reverse(a) if direction else a)
                place += 1
            if outputs:
                rows = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            if self.training and layer.dropout > 0 and k + 1 < layer.num_layers:
                mask = dropout_mask(layer.rng, layer.dropout, rows.shape, rows.dtype)
                rows = rows * mask
                if tapes:
                    self.masks.append(mask)
        return steps.scatter(rows) if outputs else None

    def run_back(
        self, dy: Array | None, dstate: list[Array], grads: dict[str, tuple[Array, ...]], trace: bool
    ) -> tuple[Array | None, dict[str, Array]]:
        """Return dx, and dL/dh by name if there is to be a trace.

        ``dstate``, of the states after the part, becomes that of those before it; ``grads`` by suffix are added to.
        """
        layer, steps, H = self.layer, self.steps, self.layer.hidden_size
        if not self.tapes:
            rng, state = self.before
            again = _Part(layer, self.x, steps, self.training)
            layer_rng, layer.rng = layer.rng, copy.deepcopy(rng)
            try:
                again.run(copy.deepcopy(state), True, False, False)
            finally:
                layer.rng = layer_rng
            return again.run_back(dy, dstate, grads, trace)
        dhs: dict[str, Array] = {}
        drows = None if dy is None else steps.gather(dy)
        for k in reversed(range(layer.num_layers)):
            if drows is not None and k < len(self.masks):
                drows = drows * self.masks[k]
            dinputs: list[Array] = []
            for direction, suffix in enumerate(layer._suffixes[k]):
                place = k * (1 + layer.bidirectional) + direction
                dout = None if drows is None else drows[..., direction * H : (direction + 1) * H]
                if dout is not None and direction:
                    dout = steps.reverse(dout)
                dinput, *found, dh = _core.backward(
                    layer._family,
                    self.tapes[suffix],
                    grads.get(suffix),
                    trace,
                    dout,
                    *(a[place][steps.order] for a in dstate),
                    *[None] * (2 - layer._states),
                )
                grads[suffix] = tuple(found[:5])
                for a, d in zip(dstate, found[5:], strict=True):
                    a[place, steps.order] = d
                if trace:
                    dhs["dh" + suffix] = steps.scatter(steps.reverse(dh) if direction else dh)
                if dinput is not None:
                    dinputs.append(steps.reverse(dinput) if direction else dinput)
            drows = sum(dinputs[1:], dinputs[0]) if dinputs else None
        return None if drows is None else steps.scatter(drows), dhs


class RNN(Layer):
    """A stack of plain recurrent nets: ``h = tanh(W_ih x + b_ih + W_hh h' + b_hh)``, or relu.

    Args:
        input_size: I.
        hidden_size: H, at least 1.
        num_layers: L; each layer above the first reads the output of the one below.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are b_ih and b_hh.
        batch_first: whether x and y are (B, T, ...).
        dropout: the share of each layer's outputs but the last's that is zeroed in training, scaling up the others.
        bidirectional: whether a second net reads the sequence from its end; y has the outputs of both.
        dtype: float32 or float64.
        init: ``"uniform"`` between -1/sqrt(H) and 1/sqrt(H), as in PyTorch; or ``"orthogonal"`` for W_hh (Saxe et al.,
            2014), Glorot's for W_ih, and zero biases but for an LSTM's forget gate, 1 (Jozefowicz et al., 2015).
        seed: of the initial weights and of dropout; None is another one each time.

    """

    _family, _gates, _states = "rnn", 1, 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        **options: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
        self.nonlinearity = self._option = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, **options)


class LSTM(Layer):
    """A stack of long short-term memory nets: see :func:`fastrnn.lstm_forward`, and :class:`RNN` for the arguments.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        peepholes: whether the gates look at the cell state (Gers et al., 2002): ``i`` and ``f`` at c', ``o`` at c, each
            through a weight for each unit, ``weight_ch_l{k}`` (3, H) in the order i, f, o.
        coupled: whether ``f = 1 - i`` (Greff et al., 2017). The parameters of f are there, and count nothing.
        cell_clip: the largest absolute value of c; None is no limit.
        options: the rest of :class:`RNN`'s.

    """

    _family, _gates, _states = "lstm", 4, 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        peepholes: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        **options: Any,
    ) -> None:
        for name, flag in (("peepholes", peepholes), ("coupled", coupled)):
            if not isinstance(flag, bool):
                raise TypeError(f"LSTM: {name} is {flag!r}, expected a bool")
        if cell_clip is not None and not cell_clip > 0:
            raise ValueError(f"LSTM: cell_clip is {cell_clip!r}, expected a number above 0, or None")
        self.peepholes = peepholes
        self.coupled = coupled
        self.cell_clip = cell_clip
        self._option = True if peepholes or coupled or cell_clip is not None else None
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _own(self) -> dict[str, tuple[int, ...]]:
        return {"weight_ch": (3, self.hidden_size)} if self.peepholes else {}

    def _vectors(self, suffix: str) -> Array | None:
        if self._option is None:
            return None
        vectors = np.zeros((5, self.hidden_size), self.dtype)
        if self.peepholes:
            vectors[:3] = self._params["weight_ch" + suffix]
        vectors[3] = self.coupled
        vectors[4] = math.inf if self.cell_clip is None else self.cell_clip
        return vectors


class GRU(Layer):
    """A stack of nets of gated recurrent units: see :func:`fastrnn.gru_forward`, and :class:`RNN` for the arguments.

    ``reset_after`` tells whether the reset gate is applied after the product with W_hn, as in PyTorch, or before it.
    """

    _family, _gates, _states = "gru", 3, 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        if not isinstance(reset_after, bool):
            raise TypeError(f"GRU: reset_after is {reset_after!r}, expected a bool")
        self.reset_after = self._option = reset_after
        super().__init__(input_size, hidden_size, num_layers, **options)


class IndRNN(Layer):
    """A stack of independently recurrent nets (Li et al., 2018): ``h = relu(W_ih x + b_ih + u * h')``.

    A unit sees of the step before only itself: u is ``weight_hh_l{k}`` (H,), at first between 0 and 1, and there is no
    ``bias_hh``. See :class:`RNN` for the arguments.
    """

    _family, _gates, _states, _recurrent = "indrnn", 1, 1, False

    def _own(self) -> dict[str, tuple[int, ...]]:
        return {"weight_hh": (self.hidden_size,)}

    def _vectors(self, suffix: str) -> Array:
        return self._params["weight_hh" + suffix][None]

    def _initial(self, name: str, shape: tuple[int, ...], init: str) -> Array:
        if name.startswith("weight_hh"):
            return self.rng.random(shape).astype(self.dtype)
        return super()._initial(name, shape, init)


class MinGRU(Layer):
    """A stack of minimal GRUs (Feng et al., 2024), whose gates do not see h'; see :class:`RNN` for the arguments.

    ``z = sigmoid(W_iz x + b_iz)``, ``n = W_in x + b_in``, ``h = (1 - z) * h' + z * n``. There is neither ``weight_hh``
    nor ``bias_hh``; the blocks of ``weight_ih_l{k}`` (2*H, I) are z, n.
    """

    _family, _gates, _states, _recurrent = "mingru", 2, 1, False


class Stream:
    """Single steps of a layer, bit for bit what one call over all of them gives. Made by :meth:`Layer.stream`.

    ``step(x, out=None)`` returns y (B, H) of the last layer from x (B, I), or tokens (B,). With an ``out`` to write y
    to, it allocates nothing. Not for several threads at once.
    """

    def __init__(self, core: _core.Stream) -> None:
        self._core = core
        # The compiled method itself: a small step takes no longer than a call of a Python function.
        self.step = core.step

    @property
    def state(self) -> State:
        """The state, shaped (L, B, H), or two for an LSTM: a copy to read and keep; assign one to set it."""
        states = self._core.states
        arrays = tuple(np.stack([layer[s] for layer in states]) for s in range(len(states[0])))
        return arrays if len(arrays) > 1 else arrays[0]

    @state.setter
    def state(self, state: State) -> None:
        given = state if isinstance(state, tuple) else (state,)
        states = self._core.states
        shape, dtype = (len(states), *states[0][0].shape), states[0][0].dtype
        expected = f"expected {len(states[0])} of shape (L, B, H) = {shape} and {dtype}"
        if any(not isinstance(a, np.ndarray) or a.dtype != dtype for a in given):
            raise TypeError(f"Stream.state: got {[getattr(a, 'dtype', type(a)) for a in given]}, {expected}")
        if len(given) != len(states[0]) or any(a.shape != shape for a in given):
            raise ValueError(f"Stream.state: got {[a.shape for a in given]}, {expected}")
        for k, layer in enumerate(states):
            for into, a in zip(layer, given, strict=True):
                into[:] = a[k]

    def reset(self, rows: Any = ...) -> None:
        """Zero the states of some rows of the batch: an index as NumPy takes it, all by default."""
        for layer in self._core.states:
            for a in layer:
                a[rows] = 0

    def copy(self) -> "Stream":
        """Return a stream with the same weights and states, that goes its own way."""
        return Stream(self._core.copy())
