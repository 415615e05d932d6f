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

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from . import _core
from ._base import checks
from ._base.checks import Array
from ._base.described import Description
from ._base.options import option, warn
from ._base.uses import USES
from ._layer.activations import DEFAULTS, full, options_of, plain, without_gradient
from ._layer.calibration import calibrate_kept
from ._layer.formats import FORMATS as FORMATS  # which the command line has, too, and convert what follows
from ._layer.formats import LONGEST_ROW as LONGEST_ROW
from ._layer.formats import SCALE as SCALE
from ._layer.formats import Format as Format
from ._layer.formats import as_kept, bfloat16, kept_as
from ._layer.formats import in_float32 as in_float32
from ._layer.initial import initial
from ._layer.noise import Regularisation, expected_zoneout
from ._layer.own import Independent, Normalised, Own, Peepholes
from ._layer.packed import PackedParams
from ._layer.spec import Family, Shapes, Spec, shapes_of, suffixes_of
from ._layer.weights import Weights, copies, refuse_ties
from .calls import Call, State
from .modules import Module
from .streams import Stream

__all__ = ["GRU", "LSTM", "RNN", "IndRNN", "Layer", "MinGRU", "Stream"]

Zoneout = float | tuple[float, ...]
Activations = tuple[Any, ...]  # (f, ...): names, or tuples of a name and its parameters; or two such tuples
Cell = tuple[str, Sequence[_core.CellOptions | None]]  # as the kernels have it; of each direction


def _checked_masked_output(owner: str, name: str, value: Any) -> str:
    return checks.choice(owner, name, value, ("repeat", "zero"))


class Layer(Module):
    """What RNN, LSTM and GRU have in common. Make one of those.

    ``params`` has for layer k ``weight_ih_l{k}`` (G*H, I or D*H) and ``weight_hh_l{k}`` (G*H, H), and, unless ``bias``
    is false, ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (G*H,); with ``learn_state`` ``h_0_l{k}`` and, of an LSTM,
    ``c_0_l{k}`` (H,); with the suffix ``_reverse`` for the other direction of a bidirectional layer.

    ``batch_first``, ``dropout``, ``recurrent_dropout``, ``zoneout`` and ``masked_output`` may be set later, the other
    options not.

    Attributes:
        rng: what dropout draws from.

    """

    _family: ClassVar[Family]
    proj_size = 0
    layer_norm = False
    activations: Activations | None = None
    gate_clip: float | None = None

    _fixed = frozenset(
        {"input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype", "nonlinearity", "reset_after"}
        | {"layer_norm", "proj_size", "peepholes", "coupled", "cell_clip", "gate_clip", "activations", "reverse"}
        | {"learn_state"}
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
        reverse: bool = False,
        learn_state: bool = False,
        masked_output: Literal["repeat", "zero"] = "repeat",
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
        self.reverse = checks.boolean(name, "reverse", reverse)
        if reverse and bidirectional:
            raise ValueError(f"{name}: reverse does not go together with bidirectional, which has that direction too")
        self.learn_state = checks.boolean(name, "learn_state", learn_state)
        self.dtype = checks.float_dtype(name, dtype)
        self.batch_first = batch_first
        self.masked_output = masked_output
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

    def _checked_training(self, name: str, value: Any) -> bool:
        training = checks.boolean(self._name, name, value)
        if training:
            self._refuse_format("train")
        return training

    _format: Format = "float32"

    _changeable: ClassVar = {
        **Module._changeable,
        "training": _checked_training,
        "batch_first": option(checks.boolean),
        "masked_output": option(_checked_masked_output),
        "rng": option(checks.generator),
        "dropout": _checked_dropout,
        "recurrent_dropout": _checked_recurrent_dropout,
        "zoneout": _checked_zoneout,
    }

    def _cell(self) -> Cell:
        """Return the name of the cell, and its options in each direction."""
        return self._family.name, self._no_options

    @property
    def _directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def _no_options(self) -> Sequence[None]:
        return (None,) * self._directions

    def _take_activations(self, activations: Any, gate_clip: Any) -> None:
        """Check what makes a cell a general one; it is complete before the rest is made."""
        self.activations = plain(activations)
        self.gate_clip = None if gate_clip is None else checks.positive(self._name, "gate_clip", gate_clip)

    def _full_activations(self) -> list[tuple[Any, ...]]:
        """Return the activations of each direction with their parameters."""
        family = self._family.name
        given = DEFAULTS[family] if self.activations is None else self.activations
        return full(self._name, given, family, self._directions, self.dtype)

    @property
    def _is_general(self) -> bool:
        """Whether it takes a cell whose activations are data."""
        names = {tuple(name for name, *_ in each) for each in self._full_activations()}
        return names != {DEFAULTS[self._family.name]} or self.gate_clip is not None

    def _general(self, cell: str, **options: Any) -> Cell:
        each = self._full_activations()
        return cell, [options_of(cell, activations, self.gate_clip, **options) for activations in each]

    def _own(self) -> Own | None:
        """Return what each unit has for itself."""
        return Normalised(self.hidden_size, self.bias) if self.layer_norm else None

    def _forget(self) -> None:
        """Start without what calls have left, and with what follows from the options."""
        super()._forget()
        cell, options = self._cell()
        self._spec = Spec(
            self._name,
            self._family,
            cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            bias=self.bias and not self.layer_norm,
            bidirectional=self.bidirectional,
            reverse=self.reverse,
            learn_state=self.learn_state,
            proj_size=self.proj_size,
            options=options,
            without_gradient=without_gradient(self._full_activations()) if self.activations is not None else None,
            own=self._own(),
            dtype=self.dtype,
        )
        packed = isinstance(self._params, PackedParams)
        self._weights: Any = self._params if packed else Weights(self._spec, self._params)

    def _unlike(self, part: Description) -> str:
        other = super()._unlike(part)
        here, there = self._computing(self._made_with(self._kind)), self._computing(part.get("options", {}))
        different = [name for name in here if here[name] != there[name]]
        if other or not different:
            return other
        name = different[0]
        return f"{name} is {here[name]!r}, and {there[name]!r} in the file"

    def _computing(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return, of these options, those that names and shapes of parameters do not show, however they are written."""
        found: dict[str, Any] = {name: options.get(name) for name in ("gate_clip", "cell_clip")}
        found |= {name: options.get(name, False) for name in ("coupled", "reverse")}
        found["reset_after"] = options.get("reset_after", True)
        zoneout = options.get("zoneout", 0.0)
        found["zoneout"] = zoneout if isinstance(zoneout, tuple) else (zoneout,) * self._family.states
        nonlinearity = self._kind.__signature__.parameters.get("nonlinearity")
        usual = DEFAULTS.get(self._family.name)
        if nonlinearity is not None:
            usual = (options.get("nonlinearity", nonlinearity.default),)
        activations = options.get("activations", usual)
        try:
            each = full(self._name, activations, self._family.name, self._directions, self.dtype)
            # Those are the numbers that the kernels get.
            both = [[(name, *map(float, np.array(p, self.dtype))) for name, *p in direction] for direction in each]
        except (KeyError, TypeError, ValueError):  # of a file that says anything, or of a family that has no choice
            both = activations
        return found | {"activations": both}

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in super().__getstate__().items() if name not in ("_spec", "_weights")}
        return state | {"_params": dict(self._params)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._format != "float32":
            self._keep(dict(self._params), self._format)
            return
        # A copy of a frozen layer is none.
        self._take(copies({name: p for name, p in self._params.items() if not p.flags.writeable}))

    @property
    def weights(self) -> Format:
        """How the weights are kept: ``"float32"``, as the layer's dtype has them, or as :meth:`freeze` was told."""
        return self._format

    def freeze(self, weights: Format = "float32", *, calibrate: Array | None = None) -> Layer:
        """Promise that parameters stay as they are, and perhaps keep less of them; return the layer.

        Calls see parameters that have changed in place by reading all of them, which takes some hundredths of a short
        call. Of a frozen layer they need not: its parameters are new arrays that cannot be written to. Copies of the
        layer are not frozen, unless weights have fewer bits.

        With ``weights`` of fewer bits a layer is smaller and faster, and a little off: docs/precision.md says how much.
        It is then for inference alone, in evaluation mode, and so are its copies and what is saved of it: the float32
        weights are gone; freeze a copy (``copy.copy``) to keep them. Weights are kept once, packed for the kernels:
        ``params`` has new read-only arrays for whoever asks. x, y, states and biases stay float32. A row of x, or of h,
        is rounded in the same way in each product.

        Args:
            weights: ``"float32"`` leaves them as they are; ``"bfloat16"`` keeps the upper half of each (this takes the
                package ml_dtypes); ``"int8"`` keeps integers from -127 to 127 and a scale for each row, ``params`` then
                has ``weight_hh_l0`` and ``weight_hh_l0_scale``.
            calibrate: with ``"int8"``, an x of a call, such as the layer will be given: some thousand steps. W_ih and
                W_hh are then rounded so that products with it, and with the states that it leads to, change least.

        Raises:
            TypeError, ValueError: ``calibrate`` has not the dtype or shape of an x.
            ValueError: ``weights`` is none of these; the layer is float64, has weights of another format, or shares
                some with another module; there is ``calibrate`` without int8, or of a layer that has it already, or it
                leads to states that are not finite.
            ImportError: ml_dtypes is not installed.

        """
        self._check_freeze(weights)
        if calibrate is not None and (weights != "int8" or self._format == "int8"):
            raise ValueError(
                f"{self._name}.freeze: calibrate is for a layer with float32 weights that is to have int8 ones, and "
                f"here they are {self._format}, to be {weights}"
            )
        if weights == "float32":
            return self._replaced(frozen=True)
        if weights != self._format:
            kept = kept_as(f"{self._name}.freeze", weights, self._params)
            if calibrate is not None:
                self._calibrate(kept, calibrate)
            self._keep(kept, weights)
        return self

    def _calibrate(self, kept: dict[str, Array], x: Array) -> None:
        """Round what int8 keeps of the parameters anew, for a call with x."""
        name = f"{self._name}.freeze: calibrate"
        layer: Any = copy.copy(self).eval()
        try:
            call = layer._called(x, None, None, None, None, True, True, False, False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} is to be an x of a call: {error}") from None
        if call.T * call.batch == 0:
            raise ValueError(f"{name} has no steps, expected some thousand such as the layer will be given")
        time_axis = 1 if self.batch_first and not call.single else 0
        reset_after = getattr(self, "reset_after", True)
        dense = None if call.tokens else x
        calibrate_kept(name, self._spec, self._params, kept, dense, call.trace, time_axis, reset_after)

    def _check_freeze(self, weights: Any) -> None:
        """Raise where freeze(weights) cannot be done, which must not be found out half-way."""
        name = f"{self._name}.freeze"
        checks.choice(name, "weights", weights, FORMATS)
        if weights == self._format != "float32":
            return
        if self._format != "float32":
            raise ValueError(
                f"{name}: weights is {weights!r}, and the layer has {self._format} weights, of which there is no way "
                "back: take the float32 layer that they were made of, or a new one with their values "
                "(docs/precision.md)"
            )
        if weights != "float32" and self.dtype != np.float32:
            raise ValueError(f"{name}: weights is {weights!r}, and the layer is {self.dtype}, expected float32")
        refuse_ties(self._name, self._params)
        if weights == "bfloat16":
            bfloat16(name)

    def _keep(self, arrays: dict[str, Array], weights: Format) -> None:
        """Have these arrays, as a format keeps them, packed in the place of the parameters."""
        packed = PackedParams(self._spec, weights, arrays)
        USES.end(self._arrays())
        self._params = packed
        self._format = weights
        self.eval()
        self._forget()

    def _arrays(self) -> Iterable[Array]:
        return super()._arrays() if self._format == "float32" else ()

    def _sizes(self) -> dict[int, int]:
        if self._format == "float32":
            return super()._sizes()
        return {id(self._params): sum(map(math.prod, self._spec.shapes.values()))}

    def _made(self) -> str:
        return super()._made() + ("" if self._format == "float32" else f".freeze(weights={self._format!r})")

    def unfreeze(self) -> Layer:
        """Take back :meth:`freeze`: parameters are new arrays that can be written to; return the layer.

        Raises ValueError where weights have fewer bits than they had.
        """
        self._refuse_format("unfreeze")
        return self._replaced(frozen=False)

    def _inside(self) -> Description:
        return super()._inside() | ({} if self._format == "float32" else {"weights": self._format})

    def _as_kept(self, arrays: Mapping[str, Array], weights: Any) -> dict[str, Array]:
        return as_kept(self._name, weights, self._spec.shapes, arrays)

    def _refuse_format(self, name: str) -> None:
        if self._format != "float32":
            raise ValueError(
                f"{self._name}.{name}: the layer was frozen with {self._format} weights, for inference alone, in "
                "evaluation mode, eval(): to train or change it, take the float32 layer that they were made of, or a "
                "new one with their values (docs/precision.md)"
            )

    def _replaced(self, frozen: bool) -> Layer:
        refuse_ties(self._name, self._params)
        self._take(copies(self._params))
        self._weights.freeze(frozen)
        return self

    def _exchange(self, name: str, value: Any) -> None:
        self._refuse_format(f"params[{name!r}]")
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
        mask: npt.ArrayLike | None = None,
        masked_output: Literal["repeat", "zero"] | None = None,
        return_sequence: bool = True,
        trace: bool = False,
        recompute: bool = False,
    ) -> tuple[Array, State]:
        """Run all layers over a sequence.

        Args:
            x: (T, B, I), (B, T, I) if ``batch_first``, or (T, I) for one sequence; or tokens, of any integer dtype and
                without the axis I, each a one-hot input of size I.
            state: h_0, and for an LSTM the tuple (h_0, c_0): (L*D, B, H) each, without B for one sequence; None is
                zeros, or with ``learn_state`` what the layer has learned, also for one of the two.
            lengths: (B,), integers from 0 to T: how many steps each sequence has, in any order; None is T. The work
                follows the steps that there are.
            mask: (T, B), (B, T) if ``batch_first``, or (T,) for one sequence, of bools: which steps count; None is all.
                A step that does not keeps the state, wherever it stands. The work follows the steps that count.
            masked_output: what y is at steps that the mask leaves out: ``"repeat"``, the output of the last step before
                that counts, as the direction reads them, zero if there is none; or ``"zero"``. None is as the layer has
                it.
            return_sequence: whether y has all steps; else it is (B, D*H), h_n of the last layer, and the last layer's
                steps are not stored.
            trace: whether to leave the states and gates of every step in ``trace``.
            recompute: whether :meth:`backward` is to compute most of what it needs again, a part of the sequence at a
                time: it takes a third more time, and memory that grows with the square root of T. Its results are the
                same, bit for bit unless there are ``lengths``, a ``mask`` or ``reverse``; with lengths or a mask
                dropout and zoneout draw other numbers. x must not change until then.

        Returns:
            y, with D*H in the place of I, zero past the end of a sequence; and the state after the last step of each.
            A sequence of length 0 keeps its initial state.

        Raises:
            TypeError: an argument is not an array, or has another dtype than the layer.
            ValueError: a shape does not fit, a length is not in 0 .. T, or a token not in 0 .. I-1; or a layer that is
                bidirectional is to ``recompute``.

        """
        plain = return_sequence is True and trace is recompute is False
        if plain and state is lengths is mask is masked_output is None:
            found = self._called_shortly(x)
            if found is not None:
                return found
        call = self._called(x, state, lengths, mask, masked_output, return_sequence, trace, recompute, self.training)
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
        mask: npt.ArrayLike | None = None,
        masked_output: Literal["repeat", "zero"] | None = None,
        return_sequence: bool = True,
        trace: bool = False,
        recompute: bool = False,
    ) -> Call:
        """Run all layers over a sequence, with the arguments of a call; return it as an object.

        It has ``y``, ``state`` and ``trace``, and ``backward(dy, dstate)``, which returns dx, dstate and the gradients
        by the parameters, and leaves the layer as it is. Calls do not disturb each other: any number of them may be
        alive, made by any number of threads, in training mode or not.
        """
        return self._called(x, state, lengths, mask, masked_output, return_sequence, trace, recompute, True)

    def _called_shortly(self, x: Any) -> tuple[Array, State] | None:
        """Return what the plain call of a single net gives, whose overhead counts; None where it is another."""
        spec, weights = self._spec, self._weights
        if self.training or not spec.is_plain or self.batch_first or any(self._zoneouts):
            return None
        if type(x) is not np.ndarray or x.dtype is not spec.dtype or x.ndim != 3:
            return None
        T, batch, width = x.shape
        if width != spec.input_size or max(T, 1) * batch > 2**31:
            return None
        if weights.frozen:
            weights.look()
        suffix = spec.suffixes[0][0]
        w_ih, w_hh, b_ih, b_hh, vectors = weights.known(suffix)
        y, *states, _ = _core.forward(
            spec.cell,
            False,
            True,
            weights.kept[suffix],
            None,
            x,
            w_ih,
            w_hh,
            b_ih,
            b_hh,
            None,
            None,
            vectors,
            spec.options[0],
            None,
        )
        self._last.look()
        self._last.trace = {}
        state: Any = tuple(a[None] for a in states) if len(states) > 1 else states[0][None]
        return y, state

    def _called(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        mask: Any,
        masked_output: Any,
        return_sequence: Any,
        trace: Any,
        recompute: Any,
        goes_back: bool,
    ) -> Call:
        weights = self._weights
        if weights.frozen:
            weights.look()
            if goes_back:
                self._refuse_format("record")
        at_masked: str = self.masked_output
        if masked_output is not None:
            at_masked = _checked_masked_output(self._name, "masked_output", masked_output)
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
            mask,
            at_masked == "repeat",
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
        """Return a stream of single steps, with the weights as they are now and the states that a call begins with.

        ``tokens`` tells whether its inputs are tokens. Only for layers that read sequences from their start.
        """
        name = f"{self._name}.stream"
        if self.bidirectional or self.reverse:
            kind = "a bidirectional layer" if self.bidirectional else "a layer with reverse=True"
            raise ValueError(f"{name}: {kind} needs the whole sequence")
        batch = checks.integer(name, "batch", batch, 0, 2**48)
        tokens = checks.boolean(name, "tokens", tokens)
        spec = self._spec
        expected = expected_zoneout(self._zoneouts, spec.hidden_size, spec.dtype)
        weights = [(*known, expected, initial, kept) for known, initial, kept in self._weights.of_steps()]
        core = _core.Stream(spec.cell, spec.options[0], weights, batch, tokens, spec.state_sizes[0])
        return Stream(core, self._made(), batch, tokens)


def parameter_shapes(kind: type[Layer], input_size: int, hidden_size: int, num_layers: int = 1) -> Shapes:
    """Return the name and shape of every parameter of a layer without further options, which need not be made."""
    suffixes = suffixes_of(num_layers, bidirectional=False)
    return shapes_of(kind._family, input_size, hidden_size, suffixes, bias=True, proj_size=0, own={}, states={})


class RNN(Layer):
    """A stack of plain recurrent nets: ``h = tanh(W_ih x + b_ih + W_hh h' + b_hh)``, or relu.

    Args:
        input_size: I.
        hidden_size: H, at least 1.
        num_layers: L; each layer above the first reads the output of the one below.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        activations: another f in place of tanh, ``(f,)``: the name of one of ONNX's activations in snake_case, such as
            ``"softsign"``, or a tuple of its name and parameters, such as ``("hard_sigmoid", 0.2, 0.5)``; for both
            directions of a bidirectional layer a tuple of two such tuples, else both have the same.
        gate_clip: the largest absolute value of what goes into f, ONNX's ``clip``; None is no limit.
        bias: whether there are b_ih and b_hh.
        batch_first: whether x and y are (B, T, ...).
        dropout: the share of each layer's outputs but the last's that is zeroed in training, scaling up the others.
        bidirectional: whether a second net reads the sequence from its end; y has the outputs of both.
        reverse: whether the only net reads each sequence from its own end; y has its outputs at their time steps.
        learn_state: whether the initial states are parameters, at first zeros.
        masked_output: see :meth:`Layer.__call__`.
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
        activations: Activations | None = None,
        gate_clip: float | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reverse: bool = False,
        learn_state: bool = False,
        masked_output: Literal["repeat", "zero"] = "repeat",
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        self.nonlinearity = checks.choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        self._take_activations(activations, gate_clip)
        if activations is not None and nonlinearity != "tanh":
            raise ValueError(f"RNN: nonlinearity is {nonlinearity!r} and there are activations: leave one of them out")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            reverse=reverse,
            learn_state=learn_state,
            masked_output=masked_output,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    def _full_activations(self) -> list[tuple[Any, ...]]:
        if self.activations is None:
            return [((self.nonlinearity, 0.0, 0.0),)] * self._directions
        return super()._full_activations()

    def _cell(self) -> Cell:
        names = {name for ((name, *_),) in self._full_activations()}
        if len(names) == 1 and names <= {"tanh", "relu"} and self.gate_clip is None:
            return f"rnn_{names.pop()}", self._no_options
        return self._general("rnn_general")


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
            place of h (Sak et al., 2014). Does not go together with zoneout.
        peepholes: whether the gates look at the cell state (Gers et al., 2002): ``i`` and ``f`` at c', ``o`` at c, each
            through a weight for each unit, ``weight_ch_l{k}`` (3, H) in the order i, f, o.
        coupled: whether ``f = 1 - i`` (Greff et al., 2017). The parameters of f are there, and count nothing.
        cell_clip: the largest absolute value of c; None is no limit.
        gate_clip: the largest absolute value of what goes into the activations of the gates, ONNX's ``clip``; None is
            no limit.
        activations: others, ``(f, g, h)``: ``i, f, o = f(...)``, ``g = g(...)`` and ``h = o * h(c)``; see :class:`RNN`.
        bias, batch_first, dropout, bidirectional, reverse, learn_state: see :class:`RNN`.
        masked_output, recurrent_dropout, zoneout, dtype, init, seed: see there.

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
        activations: Activations | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reverse: bool = False,
        learn_state: bool = False,
        masked_output: Literal["repeat", "zero"] = "repeat",
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
        self._take_activations(activations, gate_clip)
        self.proj_size = checks.integer("LSTM", "proj_size", proj_size, 0)
        if proj_size and proj_size >= checks.integer("LSTM", "hidden_size", hidden_size, 1):
            raise ValueError(f"LSTM: proj_size is {proj_size}, expected below hidden_size = {hidden_size}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            reverse=reverse,
            learn_state=learn_state,
            masked_output=masked_output,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    @property
    def _is_general(self) -> bool:
        return super()._is_general or self.peepholes or self.coupled or self.cell_clip is not None

    def _cell(self) -> Cell:
        if self._is_general:
            if self.layer_norm:
                raise ValueError(
                    "LSTM: layer_norm goes together neither with peepholes, coupled, clips nor activations"
                )
            cell = "lstm_general_projected" if self.proj_size else "lstm_general"
            return self._general(cell, cell_clip=self.cell_clip, coupled=self.coupled, peepholes=self.peepholes)
        if self.layer_norm:
            if self.proj_size:
                raise ValueError("LSTM: layer_norm does not go together with proj_size")
            return "lstm_normalised", self._no_options
        return "lstm_projected" if self.proj_size else "lstm", self._no_options

    def _own(self) -> Own | None:
        return Peepholes(self.hidden_size, self.dtype, self.peepholes) if self._is_general else super()._own()


class GRU(Layer):
    """A stack of nets of gated recurrent units: see :func:`fastrnn.gru_forward`, and :class:`RNN` for the arguments.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        reset_after: whether the reset gate is applied after the product with W_hn, as in PyTorch, or before it.
        layer_norm: whether r's and z's sums and both of n's are normalised over the units (Ba et al., 2016), scaled by
            ``weight_ln_l{k}`` (4, H) and shifted by ``bias_ln_l{k}`` (4, H): of r, z, W_in x and W_hn h'. Needs
            ``reset_after``. Goes together with none of what follows.
        activations: others, ``(f, g)``: ``r, z = f(...)`` and ``n = g(...)``; see :class:`RNN`.
        gate_clip: the largest absolute value of what goes into them, ONNX's ``clip``; None is no limit.
        bias, batch_first, dropout, bidirectional, reverse, learn_state: see :class:`RNN`.
        masked_output, recurrent_dropout, zoneout, dtype, init, seed: see there.

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
        activations: Activations | None = None,
        gate_clip: float | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reverse: bool = False,
        learn_state: bool = False,
        masked_output: Literal["repeat", "zero"] = "repeat",
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        dtype: npt.DTypeLike = np.float32,
        init: Literal["uniform", "orthogonal"] = "uniform",
        seed: int | None = None,
    ) -> None:
        self.reset_after = checks.boolean("GRU", "reset_after", reset_after)
        self.layer_norm = checks.boolean("GRU", "layer_norm", layer_norm)
        self._take_activations(activations, gate_clip)
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
            reverse=reverse,
            learn_state=learn_state,
            masked_output=masked_output,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    def _cell(self) -> Cell:
        if self._is_general:
            if self.layer_norm:
                raise ValueError("GRU: layer_norm goes together neither with gate_clip nor activations")
            return self._general("gru_general_after" if self.reset_after else "gru_general_before")
        if self.layer_norm:
            return "gru_normalised", self._no_options
        return "gru_reset_after" if self.reset_after else "gru_reset_before", self._no_options


class IndRNN(Layer):
    """A stack of independently recurrent nets (Li et al., 2018): ``h = relu(W_ih x + b_ih + u * h')``, or tanh.

    A unit sees of the step before only itself: u is ``weight_hh_l{k}`` (H,), at first between 0 and 1, and there is no
    ``bias_hh``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        nonlinearity: ``"relu"`` or ``"tanh"``.
        bias, batch_first, dropout, bidirectional, reverse, learn_state, masked_output, zoneout, dtype, init, seed: see
            :class:`RNN`.
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
        reverse: bool = False,
        learn_state: bool = False,
        masked_output: Literal["repeat", "zero"] = "repeat",
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
            reverse=reverse,
            learn_state=learn_state,
            masked_output=masked_output,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            dtype=dtype,
            init=init,
            seed=seed,
        )

    def _cell(self) -> Cell:
        options = options_of("indrnn", ((self.nonlinearity, 0.0, 0.0),))
        return "indrnn", (options,) * self._directions

    def _own(self) -> Own:
        return Independent(self.hidden_size)


class MinGRU(Layer):
    """A stack of minimal GRUs (Feng et al., 2024), whose gates do not see h'.

    ``z = sigmoid(W_iz x + b_iz)``, ``n = W_in x + b_in``, ``h = (1 - z) * h' + z * n``. There is neither ``weight_hh``
    nor ``bias_hh``; the blocks of ``weight_ih_l{k}`` (2*H, I) are z, n. See :class:`RNN` for the arguments, of which
    ``recurrent_dropout`` is 0, since there is no product with W_hh.
    """

    _family = Family("mingru", 2, 1, recurrent=False)
