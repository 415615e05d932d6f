"""ONNX Runtime, where it is installed, computes the same outputs and states of single RNN, GRU and LSTM nodes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fastrnn
from problems import Array
from tolerances import output_tolerance

onnx = pytest.importorskip("onnx")
# Before 1.29 an RNN reads past the end of alphas that are fewer than its directions, which can end the process.
onnxruntime = pytest.importorskip("onnxruntime", "1.29")

LAYERS: dict[str, Any] = {"RNN": fastrnn.RNN, "GRU": fastrnn.GRU, "LSTM": fastrnn.LSTM}
INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]  # the last two only an LSTM's
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}  # of each direction
# Which of ONNX's blocks of rows are fastrnn's: it has z, r, h for r, z, n, and i, o, f, c for i, f, g, o.
BLOCKS = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}
PEEPHOLES = [0, 2, 1]  # it has i, o, f for i, f, o
# Between what alpha and beta are drawn: sums come to lie on all sides of kinks, and values stay small.
PARAMETERS: dict[str, tuple[tuple[float, float], ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Softsign": (),
    "Softplus": (),
    "Affine": ((-1, 1), (-0.5, 0.5)),
    "LeakyRelu": ((-0.5, 0.5),),
    "ThresholdedRelu": ((-0.2, 0.2),),
    "ScaledTanh": ((-1.2, 1.2), (0.3, 1.2)),
    "HardSigmoid": ((-3, 3), (0, 1)),
    "Elu": ((-1, 1),),
}
BOUNDED = {"Tanh", "Sigmoid", "Softsign", "ScaledTanh", "HardSigmoid"}


def draw_node(kind: str, rng: np.random.Generator) -> tuple[Any, dict[str, Array]]:
    """A node with some of its attributes and inputs, and the values of these."""
    T, B, I, H = (int(n) for n in rng.integers(1, [9, 6, 17, 40]))
    D, G = int(rng.integers(1, 3)), len(BLOCKS[kind])
    direction = "bidirectional" if D == 2 else str(rng.choice(["forward", "reverse"]))
    attributes: dict[str, Any] = {"hidden_size": H, "direction": direction}
    functions = []
    if rng.random() < 0.7:
        functions = [str(name) for name in rng.choice(list(PARAMETERS), FUNCTIONS[kind] * D)]
        # All are given: where one is left out, ONNX Runtime has 0 for some that ONNX has another default for.
        drawn = [[float(rng.uniform(*limits)) for limits in PARAMETERS[name]] for name in functions]
        alphas, betas = ([p[k] for p in drawn if len(p) > k] for k in range(2))
        attributes |= {"activations": functions}
        attributes |= {"activation_alpha": alphas} if alphas else {}
        attributes |= {"activation_beta": betas} if betas else {}
    if rng.random() < 0.4:
        attributes["clip"] = float(rng.uniform(0.1, 1))
    if kind == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if kind == "LSTM":
        attributes["input_forget"] = int(rng.integers(2))

    # Weights with which nothing grows from step to step, also where nothing else bounds it.
    scale = 1.0 if BOUNDED.issuperset(functions) else 0.3

    def draw(*shape: int) -> Array:
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    given = {
        "X": rng.uniform(-1, 1, (T, B, I)).astype(np.float32),
        "W": draw(D, G * H, I) / np.float32(np.sqrt(I)),
        "R": draw(D, G * H, H) / np.float32(np.sqrt(H)),
    }
    optional = {
        "B": draw(D, 2 * G * H),
        "sequence_lens": rng.integers(0, T + 1, B).astype(np.int32),
        "initial_h": draw(D, B, H),
        "initial_c": draw(D, B, H),
        "P": draw(D, 3 * H),
    }
    names = INPUTS if kind == "LSTM" else INPUTS[:-2]
    given |= {name: a for name, a in optional.items() if name in names and rng.random() < 0.6}
    inputs = [name if name in given else "" for name in names]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    return onnx.helper.make_node(kind, inputs, outputs, **attributes), given


def solve_with_onnxruntime(node: Any, given: dict[str, Array]) -> dict[str, Array]:
    make, dtype_of = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
    inputs = [make(name, dtype_of(a.dtype), a.shape) for name, a in given.items()]
    outputs = [make(name, onnx.TensorProto.FLOAT, None) for name in node.output]
    graph = onnx.helper.make_graph([node], "node", inputs, outputs)
    # Versions that any ONNX Runtime of today reads. None takes layout=1, whose nodes are not drawn.
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return dict(zip(node.output, session.run(None, given), strict=True))


def layer_of(node: Any, given: dict[str, Array]) -> Any:
    """fastrnn's layer for a node, with its weights."""
    kind, has = node.op_type, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    D, _, I = given["W"].shape
    H, count, direction = has["hidden_size"], FUNCTIONS[kind], has["direction"].decode()
    options: dict[str, Any] = {"reverse": direction == "reverse", "bidirectional": direction == "bidirectional"}
    if kind == "GRU":
        options["reset_after"] = bool(has["linear_before_reset"])
    if kind == "LSTM":
        options |= {"coupled": bool(has["input_forget"]), "peepholes": "P" in given}
    if "activations" in has:
        # Each function takes the next alpha if it has one, and the next beta if it has one.
        lists = [iter(has.get(name, ())) for name in ("activation_alpha", "activation_beta")]
        functions = []
        for name in (name.decode() for name in has["activations"]):
            snake = re.sub(r"\B(?=[A-Z])", "_", name).lower()  # HardSigmoid is hard_sigmoid
            functions.append((snake, *(next(lists[k]) for k in range(len(PARAMETERS[name])))))
        each = tuple(functions[:count]), tuple(functions[count:])
        options["activations"] = each if D == 2 else each[0]
    layer = LAYERS[kind](I, H, gate_clip=has.get("clip"), **options)

    def rows(a: Array, blocks: list[int]) -> Array:
        return a.reshape(len(blocks), -1, *a.shape[1:])[blocks].reshape(a.shape)

    weights: dict[str, Array] = {}
    for d, suffix in enumerate(["_l0", "_l0_reverse"][:D]):
        weights |= {f"weight_{name}{suffix}": rows(given[w][d], BLOCKS[kind]) for name, w in (("ih", "W"), ("hh", "R"))}
        both = given["B"][d].reshape(2, -1) if "B" in given else np.zeros((2, len(BLOCKS[kind]) * H), np.float32)
        weights |= {f"bias_{name}{suffix}": rows(b, BLOCKS[kind]) for name, b in zip(("ih", "hh"), both, strict=True)}
        if "P" in given:
            weights[f"weight_ch{suffix}"] = rows(given["P"][d], PEEPHOLES).reshape(3, H)
    layer.load_state_dict(weights)
    return layer


def solve_with_layer(node: Any, given: dict[str, Array]) -> dict[str, Array]:
    T, B, _ = given["X"].shape
    h, c, lengths = (given.get(name) for name in ("initial_h", "initial_c", "sequence_lens"))
    state_0: Any = (h, c) if node.op_type == "LSTM" else h
    y, states = layer_of(node, given)(given["X"], state_0, lengths=lengths)
    D = len(given["W"])
    results = {"Y": y.reshape(T, B, D, -1).swapaxes(1, 2)}
    for name, state in zip(node.output[1:], states if isinstance(states, tuple) else (states,), strict=True):
        # A sequence without steps keeps its initial state; ONNX Runtime has zeros.
        results[name] = state if lengths is None else np.where(lengths[:, None] == 0, 0, state)
    return results


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("kind", LAYERS)
def test_same_as_onnxruntime(kind: str, seed: int) -> None:
    node, given = draw_node(kind, np.random.default_rng([seed, FUNCTIONS[kind]]))
    expected, got = solve_with_onnxruntime(node, given), solve_with_layer(node, given)
    assert got.keys() == expected.keys()
    allowed = output_tolerance(np.float32, terms=given["W"].shape[2] + given["R"].shape[2])
    for name, right in expected.items():
        atol = allowed * max(1, np.abs(right).max())
        np.testing.assert_allclose(got[name], right, rtol=0, atol=atol, equal_nan=False, err_msg=f"{name} of\n{node}")
