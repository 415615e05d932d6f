"""ONNX Runtime, where it is installed, computes the same outputs and states of single RNN, GRU and LSTM nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from onnx_nodes import KINDS, draw_node, model_of, run_onnx, run_onnxruntime
from problems import Array
from tolerances import output_tolerance

onnx = pytest.importorskip("onnx")
# Before 1.29 an RNN reads past the end of alphas that are fewer than its directions, which can end the process.
pytest.importorskip("onnxruntime", "1.29")

WEIGHTS = {"W", "R", "B", "P"}


def solve_with_layer(model: Any, node: Any, given: dict[str, Array]) -> dict[str, Array]:
    T, B, _ = given["X"].shape
    h, c, lengths = (given.get(name) for name in ("initial_h", "initial_c", "sequence_lens"))
    state_0: Any = (h, c) if node.op_type == "LSTM" else h
    y, states = fastrnn.from_onnx(model)(given["X"], state_0, lengths=lengths)
    D = len(given["W"])
    results = {"Y": y.reshape(T, B, D, -1).swapaxes(1, 2)}
    for name, state in zip(node.output[1:], states if isinstance(states, tuple) else (states,), strict=True):
        # A sequence without steps keeps its initial state; ONNX Runtime has zeros.
        results[name] = state if lengths is None else np.where(lengths[:, None] == 0, 0, state)
    return results


@pytest.mark.filterwarnings("ignore:.*the model has lengths of sequences")
@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("kind", KINDS)
def test_same_as_onnxruntime(kind: str, seed: int) -> None:
    node, given = draw_node(kind, np.random.default_rng([seed, KINDS.index(kind) + 1]))
    model = model_of([node], given, dict.fromkeys(node.output, np.float32), WEIGHTS)
    expected = run_onnxruntime(model, given)
    allowed = output_tolerance(np.float32, terms=given["W"].shape[2] + given["R"].shape[2])
    for got in (solve_with_layer(model, node, given), run_onnx(model, given)):
        assert got.keys() == expected.keys()
        for name, right in expected.items():
            atol = allowed * max(1, np.abs(right).max())
            np.testing.assert_allclose(
                got[name], right, rtol=0, atol=atol, equal_nan=False, err_msg=f"{name} of\n{node}"
            )


@pytest.mark.filterwarnings("ignore:.*rounds the inputs and states")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("directions", [1, 2])
def test_what_onnxruntime_has_quantised(directions: int, kind: str, per_channel: bool, tmp_path: Path) -> None:
    """A layer has its integers, and is as near to the float32 model as it is, or nearer."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    T, B, I, H, rng = 30, 4, 20, 32, np.random.default_rng(directions)
    shapes = {"W": (directions, 4 * H, I), "R": (directions, 4 * H, H), "B": (directions, 8 * H)}
    given = {name: (rng.uniform(-1, 1, shape) / np.sqrt(H)).astype(np.float32) for name, shape in shapes.items()}
    given["X"] = rng.standard_normal((T, B, I)).astype(np.float32)
    direction = ["forward", "bidirectional"][directions - 1]
    node = onnx.helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=H, direction=direction)
    model = model_of([node], given, {"Y": np.float32}, WEIGHTS)
    path, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    onnx.save(model, path)
    weight_type = getattr(quantization.QuantType, kind)
    quantization.quantize_dynamic(path, small, per_channel=per_channel, weight_type=weight_type)
    layer = fastrnn.from_onnx(small)
    assert layer.weights == "int8"
    y = layer(given["X"])[0].reshape(T, B, directions, H).swapaxes(1, 2)
    exact, rounded = (run_onnxruntime(each, {"X": given["X"]})["Y"] for each in (model, onnx.load(small)))
    theirs = np.abs(rounded - exact).max()
    assert 0 < theirs < 0.02
    # That of weights is the same in both; each rounds rows in its own way.
    np.testing.assert_allclose(y, exact, rtol=0, atol=1.5 * theirs)
    np.testing.assert_allclose(y, rounded, rtol=0, atol=2 * theirs)
