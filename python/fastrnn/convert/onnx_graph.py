"""The graphs of an ONNX model, one in another, and which of their values are constant."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn._base.parts import quiet
from fastrnn.files import read_regular

from .makers import check_is_no_folder, maker_of

EXPECTED = "an ONNX model, the path of its file, or its bytes"
OTHERS = {"keras": "Keras'", "torch": "PyTorch's"}
OF_ONNX_RUNTIME = b"ORTM"  # from byte 4 of the files that only ONNX Runtime reads
FREE = 2**24  # numbers that may be computed from constants, in all of a model, whatever numbers it has
EXPANSION = 16  # and as many more for each that it has
MOST_OF_OTHERS = 2**14  # numbers that go into a node and come out of it, but for operators whose time grows with these
SMALL = 2**10  # numbers of a value on which the shapes of others may depend
WITH_DEFAULTS = 4  # the first version of the format in which not all initializers had to be inputs, too
MOST_SCOPES = 10_000  # of a model: what calls of functions in functions can make of a short file is without limit
MOST_DEEP = 100  # graphs in graphs, and functions in functions
MOST_NAMES = 10_000  # under which a value goes, from graph to graph
RUN_IT = "fastrnn.onnx_ops() computes such nodes"
# Of a Constant: its attributes, where an AttributeProto has their values, and of which dtype these are.
PLAIN_VALUES = (
    ("value_float", "f", np.float32),
    ("value_floats", "floats", np.float32),
    ("value_int", "i", np.int64),
    ("value_ints", "ints", np.int64),
)
# Operators whose time is that of a walk over these numbers.
ARITHMETIC = {"Abs", "Add", "Clip", "Div", "Exp", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt", "Sub", "Sum"}
MAKING = {
    "Cast",
    "CastLike",
    "ConstantOfShape",
    "DequantizeLinear",
    "Expand",
    "QuantizeLinear",
    "Range",
    "Tile",
    "Where",
}
MOVING = {"Concat", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
REDUCING = {"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "Shape", "Size"}
FAST = {*ARITHMETIC, *MAKING, *MOVING, *REDUCING, "Unsqueeze"}
OF_SHAPES = {"Shape", "Size"}  # what depends on no numbers
# What the evaluator has of later versions only, which mean the same by what earlier ones have.
EVALUATED = {"DequantizeLinear": 19}
RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Dropout",
}


class Unknown(Exception):  # noqa: N818  it is no error of anybody's
    """A value cannot be known before the model is run; the message says why, and goes on from the value's name."""


class Model:
    """A model that has been read.

    Attributes:
        onnx: the package.
        proto: the ModelProto.
        folder: where the files are that its tensors may be in; None if that is not known.
        functions: its local functions, by domain and name.
        has_defaults: whether an initializer that is also an input is what this is by default.

    """

    def __init__(self, owner: str, source: Any) -> None:
        self.onnx, self._owner = needed(owner, "onnx"), owner
        self.folder: str | None = None
        if isinstance(source, self.onnx.ModelProto):
            self.proto = source
        elif isinstance(source, bytes | bytearray | memoryview):
            self.proto = self._parsed(owner, "source", bytes(source))
        elif isinstance(source, str | os.PathLike):
            path = os.fsdecode(source)
            check_is_no_folder(path)
            self.folder = os.path.dirname(os.path.abspath(path))
            self.proto = self._parsed(owner, path, read_regular(path))
        else:
            way = ": onnx.helper.make_model(graph)" if isinstance(source, self.onnx.GraphProto) else ""
            raise TypeError(f"{owner}: source is {checks.kind(source)}, expected {EXPECTED}{way}")
        self.functions = {(f.domain, f.name): f for f in self.proto.functions}
        self.has_defaults = self.proto.ir_version >= WITH_DEFAULTS
        self.scopes = 0
        self._may_compute = FREE

    def _parsed(self, owner: str, name: str, data: bytes) -> Any:
        if data[4:8] == OF_ONNX_RUNTIME:
            raise ValueError(
                f"{owner}: {name} is of ONNX Runtime's own format, expected ONNX: the model that it was made of"
            )
        try:
            maker = maker_of(name, data)
        except ValueError as error:
            raise ValueError(f"{owner}: {error}") from None
        try:
            return self.onnx.load_model_from_string(data)
        except Exception as error:  # noqa: BLE001  of protobuf's, which knows no ValueError
            if maker in OTHERS:
                way = f"but {OTHERS[maker]}: from_{maker} takes the path of its file"
                raise ValueError(f"{owner}: {name} is no ONNX model, {way}") from None
            raise ValueError(f"{owner}: {name} is no ONNX model, or damaged: {checks.first_line(error)}") from None

    @property
    def evaluator(self) -> Any:
        """What computes models in onnx itself, which is imported only where it is needed."""
        return needed(self._owner, "onnx.reference").ReferenceEvaluator

    def scope(self) -> Scope:
        """Return the model's own graph."""
        return Scope(self, self.proto.graph, _opsets(self.proto))

    def array(self, tensor: Any) -> Array:
        """Return a tensor's numbers; raise Unknown where they cannot be read."""
        if self.folder is None and self.onnx.external_data_helper.uses_external_data(tensor):
            raise Unknown("is in another file: pass the path of the model, or onnx.load(path)")
        try:
            a = np.asarray(self.onnx.numpy_helper.to_array(tensor, self.folder or ""))
        except Exception as error:  # noqa: BLE001  whatever onnx stumbles over
            raise Unknown(f"cannot be read: {checks.first_line(error)}") from None
        return self._stored(a)

    def _stored(self, a: Array) -> Array:
        self._may_compute += EXPANSION * a.size
        return a

    def compute(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if a value of this shape is more than may be computed yet; else count it."""
        size = math.prod(shape)
        if min(shape, default=0) < 0 or size > self._may_compute:
            raise ValueError(f"it has shape {shape}, expected at most {self._may_compute:,} numbers")
        self._may_compute -= size

    def dense(self, sparse: Any) -> Array:
        """Return the numbers of a sparse tensor, those that it leaves out too."""
        values, indices = self.array(sparse.values), self.array(sparse.indices)
        shape = tuple(sparse.dims)
        try:
            self.compute(shape)
            whole = np.zeros(shape, values.dtype)
            if indices.ndim == 2:
                whole[tuple(indices.T)] = values
            else:
                whole.reshape(-1)[indices] = values
        except (ValueError, IndexError, MemoryError) as error:
            raise Unknown(f"cannot be read: {checks.first_line(error)}") from None
        return whole

    def constant(self, node: Any) -> Array:
        """Return the value of a Constant."""
        attributes = {a.name: a for a in node.attribute}
        if "value" in attributes:
            return self.array(attributes["value"].t)
        if "sparse_value" in attributes:
            return self.dense(attributes["sparse_value"].sparse_tensor)
        for name, field, dtype in PLAIN_VALUES:
            if name in attributes:
                return self._stored(np.array(getattr(attributes[name], field), dtype))
        raise Unknown("is a Constant without numbers")


def _opsets(proto: Any) -> dict[str, int]:
    """Return which version of the operators a model or function has, by their domain."""
    return {"" if each.domain == "ai.onnx" else each.domain: each.version for each in proto.opset_import}


Place = tuple["Scope", str]


class Scope:
    """A graph, or the body of a function where it is called: what its nodes can read, by name.

    Attributes:
        nodes: its nodes, with the attributes that a function is given.
        opsets: which version of the operators it has, by their domain.
        made: the node that makes each value.
        inputs: the names of what comes from outside.

    """

    def __init__(
        self,
        model: Model,
        graph: Any,
        opsets: Mapping[str, int],
        outer: Scope | None = None,
        bound: Mapping[str, Place] | None = None,
        nodes: list[Any] | None = None,
        depth: int = 0,
    ) -> None:
        model.scopes += 1
        if model.scopes > MOST_SCOPES or depth > MOST_DEEP:
            raise ValueError(
                f"there are more than {MOST_SCOPES:,} graphs in graphs and calls of functions, or {MOST_DEEP} deep"
            )
        self._depth = depth
        self.model, self.opsets, self.graph = model, dict(opsets), graph
        self.nodes = list(graph.node) if nodes is None else nodes
        self.made = {name: node for node in self.nodes for name in node.output if name}
        self.inputs = {value if isinstance(value, str | bytes) else value.name for value in graph.input}
        self._tensors = {t.name: t for t in getattr(graph, "initializer", ())}
        self._sparse = {t.values.name: t for t in getattr(graph, "sparse_initializer", ())}
        if outer is not None:  # what a Loop or Scan gives, whatever it is by default
            for name in self.inputs:
                self._tensors.pop(name, None)
                self._sparse.pop(name, None)
        self._check_names()
        self._outer, self._bound = outer, bound or {}
        self._bodies: dict[int, Scope] = {}
        self._known: dict[str, Array] = {}

    def _check_names(self) -> None:
        """Raise ValueError where a name is none: where it is damaged, protobuf has bytes in its place."""
        names = [*self.made, *self.inputs, *self._tensors, *self._sparse]
        for node in self.nodes:
            names += [node.name, node.op_type, node.domain, *node.input, *(a.name for a in node.attribute)]
        if not all(isinstance(name, str) for name in names):
            raise ValueError("the model is damaged: there is a name that is no text")

    # --- graphs in graphs

    def walk(self) -> Iterator[tuple[str, Scope, Any]]:
        """Yield all nodes with their scopes, those of graphs inside too, and the names of the calls around them."""
        for node in self.nodes:
            yield "", self, node
            for attribute in node.attribute:
                for graph in _graphs(attribute):
                    yield from Scope(self.model, graph, self.opsets, outer=self, depth=self._depth + 1).walk()
            body = self._body(node)
            if body is not None:
                for calls, scope, inner in body.walk():
                    yield f"{node.name or node.op_type}/{calls}", scope, inner

    def _body(self, node: Any) -> Scope | None:
        """Return the body of the function that a node calls, if it calls one."""
        function = self.model.functions.get((node.domain, node.op_type))
        if function is None:
            return None
        if id(node) not in self._bodies:
            given = {a.name: a for a in [*function.attribute_proto, *node.attribute]}
            nodes = [_filled(self.model.onnx, each, given) for each in function.node]
            actual = [*node.input, *[""] * (len(function.input) - len(node.input))]
            bound = {formal: (self, name) for formal, name in zip(function.input, actual, strict=False)}
            opsets = self.opsets | _opsets(function)
            depth = self._depth + 1
            self._bodies[id(node)] = Scope(self.model, function, opsets, bound=bound, nodes=nodes, depth=depth)
        return self._bodies[id(node)]

    def home(self, name: str) -> Place:
        """Return the graph in which a value is made, and its name there: that of an input if it is made nowhere."""
        scope = self
        for _ in range(MOST_NAMES):
            node = scope.made.get(name)
            if name in scope._bound:
                scope, name = scope._bound[name]
            elif node is not None:
                body = scope._body(node)
                if body is None:
                    return scope, name
                place = list(node.output).index(name)
                if place >= len(body.graph.output):
                    return scope, name
                scope, name = body, body.graph.output[place]
            elif scope._outer is None or name in scope.inputs or name in scope._tensors or name in scope._sparse:
                return scope, name
            else:
                scope = scope._outer
        raise Unknown("is made of itself")

    def declared(self, name: str) -> list[int | None]:
        """Return the length of each axis of a value, as far as the model says it."""
        scope, name = self.home(name)
        for value in [*scope.graph.value_info, *getattr(scope.graph, "input", ())]:
            if not isinstance(value, str) and value.name == name:
                axes = value.type.tensor_type.shape.dim
                return [int(axis.dim_value) if axis.HasField("dim_value") else None for axis in axes]
        return []

    @property
    def is_given(self) -> bool:
        """Whether its inputs are those of the model."""
        return self._depth == 0

    # --- constants

    def defaults(self, name: str) -> list[str]:
        """Return of which inputs of the model a value is made that have a default, and may be given another value."""
        if not self.model.has_defaults:
            return []
        found, seen, pending = [], set(), [self.home(name)]
        while pending:
            scope, at = place = pending.pop()
            if place in seen:
                continue
            seen.add(place)
            node = scope.made.get(at)
            if node is not None and node.op_type not in OF_SHAPES:
                pending += [scope.home(each) for each in node.input if each]
            elif at in scope.inputs and (at in scope._tensors or at in scope._sparse):
                found.append(at)
        return found

    def constant(self, name: str) -> Array:
        """Return a value that is the same whatever the model is given; raise Unknown if it is not."""
        wanted = self.home(name)
        pending, between = {wanted: None}, []
        while pending:
            scope, at = next(reversed(pending))
            missing = scope._compute(at)
            if missing is None:
                between.append(pending.popitem()[0])
            elif missing in pending:
                raise Unknown("is made of itself")
            else:
                pending[missing] = None
        scope, at = wanted
        value = scope._known[at]
        for other, name in between:
            if other._known[name].size > SMALL:
                del other._known[name]
        return value

    def _compute(self, name: str) -> Place | None:
        """Have a value that is made here in ``_known``; or return what has to be known before."""
        if name in self._known:
            return None
        node = self.made.get(name)
        if name in self._tensors:
            self._known[name] = self.model.array(self._tensors[name])
        elif name in self._sparse:
            self._known[name] = self.model.dense(self._sparse[name])
        elif node is None:
            given = f"is given when the model is run, as {name!r}: {RUN_IT}"
            raise Unknown(given if name in self.inputs else "is made nowhere")
        else:
            homes = [self.home(each) for each in node.input if each]
            for scope, at in homes:
                if at not in scope._known:
                    return scope, at
            self._known |= self.computed(node, [scope._known[at] for scope, at in homes])
            if name not in self._known:
                raise Unknown(f"is made by {node.op_type}, which gives nothing there")
        return None

    def computed(self, node: Any, inputs: list[Array]) -> dict[str, Array]:
        """Return what a node makes of constants, by name, by onnx itself; ``inputs`` are without those left out."""
        what = f"{node.op_type} {node.name!r}" if node.name else node.op_type
        if node.op_type in RANDOM or any(True for attribute in node.attribute for _ in _graphs(attribute)):
            raise Unknown(f"is made when the model is run, by {what}: {RUN_IT}")
        if node.op_type == "Constant":
            return {node.output[0]: self.model.constant(node)}
        feeds = dict(zip([name for name in node.input if name], inputs, strict=True))
        try:
            self._check_sizes(node, feeds)
            graph = self._graph(node, feeds)
            opsets = {domain: max(v, EVALUATED.get(node.op_type, 0)) for domain, v in self.opsets.items()}
            with quiet():
                results = self.model.evaluator(graph, opsets=opsets).run(None, feeds)
        except Exception as error:  # noqa: BLE001  whatever the evaluator stumbles over
            reason = f"is made by {what}, which cannot be computed before the model is run ({checks.first_line(error)})"
            raise Unknown(f"{reason}: {RUN_IT}") from None
        outputs = [name for name in node.output if name]
        return {name: a for name, a in zip(outputs, results, strict=True) if isinstance(a, np.ndarray)}

    def _graph(self, node: Any, feeds: Mapping[str, Array], small: bool = False) -> Any:
        """Return a graph of one node; ``small`` tells whether it is to hold the inputs that shapes may depend on."""
        onnx = self.model.onnx
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in feeds.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        held = [onnx.numpy_helper.from_array(a, name) for name, a in feeds.items() if small and a.size <= SMALL]
        return onnx.helper.make_graph([node], "constant", inputs, outputs, held)

    def _check_sizes(self, node: Any, feeds: Mapping[str, Array]) -> None:
        """Raise ValueError where what a node makes is too large, before it is made, or where nobody can tell."""
        onnx = self.model.onnx
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        model = onnx.helper.make_model(self._graph(node, feeds, small=True), opset_imports=opsets)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        shapes = []
        for value in inferred.graph.output:
            tensor = value.type.tensor_type
            if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
                raise ValueError(f"the shape of {value.name!r} cannot be told")
            shapes.append(tuple(d.dim_value for d in tensor.shape.dim))
        size = sum(map(math.prod, shapes)) + sum(a.size for a in feeds.values())
        if size > MOST_OF_OTHERS and not (node.op_type in FAST and node.domain in ("", "ai.onnx")):
            raise ValueError(f"it takes and gives {size:,} numbers, expected at most {MOST_OF_OTHERS:,}")
        for shape in shapes:
            self.model.compute(shape)


def _graphs(attribute: Any) -> Iterator[Any]:
    """Yield the graphs that are the value of an attribute."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _filled(onnx: Any, node: Any, given: Mapping[str, Any]) -> Any:
    """Return a node of a function with the attributes that the function is given, in graphs inside too."""
    filled = onnx.NodeProto()
    filled.CopyFrom(node)
    _fill(filled, given)
    return filled


def _fill(node: Any, given: Mapping[str, Any]) -> None:
    for attribute in list(node.attribute):
        for graph in _graphs(attribute):
            for inner in graph.node:
                _fill(inner, given)
        if attribute.ref_attr_name:
            value, name = given.get(attribute.ref_attr_name), attribute.name
            node.attribute.remove(attribute)
            if value is not None:
                added = node.attribute.add()
                added.CopyFrom(value)
                added.name = name
