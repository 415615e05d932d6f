"""Recurrent nodes of ONNX models become layers, wherever their weights come from, or are refused by name."""

from __future__ import annotations

import itertools
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.convert import onnx_graph
from onnx_nodes import FUNCTIONS, GATES, KINDS, draw_node, model_of, run_onnx, run_plainly
from problems import Array
from tolerances import output_tolerance

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

T, B, I, H = 5, 3, 4, 6
WEIGHTS = {"W", "R", "B", "P"}


def nets(source: Any) -> list[Any]:
    return fastrnn.find_nets(source)


def from_onnx(source: Any, node: Any = None, **options: Any) -> Any:
    """The layer, and no warning, which is an error in these tests."""
    layer = fastrnn.from_onnx(source, node, **options)
    assert not layer.training
    return layer


def weights(kind: str = "GRU", D: int = 1, dtype: Any = np.float32, seed: int = 0, inputs: int = I) -> dict[str, Array]:
    rng, G = np.random.default_rng(seed), GATES[kind]
    shapes = {"W": (D, G * H, inputs), "R": (D, G * H, H), "B": (D, 2 * G * H)}
    return {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in shapes.items()}


def value(name: str, *shape: Any, dtype: Any = np.float32) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def node_of(kind: str, inputs: str = "X W R B", outputs: str = "Y", **attributes: Any) -> Any:
    """A node whose inputs and outputs are named in a line; "-" is one that is left out."""
    names = [["" if name == "-" else name for name in line.split()] for line in (inputs, outputs)]
    return helper.make_node(kind, *names, **attributes)


def model(nodes: list[Any], constants: dict[str, Array], *, opset: int = 14, inputs: Any = (), **more: Any) -> Any:
    """A model that is given X, and what else there is in ``inputs``."""
    graph = helper.make_graph(
        nodes,
        "net",
        [value("X", "T", "B", I), *inputs],
        [value("Y", "T", "D", "B", "H")],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    return helper.make_model(graph, **{"opset_imports": [helper.make_opsetid("", opset)], "ir_version": 8, **more})


def assert_is(layer: Any, node: Any, given: dict[str, Array]) -> None:
    """The layer gives what the node gives, by ONNX's equations."""
    x = np.random.default_rng(9).standard_normal((T, B, I)).astype(np.float32)
    Y = next(iter(run_plainly(node, {"X": x, **given}).values()))
    y, _ = layer(x.astype(layer.dtype))
    expected = Y.transpose(0, 2, 1, 3).reshape(y.shape)
    np.testing.assert_allclose(y, expected, rtol=0, atol=output_tolerance(np.float32, terms=I + H))


# --- what nodes mean


@pytest.mark.filterwarnings("ignore:.*the model has lengths of sequences")
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", KINDS)
def test_a_node(kind: str, seed: int, layout: int) -> None:
    node, given = draw_node(kind, np.random.default_rng([seed, KINDS.index(kind), layout]), layout=layout)
    layer = from_onnx(model_of([node], given, dict.fromkeys(node.output, np.float32), WEIGHTS))
    assert type(layer) is getattr(fastrnn, kind)
    assert (layer.bias, layer.batch_first) == ("B" in given, bool(layout))
    states: Any = [given.get(name) for name in ("initial_h", "initial_c")[: FUNCTIONS[kind] // 3 + 1]]
    states = [a.swapaxes(0, 1) if layout and a is not None else a for a in states]
    lengths = given.get("sequence_lens")
    y, after = layer(given["X"], tuple(states) if len(states) == 2 else states[0], lengths=lengths)
    D, steps = len(given["W"]), y.shape[:2]
    Y = y.reshape(*steps, D, -1)
    found = [Y if layout else Y.swapaxes(1, 2)]
    for s, before in zip(after if isinstance(after, tuple) else (after,), states, strict=True):
        empty = np.zeros(len(s[0]), bool) if lengths is None else lengths == 0
        assert not s[:, empty].any() if before is None else np.array_equal(s[:, empty], before[:, empty])
        s = np.where(empty[:, None], 0, s)  # what the node has there
        found.append(s.swapaxes(0, 1) if layout else s)
    for (name, right), a in zip(run_plainly(node, given).items(), found, strict=True):
        allowed = output_tolerance(np.float32, terms=given["W"].shape[2] + layer.hidden_size)
        atol = allowed * max(1, np.abs(right).max())
        np.testing.assert_allclose(a, right, rtol=0, atol=atol, equal_nan=False, err_msg=f"{name} of\n{node}")


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 14, 17, 20, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_versions_of_the_operators(kind: str, opset: int) -> None:
    node, given = node_of(kind, hidden_size=H), weights(kind)
    assert_is(from_onnx(model([node], given, opset=opset)), node, given)


def test_too_old_a_version() -> None:
    old = model([node_of("LSTM")], weights("LSTM"), opset=6)
    with pytest.raises(
        ValueError, match=r"^from_onnx: 'Y': it is of version 6 of ONNX's operators, expected at least 7"
    ):
        fastrnn.from_onnx(old)


def test_domain_by_its_other_name() -> None:
    node, given = node_of("GRU", domain="ai.onnx"), weights()
    assert_is(from_onnx(model([node], given)), node, given)


def test_names_of_activations_in_any_case() -> None:
    given = weights()
    layer = from_onnx(model([node_of("GRU", activations=["HARDSIGMOID", "softSign"])], given))
    assert layer.activations == (("hard_sigmoid", 0.2, 0.5), "softsign")
    node = node_of("GRU", activations=["HardSigmoid", "Softsign"])
    assert_is(layer, node, given)


def test_what_is_as_by_default_is_not_said() -> None:
    """So that a layer may be joined with one of a node that says nothing."""
    given = weights("LSTM", D=2)
    said = {"activations": ["Sigmoid", "Tanh", "tanh"] * 2, "input_forget": 0, "layout": 0, "hidden_size": H}
    (net,) = nets(model([node_of("LSTM", direction="bidirectional", **said)], given))
    assert net.options == {"input_size": I, "hidden_size": H, "bidirectional": True}
    assert net.parameters == sum(a.size for a in given.values())
    assert str(net) == "LSTM(4, 6, bidirectional=True)"


def test_an_rnn_has_one_activation_where_the_default_are_two() -> None:
    node, given = node_of("RNN", activations=["Relu"]), weights("RNN")
    assert_is(from_onnx(model([node_of("RNN", activations=["Relu", "Tanh"])], given)), node, given)


def test_as_many_parameters_as_functions_take() -> None:
    """The next alpha, and the next beta, for each that has one; ONNX Runtime leaves out what remains."""
    node = node_of(
        "LSTM",
        activations=["HardSigmoid", "Elu", "ScaledTanh"],
        activation_alpha=[0.3, 0.7, 0.9, 5.0],
        activation_beta=[0.4, 0.8],
    )
    f = np.float32
    expected = (("hard_sigmoid", f(0.3), f(0.4)), ("elu", f(0.7)), ("scaled_tanh", f(0.9), f(0.8)))
    assert from_onnx(model([node], weights("LSTM"))).activations == expected


# --- where weights come from


def by_constant(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    tensors = {name: numpy_helper.from_array(a, "whatever") for name, a in given.items()}
    return [helper.make_node("Constant", [], [name], value=t) for name, t in tensors.items()], {}


def by_floats(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    nodes = []
    for name, a in given.items():
        nodes += [
            helper.make_node("Constant", [], [f"{name}_flat"], value_floats=a.ravel().tolist()),
            helper.make_node("Constant", [], [f"{name}_shape"], value_ints=a.shape),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name]),
        ]
    return nodes, {}


def by_numbers(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    """Times a number, from an axis that an integer names."""
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["zero"], value_int=0),
    ]
    for name in given:
        nodes += [
            helper.make_node("Gather", [f"{name}_half", "zero"], [f"{name}_one"], axis=0),
            helper.make_node("Mul", [f"{name}_one", "two"], [name]),
        ]
    return nodes, {f"{name}_half": np.stack([a, a]) / 2 for name, a in given.items()}


def sparse(a: Array, name: str, flat: bool) -> Any:
    at = np.flatnonzero(a) if flat else np.argwhere(a)
    values = helper.make_tensor(name, onnx.TensorProto.FLOAT, [np.count_nonzero(a)], a[a != 0].ravel())
    indices = helper.make_tensor(f"{name}_at", onnx.TensorProto.INT64, at.shape, at.ravel())
    return helper.make_sparse_tensor(values, indices, a.shape)


def by_sparse(given: dict[str, Array], flat: bool = False) -> tuple[list[Any], dict[str, Array]]:
    tensors = {name: sparse(a, "whatever", flat) for name, a in given.items()}
    return [helper.make_node("Constant", [], [name], sparse_value=t) for name, t in tensors.items()], {}


def by_slices(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    """As exporters of PyTorch's cells do: blocks change their places."""
    nodes = [helper.make_node("Constant", [], [n], value_ints=v) for n, v in (("zero", [0]), ("end", [2**31]))]
    constants: dict[str, Array] = {}
    for name, a in given.items():
        constants |= {f"{name}_whole": np.roll(a[0], H, axis=0), f"{name}_H": np.array([H])}
        nodes += [
            helper.make_node("Slice", [f"{name}_whole", f"{name}_H", "end"], [f"{name}_1"]),
            helper.make_node("Slice", [f"{name}_whole", "zero", f"{name}_H", "zero"], [f"{name}_0"]),
            helper.make_node("Concat", [f"{name}_1", f"{name}_0"], [f"{name}_both"], axis=0),
            helper.make_node("Unsqueeze", [f"{name}_both", "zero"], [name]),
        ]
    return nodes, constants


def by_transposes(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    nodes = []
    for name, a in given.items():
        nodes += [
            helper.make_node("Transpose", [f"{name}_T"], [f"{name}_64"], perm=list(range(a.ndim))[::-1]),
            helper.make_node("Cast", [f"{name}_64"], [f"{name}_32"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Identity", [f"{name}_32"], [name]),
        ]
    return nodes, {f"{name}_T": a.T.astype(np.float64) for name, a in given.items()}


def by_dequantising(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    nodes = [helper.make_node("DequantizeLinear", [f"{n}_q", "scale", "zero"], [n]) for n in given]
    quantised = {f"{n}_q": np.rint(a * 127).astype(np.int8) for n, a in given.items()}
    return nodes, {**quantised, "scale": np.float32(1 / 127), "zero": np.int8(0)}


def by_initializers(given: dict[str, Array]) -> tuple[list[Any], dict[str, Array]]:
    return [], given


SOURCES: list[Callable[..., Any]] = [
    by_initializers,
    by_constant,
    by_floats,
    by_numbers,
    by_sparse,
    by_slices,
    by_transposes,
    by_dequantising,
]


def rounded(given: dict[str, Array]) -> dict[str, Array]:
    return {name: (np.rint(a * 127).astype(np.float32) / np.float32(127)) for name, a in given.items()}


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_from(kind: str, source: Callable[..., Any]) -> None:
    given = rounded(weights(kind))
    nodes, constants = source(given)
    node = node_of(kind, hidden_size=H)
    made = model([*nodes, node], constants)
    onnx.checker.check_model(made, full_check=True)
    assert_is(from_onnx(made), node, given)


def test_a_sparse_initializer() -> None:
    for flat in (False, True):
        given = weights()
        made = model([node_of("GRU")], {"R": given["R"], "B": given["B"]})
        made.graph.sparse_initializer.append(sparse(given["W"], "W", flat))
        assert_is(from_onnx(made), node_of("GRU"), given)


def test_versions_of_what_computes_weights() -> None:
    """Unsqueeze has had its axes as an attribute before version 13."""
    given = weights()
    nodes = [helper.make_node("Unsqueeze", [f"{name}_0"], [name], axes=[0]) for name in given]
    made = model([*nodes, node_of("GRU")], {f"{name}_0": a[0] for name, a in given.items()}, opset=11)
    assert_is(from_onnx(made), node_of("GRU"), given)


def in_branches(node: Any, deep: int, nodes: list[Any]) -> list[Any]:
    """A node in the branch of an If in the branch of an If, with what else is in the innermost."""
    inside = [*nodes, node]
    for k in range(deep):
        then = helper.make_graph(inside, f"then{k}", [], [value("Y", "T", 1, "B", H)])
        zeros = helper.make_node(
            "Constant", [], ["Y"], value=numpy_helper.from_array(np.zeros((1, 1, 1, H), np.float32))
        )
        other = helper.make_graph([zeros], f"else{k}", [], [value("Y", "T", 1, "B", H)])
        inside = [helper.make_node("If", ["yes"], ["Y"], then_branch=then, else_branch=other, name=f"If_{k}")]
    return inside


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("deep", [1, 3])
def test_weights_that_are_made_in_nested_branches(deep: int, source: Callable[..., Any]) -> None:
    """From the constants of the outermost graph."""
    given = rounded(weights())
    nodes, constants = source(given)
    node = node_of("GRU", name="/decoder/GRU")
    made = model(in_branches(node, deep, nodes), constants, inputs=[value("yes", dtype=bool)])
    onnx.checker.check_model(made)
    assert [net.name for net in nets(made)] == ["/decoder/GRU"]
    assert_is(from_onnx(made), node, given)
    assert_is(from_onnx(made, "GRU"), node, given)


def function(name: str, nodes: list[Any], inputs: str, outputs: str, **more: Any) -> Any:
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs.split(), outputs.split(), nodes, opsets, **more)


def with_functions(nodes: list[Any], constants: dict[str, Array], *functions: Any) -> Any:
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
    return model(nodes, constants, functions=list(functions), opset_imports=opsets)


def test_a_node_in_a_function() -> None:
    """In one that another calls, with an attribute that it is given, and one that is as by default; called twice."""
    node = node_of("GRU", "x w r b", "y", name="rnn")
    for name, attribute_type in (("clip", onnx.AttributeProto.FLOAT), ("linear_before_reset", onnx.AttributeProto.INT)):
        attribute = node.attribute.add(name=name, type=attribute_type)
        attribute.ref_attr_name = f"own_{name}"
    default = helper.make_attribute("own_linear_before_reset", 1)
    inner = function("Inner", [node], "x w r b", "y", attributes=["own_clip"], attribute_protos=[default])
    nodes = [
        helper.make_node("Transpose", ["t"], ["w"], perm=[2, 1, 0]),
        helper.make_node("Inner", ["x", "w", "r", "b"], ["z"], domain="own", own_clip=0.25, name="inner"),
    ]
    outer = function("Outer", nodes, "x t r b", "z")
    given, other = weights(), weights(seed=1)
    constants = {**{f"{n}0": a for n, a in given.items()}, **{f"{n}1": a for n, a in other.items()}}
    constants |= {f"W{k}": a["W"].transpose(2, 1, 0) for k, a in enumerate((given, other))}
    calls = [
        helper.make_node("Outer", ["X", "W0", "R0", "B0"], ["Z"], domain="own", name="first"),
        helper.make_node("Outer", ["X", "W1", "R1", "B1"], ["Y"], domain="own", name="second"),
    ]
    made = with_functions(calls, constants, inner, outer)
    onnx.checker.check_model(made)
    assert [net.name for net in nets(made)] == ["first/inner/rnn", "second/inner/rnn"]
    plain = node_of("GRU", clip=0.25, linear_before_reset=1)
    assert_is(from_onnx(made, "first/inner/rnn"), plain, given)
    assert_is(from_onnx(made, "second/inner/rnn"), plain, other)


def test_a_weight_that_a_function_makes() -> None:
    double = function("Double", [helper.make_node("Add", ["a", "a"], ["b"])], "a", "b")
    call = helper.make_node("Double", ["half"], ["W"], domain="own")
    given = weights()
    made = with_functions([call, node_of("GRU")], {**given, "half": given["W"] / 2}, double)
    made.graph.initializer.remove(next(t for t in made.graph.initializer if t.name == "W"))
    assert_is(from_onnx(made), node_of("GRU"), given)


def test_an_input_that_a_function_is_not_given() -> None:
    inner = function("Inner", [node_of("GRU", "x w r b", "y")], "x w r b", "y")
    given = weights()
    made = with_functions([helper.make_node("Inner", ["X", "W", "R"], ["Y"], domain="own")], given, inner)
    layer = from_onnx(made)
    assert not layer.bias
    assert_is(layer, node_of("GRU", "X W R"), given)


@pytest.mark.parametrize("location", ["weights.bin", "deeper/weights.bin"])
def test_weights_in_another_file(location: str, tmp_path: Path) -> None:
    given, node, path = weights("LSTM"), node_of("LSTM"), tmp_path / "m.onnx"
    (tmp_path / location).parent.mkdir(exist_ok=True)
    made = model([node], given)
    onnx.save(made, path, save_as_external_data=True, location=location, size_threshold=0)
    for source in (path, str(path), onnx.load(path)):
        assert_is(from_onnx(source), node, given)
    without = onnx.load(path, load_external_data=False)
    for source in (path.read_bytes(), without):
        message = "^from_onnx: 'Y': its W, 'W', is in another file: pass the path of the model, or onnx.load"
        with pytest.raises(ValueError, match=message):
            fastrnn.from_onnx(source)
    (tmp_path / location).unlink()
    assert nets(path)[0].problem.startswith("its W, 'W', cannot be read: ")


def test_no_other_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(10_000))
    folder = tmp_path / "model"
    folder.mkdir()
    for location in ("../secret.bin", str(secret)):
        made = model([node_of("GRU")], weights())
        for tensor in made.graph.initializer:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)
        (folder / "m.onnx").write_bytes(made.SerializeToString())
        with pytest.raises(ValueError, match=r"^from_onnx: 'Y': its W, 'W', cannot be read: "):
            fastrnn.from_onnx(folder / "m.onnx")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    numpy_dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    given = weights(dtype=numpy_dtype)
    made = model([node_of("GRU")], given)
    layer = from_onnx(made)
    assert layer.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert np.array_equal(layer.params["weight_ih_l0"][:H], given["W"][0, H : 2 * H].astype(layer.dtype))
    for wanted in (np.float32, "float64"):
        other = from_onnx(made, dtype=wanted)
        assert other.dtype == wanted
        wide = {name: a.astype(np.float64) for name, a in given.items()}
        assert_is(other, node_of("GRU"), wide)


# --- sources


def test_sources(tmp_path: Path) -> None:
    node, given = node_of("GRU"), weights()
    made = model([node], given)
    data, path = made.SerializeToString(), tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (made, data, bytearray(data), memoryview(data), path, str(path)):
        assert_is(from_onnx(source), node, given)
        assert [str(net) for net in nets(source)] == ["GRU(4, 6, reset_after=False)"]


@pytest.mark.parametrize("source", [3, None, [], np.zeros(3)])
def test_of_another_kind(source: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^from_onnx: source is .*, expected an ONNX model, the path of its file, or its"
    ):
        fastrnn.from_onnx(source)


def test_a_graph_is_no_model() -> None:
    graph = model([node_of("GRU")], weights()).graph
    with pytest.raises(TypeError, match=r": onnx.helper.make_model\(graph\)$"):
        fastrnn.from_onnx(graph)
    with pytest.raises(TypeError, match=r"^from_onnx: dtype is int32, expected float32 or float64"):
        fastrnn.from_onnx(model([node_of("GRU")], weights()), dtype=np.int32)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(FileNotFoundError):
        fastrnn.from_onnx(path)
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        fastrnn.from_onnx(tmp_path)
    for data, message in (
        (b"version https://git-lfs.github.com/spec/v1\n", "is no ONNX model, or damaged"),
        (b"\x18\0\0\0ORTM" + bytes(100), "is of ONNX Runtime's own format, expected ONNX"),
        (b"", "there is no recurrent net in"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"^from_onnx: .*{message}"):
            fastrnn.from_onnx(path)


# --- which node


def stack(kind: str, names: list[str], D: int = 1) -> tuple[Any, list[dict[str, Array]]]:
    """Nodes one after the other, with the Transpose and Reshape, or Squeeze, that PyTorch's exporter puts between."""
    direction = ["forward", "bidirectional"][D - 1]
    nodes, constants, of_each = [], {"one": np.array([1]), "shape": np.array([0, 0, -1])}, []
    x = "X"
    for k, name in enumerate(names):
        given = weights(kind, D, seed=k, inputs=I if k == 0 else D * H)
        constants |= {f"{n}{k}": a for n, a in given.items()}
        nodes.append(node_of(kind, f"{x} W{k} R{k} B{k}", f"Y{k}", name=name, direction=direction, hidden_size=H))
        if D == 1:
            nodes.append(helper.make_node("Squeeze", [f"Y{k}", "one"], [f"y{k}"]))
        else:
            nodes.append(helper.make_node("Transpose", [f"Y{k}"], [f"t{k}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"t{k}", "shape"], [f"y{k}"]))
        x = f"y{k}"
        of_each.append(given)
    made = model(nodes, constants)
    made.graph.output[0].CopyFrom(value(x, "T", "B", D * H))
    return made, of_each


@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_several_nodes(kind: str, D: int) -> None:
    names = ["a", "b", "c"]
    made, of_each = stack(kind, names, D)
    layer = from_onnx(made, names)
    assert (layer.num_layers, layer.bidirectional) == (3, D == 2)
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    expected = x
    for name, given in zip(names, of_each, strict=True):
        alone = from_onnx(made, name)
        node = node_of(kind, direction=["forward", "bidirectional"][D - 1])
        Y = run_plainly(node, {"X": expected, **given})["Y"]
        y, _ = alone(expected)
        expected = Y.transpose(0, 2, 1, 3).reshape(T, B, D * H)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-5)


Way = tuple[list[Any], dict[str, Any]]


def two(kind: str, D: int, between: list[Any], constants: dict[str, Any], layout: int = 0, **more: Any) -> Any:
    """A model of "a", which gives ``Ya``, and "b", which reads ``Xb``, with nodes that make this of that."""
    options = {"direction": ["forward", "bidirectional"][D - 1], "hidden_size": H, "layout": layout}
    tensors = {name: np.asarray(a) for name, a in constants.items()}
    for k, letter in enumerate("ab"):
        tensors |= {f"{n}{letter}": a for n, a in weights(kind, D, seed=k, inputs=[I, D * H][k]).items()}
    nodes = [
        node_of(kind, "X Wa Ra Ba", "Ya", name="a", **options),
        *between,
        node_of(kind, "Xb Wb Rb Bb", "Y", name="b", **options),
    ]
    return model(nodes, tensors, **more)


def op(line: str, **attributes: Any) -> Any:
    """A node of a line: its output, its operator, and its inputs."""
    output, operator, *inputs = line.split()
    return helper.make_node(operator, inputs, [output], name=f"the_{operator}", **attributes)


def ways(D: int) -> dict[str, Way]:
    """How Y of a node becomes the X of the next one."""
    if D == 1:
        plain = {
            "squeezed": ([op("Xb Squeeze Ya one")], {"one": [1]}),
            "squeezed from the end": ([op("Xb Squeeze Ya axis")], {"axis": [-3]}),
            "of no name": ([op("Xb Squeeze Ya")], {}),
        }
    else:
        plain = {}
    turned, whole = op("Yt Transpose Ya", perm=[0, 2, 1, 3]), {"shape": [0, 0, -1]}
    return {
        **plain,
        "reshaped": ([turned, op("Xb Reshape Yt shape")], whole),
        "known": ([turned, op("Xb Reshape Yt shape")], {"shape": [-1, B, D * H]}),
        "flattened": (
            [turned, op("Yf Flatten Yt", axis=2), op("Xb Reshape Yf shape")],
            {"shape": [T, B, -1]},
        ),
        "there and back": (
            [
                turned,
                op("Yr Reshape Yt shape"),
                op("Yb Transpose Yr", perm=[1, 0, 2]),
                op("Yd Dropout Yb"),
                op("Yc Cast Yd", to=onnx.TensorProto.FLOAT),
                op("Yi Identity Yc"),
                op("Yu Unsqueeze Yi axes"),
                op("Ys Squeeze Yu axes"),
                op("Xb Transpose Ys", perm=[1, 0, 2]),
            ],
            {**whole, "axes": [0, -2]},
        ),
        "computed": (
            [
                turned,
                op("s Shape Yt"),
                op("n Slice s from to"),
                op("T Gather s zero", axis=0),
                op("t Unsqueeze T first"),
                op("sx Shape X"),
                op("bx Gather sx from", axis=0),
                op("sh Concat t bx rest", axis=0),
                op("Xb Reshape Yt sh"),
            ],
            {"from": [1], "to": [2], "zero": 0, "first": [0], "rest": [-1]},
        ),
    }


@pytest.mark.parametrize(("D", "way"), [(D, way) for D in (1, 2) for way in ways(D)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_all_as_it_is(kind: str, D: int, way: str) -> None:
    made = two(kind, D, *ways(D)[way])
    made.graph.input[0].CopyFrom(value("X", T, B, I))
    assert [net.reads for net in nets(made)] == [frozenset(), frozenset("a")]
    layer = from_onnx(made, ["a", "b"])
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)
    Y = run_onnx(made, {"X": x})["Y"]
    expected = Y.transpose(0, 2, 1, 3).reshape(T, B, D * H)
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("D", [1, 2])
def test_what_leaves_all_as_it_is_by_batch(D: int) -> None:
    """With layout 1 it needs only joining the directions."""
    made = two("GRU", D, [op("Xb Reshape Ya shape")], {"shape": [0, 0, -1]}, layout=1)
    x = np.random.default_rng(0).standard_normal((B, T, I)).astype(np.float32)
    expected = run_onnx(made, {"X": x})["Y"].reshape(B, T, D * H)
    np.testing.assert_allclose(from_onnx(made, ["a", "b"])(x)[0], expected, rtol=0, atol=1e-5)


SQUEEZED = op("y Squeeze Ya one")
CHANGES: dict[str, Way] = {
    "it reads what Mul 'the_Mul' makes": ([SQUEEZED, op("Xb Mul y two")], {"two": np.float32(2)}),
    "it reads what Neg 'the_Neg' makes": ([op("n Neg Ya"), op("Xb Squeeze n one")], {}),
    "it reads what Cast 'the_Cast' makes of that": (
        [SQUEEZED, op("h Cast y", to=onnx.TensorProto.FLOAT16), op("Xb Cast h", to=onnx.TensorProto.FLOAT)],
        {},
    ),
    "it reads what Dropout 'the_Dropout' makes of that": (
        [SQUEEZED, op("Xb Dropout y half yes")],
        {"half": np.float32(0.5), "yes": True},
    ),
    "it reads that with its axes in another order": ([SQUEEZED, op("Xb Transpose y", perm=[1, 0, 2])], {}),
    "it reads what Reshape 'the_Reshape' makes of that": ([SQUEEZED, op("Xb Reshape y back")], {"back": [B, T, H]}),
    "it reads the input 'X'": ([op("Xb Identity X")], {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_what_is_read(change: str) -> None:
    between, constants = CHANGES[change]
    made = two("GRU", 1, between, {"one": [1], **constants})
    made.graph.input[0].CopyFrom(value("X", T, B, I))
    if "input" in change:
        made.graph.initializer.remove(next(t for t in made.graph.initializer if t.name == "Wb"))
        made.graph.initializer.append(numpy_helper.from_array(weights(inputs=H)["W"], "Wb"))
    assert not any(net.problem for net in nets(made))
    message = f"from_onnx: 'b' does not read what 'a' gives: {change}; import each by itself"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        fastrnn.from_onnx(made, ["a", "b"])


@pytest.mark.parametrize("kind", KINDS)
def test_of_nodes_side_by_side_none_reads_the_other(kind: str) -> None:
    made, _ = stack(kind, ["a", "b", "c"])
    made.graph.node[4].input[0] = "y0"  # c, beside b
    assert [net.reads for net in nets(made)] == [frozenset(), frozenset("a"), frozenset("a")]
    assert from_onnx(made, ["a", "b"]).num_layers == from_onnx(made, ["a", "c"]).num_layers == 2
    message = r"^from_onnx: 'c' does not read what 'b' gives: it reads what 'a' gives; import each by itself$"
    with pytest.raises(ValueError, match=message):
        fastrnn.from_onnx(made, ["b", "c"])


def test_the_last_state_is_not_what_a_node_gives() -> None:
    made = two("GRU", 1, [], {})
    made.graph.node[0].output.append("Xb")
    with pytest.raises(ValueError, match="'b' does not read what 'a' gives: it reads what GRU 'a' makes;"):
        fastrnn.from_onnx(made, ["a", "b"])


def test_which_of_several() -> None:
    made, _ = stack("GRU", ["rnn", "", "rnn"])
    # The name of two is none; nor is that of a node that has no name.
    assert [net.name for net in nets(made)] == ["Y0", "Y1", "Y2"]
    with pytest.raises(ValueError, match=r"^from_onnx: there are 3 recurrent nets in the model: choose one, node='Y0'"):
        fastrnn.from_onnx(made)
    with pytest.raises(ValueError, match=r"^from_onnx: there is no recurrent net 'rnn'"):
        fastrnn.from_onnx(made, "rnn")
    with pytest.raises(TypeError, match=r"^from_onnx: node is 1, expected a name"):
        fastrnn.from_onnx(made, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^from_onnx: 'Y0' reads 4 features, and 'Y1' gives 6"):
        fastrnn.from_onnx(made, ["Y1", "Y0"])
    unnamed = node_of("GRU", outputs="-")
    assert [net.name for net in nets(model([unnamed, unnamed], weights()))] == ["GRU_0", "GRU_1"]


def test_no_recurrent_net(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model([helper.make_node("Identity", ["X"], ["Y"])], {}), path)
    assert nets(path) == []
    end = ": a net that was unrolled into single operators cannot be recognised"
    with pytest.raises(ValueError, match="^" + re.escape(f"from_onnx: there is no recurrent net in {path}{end}") + "$"):
        fastrnn.from_onnx(path)


# --- states


STATES = {"RNN": ["initial_h"], "GRU": ["initial_h"], "LSTM": ["initial_h", "initial_c"]}


def begins(kind: str, nodes: list[Any], constants: dict[str, Array], D: int = 1, **more: Any) -> tuple[Any, Any]:
    """A model whose node begins with what ``nodes`` make, by the names of STATES; and the node."""
    direction = ["forward", "bidirectional"][D - 1]
    node = node_of(kind, f"X W R B - {' '.join(STATES[kind])}", direction=direction)
    return model([*nodes, node], {**weights(kind, D), **constants}, **more), node


def rows(kind: str, D: int = 1) -> dict[str, Array]:
    """A state of one row each."""
    return {n: np.random.default_rng(k).uniform(-1, 1, (D, 1, H)).astype("f") for k, n in enumerate(STATES[kind])}


def shape_of_states(D: int) -> tuple[list[Any], dict[str, Array]]:
    nodes = [
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["batch"], axis=0),
        helper.make_node("Concat", ["D", "batch", "H"], ["state"], axis=0),
    ]
    return nodes, {"axis": np.array([1]), "D": np.array([D]), "H": np.array([H]), "one": np.array([1])}


def by_expand(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    nodes, constants = shape_of_states(D)
    nodes += [helper.make_node("Expand", [f"{n}_row", "state"], [n]) for n in STATES[kind]]
    return nodes, constants | {f"{n}_row": a for n, a in rows(kind, D).items()}


def by_tile(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    nodes, constants = shape_of_states(D)
    nodes.append(helper.make_node("Concat", ["one", "batch", "one"], ["times"], axis=0))
    nodes += [helper.make_node("Tile", [f"{n}_row", "times"], [n]) for n in STATES[kind]]
    return nodes, constants | {f"{n}_row": a for n, a in rows(kind, D).items()}


def by_slice_of_expand(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    """As of a layer of two levels, whose states are one parameter."""
    nodes, constants = shape_of_states(2 * D)
    constants |= {f"{n}_row": np.concatenate([a + 1, a]) for n, a in rows(kind, D).items()}
    constants |= {"begin": np.array([D]), "end": np.array([2 * D]), "zero": np.array([0])}
    for n in STATES[kind]:
        nodes.append(helper.make_node("Expand", [f"{n}_row", "state"], [f"{n}_all"]))
        nodes.append(helper.make_node("Slice", [f"{n}_all", "begin", "end", "zero"], [n]))
    return nodes, constants


def by_constants(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    return [], {name: np.repeat(a, B, axis=1) for name, a in rows(kind, D).items()}


@pytest.mark.parametrize("source", [by_constants, by_expand, by_tile, by_slice_of_expand], ids=lambda f: f.__name__)
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_states_are_learned(kind: str, D: int, source: Callable[..., Any]) -> None:
    made, node = begins(kind, *source(kind, D), D=D)
    layer = from_onnx(made)
    assert layer.learn_state
    whole = {name: np.repeat(a, B, axis=1) for name, a in rows(kind, D).items()}
    assert_is(layer, node, {**weights(kind, D), **whole})


def by_zeros(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    return [], {name: np.zeros((D, B, H), np.float32) for name in STATES[kind]}


def by_filling(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    nodes, constants = shape_of_states(D)
    return nodes + [helper.make_node("ConstantOfShape", ["state"], [n]) for n in STATES[kind]], constants


def by_filling_and_slicing(kind: str, D: int) -> tuple[list[Any], dict[str, Array]]:
    nodes, constants = shape_of_states(2 * D)
    for n in STATES[kind]:
        nodes.append(helper.make_node("ConstantOfShape", ["state"], [f"{n}_all"]))
        nodes.append(helper.make_node("Slice", [f"{n}_all", "begin", "end"], [n]))
    return nodes, constants | {"begin": np.array([0]), "end": np.array([D])}


@pytest.mark.parametrize("source", [by_zeros, by_filling, by_filling_and_slicing], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_states_of_zeros_are_none(kind: str, source: Callable[..., Any]) -> None:
    made, _ = begins(kind, *source(kind, 1))
    layer = from_onnx(made)
    assert not layer.learn_state
    assert_is(layer, node_of(kind), weights(kind))


def test_states_that_are_filled_with_a_number() -> None:
    nodes, constants = shape_of_states(1)
    half = numpy_helper.from_array(np.array([0.5], np.float32))
    made, node = begins(
        "GRU", [*nodes, helper.make_node("ConstantOfShape", ["state"], ["initial_h"], value=half)], constants
    )
    assert_is(from_onnx(made), node, {**weights(), "initial_h": np.full((1, B, H), 0.5, np.float32)})


def test_one_constant_state_of_two() -> None:
    node = node_of("LSTM", "X W R B - - initial_c")
    c = rows("LSTM")["initial_c"]
    layer = from_onnx(model([node], {**weights("LSTM"), "initial_c": c}))
    assert not layer.params["h_0_l0"].any()
    assert_is(layer, node, {**weights("LSTM"), "initial_c": np.repeat(c, B, axis=1)})


def test_states_that_differ_between_rows() -> None:
    state = np.zeros((1, B, H), np.float32)
    state[0, 1] = 1
    made, _ = begins("GRU", [], {"initial_h": state})
    message = (
        "^from_onnx: 'Y': its initial_h, 'initial_h', is constant, and other than zero in some rows of the batch only"
    )
    with pytest.raises(ValueError, match=message):
        fastrnn.from_onnx(made)
    made, _ = begins("GRU", [], {"initial_h": np.ones((1, B, H + 1), np.float32)})
    message = r"its initial_h, 'initial_h', has shape \(1, 3, 7\), expected \(D, B, H\) with D 1 and H 6"
    with pytest.raises(ValueError, match=message):
        fastrnn.from_onnx(made)


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_are_given(kind: str) -> None:
    """By whoever runs the model, also as a part: they are the state of a call, of which nothing need be said."""
    inputs = [value("both", 2 * len(STATES[kind]), "B", H)]
    nodes, constants = [], {"zero": np.array([0])}
    for k, name in enumerate(STATES[kind]):
        constants |= {f"begin{k}": np.array([k]), f"end{k}": np.array([k + 1])}
        nodes.append(helper.make_node("Slice", ["both", f"begin{k}", f"end{k}", "zero"], [name]))
    made, _ = begins(kind, nodes, constants, inputs=inputs)
    layer = from_onnx(made)
    assert not layer.learn_state
    assert_is(layer, node_of(kind), weights(kind))


def test_states_that_the_model_computes() -> None:
    made, _ = begins("GRU", [helper.make_node("Tanh", ["h"], ["initial_h"])], {}, inputs=[value("h", 1, "B", H)])
    message = (
        r"^from_onnx: 'Y': it begins with a state that the model computes \(initial_h, 'initial_h'\): pass it as state"
    )
    with pytest.warns(UserWarning, match=message):
        layer = fastrnn.from_onnx(made)
    assert_is(layer, node_of("GRU"), weights())


def body_of_loop(kind: str, constants: dict[str, Array]) -> Any:
    """A graph whose node begins with what the one before has left, or what the loop is given: its name, and ``_in``."""
    names = STATES[kind]
    outputs = ["Y", *(f"{n}_out" for n in names)]
    node = node_of(kind, f"X W R B - {' '.join(f'{n}_in' for n in names)}", " ".join(outputs), name="inner")
    same = helper.make_node("Identity", ["on"], ["still"])
    states = [[value(f"{n}_{way}", 1, "B", H) for n in names] for way in ("in", "out")]
    given = [value("k", dtype=np.int64), value("on", dtype=bool), *states[0]]
    tensors = [numpy_helper.from_array(a, name) for name, a in constants.items()]
    results = [value("still", dtype=bool), *states[1], value("Y", "T", 1, "B", H)]
    return helper.make_graph([same, node], "body", given, results, tensors)


@pytest.mark.parametrize("by_default", [False, True])
@pytest.mark.parametrize("first", [0, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_states_that_a_loop_gives(kind: str, first: float, by_default: bool) -> None:
    """Are none of the caller's, whatever the loop begins with, and whatever they are called in its body."""
    names = STATES[kind]
    constants = {f"{n}_0": np.full((1, B, H), first, np.float32) for n in names}
    body = body_of_loop(kind, {f"{n}_in": np.ones((1, B, H), np.float32) for n in names} if by_default else {})
    inputs, outputs = ["twice", "yes", *constants], [*(f"{n}_n" for n in names), "Ys"]
    loop = helper.make_node("Loop", inputs, outputs, body=body)
    flags = {"twice": np.array(2), "yes": np.array(True)}
    made = model([loop], {**weights(kind), **constants, **flags})
    with pytest.warns(UserWarning, match=r"^from_onnx: 'inner': it begins with a state .*_in'\): pass it as state$"):
        layer = fastrnn.from_onnx(made)
    assert not layer.learn_state
    assert_is(layer, node_of(kind), weights(kind))


# --- inputs with a default


def with_defaults(made: Any, *names: str, ir_version: int = 8) -> Any:
    """A model whose initializers of these names are inputs, too."""
    shapes = {t.name: value(t.name, *t.dims, dtype=numpy_helper.to_array(t).dtype) for t in made.graph.initializer}
    made.graph.input.extend(shapes[name] for name in names)
    made.ir_version = ir_version
    return made


@pytest.mark.parametrize("slot", ["W", "R", "B"])
def test_weights_that_are_inputs_with_a_default(slot: str) -> None:
    given, node = weights(), node_of("GRU")
    with pytest.warns(UserWarning, match=f"'Y': {slot}, '{slot}', is an input with a default, which the layer has$"):
        layer = fastrnn.from_onnx(with_defaults(model([node], given), slot))
    assert_is(layer, node, given)
    nodes, constants = by_slices(rounded(given))
    made = with_defaults(model([*nodes, node], constants), f"{slot}_whole")
    message = f"{slot}, '{slot}', is made of inputs with a default, '{slot}_whole', which the layer has$"
    with pytest.warns(UserWarning, match=message):
        layer = fastrnn.from_onnx(made)
    assert_is(layer, node, rounded(given))


def test_where_all_initializers_have_to_be_inputs() -> None:
    """Before version 4 of the format: there they are constants to ONNX Runtime."""
    made, node = begins("GRU", *by_constants("GRU", 1))
    layer = from_onnx(with_defaults(made, *weights(), "initial_h", ir_version=3))
    assert_is(layer, node, {**weights(), "initial_h": np.repeat(rows("GRU")["initial_h"], B, axis=1)})


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_are_inputs_with_a_default(kind: str) -> None:
    for source in (by_zeros, by_constants):
        made, _ = begins(kind, *source(kind, 1))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            layer = fastrnn.from_onnx(with_defaults(made, *STATES[kind]))
        notes = "; ".join(f"its {n}, '{n}', is an input with a default, which is not zero" for n in STATES[kind])
        expected = [] if source is by_zeros else [notes.replace(";", ": pass it as state;") + ": pass it as state"]
        assert [str(each.message).removeprefix("from_onnx: 'Y': ") for each in warned] == expected
        assert not layer.learn_state
        assert_is(layer, node_of(kind), weights(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_inputs_with_a_default(kind: str) -> None:
    made, _ = begins(kind, *by_expand(kind, 1))
    with pytest.warns(UserWarning, match="it begins with a state that the model computes"):
        layer = fastrnn.from_onnx(with_defaults(made, *(f"{n}_row" for n in STATES[kind])))
    assert not layer.learn_state
    # Only its shape is of such an input.
    nodes, constants = shape_of_states(1)
    nodes[0] = helper.make_node("Shape", ["table"], ["shape"])
    nodes += [helper.make_node("Expand", [f"{n}_row", "state"], [n]) for n in STATES[kind]]
    constants |= {f"{n}_row": a for n, a in rows(kind).items()} | {"table": np.zeros((2, B), np.float32)}
    made, node = begins(kind, nodes, constants)
    whole = {name: np.repeat(a, B, axis=1) for name, a in rows(kind).items()}
    assert_is(from_onnx(with_defaults(made, "table")), node, {**weights(kind), **whole})


# --- lengths


def test_lengths_that_are_an_input_with_a_default() -> None:
    node = node_of("GRU", "X W R B lens")
    made = with_defaults(model([node], {**weights(), "lens": np.full(3, 5, np.int32)}), "lens")
    made.graph.input[0].CopyFrom(value("X", 5, "B", I))
    with pytest.warns(UserWarning, match="sequence_lens 'lens': pass them as lengths$"):
        fastrnn.from_onnx(made)


def test_lengths() -> None:
    node = node_of("GRU", "X W R B lens")
    given = weights()
    made = model([node], given, inputs=[value("lens", "B", dtype=np.int32)])
    message = "the model has lengths of sequences, sequence_lens 'lens': pass them as lengths$"
    with pytest.warns(UserWarning, match=message) as warned:
        layer = fastrnn.from_onnx(made)
    assert warned[0].filename == __file__
    assert_is(layer, node_of("GRU"), given)
    constant = model([node], {**given, "lens": np.array([5, 3, 5], np.int32)})
    message = "the model's sequences have lengths of their own, sequence_lens 'lens' of 5, 3, 5: pass them as lengths$"
    with pytest.warns(UserWarning, match=message):
        fastrnn.from_onnx(constant)
    # What says no more than X does needs no saying.
    constant = model([node], {**given, "lens": np.array([5, 5, 5], np.int32)})
    constant.graph.input[0].CopyFrom(value("X", 5, "B", I))
    assert_is(from_onnx(constant), node_of("GRU"), given)


# --- what is refused


def refused() -> list[tuple[Any, str]]:
    given = weights()
    gru, x = node_of("GRU"), [value("W", 1, 3 * H, I)]
    without = {name: a for name, a in given.items() if name != "W"}
    run_it = ": fastrnn.onnx_ops() computes such nodes"

    def changed(name: str, a: Any) -> Any:
        return model([gru], {**given, name: a})

    def made_by(node: Any, **constants: Any) -> Any:
        return model([node, gru], {**without, **constants})

    def with_attribute(**attributes: Any) -> Any:
        return model([node_of("GRU", **attributes)], given)

    loop = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", [value("i", dtype=int)], [])
    strings = with_attribute(activations=[1, 2])
    return [
        (model([gru], without, inputs=x), f"its W, 'W', is given when the model is run, as 'W'{run_it}"),
        (
            made_by(helper.make_node("MatMul", ["X", "b"], ["W"], name="m"), b=np.ones((I, 2), "f")),
            f"its W, 'W', is given when the model is run, as 'X'{run_it}",
        ),
        (model([gru], without), "its W, 'W', is made nowhere"),
        (
            made_by(helper.make_node("RandomNormal", [], ["W"], shape=[1, 3 * H, I])),
            f"its W, 'W', is made when the model is run, by RandomNormal{run_it}",
        ),
        (
            made_by(helper.make_node("Loop", ["n", "", "c"], ["W"], body=loop), n=np.array(2**62), c=np.ones(3)),
            f"its W, 'W', is made when the model is run, by Loop{run_it}",
        ),
        (
            made_by(helper.make_node("Own", ["c"], ["W"], domain="own", name="it"), c=np.ones(3)),
            "its W, 'W', is made by Own 'it', which cannot be computed before the model is run (",
        ),
        (
            made_by(helper.make_node("ConstantOfShape", ["c"], ["W"]), c=np.array([1, 2**20, 2**20])),
            "its W, 'W', is made by ConstantOfShape, which cannot be computed before the model is run (it has shape ",
        ),
        (
            made_by(
                helper.make_node("Tile", ["c", "n"], ["W"]), c=np.ones((1, 9, 9), "f"), n=np.array([1, 2**20, 2**20])
            ),
            "its W, 'W', is made by Tile, which cannot be computed before",
        ),
        (made_by(helper.make_node("Identity", ["W"], ["W"])), "its W, 'W', is made of itself"),
        (
            changed("W", given["W"][:, 1:]),
            "its W has shape (1, 17, 4), expected (1, 18, 4) of GRU with hidden_size 6 and 1",
        ),
        (changed("W", given["W"][0]), "its W has shape (18, 4), expected (1, 18, 0) of GRU"),
        (changed("R", given["R"][:, :, 1:]), "its W has shape (1, 18, 4), expected (1, 15, 4)"),
        (changed("B", given["B"][:, :-1]), "its B has shape (1, 35), expected (1, 36)"),
        (changed("B", np.ones((1, 36), int)), "its B is int64, expected floating-point numbers"),
        (model([node_of("GRU", "X - R")], given), "it has no W"),
        (model([node_of("GRU", "X W")], given), "it has no R"),
        (with_attribute(hidden_size=7), "its W has shape (1, 18, 4), expected (1, 21, 4) of GRU with hidden_size 7"),
        (with_attribute(hidden_size=-6), "its W has shape"),
        (with_attribute(direction="bidirectional"), "its W has shape (1, 18, 4), expected (2, 18, 4)"),
        (with_attribute(direction="up"), "its direction is 'up', expected 'forward', 'reverse' or 'bidirectional'"),
        (with_attribute(clip=0.0), "its clip is 0.0, expected a number above 0, or none"),
        (with_attribute(clip=-1.0), "its clip is -1.0, expected a number above 0, or none"),
        (with_attribute(clip=float("nan")), "its clip is nan, expected a number above 0, or none"),
        (with_attribute(clip="much"), "its clip is much, expected a number above 0, or none"),
        (with_attribute(layout="first"), "its layout is 'first', expected an integer"),
        (
            with_attribute(hidden_size=numpy_helper.from_array(np.ones(3))),
            "its hidden_size is 'a TensorProto', expected an integer",
        ),
        (changed("W", np.full((1, 3 * H, I), "a")), "its W is "),
        (
            made_by(helper.make_node("Constant", [], ["W"], value_string="much")),
            "its W, 'W', is a Constant without numbers",
        ),
        (made_by(helper.make_node("Identity", [], ["W"])), "its W, 'W', is made by Identity, which cannot be computed"),
        (with_attribute(hidden_size=6.0), "its hidden_size is 6.0, expected an integer"),
        (strings, "its activations is [1, 2], expected names"),
        (with_attribute(activations=["Tanh"]), "its activations are Tanh, expected 2 of them"),
        (with_attribute(activations=["Tanh"] * 3), "its activations are Tanh, Tanh, Tanh, expected 2 of them"),
        (
            with_attribute(activations=["Sigmoid", "Gelu"]),
            "it has an activation 'Gelu', which fastrnn has not; there are",
        ),
        (
            with_attribute(activations=["Sigmoid", "LeakyRelu"], activation_alpha=["a"]),
            "its activation_alpha is ['a'], expected numbers",
        ),
        *(
            (
                with_attribute(activations=["HardSigmoid", name], activation_alpha=[0.2], activation_beta=[0.5]),
                f"activation_alpha of its activation {name} is left out, for which runtimes have different numbers",
            )
            for name in ("Affine", "ScaledTanh", "ThresholdedRelu")
        ),
        (
            with_attribute(activations=["Sigmoid", "Affine"], activation_alpha=[0.2]),
            "activation_beta of its activation Affine is left out, for which runtimes have different numbers",
        ),
        (
            with_attribute(activations=["Sigmoid", "LeakyRelu"], activation_alpha=[float("inf")]),
            "GRU: alpha of leaky_relu is inf, expected a finite number of float32",
        ),
    ]


@pytest.mark.parametrize("k", range(len(refused())))
def test_refused(k: int) -> None:
    source, message = refused()[k]
    with pytest.raises(ValueError, match="^" + re.escape(f"from_onnx: 'Y': {message}")) as raised:
        fastrnn.from_onnx(source)
    assert "\n" not in str(raised.value)
    (net,) = nets(source)
    assert net.problem == "" or net.problem.startswith(message)
    assert str(net)


@pytest.mark.parametrize("call", [fastrnn.from_onnx, fastrnn.find_nets], ids=["from_onnx", "find_nets"])
def test_without_onnx(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = model([node_of("GRU")], weights()).SerializeToString()
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = f'{call.__name__} needs onnx, which is not installed: pip install "fastrnn[onnx]"'
    with pytest.raises(ImportError, match="^" + re.escape(message) + "$"):
        call(data)


def test_others_are_imported_beside_what_is_refused() -> None:
    made, of_each = stack("GRU", ["a", "b"])
    made.graph.node[0].attribute.append(helper.make_attribute("clip", -1.0))
    assert [bool(net.problem) for net in nets(made)] == [True, False]
    assert from_onnx(made, "b").input_size == of_each[1]["W"].shape[2]


def test_functions_without_end() -> None:
    """That call themselves, or twice one that calls twice."""
    itself = function("F", [helper.make_node("F", ["x"], ["y"], domain="own")], "x", "y")
    call = helper.make_node("F0", ["X"], ["Y"], domain="own")
    twice = [
        function(
            f"F{k}",
            [
                helper.make_node(f"F{k + 1}", ["x"], ["z"], domain="own"),
                helper.make_node(f"F{k + 1}", ["z"], ["y"], domain="own"),
            ],
            "x",
            "y",
        )
        for k in range(40)
    ]
    alone = with_functions([helper.make_node("F", ["X"], ["Y"], domain="own")], {}, itself)
    for made in (alone, with_functions([call], {}, *twice)):
        with pytest.raises(ValueError, match=r"^from_onnx: there are more than 10,000 graphs in graphs and calls"):
            fastrnn.from_onnx(made)


def test_a_value_that_goes_round() -> None:
    """Through a function that gives what it gets, to itself."""
    same = function("F", [], "x", "x")
    made = with_functions([helper.make_node("F", ["W"], ["W"], domain="own"), node_of("GRU")], {}, same)
    (net,) = nets(made)
    assert "is made of itself" in net.problem


def test_long_chains() -> None:
    """Deeper than Python's own calls may be."""
    given, n = weights(), 3000
    nodes = [helper.make_node("Identity", [f"w{k}"], [f"w{k + 1}"]) for k in range(n)]
    made = model([*nodes, node_of("GRU", f"X w{n} R B")], {**given, "w0": given["W"]})
    assert_is(from_onnx(made), node_of("GRU"), given)


def test_large_values_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "FREE", 3 * H * I - 1)
    monkeypatch.setattr(onnx_graph, "EXPANSION", 0)
    nodes, constants = by_transposes(weights())
    with pytest.raises(ValueError, match=r"it has shape \(1, 18, 4\), expected at most 71 numbers"):
        fastrnn.from_onnx(model([*nodes, node_of("GRU")], constants))


def large(n: int, *nodes: Any) -> Any:
    """A short model, of whose W there are many numbers before it is W."""
    filled = helper.make_node("ConstantOfShape", ["shape"], ["w0"])
    given = {name: a for name, a in weights().items() if name != "W"}
    return model([filled, *nodes, node_of("GRU")], {**given, "shape": np.array([1, n, n])})


def test_what_a_short_model_computes_is_little() -> None:
    """In all: however many values, of however many nodes."""
    negs = [helper.make_node("Neg", [f"w{k}"], [f"w{k + 1}"]) for k in range(40)]
    many = large(1024, *negs, helper.make_node("Identity", ["w40"], ["W"]))
    product = large(1024, helper.make_node("MatMul", ["w0", "w0"], ["W"]))
    for made, message in (
        (many, r"is made by Neg, .*it has shape \(1, 1024, 1024\), expected at most"),
        (product, "is made by MatMul, .*it takes and gives 2,097,152 numbers, expected at most 16,384"),
        (large(2**14, helper.make_node("Identity", ["w0"], ["W"])), "is made by ConstantOfShape, .*it has shape"),
    ):
        with pytest.raises(ValueError, match=f"^from_onnx: 'Y': its W, 'W', {message}"):
            fastrnn.from_onnx(made)


def test_more_may_be_computed_of_more_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "FREE", 0)
    for source in (by_slices, by_transposes, by_floats):
        given = rounded(weights("LSTM"))
        nodes, constants = source(given)
        assert_is(from_onnx(model([*nodes, node_of("LSTM")], constants)), node_of("LSTM"), given)


def test_large_values_between_are_not_kept() -> None:
    """Whatever several weights are made of."""
    big = np.random.default_rng(0).uniform(-1, 1, (2, 1, 4 * 64, 64)).astype(np.float32)
    nodes = [helper.make_node("Neg", ["big"], ["w"]), helper.make_node("Neg", ["w"], ["back"])]
    nodes += [helper.make_node("Gather", ["back", f"n{k}"], [n], axis=0) for k, n in enumerate("WR")]
    made = model([*nodes, node_of("LSTM", "X W R")], {"big": big, "n0": np.array(0), "n1": np.array(1)})
    scope = onnx_graph.Model("from_onnx", made).scope()
    for k, n in enumerate("WR"):
        assert np.array_equal(scope.constant(n), big[k])
        assert not any(a.size > onnx_graph.SMALL for a in scope._known.values())


@pytest.mark.parametrize("seed", range(150))
def test_damaged_models(seed: int) -> None:
    """Whatever bytes change, or are missing: it is a model, or there is an error that is one line."""
    rng = np.random.default_rng(seed)
    node, given = draw_node(KINDS[seed % 3], rng)
    constant = {*WEIGHTS, *itertools.compress(["initial_h", "sequence_lens"], [seed % 2] * 2)}
    made = model_of([node], given, dict.fromkeys(node.output, np.float32), constant)
    for _ in range(4):
        data = bytearray(made.SerializeToString())
        for at in rng.integers(min(len(data), 500), size=3):
            data[at] = rng.integers(256)
        if rng.random() < 0.3:
            del data[rng.integers(len(data)) :]
        message = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fastrnn.from_onnx(bytes(data))
            except ValueError as error:
                message = str(error)
        assert "\n" not in message


def test_a_name_that_is_no_text() -> None:
    made = model([node_of("GRU", name="\N{MUSIC SHARP SIGN}name")], weights())
    data = made.SerializeToString().replace("\N{MUSIC SHARP SIGN}".encode(), b"\xff\xff\xff")
    with pytest.raises(ValueError, match=r"^from_onnx: "):
        fastrnn.from_onnx(data)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this platform has no pipes with names")
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(OSError, match="not a regular file"):
        fastrnn.from_onnx(tmp_path / "m.onnx")
