"""ONNX's recurrent operators for its reference evaluator.

Shapes: T steps, B batch, I input size, H hidden size, D directions.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn._base.parts import quiet
from fastrnn.layers import Layer

from .net import KINDS
from .onnx_cell import OPERATORS, STATES, WEIGHTS, optional_of, options_of, parameters_of, plain_weights, sizes_of

__all__ = ["onnx_ops"]

WIDER = {"float16": np.dtype(np.float32), "bfloat16": np.dtype(np.float32)}  # in what these are computed


def onnx_ops() -> list[Any]:
    """Return LSTM, GRU, RNN and DynamicQuantizeLSTM for ONNX's reference evaluator, which then computes them right.

    ``onnx.reference.ReferenceEvaluator(model, new_ops=fastrnn.onnx_ops())``, after ``import onnx.reference``: its own
    LSTM, GRU and RNN know nothing of ``sequence_lens``, ``clip``, ``input_forget`` or ``activations``. These know all
    attributes, inputs and outputs, in float32 and float64, and float16 and bfloat16, which are computed in float32;
    weights may be given when the model is run. They also stand for nodes in the bodies of If, Loop and Scan. To nodes
    in functions of the model the evaluator hands none on: ``onnx.inliner.inline_local_functions(model)`` before has the
    same nodes in its graph.

    A sequence whose length is 0 has states of zeros after it, whatever it began with: that is what ONNX Runtime gives.
    DynamicQuantizeLSTM has its weights of 8 bits, and computes in float32, where ONNX Runtime rounds inputs and
    states to 8 bits, too.

    Returns:
        Classes derived from ``onnx.reference.op_run.OpRun``. Of a node that has what fastrnn has not, or inputs that
        do not go together, they raise ValueError or TypeError, which name the node.

    Raises:
        ImportError: onnx is not installed.

    """
    return list(_classes(needed("onnx_ops", "onnx.reference.op_run").OpRun))


@functools.cache
def _classes(base: type) -> tuple[type, ...]:
    return tuple(
        type(name, (_Recurrent, base), {"op_domain": domain, "kind": kind, "slots": slots, "__module__": __name__})
        for (domain, name), (kind, slots) in OPERATORS.items()
    )


class _Recurrent:
    """What the operators have in common: the first base of each, before onnx's OpRun.

    Attributes:
        kind: ``"RNN"``, ``"GRU"`` or ``"LSTM"``.
        slots: the names of the inputs.

    """

    kind: ClassVar[str]
    slots: ClassVar[tuple[str, ...]]
    onnx_node: Any
    has_linked_attribute: bool
    attributes_names_: Any
    _attributes: dict[str, Any] | None = None
    _kept: _Kept | None = None

    def run(self, *inputs: Any, linked_attributes: Mapping[str, Any] | None = None, **others: Any) -> tuple[Any, ...]:
        """Return the outputs; None for those without a name.

        In the place of OpRun's, which takes a good part of a short call, and hands what has no name on to inputs that
        are left out.
        """
        node = self.onnx_node
        if self._attributes is None or linked_attributes is not None:
            self._attributes = self._found(linked_attributes or {})
        given = [a if name else None for name, a in zip(node.input, inputs, strict=True)]
        try:
            outputs = self._run(*given, **self._attributes)
        except (TypeError, ValueError) as error:
            name = f"{node.op_type} {node.name or next(filter(None, node.output), '')!r}"
            raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}") from None
        return tuple(a if name else None for name, a in zip(node.output, outputs, strict=False))

    def _found(self, linked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes, of which a function may link some to its own."""
        found = {name: getattr(self, name) for name in self.attributes_names_}
        names = {a.name: a.ref_attr_name for a in self.onnx_node.attribute if a.ref_attr_name}
        return found | {name: linked.get(of_function) for name, of_function in names.items()}

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Array, ...]:
        given: dict[str, Any] = dict(zip(self.slots, inputs, strict=False))
        X = given["X"]
        dtype = WIDER.get(X.dtype.name, X.dtype)
        weights = {slot: given.get(slot) for slot in WEIGHTS}
        if self._kept is None or not self._kept.is_of(weights, attributes, dtype):
            self._kept = _Kept(self.kind, weights, attributes, dtype, self._kept)
        layer = self._kept.layer
        states = [_turned(given.get(slot), layer.batch_first, X.dtype, dtype) for slot in STATES[self.kind]]
        state = states[0] if len(states) == 1 else tuple(states)
        lengths = given.get("sequence_lens")
        y, state = layer(X if dtype == X.dtype else X.astype(dtype), state, lengths=lengths)
        found = state if isinstance(state, tuple) else (state,)
        if lengths is not None and not lengths.all():
            for s in found:
                s[:, lengths == 0] = 0
        Y = y.reshape(*y.shape[:2], 1 + layer.bidirectional, layer.hidden_size)
        results = (Y, *(s.swapaxes(0, 1) for s in found)) if layer.batch_first else (Y.swapaxes(1, 2), *found)
        if dtype == X.dtype:
            return results
        with quiet():
            return tuple(a.astype(X.dtype) for a in results)


def _turned(state: Any, batch_first: bool, given: np.dtype[Any], dtype: np.dtype[Any]) -> Any:
    """Return a state as (D, B, H), of the dtype of the layer if it is of that of X."""
    if state is None:
        return None
    if batch_first:
        state = state.swapaxes(0, 1)
    return state.astype(dtype) if given != dtype and state.dtype == given else state


class _Kept:
    """The layer of a node, and what it was made of.

    Attributes:
        layer: in evaluation mode.

    """

    layer: Any

    def __init__(
        self,
        kind: str,
        weights: Mapping[str, Any],
        attributes: Mapping[str, Any],
        dtype: np.dtype[Any],
        before: _Kept | None,
    ) -> None:
        plain = plain_weights(weights)
        sizes = sizes_of(kind, attributes, plain)
        self._options = {**options_of(kind, attributes), **optional_of(plain), "dtype": dtype}
        for name, a in plain.items():
            if a is not None and WIDER.get(a.dtype.name, a.dtype) != dtype:
                raise ValueError(f"its {name} is {a.dtype}, and X {dtype}, expected the same of both")
        if before is not None and before._is_like(sizes, self._options):
            self.layer: Layer = before.layer
        else:
            self.layer = KINDS[kind](*sizes, **self._options)
            self.layer.eval()
        self._attributes, self._dtype, self._sizes = dict(attributes), dtype, sizes
        self._weights = {slot: a if a is None or _is_constant(a) else a.copy() for slot, a in weights.items()}
        self.layer.load_state_dict(parameters_of(kind, plain))

    def _is_like(self, sizes: tuple[int, int], options: Mapping[str, Any]) -> bool:
        return self._sizes == sizes and self._options == options

    def is_of(self, weights: Mapping[str, Any], attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> bool:
        """Whether the layer is that of these weights and attributes."""
        if dtype != self._dtype or attributes != self._attributes:
            return False
        return all(a is self._weights[slot] or _are_same(a, self._weights[slot]) for slot, a in weights.items())


def _are_same(a: Array | None, b: Array | None) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)


def _is_constant(a: Any) -> bool:
    """Whether nobody can write to an array: it is of bytes, as initializers of a model are."""
    while isinstance(a, np.ndarray):
        if a.flags.writeable:
            return False
        a = a.base
    return isinstance(a, bytes)
