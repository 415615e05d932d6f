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

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _core
from ._calls import Array, Call, Noise, States, widened
from .modules import Module, dropout_mask

State = Array | tuple[Array, ...]

__all__ = ["GRU", "LSTM", "RNN", "IndRNN", "Layer", "MinGRU", "Stream"]


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
    proj_size: int = 0,
    own: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter of a layer; ``own`` are those that each unit has for itself."""
    rows, P = kind._gates * hidden_size, proj_size or hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for k, suffixes in enumerate(_suffixes(num_layers, bidirectional)):
        for suffix in suffixes:
            shapes["weight_ih" + suffix] = (rows, input_size if k == 0 else len(suffixes) * P)
            if kind._recurrent:
                shapes["weight_hh" + suffix] = (rows, P)
            shapes |= {name + suffix: shape for name, shape in (own or {}).items()}
            if bias:
                shapes["bias_ih" + suffix] = (rows,)
                if kind._recurrent:
                    shapes["bias_hh" + suffix] = (rows,)
            if proj_size:
                shapes["weight_hr" + suffix] = (proj_size, hidden_size)
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
    proj_size = 0
    layer_norm = False

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
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
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
        zoneouts = zoneout if isinstance(zoneout, tuple) else (zoneout,) * self._states
        if len(zoneouts) != self._states:
            raise ValueError(f"{self._name}: zoneout is {zoneout}, expected a number, or {self._states} in a tuple")
        for name, shares in (
            ("dropout", (dropout,)),
            ("recurrent_dropout", (recurrent_dropout,)),
            ("zoneout", zoneouts),
        ):
            if not all(0 <= share < 1 for share in shares):
                given = shares if len(shares) > 1 else shares[0]
                raise ValueError(f"{self._name}: {name} is {given}, expected at least 0 and below 1")
        if recurrent_dropout and not self._recurrent:
            raise ValueError(f"{self._name}: recurrent_dropout is {recurrent_dropout}, and there is no weight_hh")
        if any(zoneouts) and self.proj_size:
            raise ValueError(f"{self._name}: zoneout does not go together with proj_size")
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
        self.recurrent_dropout = recurrent_dropout
        self.zoneout = zoneout
        self._zoneouts = zoneouts
        self._state_sizes = (self.proj_size or hidden_size, hidden_size)[: self._states]  # units of h, and of c
        self._no_c = [None] * (2 - self._states)
        self._suffixes = _suffixes(num_layers, bidirectional)  # of the parameters' names: of layers and directions
        self.dtype = np.dtype(dtype)
        self.rng = np.random.default_rng(seed)
        super().__init__()
        shapes = parameter_shapes(
            type(self),
            input_size,
            hidden_size,
            num_layers,
            bias=bias and not self.layer_norm,
            bidirectional=bidirectional,
            proj_size=self.proj_size,
            own=self._own(),
        )
        self._params = {name: self._initial(name, shape, init) for name, shape in shapes.items()}
        self._forget()

    def _own(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters that each unit has for itself, by name and shape."""
        if not self.layer_norm:
            return {}
        shape = (4, self.hidden_size)
        return {"weight_ln": shape, "bias_ln": shape} if self.bias else {"weight_ln": shape}

    def _vectors(self, suffix: str) -> Array | None:
        """Return what the kernels know as the units' own parameters: (V, H), the learned ones first, as in _own."""
        if not self.layer_norm:
            return None
        gain = self._params["weight_ln" + suffix]
        return np.concatenate([gain, self._params.get("bias_ln" + suffix, np.zeros_like(gain))])

    @property
    def _is_noisy(self) -> bool:
        return self.dropout > 0 or self.recurrent_dropout > 0 or any(self._zoneouts)

    def _regularised(
        self, suffix: str, noise: Noise | None, batch: int, order: Any, rows: Array
    ) -> tuple[Array | None, ...] | None:
        """Return what the kernels know of recurrent dropout and zoneout, without ``noise`` what is to be expected.

        That is a mask (B, H) and, for each state, how much of its change it takes over: (N, H) of all ``rows``, or (1,
        H). ``order`` is that of the sequences among the rows.
        """
        if not (self.recurrent_dropout or any(self._zoneouts)):
            return None
        H = self.hidden_size
        if noise is None:
            return (None, *(np.full((1, H), 1 - p, self.dtype) if p else None for p in self._zoneouts))
        mask = None
        if self.recurrent_dropout:
            of_h = (batch, self._state_sizes[0])
            ones = dropout_mask(noise.first("recurrent_dropout", suffix), self.recurrent_dropout, of_h, self.dtype)
            mask = widened(ones[order], H)
        keeps: States = [None for _ in self._zoneouts]
        if any(self._zoneouts):
            count = len(rows) * (batch if isinstance(order, slice) else 1)
            drawn = noise.numbers("zoneout", suffix, count, len(keeps) * H)
            for s, p in enumerate(self._zoneouts):
                if p:
                    keeps[s] = (drawn[:, s * H : (s + 1) * H] >= round(p * 2**32)).astype(self.dtype)
        return (mask, *keeps)

    def _initial(self, name: str, shape: tuple[int, ...], init: str) -> Array:
        H = self.hidden_size
        if name.startswith("weight_ln"):
            return np.ones(shape, self.dtype)
        if name.startswith("bias_ln"):
            values = np.zeros(shape)
            values[1] = init == "orthogonal" and self._family == "lstm"
            return values.astype(self.dtype)
        if init == "uniform":
            return self.rng.uniform(-(H**-0.5), H**-0.5, shape).astype(self.dtype)
        if name.startswith(("bias", "weight_ch")):
            values = np.zeros(shape)
            if self._family == "lstm" and name.startswith("bias_ih"):
                values[H : 2 * H] = 1
        elif name.startswith("weight_hh"):
            square = (H, shape[1])
            values = np.concatenate([np.linalg.qr(self.rng.standard_normal(square))[0] for _ in range(self._gates)])
        else:
            limit = math.sqrt(6 / (shape[1] + (shape[0] if name.startswith("weight_hr") else H)))
            values = self.rng.uniform(-limit, limit, shape)
        return values.astype(self.dtype)

    def _forget(self, frozen: bool = False) -> None:
        """Start without what the last call left."""
        self._frozen = dict(self._params) if frozen else {}
        self._kept = {suffix: _core.KeptWeights(frozen) for suffixes in self._suffixes for suffix in suffixes}
        self._call: Call | None = None
        self.trace: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_frozen", "_kept", "_call", "trace")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        w_hh = self._params["weight_hh" + suffix] if self._recurrent else None
        if w_hh is not None and self.proj_size:
            both = [(name + suffix, self._params[name + suffix]) for name in ("weight_hh", "weight_hr")]
            expected = (4 * self.hidden_size, self.proj_size), (self.proj_size, self.hidden_size)
            for (name, w), shape in zip(both, expected, strict=True):
                if w.shape != shape:  # which could not be seen any more
                    raise ValueError(f"{self._name}: {name} has shape {w.shape}, expected {shape}")
            w_hh = np.concatenate([w.ravel() for _, w in both])  # W_hr is a gate more: see csrc/cells/lstm.h
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
        if self._frozen and any(self._params[name] is not p or p.flags.writeable for name, p in self._frozen.items()):
            self._forget()  # the promise was not kept
        call = Call(self, x, lengths, return_sequence, trace, recompute and self.training)
        y, state_n = call.run(self._rows_of_state("state", state, call))
        self._call = call if self.training else None
        return y, self._as_state(state_n, call)

    def _rows_of_state(self, what: str, state: State | None, call: Call) -> States:
        """(L*D, B, H) of each state, or None."""
        if state is None:
            return [None] * self._states
        given = state if isinstance(state, tuple) else (state,)
        if len(given) != self._states:
            expected = "the tuple (h, c)" if self._states == 2 else "an array"
            raise TypeError(f"{self._name}: {what} has {len(given)} parts, expected {expected}")
        arrays: States = []
        for a, size in zip(given, self._state_sizes, strict=True):
            shape = (len(self._kept), call.batch, size)
            if not isinstance(a, np.ndarray) or a.dtype != self.dtype:
                got = a.dtype if isinstance(a, np.ndarray) else type(a).__name__
                raise TypeError(f"{self._name}: {what} is {got}, expected arrays of {self.dtype}")
            a = a[:, None] if call.single and a.ndim == 2 else a
            if a.shape != shape:
                letters = "(L*D, B, P)" if size != self.hidden_size else "(L*D, B, H)"
                raise ValueError(f"{self._name}: {what} has shape {a.shape}, expected {letters} = {shape}")
            arrays.append(a)
        return arrays

    def _as_state(self, arrays: Sequence[Array], call: Call) -> State:
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
        regularised = self._regularised("", None, batch, ..., np.empty(0))
        weights = []
        for k, (suffix,) in enumerate(self._suffixes):
            w_ih, *others = self._weights(suffix)
            w_ih = widened(w_ih, self.hidden_size) if k > 0 else w_ih
            weights.append((w_ih, *others, self._vectors(suffix), regularised))
        sizes = self._state_sizes
        return Stream(_core.Stream(self._family, self._option, weights, batch, tokens, sizes[0]), sizes)


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
        recurrent_dropout: the share of each layer's h' that is zeroed on its way to W_hh in training, scaling up the
            others: the same units in all steps of a call (Gal and Ghahramani, 2016).
        zoneout: the share of each layer's states that a step in training leaves as they were, other units in each
            step; else a step takes the mean of both (Krueger et al., 2017). Of an LSTM also a tuple, of h and of c.
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
        layer_norm: whether each gate's sum is normalised over the units (Ba et al., 2016), scaled by ``weight_ln_l{k}``
            (4, H) and shifted by ``bias_ln_l{k}`` (4, H), in place of the other biases. Goes together with none of what
            follows.
        proj_size: P, if above 0: ``h = W_hr (o * tanh(c))`` of P < H numbers, ``weight_hr_l{k}`` (P, H), takes the
            place of h (Sak et al., 2014). Goes together with none of what follows, nor with zoneout.
        peepholes: whether the gates look at the cell state (Gers et al., 2002): ``i`` and ``f`` at c', ``o`` at c, each
            through a weight for each unit, ``weight_ch_l{k}`` (3, H) in the order i, f, o.
        coupled: whether ``f = 1 - i`` (Greff et al., 2017). The parameters of f are there, and count nothing.
        cell_clip: the largest absolute value of c; None is no limit.
        gate_clip: the largest absolute value of what goes into the activations of the gates, ONNX's ``clip``; None is
            no limit.
        options: the rest of :class:`RNN`'s.

    """

    _family, _gates, _states = "lstm", 4, 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        layer_norm: bool = False,
        proj_size: int = 0,
        peepholes: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        **options: Any,
    ) -> None:
        for name, flag in (("layer_norm", layer_norm), ("peepholes", peepholes), ("coupled", coupled)):
            if not isinstance(flag, bool):
                raise TypeError(f"LSTM: {name} is {flag!r}, expected a bool")
        for name, clip in (("cell_clip", cell_clip), ("gate_clip", gate_clip)):
            if clip is not None and not clip > 0:
                raise ValueError(f"LSTM: {name} is {clip!r}, expected a number above 0, or None")
        if not isinstance(proj_size, int) or isinstance(proj_size, bool):
            raise TypeError(f"LSTM: proj_size is {proj_size!r}, expected an int")
        if proj_size and not 0 < proj_size < hidden_size:
            raise ValueError(f"LSTM: proj_size is {proj_size}, expected at least 0 and below hidden_size")
        extended = peepholes or coupled or cell_clip is not None or gate_clip is not None
        if proj_size and extended:
            raise ValueError("LSTM: proj_size goes together neither with peepholes nor coupled nor a clip")
        if layer_norm and (proj_size or extended):
            raise ValueError("LSTM: layer_norm goes together neither with proj_size, peepholes nor coupled nor a clip")
        self.layer_norm = layer_norm
        self.proj_size = proj_size
        self.peepholes = peepholes
        self.coupled = coupled
        self.cell_clip = cell_clip
        self.gate_clip = gate_clip
        self._option = "normalised" if layer_norm else "projected" if proj_size else "peephole" if extended else None
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _own(self) -> dict[str, tuple[int, ...]]:
        return {"weight_ch": (3, self.hidden_size)} if self.peepholes else super()._own()

    def _vectors(self, suffix: str) -> Array | None:
        if self._option != "peephole":
            return super()._vectors(suffix)
        vectors = np.zeros((6, self.hidden_size), self.dtype)
        if self.peepholes:
            vectors[:3] = self._params["weight_ch" + suffix]
        vectors[3] = self.coupled
        vectors[4] = math.inf if self.cell_clip is None else self.cell_clip
        vectors[5] = math.inf if self.gate_clip is None else self.gate_clip
        return vectors


class GRU(Layer):
    """A stack of nets of gated recurrent units: see :func:`fastrnn.gru_forward`, and :class:`RNN` for the arguments.

    ``reset_after`` tells whether the reset gate is applied after the product with W_hn, as in PyTorch, or before it.
    With ``layer_norm``, r's and z's sums and both of n's are normalised over the units (Ba et al., 2016), scaled by
    ``weight_ln_l{k}`` (4, H) and shifted by ``bias_ln_l{k}`` (4, H): of r, z, W_in x and W_hn h'.
    """

    _family, _gates, _states = "gru", 3, 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        layer_norm: bool = False,
        **options: Any,
    ) -> None:
        for name, flag in (("reset_after", reset_after), ("layer_norm", layer_norm)):
            if not isinstance(flag, bool):
                raise TypeError(f"GRU: {name} is {flag!r}, expected a bool")
        if layer_norm and not reset_after:
            raise ValueError("GRU: layer_norm needs reset_after")
        self.reset_after = reset_after
        self.layer_norm = layer_norm
        self._option = "normalised" if layer_norm else reset_after
        super().__init__(input_size, hidden_size, num_layers, **options)


class IndRNN(Layer):
    """A stack of independently recurrent nets (Li et al., 2018): ``h = relu(W_ih x + b_ih + u * h')``, or tanh.

    A unit sees of the step before only itself: u is ``weight_hh_l{k}`` (H,), at first between 0 and 1, and there is no
    ``bias_hh``. See :class:`RNN` for the arguments.
    """

    _family, _gates, _states, _recurrent = "indrnn", 1, 1, False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Literal["relu", "tanh"] = "relu",
        **options: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"IndRNN: nonlinearity is {nonlinearity!r}, expected 'relu' or 'tanh'")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, **options)

    def _own(self) -> dict[str, tuple[int, ...]]:
        return {"weight_hh": (self.hidden_size,)}

    def _vectors(self, suffix: str) -> Array:
        u = self._params["weight_hh" + suffix]
        return np.stack([u, np.full_like(u, self.nonlinearity == "tanh")])

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

    def __init__(self, core: _core.Stream, sizes: tuple[int, ...]) -> None:
        self._core = core
        self._sizes = sizes  # of the states; the core's have H units each
        # The compiled method itself: a small step takes no longer than a call of a Python function.
        self.step = core.step

    @property
    def state(self) -> State:
        """The state, shaped (L, B, H), or two for an LSTM: a copy to read and keep; assign one to set it."""
        states = self._core.states
        arrays = tuple(np.stack([layer[s][:, :size] for layer in states]) for s, size in enumerate(self._sizes))
        return arrays if len(arrays) > 1 else arrays[0]

    @state.setter
    def state(self, state: State) -> None:
        given = state if isinstance(state, tuple) else (state,)
        states = self._core.states
        (batch, _), dtype = states[0][0].shape, states[0][0].dtype
        shapes = [(len(states), batch, size) for size in self._sizes]
        expected = f"expected (L, B, H) = {' and '.join(map(str, shapes))} of {dtype}"
        if any(not isinstance(a, np.ndarray) or a.dtype != dtype for a in given):
            raise TypeError(f"Stream.state: got {[getattr(a, 'dtype', type(a)) for a in given]}, {expected}")
        if [a.shape for a in given] != shapes:
            raise ValueError(f"Stream.state: got {[a.shape for a in given]}, {expected}")
        for k, layer in enumerate(states):
            for into, a in zip(layer, given, strict=True):
                into[:, : a.shape[-1]] = a[k]

    def reset(self, rows: Any = ...) -> None:
        """Zero the states of some rows of the batch: an index as NumPy takes it, all by default."""
        for layer in self._core.states:
            for a in layer:
                a[rows] = 0

    def copy(self) -> "Stream":
        """Return a stream with the same weights and states, that goes its own way."""
        return Stream(self._core.copy(), self._sizes)
