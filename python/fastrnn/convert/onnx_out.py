"""Layers and nets as ONNX models.

Shapes: T steps, B batch, I input size, H hidden size, L layers, D directions.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn._base.options import warn
from fastrnn._base.version import __version__
from fastrnn.files import write_atomically
from fastrnn.layers import GRU, LSTM, RNN, Layer
from fastrnn.modules import Dropout, Embedding, Linear, Module
from fastrnn.nets import Last, Max, Mean, Relu, Sequential, Tanh

from .onnx_cell import SUFFIXES, attributes_for, from_fastrnn

__all__ = ["to_onnx"]

OWNER = "to_onnx"
OPSET, IR_VERSION = 14, 8  # which ONNX Runtime reads since 1.10, of 2021
LARGEST = 2**31 - 2**20  # bytes of parameters: protobuf has no larger messages, and there are names in it
# What ONNX has no attribute for, by the values that change nothing.
PLAIN: dict[str, Any] = {"layer_norm": False, "proj_size": 0, "cell_clip": None, "zoneout": 0.0, "weights": "float32"}


def to_onnx(
    layer_or_net: Module,
    path: str | os.PathLike[str],
    *,
    tokens: bool = False,
    lengths: bool = False,
    state: bool = False,
) -> None:
    """Write a model that computes what a layer or net does in evaluation mode, as one file, all or nothing.

    It is of version 14 of ONNX's operators, and each level of a layer is a node: LSTM, GRU or RNN. The inputs are, in
    this order: ``x`` (T, B, I), or ``tokens``; ``lengths``; the states. The outputs are ``y`` (T, B, D*H), of a net
    whatever its last module gives; and the states after the last step. With ``batch_first`` x and y are (B, T, ...).
    Without any recurrent layer, Last, Mean and Max x is (B, I).

    B is at least 1, and T at least 1 where there is a GRU: with less ONNX Runtime 1.32 ends the process.

    Args:
        layer_or_net: an RNN, GRU or LSTM; or a :class:`~fastrnn.Sequential` of these, Last, Mean, Max, Linear,
            Embedding, Relu and Tanh, and Dropout, which is left out.
        path: the file, ``"model.onnx"``.
        tokens: whether the first module, a recurrent layer, gets tokens: then the input is ``tokens`` (T, B) of int64,
            as it is for an Embedding anyway. Runtimes do not refuse all tokens that are out of range.
        lengths: whether there is an input ``lengths`` (B,), int32: how many steps each sequence has.
        state: whether the states that sequences begin with are inputs: ``h_0`` and, of an LSTM, ``c_0``, (L*D, B, H)
            each, in the place of what a layer has learned. Of a net each recurrent layer has its own, named after the
            module: ``0.h_0``; and the outputs are not only ``y``, but also ``0.h_n`` and ``0.c_n``, which a layer by
            itself always has, as ``h_n`` and ``c_n``.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there is what ONNX has no operator or attribute for, such as ``proj_size``, or a module of your own;
            the message names it. Or there are more than 2 GB of parameters.
        OSError: the file cannot be written; what was there stays.
        ImportError: onnx is not installed.

    Warns:
        UserWarning: the net is of float64, for which ONNX Runtime has no recurrent nodes.

    """
    options = {"tokens": tokens, "lengths": lengths, "state": state}
    for name, value in options.items():
        options[name] = checks.boolean(OWNER, name, value)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{OWNER}: path is {checks.kind(path)}, expected the path of a file")
    if not isinstance(layer_or_net, Module):
        raise TypeError(f"{OWNER}: layer_or_net is {checks.kind(layer_or_net)}, expected a layer or a Sequential")
    if not callable(getattr(type(layer_or_net), "record", None)):
        raise ValueError(
            f"{OWNER}: {type(layer_or_net).__name__} does not say in which order its modules are called: pass a "
            "Sequential of them"
        )
    numbers = sum(p.nbytes for p in layer_or_net.params.values())
    if numbers > LARGEST:
        raise ValueError(f"{OWNER}: the parameters have {numbers:,} bytes, and a model of ONNX has at most {LARGEST:,}")
    data = _Writer(needed(OWNER, "onnx"), layer_or_net, **options).model().SerializeToString()
    write_atomically(os.fsdecode(path), data)


class _Writer:
    """A model, while it is made. Inside it, the order of axes is (T, B, ...).

    Attributes:
        dtype: of all floating-point numbers.
        lengths: the name of the input, if there is one.

    """

    def __init__(self, onnx: Any, net: Any, *, tokens: bool, lengths: bool, state: bool) -> None:
        self._helper, self._numpy_helper = onnx.helper, onnx.numpy_helper
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._ends: list[Any] = []  # the outputs that are states
        self._count = 0
        self._is_layer = isinstance(net, Layer)
        self._net = Sequential(net)  # of which a net is a part, so that all names begin with "0."
        self._timed, self._batch_first = bool(self._net._timed), self._net._batch_first()
        self._has_tokens = tokens or isinstance(self._net._steps[0].module, Embedding)
        self._has_state = state
        self.dtype = self._common_dtype()
        self.lengths = "lengths" if lengths else None
        self._check_options(tokens)

    def _name(self, step_name: str) -> str:
        return step_name.partition(".")[2]

    def _where(self, step_name: str) -> str:
        name = self._name(step_name)
        return f"module {name}: " if name else ""

    def _common_dtype(self) -> np.dtype[Any]:
        found: dict[np.dtype[Any], str] = {}
        for name, module, *_ in self._net._steps:
            if hasattr(module, "dtype"):
                found.setdefault(np.dtype(module.dtype), self._name(name))
        if len(found) > 1:
            raise ValueError(f"{OWNER}: " + " and ".join(f"module {n} is {dtype}" for dtype, n in found.items()))
        dtype = next(iter(found), np.dtype(np.float32))
        if dtype == np.float64 and any(step.kind == "layer" for step in self._net._steps):
            warn(f"{OWNER}: the net is of float64, for which ONNX Runtime has no recurrent nodes")
        return dtype

    def _check_options(self, tokens: bool) -> None:
        first = self._net._steps[0]
        if tokens and not (first.kind == "layer" or isinstance(first.module, Embedding)):
            raise ValueError(f"{OWNER}: tokens is True, and {type(first.module).__name__} takes numbers")
        if self.lengths and not self._timed:
            raise ValueError(f"{OWNER}: lengths is True, and no module takes them")
        if self._has_state and not any(step.kind == "layer" for step in self._net._steps):
            raise ValueError(f"{OWNER}: state is True, and there is no recurrent layer")

    # --- the graph

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its only output."""
        self._count += 1
        output = f"{operator}_{self._count}"
        self._nodes.append(self._helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = None, name: str = "") -> str:
        """Return the name of a constant."""
        a = np.ascontiguousarray(value, self.dtype if dtype is None else dtype).reshape(np.shape(value))
        name = name or f"constant_{a.dtype}_{'_'.join(map(str, (*a.shape, '', *a.ravel())))}"
        if name not in self._constants:
            self._constants[name] = self._numpy_helper.from_array(a, name)
        return name

    def _input(self, name: str, dtype: Any, *axes: str | int) -> str:
        self._inputs.append(self._value(name, dtype, axes))
        return name

    def _output(self, name: str, value: str, *axes: str | int) -> Any:
        self._nodes.append(self._helper.make_node("Identity", [value], [name]))
        return self._value(name, self.dtype, axes)

    def _value(self, name: str, dtype: Any, axes: Any) -> Any:
        kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._helper.make_tensor_value_info(name, kind, axes)

    def model(self) -> Any:
        """Return the whole model."""
        y = self._first_input()
        if self.lengths:
            self._input(self.lengths, np.int32, "B")
        ended = not self._timed
        width = self._input_width()
        for name, module, kind, only_last, layer in self._net._steps:
            if kind == "layer":
                y = self._layer(name, module, y, only_last)
                ended = ended or only_last
                width = module.hidden_size * (1 + module.bidirectional)
            elif kind == "over time":
                y, ended = self._over_time(module, y, layer), True
            elif kind == "own":
                raise ValueError(
                    f"{OWNER}: {self._where(name)}{type(module).__name__} is a class of its own, for which ONNX has no "
                    "operator"
                )
            else:
                y = self._known(name, module, y)
                width = module.out_features if isinstance(module, Linear) else width
        if self._batch_first and not ended:
            y = self.add("Transpose", y, perm=[1, 0, 2])
        outputs = [self._output("y", y, *(["B"] if ended else self._axes), width), *self._ends]
        return self._helper.make_model(
            self._helper.make_graph(self._nodes, "net", self._inputs, outputs, list(self._constants.values())),
            opset_imports=[self._helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fastrnn",
            producer_version=__version__,
        )

    @property
    def _axes(self) -> list[str]:
        """The axes of the input but for the last, its features."""
        return (["B", "T"] if self._batch_first else ["T", "B"]) if self._timed else ["B"]

    def _input_width(self) -> int | str:
        """Return how many features x has, or an Embedding gives."""
        for _, module, kind, *_ in self._net._steps:
            if kind == "layer":
                return int(module.input_size)
            if isinstance(module, Linear):
                return int(module.in_features)
            if isinstance(module, Embedding):
                return int(module.embedding_dim)
        return "I"

    def _first_input(self) -> str:
        if self._has_tokens:
            x = self._input("tokens", np.int64, *self._axes)
        else:
            x = self._input("x", self.dtype, *self._axes, self._input_width())
        if self._batch_first and self._timed:
            x = self.add("Transpose", x, perm=[1, 0] if self._has_tokens else [1, 0, 2])
        self._x = x
        first = self._net._steps[0]
        if self._has_tokens and first.kind == "layer":
            depth = self.constant(first.module.input_size, np.int64)
            return self.add("OneHot", x, depth, self.constant([0, 1]))
        return x

    def _size(self, axis: int) -> str:
        """Return the name of (1,), T or B."""
        shape = self.add("Shape", self._x)
        return self.add("Slice", shape, self._ints(axis), self._ints(axis + 1))

    def _ints(self, *values: int) -> str:
        return self.constant(list(values), np.int64)

    # --- steps that count

    @functools.cached_property
    def _each_step(self) -> str:
        """The number of each step (T, 1)."""
        zero, one = (self.constant(n, np.int64) for n in (0, 1))
        T = self.add("Squeeze", self._size(0), self._ints(0))
        return self.add("Unsqueeze", self.add("Range", zero, T, one), self._ints(1))

    @functools.cached_property
    def _counts(self) -> str:
        """How many steps there are, of each sequence (B,), or of all (1,); int64."""
        if self.lengths:
            return self.add("Cast", self.lengths, to=self._helper.np_dtype_to_tensor_dtype(np.dtype(np.int64)))
        return self._size(0)

    @functools.cached_property
    def _counted(self) -> str:
        """Which steps count, (T, B, 1)."""
        return self._at(self.add("Less", self._each_step, self._counts))

    @functools.cached_property
    def _empty(self) -> str:
        """Which sequences have no steps, (B, 1), or whether none has any, (1, 1)."""
        return self._at(self.add("Equal", self._counts, self._ints(0)))

    def _unless_empty(self, a: str, other: str) -> str:
        """Return a (..., B, H), but of sequences without steps ``other``: there runtimes differ."""
        return self.add("Where", self._empty, other, a)

    def _at(self, mask: str) -> str:
        return self.add("Unsqueeze", mask, self._ints(-1))

    def _sum(self, y: str, where: str | None) -> str:
        """Return the sum of y (T, B, H) over the steps at which ``where`` is true."""
        if where is not None:
            y = self.add("Where", where, y, self.constant(0))
        return self.add("ReduceSum", y, self._ints(0), keepdims=0)

    # --- modules

    def _known(self, name: str, module: Any, y: str) -> str:
        own = self._name(name) or "net"
        if isinstance(module, Dropout):
            return y
        if isinstance(module, Relu):
            return self.add("Relu", y)
        if isinstance(module, Tanh):
            return self.add("Tanh", y)
        weight = module.params["weight"]
        if isinstance(module, Linear):
            y = self.add("MatMul", y, self.constant(weight.T, name=f"{own}.weight"))
            return self.add("Add", y, self.constant(module.params["bias"], name=f"{own}.bias")) if module.bias else y
        if y != self._x:
            raise ValueError(f"{OWNER}: {self._where(name)}Embedding takes tokens, and is not the first module")
        return self.add("Gather", self.constant(weight, name=f"{own}.weight"), y)

    def _over_time(self, module: Any, y: str, layer: Layer | None) -> str:
        if isinstance(module, Last):
            return self._last(y, layer)
        counted = self._counted if self.lengths else None
        if isinstance(module, Mean):
            counts = self.add("Max", self._counts, self._ints(1))
            counts = self.add("Cast", counts, to=self._helper.np_dtype_to_tensor_dtype(self.dtype))
            return self.add("Div", self._sum(y, counted), self._at(counts))
        assert isinstance(module, Max)
        if counted is not None:
            y = self.add("Where", counted, y, self.constant(-np.inf))
        return self._unless_empty(self.add("ReduceMax", y, axes=[0], keepdims=0), self.constant(0))

    def _last(self, y: str, layer: Layer | None) -> str:
        """Return what each direction has put out last: of a layer that reads from the end that is the first step."""
        H = 0 if layer is None else layer.hidden_size
        if layer is not None and layer.bidirectional:
            halves = [
                self.add("Slice", self._end(y, from_end), self._ints(begin), self._ints(begin + H), self._ints(-1))
                for from_end, begin in ((False, 0), (True, H))
            ]
            return self.add("Concat", *halves, axis=-1)
        return self._end(y, from_end=layer is not None and layer.reverse)

    def _end(self, y: str, from_end: bool) -> str:
        """Return y (T, B, H) of the last step that counts, or of the first; zeros where there is none."""
        if not self.lengths:
            limits = (0, 1) if from_end else (-1, 2**62)
            return self._sum(self.add("Slice", y, *map(self._ints, (*limits, 0))), None)  # of one step, or of none
        last = self._ints(0) if from_end else self.add("Sub", self._counts, self._ints(1))
        at = self._at(self.add("Equal", self._each_step, last))
        return self._sum(y, self.add("And", at, self._counted))

    # --- recurrent layers

    def _layer(self, name: str, layer: Any, y: str, only_last: bool) -> str:
        """Add the nodes of a layer; return y, or only the last of it."""
        self._check_layer(name, layer)
        own = self._name(name)
        before = f"{own}." if own else ""
        D, H, L = 1 + layer.bidirectional, layer.hidden_size, layer.num_layers
        letters = "hc" if isinstance(layer, LSTM) else "h"
        if self._has_state:
            inputs = [self._input(f"{before}{letter}_0", self.dtype, L * D, "B", H) for letter in letters]
        has_states = self._is_layer or self._has_state
        ends: list[list[str]] = [[] for _ in letters]
        for level in range(L):
            initial: list[str] = []
            if self._has_state:
                part = self._ints(level * D), self._ints((level + 1) * D), self._ints(0)
                initial = [self.add("Slice", a, *part) for a in inputs] if L > 1 else inputs
            elif layer.learn_state:
                initial = [self._learned(layer, letter, level, before) for letter in letters]
            wants_y = not (only_last and level == L - 1)
            y, last = self._node(layer, level, before, y, initial, wants_y, has_states or not wants_y)
            if has_states:
                for of_all, a, first in zip(ends, last, initial or [self.constant(0)] * len(last), strict=True):
                    of_all.append(self._unless_empty(a, first))
        if has_states:
            for letter, of_levels in zip(letters, ends, strict=True):
                whole = self.add("Concat", *of_levels, axis=0) if L > 1 else of_levels[0]
                self._ends.append(self._output(f"{before}{letter}_n", whole, L * D, "B", H))
        if not only_last:
            return y
        h = self._unless_empty(last[0], self.constant(0))
        return self._joined(h, [1, 0, 2], [0, D * H]) if D == 2 else self.add("Squeeze", h, self._ints(0))

    def _joined(self, a: str, perm: list[int], shape: list[int]) -> str:
        """Return directions side by side."""
        return self.add("Reshape", self.add("Transpose", a, perm=perm), self._ints(*shape))

    def _learned(self, layer: Any, letter: str, level: int, before: str) -> str:
        """Return the states that a level has learned to begin with, (D, B, H)."""
        rows = self._of_directions(layer, f"{letter}_0", level)
        one = self._ints(1)
        shape = self.add("Concat", one, self._size(1), one, axis=0)
        return self.add("Expand", self.constant(rows[:, None], name=f"{before}{letter}_0_l{level}"), shape)

    def _of_directions(self, layer: Any, name: str, level: int) -> Array:
        suffixes = SUFFIXES[: 1 + layer.bidirectional]
        return np.stack([layer.params[name + suffix.replace("_l0", f"_l{level}")] for suffix in suffixes])

    def _node(
        self, layer: Any, level: int, before: str, x: str, initial: list[str], wants_y: bool, wants_states: bool
    ) -> tuple[str, list[str]]:
        """Add the node of one level; return its y (T, B, D*H), if it is wanted, and its states after the last step."""
        kind = "LSTM" if isinstance(layer, LSTM) else "GRU" if isinstance(layer, GRU) else "RNN"
        D, H = 1 + layer.bidirectional, layer.hidden_size

        def weights(letter: str, *names: str) -> str:
            a = np.concatenate(
                [from_fastrnn(kind, letter, self._of_directions(layer, name, level)) for name in names], axis=1
            )
            return self.constant(a, name=f"{before}{letter}_l{level}")

        inputs = [x, weights("W", "weight_ih"), weights("R", "weight_hh")]
        inputs += [weights("B", "bias_ih", "bias_hh") if layer.bias else "", self.lengths or "", *initial]
        if getattr(layer, "peepholes", False):
            inputs += [""] * (7 - len(inputs)) + [weights("P", "weight_ch")]
        while not inputs[-1]:
            inputs.pop()
        self._count += 1
        name = f"{before}{kind}_l{level}"
        letters = "hc" if kind == "LSTM" else "h"
        outputs = [f"{name}_Y" if wants_y else "", *(f"{name}_Y_{c}" for c in letters if wants_states)]
        self._nodes.append(
            self._helper.make_node(kind, inputs, outputs, name=name, hidden_size=H, **attributes_for(kind, layer))
        )
        if not wants_y:
            return "", outputs[1:]
        if D == 1:
            return self.add("Squeeze", outputs[0], self._ints(1)), outputs[1:]
        return self._joined(outputs[0], [0, 2, 1, 3], [0, 0, D * H]), outputs[1:]

    def _check_layer(self, name: str, layer: Any) -> None:
        if not isinstance(layer, RNN | GRU | LSTM):
            raise ValueError(f"{OWNER}: {self._where(name)}ONNX has no operator that computes what {layer._name} does")
        for option, plain in PLAIN.items():
            value = getattr(layer, option, plain)
            if value not in (plain, (plain, plain)):
                raise ValueError(f"{OWNER}: {self._where(name)}{option} is {value}, which ONNX's {layer._name} has not")
