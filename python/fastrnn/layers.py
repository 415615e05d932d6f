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
>>> dx.shape, layer.grads["weight_hh_l0"].shape
((50, 4, 16), (128, 32))
>>> call = layer.record(x)  # the same as an object: any number of them may be alive
>>> call.backward(np.ones_like(call.y)).grads["bias_hh_l1"].shape
(128,)
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from . import _core
from ._base import checks
from ._base.checks import Array
from ._base.options import option, warn
from ._layer.initial import initial
from ._layer.noise import Regularisation, expected_zoneout
from ._layer.own import Extended, Independent, Normalised, Own
from ._layer.spec import Family, Shapes, Spec, shapes_of, suffixes_of
from ._layer.weights import Weights, copies, refuse_ties
from .calls import Call, State
from .modules import Module
from .streams import Stream

__all__ = ["GRU", "LSTM", "RNN", "IndRNN", "Layer", "MinGRU", "Stream"]

Zoneout = float | tuple[float, ...]


class Layer(Module):
    """What RNN, LSTM and GRU have in common. Make one of those.

    ``params`` has for layer k ``weight_ih_l{k}`` (G*H, I or D*H) and ``weight_hh_l{k}`` (G*H, H), and, unless ``bias``
    is false, ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (G*H,); with the suffix ``_reverse`` for the other direction.

    ``batch_first``, ``dropout``, ``recurrent_dropout`` and ``zoneout`` may be set later, the other options not.

    Attributes:
        rng: what dropout draws from.

    """

    _family: ClassVar[Family]
    proj_size = 0
    layer_norm = False

    _fixed = frozenset(
        {"input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype", "nonlinearity", "reset_after"}
        | {"layer_norm", "proj_size", "peepholes", "coupled", "cell_clip", "gate_clip"}
    )

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
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        name = self._name
        self.input_size = checks.integer(name, "input_size", input_size, 0)
        self.hidden_size = checks.integer(name, "hidden_size", hidden_size, 1)
        self.num_layers = checks.integer(name, "num_layers", num_layers, 1, 2**16)
        self.bias = checks.boolean(name, "bias", bias)
        self.bidirectional = checks.boolean(name, "bidirectional", bidirectional)
        self.dtype = checks.float_dtype(name, dtype)
        self.batch_first = batch_first
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.zoneout = zoneout
        checks.choice(name, "init", init, ("uniform", "orthogonal"))
        self.rng = checks.seed(name, seed)
        super().__init__()
        numbers = sum(map(math.prod, self._spec.shapes.values()))
        checks.held(name, numbers, self.dtype, "input_size and hidden_size")
        self._take(initial(self._spec, init, self.rng))

    def _checked_dropout(self, name: str, value: Any) -> float:
        p = checks.probability(self._name, name, value)
        if p and self.num_layers == 1:
            warn(f"{self._name}: dropout is {p:g} and num_layers 1: it has no effect, since it comes between layers")
        return p

    def _checked_recurrent_dropout(self, name: str, value: Any) -> float:
        p = checks.share(self._name, name, value)
        if p and not self._family.recurrent:
            raise ValueError(f"{self._name}: recurrent_dropout is {p:g}, and there is no weight_hh")
        return p

    def _checked_zoneout(self, name: str, value: Any) -> Zoneout:
        states = self._family.states
        given = value if isinstance(value, tuple) else (value,) * states
        if len(given) != states:
            raise ValueError(f"{self._name}: zoneout is {value}, expected a number, or {states} in a tuple")
        shares = tuple(checks.share(self._name, name, p) for p in given)
        if any(shares) and self.proj_size:
            raise ValueError(f"{self._name}: zoneout does not go together with proj_size")
        self._zoneouts = shares
        return shares if isinstance(value, tuple) else shares[0]

    _changeable: ClassVar = {
        **Module._changeable,
        "batch_first": option(checks.boolean),
        "rng": option(checks.generator),
        "dropout": _checked_dropout,
        "recurrent_dropout": _checked_recurrent_dropout,
        "zoneout": _checked_zoneout,
    }

    def _cell_name(self) -> str:
        """Return the name of the cell, as the kernels have it."""
        return self._family.name

    def _own(self) -> Own | None:
        """Return what each unit has for itself."""
        return Normalised(self.hidden_size, self.bias) if self.layer_norm else None

    def _forget(self) -> None:
        """Start without what calls have left, and with what follows from the options."""
        super()._forget()
        self._spec = Spec(
            self._name,
            self._family,
            self._cell_name(),
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bias=self.bias and not self.layer_norm,
            bidirectional=self.bidirectional,
            proj_size=self.proj_size,
            own=self._own(),
            dtype=self.dtype,
        )
        self._weights = Weights(self._spec, self._params)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in ("_spec", "_weights")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A copy of a frozen layer is none.
        self._take(copies({name: p for name, p in self._params.items() if not p.flags.writeable}))

    def freeze(self) -> Layer:
        """Promise that parameters stay as they are; return the layer.

        Calls see parameters that have changed in place by reading all of them, which takes some hundredths of a short
        call. Of a frozen layer they need not: its parameters are new arrays that cannot be written to. Copies of the
        layer are not frozen.
        """
        return self._replaced(frozen=True)

    def unfreeze(self) -> Layer:
        """Take back :meth:`freeze`: parameters are new arrays that can be written to; return the layer."""
        return self._replaced(frozen=False)

    def _replaced(self, frozen: bool) -> Layer:
        refuse_ties(self._name, self._params)
        self._take(copies(self._params))
        self._weights.freeze(frozen)
        return self

    def _exchange(self, name: str, value: Any) -> None:
        super()._exchange(name, value)
        if self._weights.frozen:
            self._weights.thaw(but=name)

    # --- calls

    def __call__(
        self,
        x: Array,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        return_sequence: bool = True,
        trace: bool = False,
        recompute: bool = False,
    ) -> tuple[Array, State]:
        """Run all layers over a sequence.

        Args:
            x: (T, B, I), (B, T, I) if ``batch_first``, or (T, I) for one sequence; or tokens, of any integer dtype and
                without the axis I, each a one-hot input of size I.
            state: h_0, and for an LSTM the tuple (h_0, c_0): (L*D, B, H) each, without B for one sequence; None is
                zeros, also for one of the two.
            lengths: (B,), integers from 0 to T: how many steps each sequence has, in any order; None is T. The work
                follows the steps that there are.
            return_sequence: whether y has all steps; else it is (B, D*H), h_n of the last layer, and the last layer's
                steps are not stored.
            trace: whether to leave the states and gates of every step in ``trace``.
            recompute: whether :meth:`backward` is to compute most of what it needs again, a part of the sequence at a
                time: it takes a third more time, and memory that grows with the square root of T. Its results are the
                same, bit for bit unless there are ``lengths``. x must not change until then.

        Returns:
            y, with D*H in the place of I, zero past the end of a sequence; and the state after the last step of each.
            A sequence of length 0 keeps its initial state.

        Raises:
            TypeError: an argument is not an array, or has another dtype than the layer.
            ValueError: a shape does not fit, a length is not in 0 .. T, or a token not in 0 .. I-1; or a layer that is
                bidirectional is to ``recompute``.

        """
        call = self._called(x, state, lengths, return_sequence, trace, recompute, self.training)
        y, state_n = call.y, call.state
        if self.training:
            del call.y, call.state  # which are the caller's
            self._last.keep(call)
        else:
            self._last.look()
        self._last.trace = call.trace
        return y, state_n

    def record(
        self,
        x: Array,
        state: State | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        return_sequence: bool = True,
        trace: bool = False,
        recompute: bool = False,
    ) -> Call:
        """Run all layers over a sequence, with the arguments of a call; return it as an object.

        It has ``y``, ``state`` and ``trace``, and ``backward(dy, dstate)``, which returns dx, dstate and the gradients
        by the parameters, and leaves the layer as it is. Calls do not disturb each other: any number of them may be
        alive, made by any number of threads, in training mode or not.
        """
        return self._called(x, state, lengths, return_sequence, trace, recompute, True)

    def _called(
        self, x: Any, state: Any, lengths: Any, return_sequence: Any, trace: Any, recompute: Any, goes_back: bool
    ) -> Call:
        weights = self._weights
        if weights.frozen:
            weights.look()
        regularisation, dropout = None, self.dropout if self.num_layers > 1 else 0.0
        if dropout or self.recurrent_dropout or any(self._zoneouts):
            rng = self.rng if self.training else None
            regularisation = Regularisation(dropout, self.recurrent_dropout, self._zoneouts, rng)
        return Call(
            self,
            self._spec,
            weights,
            regularisation,
            self.batch_first,
            x,
            state,
            lengths,
            return_sequence,
            trace,
            recompute,
            goes_back=goes_back,
        )

    def backward(
        self, dy: Array | None = None, dstate: State | None = None, *, trace: bool = False
    ) -> tuple[Array | None, State]:
        """Go back through the last call that this thread made in training mode; fill ``grads``.

        Args:
            dy: the gradient by y, of y's shape; None is zeros. What it says past the end of a sequence counts nothing.
            dstate: the gradient by the state that the call returned, of its shape; None is zeros.
            trace: whether to add to ``trace`` the gradient by h of every layer and step, all that comes from later
                steps and upper layers included: ``dh_l{k}``.

        Returns:
            The gradient by x (None for tokens) and that by the initial state.

        Raises:
            RuntimeError: there was no such call; or it has been gone back through, and the last call was in evaluation
                mode.
            TypeError, ValueError: an argument has not the dtype or shape that belongs to it.

        """
        last = self._last
        dx, dstate_0, _ = last.back(self._name, dy, dstate, trace=trace)
        last.trace = last.call.trace
        return dx, dstate_0

    @property
    def trace(self) -> dict[str, Array]:
        """What this thread's last call, or the way back through it, has left with ``trace=True``.

        Every state and gate by name, layer and direction, such as ``c_l0`` or ``i_l1_reverse``, (T, B, H) each with
        axes as x has them, zero past the end of a sequence.
        """
        return self._last.trace

    # --- step by step

    def stream(self, batch: int = 1, *, tokens: bool = False) -> Stream:
        """Return a stream of single steps, with the weights as they are now and zero states.

        ``tokens`` tells whether its inputs are tokens. Only for layers that are not bidirectional.
        """
        name = f"{self._name}.stream"
        if self.bidirectional:
            raise ValueError(f"{name}: a bidirectional layer needs the whole sequence")
        batch = checks.integer(name, "batch", batch, 0, 2**48)
        tokens = checks.boolean(name, "tokens", tokens)
        spec = self._spec
        expected = expected_zoneout(self._zoneouts, spec.hidden_size, spec.dtype)
        weights = [(*of_layer, expected) for of_layer in self._weights.of_steps()]
        core = _core.Stream(spec.cell, weights, batch, tokens, spec.state_sizes[0])
        return Stream(core, f"{self._name}({self._arguments()})", batch, tokens)


def parameter_shapes(kind: type[Layer], input_size: int, hidden_size: int, num_layers: int = 1) -> Shapes:
    """Return the name and shape of every parameter of a layer without further options, which need not be made."""
    suffixes = suffixes_of(num_layers, bidirectional=False)
    return shapes_of(kind._family, input_size, hidden_size, suffixes, bias=True, proj_size=0, own={})


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

    _family = Family("rnn", 1, 1)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        self.nonlinearity = checks.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    def _cell_name(self) -> str:
        return f"rnn_{self.nonlinearity}"


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
        bias, batch_first, dropout, bidirectional, recurrent_dropout, zoneout, dtype, init, seed: see :class:`RNN`.

    """

    _family = Family("lstm", 4, 2)

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
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        self.layer_norm = checks.boolean("LSTM", "layer_norm", layer_norm)
        self.peepholes = checks.boolean("LSTM", "peepholes", peepholes)
        self.coupled = checks.boolean("LSTM", "coupled", coupled)
        self.cell_clip = None if cell_clip is None else checks.positive("LSTM", "cell_clip", cell_clip)
        self.gate_clip = None if gate_clip is None else checks.positive("LSTM", "gate_clip", gate_clip)
        self.proj_size = checks.integer("LSTM", "proj_size", proj_size, 0)
        if proj_size and proj_size >= checks.integer("LSTM", "hidden_size", hidden_size, 1):
            raise ValueError(f"LSTM: proj_size is {proj_size}, expected below hidden_size = {hidden_size}")
        if proj_size and self._is_extended:
            raise ValueError("LSTM: proj_size goes together neither with peepholes nor coupled nor a clip")
        if layer_norm and (proj_size or self._is_extended):
            raise ValueError("LSTM: layer_norm goes together neither with proj_size, peepholes nor coupled nor a clip")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    @property
    def _is_extended(self) -> bool:
        return self.peepholes or self.coupled or self.cell_clip is not None or self.gate_clip is not None

    def _cell_name(self) -> str:
        if self.layer_norm:
            return "lstm_normalised"
        return "lstm_projected" if self.proj_size else "lstm_peephole" if self._is_extended else "lstm"

    def _own(self) -> Own | None:
        if not self._is_extended:
            return super()._own()
        return Extended(self.hidden_size, self.dtype, self.peepholes, self.coupled, self.cell_clip, self.gate_clip)


class GRU(Layer):
    """A stack of nets of gated recurrent units: see :func:`fastrnn.gru_forward`, and :class:`RNN` for the arguments.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        reset_after: whether the reset gate is applied after the product with W_hn, as in PyTorch, or before it.
        layer_norm: whether r's and z's sums and both of n's are normalised over the units (Ba et al., 2016), scaled by
            ``weight_ln_l{k}`` (4, H) and shifted by ``bias_ln_l{k}`` (4, H): of r, z, W_in x and W_hn h'. Needs
            ``reset_after``.
        bias, batch_first, dropout, bidirectional, recurrent_dropout, zoneout, dtype, init, seed: see :class:`RNN`.

    """

    _family = Family("gru", 3, 1)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        layer_norm: bool = False,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        self.reset_after = checks.boolean("GRU", "reset_after", reset_after)
        self.layer_norm = checks.boolean("GRU", "layer_norm", layer_norm)
        if layer_norm and not reset_after:
            raise ValueError("GRU: layer_norm needs reset_after")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    def _cell_name(self) -> str:
        if self.layer_norm:
            return "gru_normalised"
        return "gru_reset_after" if self.reset_after else "gru_reset_before"


class IndRNN(Layer):
    """A stack of independently recurrent nets (Li et al., 2018): ``h = relu(W_ih x + b_ih + u * h')``, or tanh.

    A unit sees of the step before only itself: u is ``weight_hh_l{k}`` (H,), at first between 0 and 1, and there is no
    ``bias_hh``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        nonlinearity: ``"relu"`` or ``"tanh"``.
        bias, batch_first, dropout, bidirectional, zoneout, dtype, init, seed: see :class:`RNN`.
        recurrent_dropout: 0, since there is no product with W_hh.

    """

    _family = Family("indrnn", 1, 1, recurrent=False)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Literal["relu", "tanh"] = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        self.nonlinearity = checks.choice("IndRNN", "nonlinearity", nonlinearity, ("relu", "tanh"))
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    def _own(self) -> Own:
        return Independent(self.hidden_size, is_tanh=self.nonlinearity == "tanh")


class MinGRU(Layer):
    """A stack of minimal GRUs (Feng et al., 2024), whose gates do not see h'.

    ``z = sigmoid(W_iz x + b_iz)``, ``n = W_in x + b_in``, ``h = (1 - z) * h' + z * n``. There is neither ``weight_hh``
    nor ``bias_hh``; the blocks of ``weight_ih_l{k}`` (2*H, I) are z, n. See :class:`RNN` for the arguments, of which
    ``recurrent_dropout`` is 0, since there is no product with W_hh.
    """

    _family = Family("mingru", 2, 1, recurrent=False)
