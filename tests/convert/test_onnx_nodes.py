"""ONNX's recurrent operators in ONNX's own evaluator: against its own tests, and against its equations."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest

import fastrnn
from onnx_nodes import KINDS, draw_node, model_of, run_onnx, run_onnxruntime, run_plainly
from problems import Array
from tolerances import output_tolerance

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

T, B, I, H = 5, 3, 4, 6


def assert_close(got: dict[str, Array], expected: dict[str, Array], terms: int, where: Any) -> None:
    assert got.keys() == expected.keys()
    for name, right in expected.items():
        assert (got[name].dtype, got[name].shape) == (right.dtype, right.shape), f"{name} of\n{where}"
        atol = output_tolerance(right.dtype, terms=terms) * max(1, np.abs(right).max(initial=0))
        np.testing.assert_allclose(got[name], right, rtol=0, atol=atol, equal_nan=False, err_msg=f"{name} of\n{where}")


def outputs_of(node: Any, dtype: Any = np.float32) -> dict[str, type]:
    return {name: dtype for name in node.output if name}


def test_the_operators() -> None:
    from onnx.reference.op_run import OpRun

    ops = fastrnn.onnx_ops()
    assert all(issubclass(op, OpRun) for op in ops)
    assert {(op.op_domain, op.__name__) for op in ops} == {
        ("", "RNN"),
        ("", "GRU"),
        ("", "LSTM"),
        ("com.microsoft", "DynamicQuantizeLSTM"),
    }
    assert ops == fastrnn.onnx_ops()


def test_without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"^onnx_ops needs onnx, which is not installed: "):
        fastrnn.onnx_ops()


def node_tests() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what ONNX draws for other operators
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    return [case for case in cases if case.model.graph.node[0].op_type in KINDS]


def test_onnx_own_tests() -> None:
    cases = node_tests()
    assert len({case.name for case in cases}) >= 12
    for case in cases:
        evaluator = reference.ReferenceEvaluator(case.model, new_ops=fastrnn.onnx_ops())
        for inputs, outputs in case.data_sets:
            found = evaluator.run(None, dict(zip(evaluator.input_names, inputs, strict=True)))
            expected = dict(zip(evaluator.output_names, outputs, strict=True))
            assert_close(dict(zip(expected, found, strict=True)), expected, 10, case.name)


@pytest.mark.parametrize("constant", [set(), {"W", "R", "B", "P"}], ids=["given", "constant"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kind", KINDS)
def test_as_onnx_says(kind: str, seed: int, layout: int, constant: set[str]) -> None:
    node, given = draw_node(kind, np.random.default_rng([seed, KINDS.index(kind), layout]), layout=layout)
    expected = run_plainly(node, given)
    terms = given["W"].shape[2] + given["R"].shape[2]
    assert_close(run_onnx(model_of([node], given, outputs_of(node), constant), given), expected, terms, node)
    double = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in given.items()}
    model = model_of([node], double, outputs_of(node, np.float64), constant)
    assert_close(run_onnx(model, double), run_plainly(node, double), terms, node)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind: str) -> None:
    for name in ("float16", "bfloat16"):
        dtype = np.dtype(np.float16) if name == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
        node, given = draw_node(kind, np.random.default_rng(7))
        half = {name: a.astype(dtype) if a.dtype == np.float32 else a for name, a in given.items()}
        model = model_of([node], half, outputs_of(node, dtype), {"W", "R", "B", "P"})
        wide = {name: a.astype(np.float32) if a.dtype == dtype else a for name, a in half.items()}
        expected = run_plainly(node, wide)
        got = run_onnx(model, half)
        assert got.keys() == expected.keys()
        for output, a in got.items():
            assert a.dtype == dtype
            eps = 2.0**-10 if name == "float16" else 2.0**-7
            np.testing.assert_allclose(a.astype(np.float32), expected[output], rtol=eps, atol=1e-6)


def gru(name: str = "", **attributes: Any) -> Any:
    inputs = ["X", "W", "R", "B", "", "initial_h"]
    return helper.make_node("GRU", inputs, ["Y", "Y_h"], name=name, hidden_size=H, **attributes)


def weights(seed: int = 0, dtype: Any = np.float32) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"X": (T, B, I), "W": (1, 3 * H, I), "R": (1, 3 * H, H), "B": (1, 6 * H), "initial_h": (1, B, H)}
    return {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in shapes.items()}


def test_weights_that_change() -> None:
    """Also in place, in the same array; and back."""
    node, given = gru(), weights()
    model = model_of([node], given, outputs_of(node), set())
    evaluator = reference.ReferenceEvaluator(model, new_ops=fastrnn.onnx_ops())

    def check() -> None:
        got = dict(zip(("Y", "Y_h"), evaluator.run(None, given), strict=True))
        assert_close(got, run_plainly(node, given), 10, "")

    check()
    for name in "WRB":
        given[name][0, ::2] *= -1
        check()
        given[name] = given[name].copy()
        check()
    before = {name: given[name].copy() for name in "WRB"}
    given |= {name: a for name, a in weights(1).items() if name in before}
    check()
    given |= before
    check()
    for a in given.values():
        a.flags.writeable = False
    check()
    given["W"].flags.writeable = True
    given["W"][:] = 0
    given["W"].flags.writeable = False
    check()
    given["W"] = np.zeros((1, 3 * H, I + 1), np.float32)
    given["X"] = np.zeros((T, B, I + 1), np.float32)
    check()


def test_one_layer_for_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made with the first, and its weights are written once; those of a model, and those that are the same."""
    node, given = gru(), weights()
    written: list[None] = []
    load = fastrnn.GRU.load_state_dict
    monkeypatch.setattr(fastrnn.GRU, "load_state_dict", lambda self, state: (written.append(None), load(self, state)))
    for constant in (set("WRB"), set[str]()):
        written.clear()
        model = model_of([node], given, outputs_of(node), constant)
        evaluator = reference.ReferenceEvaluator(model, new_ops=fastrnn.onnx_ops())
        for _ in range(4):
            evaluator.run(None, {name: a.copy() for name, a in given.items() if name not in constant})
        assert len(written) == 1


def test_outputs_without_a_name_are_not_inputs_that_are_left_out() -> None:
    """As they would be in the evaluator itself, where both are called ""."""
    given = weights()
    lens = np.array([5, 2, 3], np.int32)
    first = helper.make_node("GRU", ["X", "W", "R", "", "lens"], ["", "Y_h1"], hidden_size=H)
    second = helper.make_node("GRU", ["X", "W", "R", "", "", "Y_h1"], ["Y"], hidden_size=H)
    model = model_of([first, second], {**given, "lens": lens}, {"Y": np.float32}, set("WRB"))
    model.graph.input.remove(next(i for i in model.graph.input if i.name == "initial_h"))
    got = run_onnx(model, {"X": given["X"], "lens": lens})
    named = helper.make_node("GRU", ["X", "W", "R", "", "lens"], ["Y", "Y_h"], hidden_size=H)
    h = run_plainly(named, {**given, "lens": lens})["Y_h"]
    expected = run_plainly(second, {**given, "Y_h1": h})
    assert_close(got, expected, 10, "")


def test_in_bodies_of_if_and_loop() -> None:
    """With clip, which the evaluator's own GRU has not: in the branch of an If in the body of a Loop."""
    given = weights()
    names = {name: a for name, a in given.items() if name != "initial_h"}
    node = helper.make_node("GRU", ["X", "W", "R", "B", "", "h"], ["Y", "h_next"], hidden_size=H, clip=0.3)
    value = helper.make_tensor_value_info
    h = value("h_next", 1, [1, B, H])
    then = helper.make_graph([node], "then", [], [h])
    other = helper.make_graph([helper.make_node("Identity", ["h"], ["h_next"])], "else", [], [h])
    body = helper.make_graph(
        [
            helper.make_node("If", ["keep"], ["h_out"], then_branch=then, else_branch=other),
            helper.make_node("Identity", ["keep"], ["keep_out"]),
        ],
        "body",
        [value("i", 7, []), value("keep", 9, []), value("h", 1, [1, B, H])],
        [value("keep_out", 9, []), value("h_out", 1, [1, B, H])],
    )
    loop = helper.make_node("Loop", ["three", "true", "initial_h"], ["Y_h"], body=body)
    whole = {**given, "three": np.array(3), "true": np.array(True)}
    model = model_of([loop], whole, {"Y_h": np.float32}, {"W", "R", "B", "three", "true"})
    h_n = given["initial_h"]
    for _ in range(3):
        h_n = run_plainly(node, {**names, "h": h_n})["h_next"]
    assert_close(run_onnx(model, given), {"Y_h": h_n}, 10, "Loop")


def test_in_functions_after_they_are_inlined() -> None:
    inliner = pytest.importorskip("onnx.inliner")
    given = weights()
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], clip=0.3, hidden_size=H)
    opsets = [helper.make_opsetid("", 14)]
    function = helper.make_function("own", "Net", ["x", "w", "r"], ["y"], [node], opsets)
    call = helper.make_node("Net", ["X", "W", "R"], ["Y"], domain="own")
    model = model_of(
        [call],
        {name: given[name] for name in "XWR"},
        {"Y": np.float32},
        set("WR"),
        functions=[function],
        opset_imports=[*opsets, helper.make_opsetid("own", 1)],
    )
    expected = run_plainly(helper.make_node("GRU", ["X", "W", "R"], ["Y"], clip=0.3), given)
    assert_close(run_onnx(inliner.inline_local_functions(model), given), expected, 10, "")


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"activations": ["Sigmoid", "Softmax"]}, {}, "it has an activation 'Softmax', which fastrnn has not"),
    ({"activations": ["Sigmoid"]}, {}, "its activations are Sigmoid, expected 2 of them"),
    ({"activations": ["Sigmoid", "Affine"]}, {}, "activation_alpha of its activation Affine is left out"),
    ({"clip": 0.0}, {}, "its clip is 0.0, expected a number above 0"),
    ({"direction": "sideways"}, {}, "its direction is 'sideways', expected"),
    ({}, {"W": np.zeros((1, 3 * H + 1, I), np.float32)}, "its W has shape"),
    ({}, {"W": np.zeros((1, 3 * H, I))}, "its W is float64, and X float32"),
    ({}, {"X": np.zeros((T, B, I + 1), np.float32)}, "x has shape"),
    ({}, {"initial_h": np.zeros((1, B + 1, H), np.float32)}, "state has shape"),
]


@pytest.mark.parametrize(("attributes", "arrays", "message"), REFUSED)
def test_what_is_refused_names_the_node(attributes: Any, arrays: Any, message: str) -> None:
    node, given = gru("the gru", **attributes), weights()
    model = model_of([node], given, outputs_of(node), set())
    with pytest.raises((TypeError, ValueError), match=f"^GRU 'the gru': .*{message}"):
        run_onnx(model, {**given, **arrays})
    unnamed = model_of([gru(**attributes)], given, outputs_of(node), set())
    with pytest.raises((TypeError, ValueError), match=f"^GRU 'Y': .*{message}"):
        run_onnx(unnamed, {**given, **arrays})


def test_lengths_beyond_the_sequence_are_refused() -> None:
    node = helper.make_node("GRU", ["X", "W", "R", "", "lens"], ["Y"], name="n")
    given = {**weights(), "lens": np.array([5, 6, 1], np.int32)}
    with pytest.raises(ValueError, match=r"^GRU 'n': GRU: lengths has 1 to 6"):
        run_onnx(model_of([node], given, {"Y": np.float32}, set("WR")), given)


# --- DynamicQuantizeLSTM


def quantised(
    rng: np.random.Generator, D: int, signed: bool, per_channel: bool
) -> tuple[dict[str, Array], dict[str, Array]]:
    """W and R of 8 bits, with scales and zero points, and what they stand for."""
    given: dict[str, Array] = {}
    real: dict[str, Array] = {}
    dtype = np.dtype(np.int8 if signed else np.uint8)
    limits = np.iinfo(dtype)
    for name, inputs in (("W", I), ("R", H)):
        q = rng.integers(limits.min, limits.max + 1, (D, inputs, 4 * H)).astype(dtype)
        shape = (D, 4 * H) if per_channel else (D,)
        scale = rng.uniform(0.002, 0.006, shape).astype(np.float32)
        zero = np.full(shape, 0 if signed else 128, dtype)
        given |= {name: q, f"{name}_scale": scale, f"{name}_zero_point": zero}
        spread = (slice(None), None) if per_channel else (slice(None), None, None)
        real[name] = ((q.astype(np.float32) - zero[spread]) * scale[spread]).swapaxes(1, 2)
    return given, real


QUANTISED = ["X", "W", "R", "B", "lens", "initial_h", "initial_c", "P"]
QUANTISED += [f"{w}_{what}" for w in "WR" for what in ("scale", "zero_point")]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("runner", ["onnx", "onnxruntime"])
def test_dynamic_quantize_lstm(runner: str, D: int, signed: bool, per_channel: bool) -> None:
    rng = np.random.default_rng([D, signed, per_channel])
    given, real = quantised(rng, D, signed, per_channel)
    floats = {"X": (T, B, I), "B": (D, 8 * H), "initial_h": (D, B, H), "initial_c": (D, B, H), "P": (D, 3 * H)}
    rest = {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in floats.items()}
    rest["lens"] = np.array([5, 0, 3], np.int32)
    attributes = {"hidden_size": H, "direction": ["forward", "bidirectional"][D - 1]}
    outputs = ["Y", "Y_h", "Y_c"]
    node = helper.make_node("DynamicQuantizeLSTM", QUANTISED, outputs, domain="com.microsoft", **attributes)
    model = model_of([node], {**given, **rest}, outputs_of(node), {*given, "B", "P"})
    plain = helper.make_node("LSTM", QUANTISED[:8], outputs, **attributes)
    expected = run_plainly(plain, {**real, **rest})
    with pytest.warns(UserWarning, match="rounds the inputs and states"):
        exact, kept = fastrnn.from_onnx(model, weights="float32"), fastrnn.from_onnx(model)
    assert (exact.weights, kept.weights) == ("float32", "int8")
    assert_is_kept(kept, given)
    some = rest["lens"] > 0  # those without steps keep their states in a layer

    def called(layer: fastrnn.Layer) -> dict[str, Array]:
        y, (h_n, c_n) = layer(rest["X"], (rest["initial_h"], rest["initial_c"]), lengths=rest["lens"])
        return {"Y": y.reshape(T, B, D, H).swapaxes(1, 2), "Y_h": h_n[:, some], "Y_c": c_n[:, some]}

    right = {"Y": expected["Y"], **{name: expected[name][:, some] for name in ("Y_h", "Y_c")}}
    if runner == "onnx":
        assert_close(run_onnx(model, rest), expected, I + H, node)
        assert_close(called(exact), right, I + H, node)
        for name, a in called(kept).items():
            np.testing.assert_allclose(a, right[name], rtol=0, atol=0.03, err_msg=name)
        return
    got = run_onnxruntime(model, rest)  # which rounds X and h to 8 bits, too
    for name, a in got.items():
        np.testing.assert_allclose(a, expected[name], rtol=0, atol=0.05, err_msg=f"{name} of\n{node}")
    for name, a in called(kept).items():
        theirs = got[name] if name == "Y" else got[name][:, some]
        np.testing.assert_allclose(a, theirs, rtol=0, atol=0.06, err_msg=f"{name} of\n{node}")


def assert_is_kept(layer: fastrnn.Layer, given: dict[str, Array]) -> None:
    """That a layer has the very integers and scales of W and R, (D, inputs, 4*H) in the order of gates i, o, f, c."""
    order = np.concatenate([np.arange(H) + gate * H for gate in (0, 2, 3, 1)])
    for name, kind in (("W", "weight_ih"), ("R", "weight_hh")):
        scales = given[f"{name}_scale"]
        for d, suffix in enumerate(("_l0", "_l0_reverse")[: len(scales)]):
            steps = given[name][d].astype(int) - given[f"{name}_zero_point"][d].astype(int)
            assert layer.params[kind + suffix].dtype == np.int8
            np.testing.assert_array_equal(layer.params[kind + suffix], steps.T[order])
            of_rows = np.broadcast_to(scales[d], 4 * H)[order]
            np.testing.assert_array_equal(layer.params[f"{kind}{suffix}_scale"], of_rows)


@pytest.mark.filterwarnings("ignore:.*rounds the inputs and states")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_what_is_kept_of_dynamic_quantize_lstm(signed: bool, per_channel: bool) -> None:
    """Integers are, where int8 has them; else float32 has their values, which are the same in any case."""
    given, _ = quantised(np.random.default_rng(0), 1, signed, per_channel)
    inputs = ["X", "W", "R", *[""] * 5, *QUANTISED[8:]]
    node = helper.make_node("DynamicQuantizeLSTM", inputs, ["Y"], domain="com.microsoft", hidden_size=H)
    x = np.random.default_rng(1).uniform(-1, 1, (T, B, I)).astype(np.float32)

    def model(**changed: Array) -> Any:
        return model_of([node], {**given, **changed, "X": x}, {"Y": np.float32}, set(given))

    for changed, weights in (
        ({}, "int8"),
        ({"W_scale": np.zeros_like(given["W_scale"])}, "int8"),
        ({"R_zero_point": given["R_zero_point"] - 1}, "float32"),
        ({"W_zero_point": given["W_zero_point"] + 3}, "float32"),
        ({"W_scale": -given["W_scale"]}, "float32"),
    ):
        layer = fastrnn.from_onnx(model(**changed))
        exact = fastrnn.from_onnx(model(**changed), weights="float32")
        assert layer.weights == weights, changed
        if weights == "int8":
            assert_is_kept(layer, {**given, **changed})
            for name, w in exact.params.items():
                scales = layer.params[f"{name}_scale"][:, None]
                np.testing.assert_array_equal(layer.params[name] * scales, w)
        np.testing.assert_allclose(layer(x)[0], exact(x)[0], rtol=0, atol=0.03)
        assert fastrnn.from_onnx(model(**changed), dtype=np.float64).weights == "float32"
    with pytest.raises(
        ValueError, match=r"^from_onnx: weights is 'int4', expected None or 'float32': freeze the layer"
    ):
        fastrnn.from_onnx(model(), weights="int4")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*rounds the inputs and states")
def test_dynamic_quantize_lstms_that_follow_each_other() -> None:
    below, _ = quantised(np.random.default_rng(0), 1, signed=True, per_channel=True)
    above, _ = quantised(np.random.default_rng(1), 1, signed=False, per_channel=False)
    rng = np.random.default_rng(2)
    above["W"] = rng.integers(0, 256, (1, H, 4 * H)).astype(np.uint8)
    x = rng.uniform(-1, 1, (T, B, I)).astype(np.float32)
    given = {**{f"{name}0": a for name, a in below.items()}, **{f"{name}1": a for name, a in above.items()}}
    nodes = []
    for k, source in enumerate(("X", "S")):
        names = [f"{name}{k}" for name in ("W", "R", *QUANTISED[8:])]
        inputs = [source, *names[:2], *[""] * 5, *names[2:]]
        options = {"domain": "com.microsoft", "hidden_size": H, "name": f"n{k}"}
        nodes.append(helper.make_node("DynamicQuantizeLSTM", inputs, [f"Y{k}"], **options))
    given["axes"] = np.array([1])
    nodes.insert(1, helper.make_node("Squeeze", ["Y0", "axes"], ["S"]))
    model = model_of(nodes, {**given, "X": x}, {"Y1": np.float32}, set(given))
    layer = fastrnn.from_onnx(model, ["n0", "n1"])
    assert layer.weights == "int8"
    assert_is_kept(fastrnn.from_onnx(model, "n0"), below)
    np.testing.assert_array_equal(layer.params["weight_ih_l1"], fastrnn.from_onnx(model, "n1").params["weight_ih_l0"])
    exact = fastrnn.from_onnx(model, ["n0", "n1"], weights="float32")
    np.testing.assert_allclose(layer(x)[0], exact(x)[0], rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"W_scale": np.array(["a"])},
            r"its W_scale is .* of shape \(1,\), expected numbers of shape \(D,\) or \(D, 4\*H\)",
        ),
        ({"R_scale": np.ones(3, np.float32)}, r"its R_scale is float32 of shape \(3,\), expected numbers of shape"),
        (
            {"W_zero_point": np.zeros((1, 5), np.uint8)},
            r"its W_zero_point is uint8 of shape \(1, 5\), expected numbers",
        ),
        ({"W": np.ones((1, I, 4 * H), np.float32)}, r"its W is float32 of shape \(1, 4, 24\), expected 8-bit integers"),
        ({"W": np.ones((I, 4 * H), np.uint8)}, r"its W is uint8 of shape \(4, 24\), expected 8-bit integers"),
        ({"R": np.ones((1, H, 3 * H), np.uint8)}, r"its R has shape \(1, 18, 6\), expected \(1, 24, 6\)"),
    ],
)
def test_dynamic_quantize_lstm_that_is_refused(arrays: dict[str, Array], message: str) -> None:
    given, _ = quantised(np.random.default_rng(0), 1, signed=False, per_channel=False)
    inputs = ["X", "W", "R", *[""] * 5, *QUANTISED[8:]]
    node = helper.make_node("DynamicQuantizeLSTM", inputs, ["Y"], domain="com.microsoft", hidden_size=H)
    whole = {**given, **arrays, "X": np.zeros((T, B, I), np.float32)}
    with pytest.raises(ValueError, match=f"^from_onnx: 'Y': {message}"):
        fastrnn.from_onnx(model_of([node], whole, {"Y": np.float32}, set(given)))
