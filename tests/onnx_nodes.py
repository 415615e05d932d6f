"""Random nodes of ONNX, models of them, and who computes these: onnx's own evaluator, or ONNX Runtime."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.reference.activations import activation
from problems import Array

KINDS = ("RNN", "GRU", "LSTM")
INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]  # the last two only an LSTM's
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}  # of each direction
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
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
OPTIONAL_PARAMETERS = {"LeakyRelu", "Elu", "HardSigmoid"}  # for which ONNX and ONNX Runtime have the same defaults


def draw_node(kind: str, rng: np.random.Generator, *, layout: int = 0) -> tuple[Any, dict[str, Array]]:
    """A node with some of its attributes and inputs, and the values of these."""
    import onnx

    T, B, I, H = (int(n) for n in rng.integers(1, [9, 6, 17, 40]))
    D, G = int(rng.integers(1, 3)), GATES[kind]
    direction = "bidirectional" if D == 2 else str(rng.choice(["forward", "reverse"]))
    attributes: dict[str, Any] = {"direction": direction}
    attributes |= {"layout": 1} if layout else {}
    attributes |= {"hidden_size": H}
    functions: list[str] = []
    if rng.random() < 0.7:
        functions = [str(name) for name in rng.choice(list(PARAMETERS), FUNCTIONS[kind] * D)]
        # Of those that are left out ONNX Runtime has 0 for some that ONNX has another default for; and what is left
        # out comes last.
        drawn = [[float(rng.uniform(*limits)) for limits in PARAMETERS[name]] for name in functions]
        while drawn and rng.random() < 0.3 and functions[len(drawn) - 1] in OPTIONAL_PARAMETERS:
            drawn.pop()
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
    if layout:
        given |= {name: given[name].swapaxes(0, 1) for name in ("X", "initial_h", "initial_c") if name in given}
    inputs = [name if name in given else "" for name in names]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    return onnx.helper.make_node(kind, inputs, outputs, **attributes), given


def model_of(
    nodes: list[Any], given: dict[str, Array], outputs: dict[str, type], constant: set[str], **more: Any
) -> Any:
    """A model of nodes; what is not constant is given when it is run. Versions that any ONNX Runtime of today reads."""
    import onnx

    make, dtype_of = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [make(name, dtype_of(a.dtype), a.shape) for name, a in given.items() if name not in constant],
        [make(name, dtype_of(np.dtype(dtype)), None) for name, dtype in outputs.items()],
        [onnx.numpy_helper.from_array(a, name) for name, a in given.items() if name in constant],
    )
    domains = {"": 14, "com.microsoft": 1}
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return onnx.helper.make_model(graph, **{"opset_imports": opsets, "ir_version": 8, **more})


def run_onnx(model: Any, given: dict[str, Array]) -> dict[str, Array]:
    """What onnx's evaluator gives, with fastrnn's recurrent nodes."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model, new_ops=fastrnn.onnx_ops())
    feeds = {name: a for name, a in given.items() if name in evaluator.input_names}
    return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def run_onnxruntime(model: Any, given: dict[str, Array]) -> dict[str, Array]:
    # Before 1.29 an RNN reads past the end of alphas that are fewer than its directions, which can end the process.
    onnxruntime = pytest.importorskip("onnxruntime", "1.29")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feeds = {value.name: given[value.name] for value in session.get_inputs()}
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


RUNNERS = {"onnx": run_onnx, "onnxruntime": run_onnxruntime}


def run_plainly(node: Any, given: dict[str, Array]) -> dict[str, Array]:
    """What ONNX says that a node gives, in float64; where a sequence is empty, what ONNX Runtime gives."""
    import onnx

    kind, has = node.op_type, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    v = {slot: given[name].astype(np.float64) for slot, name in zip(INPUTS, node.input, strict=False) if name}
    by_batch = bool(has.get("layout"))
    x, *states = (
        None if a is None else a.swapaxes(0, 1) if by_batch else a
        for a in (v["X"], v.get("initial_h"), v.get("initial_c"))
    )
    assert x is not None
    (T, B, _), (D, _, H) = x.shape, v["R"].shape
    lengths = v["sequence_lens"].astype(int) if "sequence_lens" in v else np.full(B, T)
    Y, Y_h, Y_c = np.zeros((T, D, B, H)), np.zeros((D, B, H)), np.zeros((D, B, H))
    for d, functions in enumerate(functions_of(kind, has, D)):
        from_end = d == 1 or has.get("direction") == b"reverse"
        cell = Cell(kind, has, {name: a[d] for name, a in v.items() if name in "WRBP"}, functions)
        for b, length in enumerate(lengths):
            h, c = (np.zeros(H) if s is None else s[d, b] for s in states)
            for t in range(length)[:: -1 if from_end else 1]:
                h, c = cell.step(x[t, b], h, c)
                Y[t, d, b] = h
            if length:
                Y_h[d, b], Y_c[d, b] = h, c
    results = dict(zip(node.output, (Y, Y_h, Y_c), strict=False))
    if by_batch:
        results = {n: a.transpose(2, 0, 1, 3) if a.ndim == 4 else a.swapaxes(0, 1) for n, a in results.items()}
    return {name: a.astype(given["X"].dtype) for name, a in results.items() if name}


def functions_of(kind: str, has: dict[str, Any], D: int) -> list[list[Any]]:
    """The functions f, g and h of each direction."""
    defaults = {"RNN": [b"Tanh"], "GRU": [b"Sigmoid", b"Tanh"], "LSTM": [b"Sigmoid", b"Tanh", b"Tanh"]}[kind]
    lists = [list(has.get(f"activation_{letter}", ())) for letter in ("alpha", "beta")]
    found = []
    for name in (each.decode() for each in has.get("activations", defaults * D)):
        snake = re.sub(r"\B(?=[A-Z])", "_", name).lower()  # HardSigmoid is hard_sigmoid
        own = [of.pop(0) for of, _ in zip(lists, PARAMETERS[name], strict=False) if of]
        found.append(activation((snake, *own)).value)
    return [found[d * len(defaults) : (d + 1) * len(defaults)] for d in range(D)]


class Cell:
    """One direction of a node, by ONNX's equations."""

    def __init__(self, kind: str, has: dict[str, Any], weights: dict[str, Array], functions: list[Any]) -> None:
        self.kind, self.has, self.functions = kind, has, functions
        G = GATES[kind]
        self.W, self.R = (np.split(weights[name], G) for name in "WR")
        H = weights["R"].shape[1]
        b = weights.get("B", np.zeros(2 * G * H))
        self.Wb, self.Rb = np.split(b[: G * H], G), np.split(b[G * H :], G)
        self.P = np.split(weights.get("P", np.zeros(3 * H)), 3)

    def clip(self, a: Array) -> Array:
        limit = self.has.get("clip", np.inf)
        return np.clip(a, -limit, limit)

    def sum(self, k: int, x: Array, h: Array) -> Array:
        return self.W[k] @ x + self.R[k] @ h + self.Wb[k] + self.Rb[k]

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, clip = self.functions[0], self.clip
        if self.kind == "RNN":
            return f(clip(self.sum(0, x, h))), c
        g = self.functions[1]
        if self.kind == "GRU":
            z, r = (f(clip(self.sum(k, x, h))) for k in (0, 1))
            if self.has.get("linear_before_reset"):
                n = g(clip(self.W[2] @ x + self.Wb[2] + r * (self.R[2] @ h + self.Rb[2])))
            else:
                n = g(clip(self.sum(2, x, r * h)))
            return (1 - z) * n + z * h, c
        i = f(clip(self.sum(0, x, h) + self.P[0] * c))
        forget = 1 - i if self.has.get("input_forget") else f(clip(self.sum(2, x, h) + self.P[2] * c))
        c = forget * c + i * g(clip(self.sum(3, x, h)))
        o = f(clip(self.sum(1, x, h) + self.P[1] * c))
        return o * self.functions[2](c), c
