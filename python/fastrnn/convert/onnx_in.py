"""Recurrent nodes of ONNX models as layers.

Shapes: T steps, B batch, I input size, H hidden size, D directions.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn.layers import Layer

from .net import Frozen, Net, chosen
from .onnx_between import Nets
from .onnx_cell import (
    MICROSOFT,
    STATES,
    SUFFIXES,
    WEIGHTS,
    domain_of,
    in_int8,
    kind_of,
    optional_of,
    options_of,
    parameters_of,
    plain_weights,
    sizes_of,
)
from .onnx_graph import RUN_IT, Model, Scope, Unknown

__all__ = ["from_onnx"]

OLDEST = 7  # of the versions of ONNX's operators
LONGEST = 20  # nodes, between a state and what it is made of
# What takes some numbers of its first input, and leaves them what they are.
SELECTING = {"Cast", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
SPREADING = {"Expand", "Tile"}

ROUNDED = (
    "ONNX Runtime rounds the inputs and states of DynamicQuantizeLSTM to 8 bits at every step, all rows of the batch "
    "alike, and a layer with weights of int8 each row by itself, or of float32 none: results differ by some hundredths"
)


def from_onnx(
    source: Any,
    node: str | list[str] | None = None,
    *,
    dtype: npt.DTypeLike | None = None,
    weights: Literal["float32"] | None = None,
) -> Layer:
    """Return a layer that computes what an LSTM, GRU or RNN of an ONNX model does.

    Args:
        source: the path of a model, its bytes, or an ``onnx.ModelProto``. Tensors in other files are read where
            ``source`` is the path.
        node: which, where there are several: the name of the node, or of its first output if it has none, as
            :func:`fastrnn.find_nets` shows it; nodes in bodies of If, Loop and Scan and in functions count, too. A list
            of names of nodes of which each reads the output of the one before makes one layer of several levels.
        dtype: float32 or float64; None is float64 for weights of float64, and float32 for all others.
        weights: of a DynamicQuantizeLSTM, which has them in 8 bits. None keeps these integers and their scales where
            the zero points are 0, or 128 of uint8: the layer is frozen with weights of int8, see
            :meth:`fastrnn.Layer.freeze`. With ``"float32"`` or a dtype of float64, and where zero points are others, it
            has their values, and can be trained.

    Returns:
        :class:`~fastrnn.RNN`, :class:`~fastrnn.GRU` or :class:`~fastrnn.LSTM`, in evaluation mode. Its x is the node's
        X; its y (T, B, D*H) is ONNX's Y (T, D, B, H) as ``Y.transpose(0, 2, 1, 3).reshape(T, B, D * H)``. Initial
        states that the model is given when it is run are its ``state``, ``sequence_lens`` its ``lengths``; initial
        states that are constant it has learned.

    Raises:
        TypeError: ``source`` or ``node`` is of another kind.
        ValueError: a model is damaged, or there is no such node; there are several, and ``node`` says nothing; of a
            list, one does not read what the one before gives, or something between changes it; or there is what
            fastrnn has not, or weights that are not known before the model is run.
        OSError: the file cannot be read.
        ImportError: onnx is not installed.

    Warns:
        UserWarning: a call has to heed more than its arguments, to give the model's numbers.

    """
    owner = "from_onnx"
    nets = nets_in(owner, source)
    where = os.fsdecode(source) if isinstance(source, str | os.PathLike) else "the model"
    if not nets:
        raise ValueError(
            f"{owner}: there is no recurrent net in {where}: a net that was unrolled into single operators cannot be "
            "recognised"
        )
    return chosen(owner, "node", nets, node, source=where, joins=True).layer(dtype, weights=weights, owner=owner)


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a model."""
    model = Model(owner, source)
    try:
        found = [(calls, scope, node) for calls, scope, node in model.scope().walk() if kind_of(node) is not None]
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from None
    names = list(_names([(calls, node) for calls, _, node in found]))
    before = Nets()
    nets = []
    for name, (_, scope, node) in zip(names, found, strict=True):
        net = _net(name, scope, node)
        if not net.problem:
            reads, instead = before.source(net, scope, node)
            net = dataclasses.replace(net, reads=reads, instead=instead)
        nets.append(net)
    return nets


def _names(nodes: list[tuple[str, Any]]) -> Iterator[str]:
    """Yield a name for each node, another for each."""
    own = collections.Counter(calls + node.name for calls, node in nodes)
    taken: set[str] = set()
    for number, (calls, node) in enumerate(nodes):
        numbered = f"{node.op_type}_{number}"
        candidates = [node.name if own[calls + node.name] == 1 else "", *node.output, numbered, f"{numbered}_{number}"]
        name = next(calls + name for name in candidates if name and calls + name not in taken)
        taken.add(name)
        yield name


def _net(name: str, scope: Scope, node: Any) -> Net:
    """Return what there is to say of a node."""
    described = kind_of(node)
    assert described is not None
    kind, slots = described
    try:
        inputs = {slot: at for slot, at in zip(slots, node.input, strict=False) if at and scope.home(at)[1]}
        _check_version(scope, node)
        attributes = attributes_of(scope, node)
        options = options_of(kind, attributes)
        constants = {slot: _constant(scope, slot, inputs[slot]) for slot in WEIGHTS if slot in inputs}
        given: dict[str, Array | None] = plain_weights(constants)
        exact = in_int8(constants)
        input_size, hidden_size = sizes_of(kind, attributes, given)
        options = {"input_size": input_size, "hidden_size": hidden_size, **options, **optional_of(given)}
        states, notes = _states(kind, scope, inputs, options)
    except (ValueError, Unknown) as error:
        return Net(name, kind, {}, dict, problem=str(error))
    if states:
        options["learn_state"] = True
    notes += [*_notes_on_steps(scope, inputs, options), *_notes_on_weights(scope, inputs)]
    if domain_of(node) == MICROSOFT:
        notes.append(ROUNDED)
    frozen = None
    if exact is not None:
        in_single = {each: a.astype(np.float32) for each, a in states.items()}
        frozen = Frozen("int8", lambda: parameters_of(kind, given | exact) | in_single)
    return Net(name, kind, options, lambda: parameters_of(kind, given) | states, notes=tuple(notes), frozen=frozen)


def _check_version(scope: Scope, node: Any) -> None:
    version = scope.opsets.get("", OLDEST)
    if domain_of(node) == "" and version < OLDEST:
        raise ValueError(
            f"it is of version {version} of ONNX's operators, expected at least {OLDEST}: "
            "onnx.version_converter.convert_version(model, 14)"
        )


def attributes_of(scope: Scope, node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        try:
            value = scope.model.onnx.helper.get_attribute_value(attribute)
        except ValueError:
            raise ValueError(f"its attribute {attribute.name!r} has no value of a kind that ONNX has") from None
        found[attribute.name] = [_plain(each) for each in value] if isinstance(value, list) else _plain(value)
    return found


def _plain(value: Any) -> Any:
    """Return a number or a text; of something else, which no recurrent node has, what it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, int | float) else checks.kind(value)


def _constant(scope: Scope, slot: str, name: str) -> Array:
    """Return one of the weights of a node; raise Unknown where it is known only when the model is run."""
    try:
        return scope.constant(name)
    except Unknown as error:
        raise Unknown(f"its {slot}, {name!r}, {error}") from None


def _notes_on_weights(scope: Scope, inputs: Mapping[str, str]) -> list[str]:
    """Return what there is to say of weights that may be other ones when the model is run."""
    notes = []
    for slot, name in inputs.items():
        names = scope.defaults(name) if slot in WEIGHTS else []
        if names == [name]:
            notes.append(f"{slot}, {name!r}, is an input with a default, which the layer has")
        elif names:
            shown = ", ".join(map(repr, names))
            notes.append(f"{slot}, {name!r}, is made of inputs with a default, {shown}, which the layer has")
    return notes


# --- states that it begins with


def _states(
    kind: str, scope: Scope, inputs: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[dict[str, Array], list[str]]:
    """Return the initial states of a node as parameters, if they are constant and not all zero; and notes."""
    rows: dict[str, Array] = {}
    notes, unknown = [], []
    shape = 1 + bool(options.get("bidirectional")), options["hidden_size"]
    for slot in STATES[kind]:
        if slot not in inputs:
            continue
        name = inputs[slot]
        try:
            row = _row(slot, name, _in_every_row(scope, name), shape, bool(options.get("batch_first")))
            if not scope.defaults(name):
                rows[slot] = row
                continue
        except Unknown:
            row = np.zeros(shape)
        if not _is_given(scope, name):
            unknown.append(f"{slot}, {name!r}")
        elif row.any():
            notes.append(f"its {slot}, {name!r}, is an input with a default, which is not zero: pass it as state")
    if unknown:
        notes.append(f"it begins with a state that the model computes ({'; '.join(unknown)}): pass it as state")
    if not any(a.any() for a in rows.values()):
        return {}, notes
    parameters: dict[str, Array] = {}
    for slot in STATES[kind]:
        a = rows.get(slot, np.zeros(shape, np.float32))
        letter = slot.removeprefix("initial_")
        parameters |= {f"{letter}_0{suffix}": a[d] for d, suffix in enumerate(SUFFIXES[: shape[0]])}
    return parameters, notes


def _row(slot: str, name: str, a: Array, shape: tuple[int, int], batch_first: bool) -> Array:
    """Return (D, H) of a state (D, B, H), which is to be the same in all rows of the batch."""
    D, H = shape
    if a.ndim == 0:
        return np.full(shape, a)
    turned = a.swapaxes(0, 1) if batch_first and a.ndim == 3 else a
    if turned.ndim != 3 or turned.shape[0] not in (1, D) or turned.shape[2] not in (1, H) or not turned.shape[1]:
        letters = "(B, D, H)" if batch_first else "(D, B, H)"
        raise ValueError(f"its {slot}, {name!r}, has shape {a.shape}, expected {letters} with D {D} and H {H}")
    if not (turned == turned[:, :1]).all():
        raise ValueError(
            f"its {slot}, {name!r}, is constant, and other than zero in some rows of the batch only: {RUN_IT}"
        )
    return np.broadcast_to(turned[:, 0], shape)


def _in_every_row(scope: Scope, name: str, depth: int = 0) -> Array:
    """Return a value that is the same whatever the model is given, but for the number of its rows: as of one row.

    Of what is filled with one number, whatever its shape, that number.
    """
    try:
        return scope.constant(name)
    except Unknown:
        if depth == LONGEST:
            raise
        scope, name = scope.home(name)
        node = scope.made.get(name)
        if node is None:
            raise
        if node.op_type == "ConstantOfShape":
            values = [scope.model.array(a.t) for a in node.attribute if a.name == "value"]
            return np.asarray(values[0].reshape(-1)[0] if values and values[0].size else np.float32(0))
        if node.op_type not in SELECTING | SPREADING or not node.input:
            raise
        first = _in_every_row(scope, node.input[0], depth + 1)
        if node.op_type in SPREADING or np.ndim(first) == 0:
            return first
        others = [scope.constant(each) for each in node.input[1:] if each]
        made = scope.computed(node, [first, *others])
        if name in made:
            return made[name]
        raise


def _is_given(scope: Scope, name: str) -> bool:
    """Whether a value is what the model is given, or a part of it; what a Loop or Scan gives its body is not."""
    for _ in range(LONGEST):
        scope, name = scope.home(name)
        node = scope.made.get(name)
        if node is None:
            return scope.is_given and name in scope.inputs
        if node.op_type not in SELECTING or not node.input:
            return False
        name = node.input[0]
    return False


# --- how many steps


def _notes_on_steps(scope: Scope, inputs: Mapping[str, str], options: Mapping[str, Any]) -> list[str]:
    """Return what there is to say of sequence_lens."""
    if "sequence_lens" not in inputs:
        return []
    name = inputs["sequence_lens"]
    try:
        lengths = scope.constant(name)
    except Unknown:
        lengths = None
    if lengths is None or scope.defaults(name):
        return [f"the model has lengths of sequences, sequence_lens {name!r}: pass them as lengths"]
    T = _static_steps(scope, inputs.get("X", ""), bool(options.get("batch_first")))
    if T is not None and lengths.dtype.kind in "iu" and (lengths == T).all():
        return []
    shown = ", ".join(map(str, lengths.reshape(-1)[:10])) + (", ..." if lengths.size > 10 else "")
    return [f"the model's sequences have lengths of their own, sequence_lens {name!r} of {shown}: pass them as lengths"]


def _static_steps(scope: Scope, name: str, batch_first: bool) -> int | None:
    """Return T, if the model says it."""
    axes = scope.declared(name)
    return axes[int(batch_first)] if len(axes) == 3 else None
