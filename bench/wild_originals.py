"""What published models are run with, for wild.py: of a net in a file and an input, a call that gives its outputs."""

from __future__ import annotations

import importlib
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Call = Callable[[], Array]
Original = Callable[[str, Any], Call]  # of the path of a file and an input


class Unavailable(Exception):  # noqa: N818 - it is an outcome that gets printed
    """A package cannot be had, or what runs it is not installed; the message says which."""


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from None


# --- PyTorch


def torch_module(make: Callable[[Any], Any], prefix: str = "", within: str = "") -> Original:
    """A module of torch.nn, with the weights whose names begin with a prefix, in one of the dicts of a checkpoint."""

    def original(file: str, x: Array) -> Call:
        checkpoint = library("torch").load(file, map_location="cpu", weights_only=True)
        return torch_of(make, checkpoint[within] if within else checkpoint, prefix, x)

    return original


def torch_of(make: Callable[[Any], Any], state: Any, prefix: str, x: Array) -> Call:
    torch = library("torch")
    torch.set_num_threads(1)
    module = make(torch.nn).eval()
    own = {name.removeprefix(prefix): torch.as_tensor(w) for name, w in state.items() if name.startswith(prefix)}
    module.load_state_dict(own)
    tensor = torch.from_numpy(x)

    def run() -> Array:
        with torch.inference_mode():
            y: Array = module(tensor)[0].numpy()
            return y

    return run


def silero(file: str, x: Array) -> Call:
    """An LSTMCell a step at a time, with the state of the step before."""
    torch = library("torch")
    cell = _silero_cell(file)
    torch.set_num_threads(1)
    steps = torch.from_numpy(x).unbind()

    def run() -> Array:
        with torch.inference_mode():
            state = torch.zeros(x.shape[1], 128), torch.zeros(x.shape[1], 128)
            outputs = []
            for step in steps:
                state = cell(step, state)
                outputs.append(state[0])
            y: Array = torch.stack(outputs).numpy()
            return y

    return run


def _silero_cell(file: str) -> Any:
    """The cell of a file of arrays, which are not those of the other files, or of the TorchScript beside a file."""
    torch = library("torch")
    if not file.endswith(".safetensors"):
        return torch.jit.load(Path(file).with_name("silero_vad.jit"))._model.decoder.rnn
    arrays = library("safetensors.torch").load_file(file)
    cell = torch.nn.LSTMCell(128, 128)
    cell.load_state_dict({n.removeprefix("lstm_cell."): w for n, w in arrays.items() if n.startswith("lstm_cell.")})
    return cell


# --- Keras


def keras_layer(make: Callable[[Any], Any], *groups: str) -> Original:
    """A layer of Keras, or several that follow each other, with the weights in groups of an HDF5 file."""

    def original(file: str, x: Array) -> Call:
        layer = make(library("keras").layers)
        layer.build(x.shape)
        layer.set_weights([w for group in groups for w in _weights(file, group)])
        return _run_keras(layer, x)

    return original


def keras_bidirectional(make: Callable[[Any], Any], groups: str, **options: Any) -> Original:
    """A layer in both directions; "{}" in the name of a group is "forward" or "backward"."""
    directions = (groups.format(direction) for direction in ("forward", "backward"))

    def both(layers: Any) -> Any:
        layer = make(layers)
        wrapper = layers.Bidirectional(layer, **options)
        # It makes copies by names, and finds Keras 3's function of a name for that of Keras 2.
        for copy in (wrapper.forward_layer, wrapper.backward_layer):
            copy.cell.recurrent_activation = layer.cell.recurrent_activation
        return wrapper

    return keras_layer(both, *directions)


def _weights(file: str, group: str) -> list[Array]:
    with library("h5py").File(file) as h5:
        return [h5[f"{group}/{name}:0"][()] for name in ("kernel", "recurrent_kernel", "bias")]


def hard_sigmoid(x: Any) -> Any:
    """Keras 2's; Keras 3's is another one."""
    return library("keras").ops.clip(0.2 * x + 0.5, 0, 1)


def keras_cudnn(units: int, group: str) -> Original:
    """An LSTM of Keras with the weights of a CuDNNLSTM: cuDNN's layout in arrays of Keras' shapes, and two biases."""

    def original(file: str, x: Array) -> Call:
        layer = library("keras").layers.LSTM(units, return_sequences=True)
        layer.build(x.shape)
        kernel, recurrent, bias = _weights(file, group)
        kernel = np.hstack([w.reshape(units, -1).T for w in np.split(kernel, 4, axis=1)])
        recurrent = np.hstack([w.T for w in np.split(recurrent, 4, axis=1)])
        layer.set_weights([kernel, recurrent, np.add(*np.split(bias, 2))])
        return _run_keras(layer, x)

    return original


def keras_saved(name: str) -> Original:
    """A layer of a model that Keras itself loads."""

    def original(file: str, x: Array) -> Call:
        model = library("keras").saving.load_model(file, compile=False)
        return _run_keras(model.get_layer(name), x)

    return original


def _run_keras(layer: Any, x: Array) -> Call:
    keras = library("keras")
    inputs = keras.Input(x.shape[1:])
    outputs = layer(inputs)
    model = keras.Model(inputs, outputs[0] if isinstance(outputs, list | tuple) else outputs)
    return lambda: model.predict_on_batch(x)


# --- ONNX Runtime


def onnx_model(file: str, feeds: dict[str, Array]) -> Call:
    """A whole model, of which the first output is compared."""
    session = _session(file)
    return lambda: session.run(None, feeds)[0]


def _session(model: str | bytes) -> Any:
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # what it says of models that were made long ago
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_nodes(*names: str) -> Original:
    """Nodes of a graph, one after the other, each in a model of its own and from states that are zeros."""

    def original(file: str, x: Array) -> Call:
        model = library("onnx").load(file)
        nodes = {node.name: node for node in model.graph.node}
        runs = [_node(model, nodes[name]) for name in names]

        def run() -> Array:
            y = x
            for each in runs:
                y = each(y)
            return y

        return run

    return original


def _node(model: Any, node: Any) -> Callable[[Array], Array]:
    helper, FLOAT = library("onnx").helper, library("onnx").TensorProto.FLOAT
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    directions = 2 if attributes.get("direction") == b"bidirectional" else 1
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    first, *states = [name for name in dict.fromkeys(node.input) if name and name not in known]
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_tensor_value_info(name, FLOAT, [None] * 3) for name in (first, *states)],
        [helper.make_tensor_value_info(node.output[0], FLOAT, [None] * 4)],
        [known[name] for name in node.input if name in known],
    )
    opsets = list({opset.domain: opset for opset in model.opset_import}.values())
    alone = helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    session = _session(alone.SerializeToString())

    def run(x: Array) -> Array:
        zeros = np.zeros((directions, x.shape[1], attributes["hidden_size"]), np.float32)
        (y,) = session.run(None, {first: x} | dict.fromkeys(states, zeros))
        together: Array = y.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
        return together

    return run


# --- formulas of packages that compute with NumPy


def sigmoid(x: Array) -> Array:
    y: Array = 0.5 + 0.5 * np.tanh(0.5 * x)
    return y


def g2p_en(part: str) -> Original:
    def original(file: str, x: Array) -> Call:
        with np.load(file) as arrays:
            w_ih, w_hh, b_ih, b_hh = (arrays[f"{part}_{name}"] for name in ("w_ih", "w_hh", "b_ih", "b_hh"))

        def run() -> Array:
            h = np.zeros((x.shape[1], w_hh.shape[1]), np.float32)
            outputs = []
            for step in x:
                r_x, z_x, n_x = np.split(step @ w_ih.T + b_ih, 3, axis=1)
                r_h, z_h, n_h = np.split(h @ w_hh.T + b_hh, 3, axis=1)
                z = sigmoid(z_x + z_h)
                h = (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h
                outputs.append(h)
            return np.stack(outputs)

        return run

    return original


def madmom(file: str, x: Array) -> Call:
    levels = madmom_levels(file)

    def run() -> Array:
        y = x
        for forward, *backward in levels:
            sides = [_madmom_layer(forward, y)]
            sides += [_madmom_layer(net, y[::-1])[::-1] for net in backward]
            y = np.hstack(sides)
        return y

    return run


def madmom_levels(file: str) -> list[list[Any]]:
    """Recurrent layers, each with the one that reads backwards where there is one; their attributes are madmom's."""
    recurrent = [layer for layer in unpickled(file).layers if type(layer).__name__ != "FeedForwardLayer"]
    return [[layer.fwd_layer, layer.bwd_layer] if hasattr(layer, "fwd_layer") else [layer] for layer in recurrent]


def unpickled(file: str) -> Any:
    with open(file, "rb") as stream:
        return Objects(stream, encoding="latin1").load()


class Objects(pickle.Unpickler):
    """Reads arrays and objects without the classes of the objects: namespaces stand for them, of types of the names."""

    ARRAYS: ClassVar = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "ndarray": np.ndarray,
        "dtype": np.dtype,
        "_reconstructor": lambda kind, *_: kind(),
    }

    def find_class(self, module: str, name: str) -> Any:
        return self.ARRAYS.get(name) or type(name, (types.SimpleNamespace,), {})


def _madmom_layer(net: Any, x: Array) -> Array:
    kind = type(net).__name__
    units = len(net.cell.bias if hasattr(net, "cell") else net.bias)
    c = np.zeros(units, np.float32)
    h = getattr(net, "hid_init", c)
    outputs = []
    for step in x:
        if kind == "LSTMLayer":
            i, f = (sigmoid(_madmom_gate(gate, step, h, c)) for gate in (net.input_gate, net.forget_gate))
            c = np.tanh(_madmom_gate(net.cell, step, h, c)) * i + c * f
            h = np.tanh(c) * sigmoid(_madmom_gate(net.output_gate, step, h, c))
        elif kind == "GRULayer":
            r, u = (sigmoid(_madmom_gate(gate, step, h, c)) for gate in (net.reset_gate, net.update_gate))
            candidate = np.tanh(step @ net.cell.weights + net.cell.bias + r * (h @ net.cell.recurrent_weights))
            h = u * candidate + (1 - u) * h
        else:
            h = np.tanh(_madmom_gate(net, step, h, c))
        outputs.append(h)
    return np.stack(outputs)


def _madmom_gate(gate: Any, x: Array, h: Array, c: Array) -> Array:
    peephole = getattr(gate, "peephole_weights", None)
    seen = 0 if peephole is None else c * peephole
    a: Array = x @ gate.weights + gate.bias + seen + h @ gate.recurrent_weights
    return a


def g2pm(file: str, x: Array) -> Call:
    return torch_of(lambda nn: nn.LSTM(64, 32, bidirectional=True, batch_first=True), unpickled(file), "lstm.", x)


# --- nagisa's own extension


def nagisa(net: str) -> Original:
    def original(file: str, x: Array) -> Call:
        arguments: list[Array] = []
        for w_ih, w_hh, bias in nagisa_weights(file, net):
            opened = bias + np.float32(np.arange(len(bias)) // w_hh.shape[1] == 1)  # 1 for the second gate, f
            arguments += [np.ascontiguousarray(w_ih.T), opened, np.ascontiguousarray(w_hh.T)]
        sys.path.append(str(Path(file).parents[2]))
        transduce = library("nagisa_utils").birnn_transduce
        return lambda: transduce(x, *arguments)

    return original


def nagisa_weights(file: str, net: str) -> list[list[Array]]:
    """Weights of the input, weights of the state and bias of each direction, of a DyNet text file."""
    found = []
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(f"#Parameter# /{net}/"):
                shape = [int(size) for size in line.split()[2].strip("{}").split(",")]
                found.append(np.array(next(lines).split(), np.float32).reshape(shape, order="F"))
    return [found[k : k + 3] for k in range(0, len(found), 3)]
