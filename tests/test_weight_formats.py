"""Layers frozen with weights of fewer bits: what they compute, what they keep, and what they refuse."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from fastrnn.command.main import main
from isolated import run_code
from layer_problems import (
    FAMILIES,
    GATES,
    LAYERS,
    LENGTHS,
    VARIANTS,
    B,
    H,
    I,
    T,
    check_trace,
    draw,
    each_family,
    each_variant,
    parts,
    state_like,
)
from problems import Array
from tolerances import assert_same_bits, output_tolerance

ml_dtypes = pytest.importorskip("ml_dtypes")

F = np.float32
FORMATS = ("bfloat16", "int8")
each_format = pytest.mark.parametrize("weights", FORMATS)
# What rounding may change of y of these small nets; sums of the integers themselves are exact.
COARSE = {"bfloat16": 0.02, "int8": 0.05}


def layer_of(family: str, seed: int = 0, **options: Any) -> fastrnn.Layer:
    layer = LAYERS[family](I, H, seed=seed, **options)
    for name, p in layer.params.items():
        p[...] = draw(*p.shape, dtype=F, seed=len(name)) / 2
    return layer.eval()


# --- what they compute


def rounded(weights: str, rows: Array) -> Array:
    """What a format makes of rows of weights, or of what they are multiplied with."""
    if weights == "bfloat16":
        return rows.astype(ml_dtypes.bfloat16).astype(np.float64)
    scale = (np.abs(rows).max(-1, keepdims=True) / F(127)).astype(F)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.rint(rows / scale)) * scale.astype(np.float64)


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def stepped(family: str, weights: str, params: dict[str, Array], x: Array, state: tuple[Array, ...]) -> Array:
    """h after one step, in float64, with weights and rows rounded as the format does."""
    h = state[0]
    a, b = (
        rounded(weights, rows) @ rounded(weights, params[f"weight_{kind}_l0"]).T + params[f"bias_{kind}_l0"]
        for kind, rows in (("ih", x), ("hh", h))
    )
    if family == "rnn":
        return np.tanh(a + b)
    if family == "gru":
        r, z = (sigmoid(a[:, k * H : (k + 1) * H] + b[:, k * H : (k + 1) * H]) for k in (0, 1))
        n = np.tanh(a[:, 2 * H :] + r * b[:, 2 * H :])
        return (1 - z) * n + z * h
    i, f, g, o = np.split(a + b, 4, axis=1)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 30.0])
@each_format
@each_family
def test_a_step_is_that_of_rounded_numbers(family: str, weights: Any, scale: float, isa: str) -> None:
    """Rows of any size, states within -1 .. 1 and beyond, and zeros, have a scale of their own."""
    layer = layer_of(family)
    params = layer.state_dict()
    x = draw(1, B, I, dtype=F) * F(scale)
    state = state_like(layer)
    for s in parts(state):
        s[:, 0] = 0
        s[:, 1] *= 7
    x[0, 2] = 0
    right = stepped(family, weights, params, x[0], tuple(s[0] for s in parts(state)))
    y, _ = layer.freeze(weights)(x, state)
    np.testing.assert_allclose(y[0], right, rtol=0, atol=output_tolerance(F, terms=I + H) * max(1, scale))


@each_format
@each_variant
def test_every_variant_is_near_float32(family: str, options: dict[str, Any], weights: Any, isa: str) -> None:
    for more in ({}, {"num_layers": 2}, {"bidirectional": True}, {"batch_first": True}, {"learn_state": True}):
        layer = layer_of(family, **options, **more)
        x = draw(*((B, T) if more.get("batch_first") else (T, B)), I, dtype=F)
        calls: list[dict[str, Any]] = [{}, {"lengths": LENGTHS}, {"return_sequence": False}]
        calls.append({"mask": np.random.default_rng(0).random(x.shape[:2]) < 0.7})
        right = [layer(x, state_like(layer), **call) for call in calls]
        tokens = np.random.default_rng(1).integers(0, I, x.shape[:2])
        right.append(layer(tokens))
        layer.freeze(weights)
        got = [layer(x, state_like(layer), **call) for call in calls] + [layer(tokens)]
        for (y, state), (expected, expected_state) in zip(got, right, strict=True):
            for a, b in zip((y, *parts(state)), (expected, *parts(expected_state)), strict=True):
                assert a.dtype == F
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=0, atol=COARSE[weights] * max(1, float(np.abs(b).max())))
        assert any(not np.array_equal(a[0], b[0]) for a, b in zip(got, right, strict=True))


@each_format
@each_variant
def test_streams_have_the_same_bits(family: str, options: dict[str, Any], weights: Any, isa: str) -> None:
    for tokens in (False, True):
        layer = layer_of(family, num_layers=2, **options).freeze(weights)
        x = np.random.default_rng(2).integers(0, I, (T, B)) if tokens else draw(T, B, I, dtype=F)
        stream = layer.stream(B, tokens=tokens)
        y = np.stack([stream.step(x_t) for x_t in x])
        expected, state = layer(x)
        np.testing.assert_array_equal(y, expected)
        for a, b in zip(parts(stream.state), parts(state), strict=True):
            np.testing.assert_array_equal(a, b)


@each_format
@pytest.mark.parametrize("shape", [(33, 64, 100), (7, 100, 129), (1, 100, 256), (2, 90, 250)], ids=str)
def test_threads_change_no_bit(weights: Any, shape: tuple[int, ...], isa: str, set_threads: Any) -> None:
    rows, inputs, units = shape
    for family, options in VARIANTS:
        layer = LAYERS[family](inputs, units, seed=0, **options).freeze(weights)
        x = draw(20, rows, inputs, dtype=F)
        set_threads(1)
        expected, _ = layer(x)
        for threads in (2, 3, 4):
            set_threads(threads)
            for _ in range(5):
                np.testing.assert_array_equal(layer(x)[0], expected, f"{family}, {options}")
            stream = layer.stream(rows)
            np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x]), expected)


@each_format
@each_family
def test_what_is_no_number_stays_in_its_row(family: str, weights: Any, isa: str) -> None:
    layer = layer_of(family).freeze(weights)
    x, state = draw(T, B, I, dtype=F), state_like(layer)
    expected, _ = layer(x, state)
    for value in (np.nan,) if weights == "bfloat16" else (np.nan, np.inf, -np.inf):  # which bfloat16 has
        for k in range(I):
            spoilt = x.copy()
            spoilt[3, 2, k] = value
            y, _ = layer(spoilt, state)
            assert np.isnan(y[3:, 2]).all()
            others = np.arange(B) != 2
            np.testing.assert_array_equal(y[:, others], expected[:, others])
            np.testing.assert_array_equal(y[:3, 2], expected[:3, 2])
        h = tuple(s.copy() for s in parts(state))
        h[0][0, 1, 4] = value
        y, _ = layer(x, h if len(h) > 1 else h[0])
        assert np.isnan(y[:, 1]).all()


@each_format
def test_weights_that_are_special(weights: Any, isa: str) -> None:
    """Rows of zeros, with one large weight, with what is no number, and so small that their scale is none."""
    layer = layer_of("rnn")
    w = layer.params["weight_hh_l0"]
    w[0], w[1, 3], w[2, 5], w[3] = 0, 100, np.nan, 1e-44
    layer.params["weight_ih_l0"][...] = 0
    h = draw(1, B, H, dtype=F)
    right = np.tanh(h[0] @ np.nan_to_num(w).T + layer.params["bias_ih_l0"] + layer.params["bias_hh_l0"])
    y, _ = layer.freeze(weights)(np.zeros((1, B, I), F), h)
    assert np.isnan(y[0, :, 2]).all()
    for unit in (0, 3):
        np.testing.assert_allclose(y[0, :, unit], right[:, unit], rtol=0, atol=1e-6)
    others = [unit for unit in range(H) if unit not in (1, 2)]
    np.testing.assert_allclose(y[0][:, others], right[:, others], rtol=0, atol=COARSE[weights])
    np.testing.assert_allclose(y[0, :, 1], np.sign(h[0, :, 3]), rtol=0, atol=1e-6)


@each_format
def test_no_steps_no_rows_and_no_inputs(weights: Any) -> None:
    for family in FAMILIES:
        for shape in ((0, 3, 2), (4, 0, 2), (4, 3, 0), (0, 0, 0)):
            layer = LAYERS[family](shape[2], 5, seed=0).eval()
            x = np.ones(shape, F)
            expected, state = layer(x)
            y, state_n = layer.freeze(weights)(x)
            assert y.shape == expected.shape
            assert [s.shape for s in parts(state_n)] == [s.shape for s in parts(state)]


@each_format
def test_huge_weights_warn_of_nothing(weights: Any) -> None:
    layer = layer_of("rnn")
    layer.params["weight_ih_l0"][0] = np.finfo(F).max
    y, _ = layer.freeze(weights)(draw(T, B, I, dtype=F))
    assert np.isfinite(y[0, :, 1:]).all()


# --- traces


def traced(layer: fastrnn.Layer, x: Array, state: Any = None, **call: Any) -> dict[str, Array]:
    """What a call with a trace gives, y and the states besides: to the last bit those of one without."""
    y, state_n = layer(x, state, trace=True, **call)
    trace, results = layer.trace, {f"state[{s}]": a for s, a in enumerate((y, *parts(state_n)))}
    same, state_n = layer(x, state, **call)
    assert layer.trace == {}
    assert_same_bits({f"state[{s}]": a for s, a in enumerate((same, *parts(state_n)))}, results, "without a trace")
    return {"y": y, **trace}


SETTINGS: list[dict[str, Any]] = [{"num_layers": 2, "bidirectional": True}, {"batch_first": True}, {"reverse": True}]
SETTINGS += [{"learn_state": True}, {"zoneout": 0.3}, {"bias": False}]


@each_format
@each_variant
def test_traces_of_every_variant(family: str, options: dict[str, Any], weights: Any, isa: str) -> None:
    for setting in SETTINGS:
        if "zoneout" in setting and "proj_size" in options:
            continue  # they are refused together
        layer = layer_of(family, **options, **setting)
        shape = (B, T) if layer.batch_first else (T, B)
        x, tokens = draw(*shape, I, dtype=F), np.random.default_rng(1).integers(0, I, shape)
        state, mask = state_like(layer), np.random.default_rng(0).random(shape) < 0.7
        calls: list[tuple[Any, ...]] = [(x, state, {}), (x, None, {}), (tokens, None, {}), (x, state, {"mask": mask})]
        calls += [(rows, state, {"lengths": LENGTHS}) for rows in (x, tokens)]
        calls += [(x, state, {"return_sequence": False}), (x[0] if layer.batch_first else x[:, 0], None, {})]
        right = [traced(layer, x, state, **call) for x, state, call in calls]
        layer.freeze(weights)
        for (x, state, call), expected in zip(calls, right, strict=True):
            got = traced(layer, x, state, **call)
            assert got.keys() == expected.keys()
            for name, a in expected.items():
                assert (got[name].dtype, got[name].shape) == (F, a.shape)
                allowed = COARSE[weights] * max(1, float(np.abs(a).max()))
                np.testing.assert_allclose(got[name], a, rtol=0, atol=allowed, err_msg=f"{setting} {call} {name}")


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["same", "lengths"])
@each_format
@each_variant
def test_traces_satisfy_the_equations(
    family: str, options: dict[str, Any], weights: Any, lengths: Array | None, isa: str
) -> None:
    layer = layer_of(family, num_layers=2, bidirectional=True, **options)
    params, state = layer.state_dict(), state_like(layer)
    y, _ = layer.freeze(weights)(draw(T, B, I, dtype=F), state, lengths=lengths, trace=True)
    check_trace(family, options, layer, params, state, y, lengths, output_tolerance(F, terms=H), COARSE[weights])


@each_format
@pytest.mark.parametrize("shape", [(33, 64, 100), (7, 100, 129), (1, 100, 256)], ids=str)
def test_traces_on_any_number_of_threads(weights: Any, shape: tuple[int, ...], isa: str, set_threads: Any) -> None:
    rows, inputs, units = shape
    for family in LAYERS:
        layer = LAYERS[family](inputs, units, seed=0).freeze(weights)
        x = draw(40, rows, inputs, dtype=F)  # of 33 rows more than what backward would work on at a time
        set_threads(1)
        expected = traced(layer, x)
        for threads in (2, 3, 4):
            set_threads(threads)
            assert_same_bits(traced(layer, x), expected, f"{family}, {threads} threads")


@each_format
def test_traces_of_layers_in_nets(weights: Any) -> None:
    net = fastrnn.Sequential(fastrnn.Embedding(20, I, seed=0), fastrnn.GRU(I, H, seed=0), fastrnn.Linear(H, 3, seed=0))
    net.eval().freeze(weights)
    embedded = net[0](np.random.default_rng(0).integers(0, 20, (T, B)))
    y, _ = net[1](embedded, trace=True)
    assert set(net[1].trace) == {"h_l0", "r_l0", "z_l0", "n_l0"}
    np.testing.assert_array_equal(net[1].trace["h_l0"], y)


def taped(layer: fastrnn.Layer, x: Array) -> Any:
    """The tape of a call through ``_core``."""
    spec, kept = layer._spec, layer._weights.kept["_l0"]
    *known, own = layer._weights.known("_l0")
    *_, tape = _core.forward(spec.cell, True, True, kept, None, x, *known, None, None, own, spec.options[0], None)
    return tape


@each_format
@each_variant
def test_there_is_no_way_back_through_a_trace(family: str, options: dict[str, Any], weights: Any, isa: str) -> None:
    layer = layer_of(family, **options).freeze(weights)
    name = layer._spec.family
    for rows in (0, B):
        for _ in range(2):  # with numbers, and then with shapes alone
            tape, dy = taped(layer, draw(T, rows, I, dtype=F)), np.ones((T, rows, H), F)
            assert set(_core.trace(tape)) == {*"hc"[: len(layer._spec.state_sizes)], *GATES[family]}
            for wants_dh in (False, True):
                words = f"{name}_backward: tape is that of a call with weights of fewer bits than 32.*float32"
                with pytest.raises(ValueError, match=words):
                    _core.backward(name, tape, _core.Sums(), wants_dh, dy, None, None)
    layer(draw(T, B, I, dtype=F), trace=True)
    with pytest.raises(RuntimeError, match=rf"{layer._name}\.backward: .*training mode"):
        layer.backward(draw(T, B, H, dtype=F))


@each_format
@each_variant
def test_tapes_of_formats_have_no_weights(family: str, options: dict[str, Any], weights: Any) -> None:
    """Neither x nor weights are in them, which only the way back reads."""
    few, many = (LAYERS[family](inputs, H, **options).eval() for inputs in (1, 1000))
    x = draw(T, B, 1000, dtype=F)
    plain = taped(many, x).nbytes
    bytes_of_tape = taped(many.freeze(weights), x).nbytes
    assert bytes_of_tape == taped(few.freeze(weights), x[..., :1]).nbytes
    assert bytes_of_tape < plain - x.nbytes - 4 * 1000 * H


@each_format
@each_variant
def test_traces_remember_their_instruction_set(family: str, options: dict[str, Any], weights: Any, isa: str) -> None:
    tape = taped(layer_of(family, **options).freeze(weights), draw(T, B, I, dtype=F))
    expected = _core.trace(tape)
    try:
        for other in fastrnn.available_isas():
            _core.set_isa(other)
            assert_same_bits(_core.trace(tape), expected, f"with {other}")
    finally:
        _core.set_isa(isa)


# --- what they keep


def kept(layer: fastrnn.Layer) -> dict[str, tuple[Any, tuple[int, ...]]]:
    return {name: (p.dtype.name, p.shape) for name, p in layer.params.items()}


def test_what_is_kept() -> None:
    layer = fastrnn.LSTM(I, H, proj_size=5, seed=0)
    before = layer.state_dict()
    assert layer.weights == "float32"
    assert layer.freeze("int8") is layer
    assert layer.weights == "int8"
    assert not layer.training
    assert kept(layer) == {
        "weight_ih_l0": ("int8", (4 * H, I)),
        "weight_ih_l0_scale": ("float32", (4 * H,)),
        "weight_hh_l0": ("int8", (4 * H, 5)),
        "weight_hh_l0_scale": ("float32", (4 * H,)),
        "bias_ih_l0": ("float32", (4 * H,)),
        "bias_hh_l0": ("float32", (4 * H,)),
        "weight_hr_l0": ("int8", (5, H)),
        "weight_hr_l0_scale": ("float32", (5,)),
    }
    for name, w in before.items():
        if name.startswith("weight"):
            scale = layer.params[f"{name}_scale"]
            np.testing.assert_array_equal(np.abs(layer.params[name]).max(1), 127)
            np.testing.assert_array_equal(scale, np.abs(w).max(1) / F(127))
            assert (np.abs(layer.params[name] * scale[:, None] - w) <= 0.5001 * scale[:, None]).all()
        else:
            np.testing.assert_array_equal(layer.params[name], w)
    layer = fastrnn.GRU(I, H, seed=0)
    before = layer.state_dict()
    layer.freeze("bfloat16")
    for name, w in before.items():
        expected = w.astype(ml_dtypes.bfloat16) if name.startswith("weight") else w
        assert layer.params[name].dtype == expected.dtype
        np.testing.assert_array_equal(layer.params[name], expected)


@each_format
@each_variant
def test_copies_pickles_and_files(family: str, options: dict[str, Any], weights: Any, tmp_path: Path) -> None:
    layer = layer_of(family, num_layers=2, learn_state=True, **options).freeze(weights)
    x = draw(T, B, I, dtype=F)
    expected, _ = layer(x)
    path = str(tmp_path / "layer.safetensors")
    layer.save(path)
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fastrnn.load(path)):
        assert other.weights == weights
        assert kept(other) == kept(layer)
        assert not any(p.flags.writeable for p in other.params.values())
        np.testing.assert_array_equal(other(x)[0], expected)
        with pytest.raises(ValueError, match="for inference alone"):
            other.train()


@each_format
def test_nets(weights: Any, tmp_path: Path) -> None:
    net = fastrnn.Sequential(fastrnn.Embedding(20, I, seed=0), fastrnn.GRU(I, H, seed=0), fastrnn.Last())
    net = fastrnn.Sequential(net, fastrnn.Linear(H, 3, seed=0)).eval()
    tokens = np.random.default_rng(0).integers(0, 20, (T, B))
    near = net(tokens)
    y = net.freeze(weights)(tokens)
    np.testing.assert_allclose(y, near, rtol=0, atol=COARSE[weights])
    path = str(tmp_path / "net.safetensors")
    net.save(path)
    loaded = fastrnn.load(path)
    np.testing.assert_array_equal(loaded(tokens), y)
    np.testing.assert_array_equal(
        loaded.stream(B, tokens=True).step(tokens[0]), net.stream(B, tokens=True).step(tokens[0])
    )
    for refused in (net.unfreeze, net.train, lambda: net.freeze("bfloat16" if weights == "int8" else "int8")):
        with pytest.raises(ValueError, match=f"GRU.*{weights} weights"):
            refused()


def test_all_layers_of_a_net_or_none() -> None:
    net = fastrnn.Sequential(fastrnn.GRU(3, 4, seed=0), fastrnn.GRU(4, 4, seed=0))
    net[1].freeze("bfloat16")
    with pytest.raises(ValueError, match="weights is 'int8', and the layer has bfloat16 weights"):
        net.freeze("int8")
    assert net[0].weights == "float32"


@each_format
def test_what_is_read_of_a_layer_is_a_copy(weights: Any) -> None:
    layer = layer_of("gru", learn_state=True).freeze(weights)
    x = draw(T, B, I, dtype=F)
    before, right = layer(x)[0], layer.state_dict()
    for name, p in layer.params.items():
        assert not p.flags.writeable
        p.flags.writeable = True
        p[...] = 1
        np.testing.assert_array_equal(layer.params[name], right[name])
    np.testing.assert_array_equal(layer(x)[0], before)
    np.testing.assert_array_equal(copy.copy(layer)(x)[0], before)


@each_format
@each_variant
def test_another_instruction_set_packs_anew(family: str, options: dict[str, Any], weights: Any) -> None:
    """From each to each other: what a layer keeps stays as it is, bit for bit, and calls are those of a new one."""
    more = {"num_layers": 2, "learn_state": True, **options}
    layer, x = layer_of(family, **more).freeze(weights), draw(T, B, I, dtype=F)
    before, right = fastrnn.isa(), layer.state_dict()
    isas = fastrnn.available_isas()
    try:
        for isa in (*isas, *reversed(isas)):
            _core.set_isa(isa)
            for name, p in layer.params.items():
                np.testing.assert_array_equal(p.view(np.uint8), right[name].view(np.uint8))
            new = layer_of(family, **more).freeze(weights)
            np.testing.assert_array_equal(layer.stream(B).step(x[0]), new.stream(B).step(x[0]))
            np.testing.assert_array_equal(layer(x)[0], new(x)[0])
    finally:
        _core.set_isa(before)


def given(layer: fastrnn.Layer, arrays: dict[str, Array], weights: str, path: Path) -> fastrnn.Layer:
    """The layer that a file with these parameters has."""
    from fastrnn.files import save_arrays

    save_arrays(str(path), arrays, {**layer._description(), "weights": weights})
    found: fastrnn.Layer = fastrnn.load(str(path))
    return found


@each_variant
def test_numbers_of_a_file_are_kept_exactly(family: str, options: dict[str, Any], tmp_path: Path, isa: str) -> None:
    """Any integers with any scales, and any bits of bfloat16, also where float32 would give others."""
    rng = np.random.default_rng(0)
    for weights in FORMATS:
        layer = LAYERS[family](I, H, seed=0, num_layers=2, **options).freeze(weights)  # type: ignore[arg-type]
        arrays = layer.state_dict()
        for name, p in arrays.items():
            if p.dtype == np.int8:
                arrays[name] = rng.integers(-128, 128, p.shape, dtype=np.int8)
                arrays[name][0] = 0
                arrays[name][1] = np.clip(p[1], -3, 3)  # far from the greatest that there are
            elif name.endswith("_scale"):
                arrays[name] = rng.uniform(0, 0.01, p.shape).astype(F)
                arrays[name][0], arrays[name][2] = 0, np.nan
            elif p.dtype == ml_dtypes.bfloat16:
                bits = rng.integers(0, 2**16, p.shape, dtype=np.uint16)
                arrays[name] = bits.view(ml_dtypes.bfloat16)
        loaded = given(layer, arrays, weights, tmp_path / "layer.safetensors")
        again = pickle.loads(pickle.dumps(copy.deepcopy(loaded)))
        loaded.save(str(tmp_path / "again.safetensors"))
        for other in (loaded, again, fastrnn.load(str(tmp_path / "again.safetensors"))):
            assert other.params.keys() == arrays.keys()
            for name, p in other.params.items():
                assert p.dtype == arrays[name].dtype
                np.testing.assert_array_equal(p.view(np.uint8), arrays[name].view(np.uint8))


def test_a_step_with_integers_of_a_file(tmp_path: Path, isa: str) -> None:
    """Products are of the very integers, -128 too: of rows that are integers themselves they are exact."""
    layer = fastrnn.RNN(I, H, nonlinearity="relu", seed=0).freeze("int8")
    arrays, rng = layer.state_dict(), np.random.default_rng(0)
    for kind in ("ih", "hh"):
        name = f"weight_{kind}_l0"
        arrays[name] = rng.integers(-128, 128, arrays[name].shape, dtype=np.int8)
        arrays[name][3] = -128
        arrays[name + "_scale"] = (2.0 ** rng.integers(-9, -4, H)).astype(F)
        arrays[f"bias_{kind}_l0"][...] = 0
    loaded = given(layer, arrays, "int8", tmp_path / "layer.safetensors")
    x, h = (rng.integers(-127, 128, (1, B, n)).astype(F) for n in (I, H))
    x[..., 0] = h[..., 0] = 127  # so that a row's scale is 1
    w_ih, w_hh = (arrays[f"weight_{k}_l0"] * arrays[f"weight_{k}_l0_scale"][:, None] for k in ("ih", "hh"))
    y, _ = loaded(x, h)
    np.testing.assert_array_equal(y[0], np.maximum(x[0] @ w_ih.T + h[0] @ w_hh.T, 0))
    for token in range(I):
        y, _ = loaded(np.full((1, B), token))
        np.testing.assert_array_equal(y[0], np.maximum(np.tile(w_ih[:, token], (B, 1)), 0))


# --- what that takes


def bytes_kept(layer: fastrnn.Layer) -> int:
    """What is packed, and all arrays that the layer has."""
    kept = layer._weights
    arrays = kept._small if layer.weights != "float32" else layer.params
    return sum(p.nbytes for p in arrays.values()) + sum(packed.nbytes for packed in kept.kept.values())


def test_memory_that_is_kept() -> None:
    for family in FAMILIES:
        gates = max(1, len(GATES[family]))
        units = int((2**22 / gates) ** 0.5)  # of 32 MB of weights
        x = np.zeros((20, 2, units), F)
        layers = {w: LAYERS[family](units, units, seed=0).freeze(w) for w in ("float32", *FORMATS)}  # type: ignore[arg-type]
        for layer in layers.values():
            layer.eval()(x)
        whole = bytes_kept(layers["float32"])
        assert whole >= 2 * 4 * 2 * gates * units**2
        assert bytes_kept(layers["bfloat16"]) / whole < 0.3
        # Where no instruction multiplies bytes, packed integers have 16 bits.
        assert bytes_kept(layers["int8"]) / whole < (0.16 if fastrnn.isa() == "avx512" else 0.3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory on Linux only")
@each_format
def test_memory_of_the_process(weights: Any, tmp_path: Path) -> None:
    """Layers of 64 MB each as float32: no copy of a matrix as float32 stays, nor of any twice, however they come."""
    path = str(tmp_path / "layer.safetensors")
    run_code(
        f"""
import copy, ctypes, gc, os, pickle
import numpy as np
import fastrnn

if hasattr(ctypes.CDLL(None), "mallopt"):  # large arrays go back to the system as soon as they are gone
    ctypes.CDLL(None).mallopt(-3, 1 << 20)

def used():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

H = 1448
x = np.zeros((3, 1, H), np.float32)
layer = fastrnn.LSTM(H, H, seed=0)
fastrnn.LSTM(8, 8, seed=0).freeze({weights!r})(x[..., :8])
before = used()
layer.freeze({weights!r})
layer(x), layer.stream(1).step(x[0]), layer.state_dict()
fewer = before - used()
expected = 64 * (1 - {{"bfloat16": 1 / 2, "int8": 1 / 4 if fastrnn.isa() == "avx512" else 1 / 2}}[{weights!r}])
assert fewer > expected - 8, (fewer, expected)
layer.save({path!r})
for make in (copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), lambda layer: fastrnn.load({path!r})):
    before = used()
    other = make(layer)
    other(x), other.params["weight_hh_l0"]
    more = used() - before
    assert more < 64 - expected + 8, more
    del other
streams = []
before = used()
for _ in range(4):
    streams.append(layer.stream(1))
assert used() - before < 8, "streams have weights of their own"
"""
    )


# --- what they refuse


@pytest.mark.parametrize(
    ("words", "use"),
    [
        ("unfreeze", lambda layer, x: layer.unfreeze()),
        ("train", lambda layer, x: layer.train()),
        ("train", lambda layer, x: setattr(layer, "training", True)),
        ("record", lambda layer, x: layer.record(x)),
        ("load_state_dict", lambda layer, x: layer.load_state_dict(layer.state_dict())),
        ("params", lambda layer, x: layer.params.update(weight_hh_l0=layer.params["weight_hh_l0"])),
    ],
)
def test_what_is_refused(words: str, use: Callable[[Any, Array], Any]) -> None:
    for weights in FORMATS:
        layer = layer_of("lstm").freeze(weights)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=rf"LSTM\..*{words}.*frozen with {weights} weights"):
            use(layer, draw(T, B, I, dtype=F))
        assert layer.weights == weights
        assert not layer.training


@pytest.mark.parametrize("make", [fastrnn.Sequential, lambda *modules: fastrnn.Modules(a=modules[0], b=modules[1])])
def test_a_net_that_is_refused_to_train_stays_as_it_is(make: Callable[..., Any]) -> None:
    for weights in FORMATS:
        net = make(make(fastrnn.Dropout(0.5, seed=0), fastrnn.GRU(I, H, seed=0)), fastrnn.Linear(H, 3, seed=0)).eval()
        layer = next(module for _, module in net._leaves() if isinstance(module, fastrnn.GRU))
        layer.freeze(weights)
        for refused in (net.train, lambda net=net: setattr(net, "training", True)):
            with pytest.raises(ValueError, match=rf"GRU\.train.*frozen with {weights} weights"):
                refused()
            assert not net.training
            assert not any(module.training for _, module in net._leaves())
        with pytest.raises(ValueError, match=rf"GRU\.load_state_dict.*frozen with {weights} weights"):
            net.load_state_dict(net.state_dict())


@each_format
def test_a_frozen_layer_in_a_new_net(weights: Any) -> None:
    net = fastrnn.Sequential(fastrnn.GRU(I, H, seed=0).freeze(weights), fastrnn.Linear(H, 3, seed=0))
    x = draw(T, B, I, dtype=F)
    with pytest.raises(ValueError, match=r"in evaluation mode, eval\(\): .*docs/precision.md\); in module 0"):
        net(x)
    assert net.eval()(x).shape == (T, B, 3)


def test_layers_that_cannot_be_frozen_so() -> None:
    for weights in FORMATS:
        with pytest.raises(ValueError, match=f"weights is '{weights}', and the layer is float64, expected float32"):
            fastrnn.GRU(3, 4, dtype=np.float64).freeze(weights)  # type: ignore[arg-type]
    for module in (fastrnn.GRU(3, 4), fastrnn.Sequential(fastrnn.GRU(3, 4)), fastrnn.Sequential(fastrnn.Linear(3, 4))):
        with pytest.raises(ValueError, match="weights is 'int4', expected 'float32' or 'bfloat16' or 'int8'"):
            module.freeze("int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows of weight_ih_l0 have 131,073 numbers, expected at most 131,072"):
        fastrnn.RNN(2**17 + 1, 1).freeze("int8")


def test_files_that_are_not_as_they_say(tmp_path: Path) -> None:
    from fastrnn.files import save_arrays

    path = str(tmp_path / "layer.safetensors")
    layer = layer_of("gru").freeze("int8")
    arrays, description = dict(layer.params), layer._description()
    infinite, negative = (np.full(3 * H, value, F) for value in (np.inf, -1e-3))
    for change, words in (
        ({"weight_hh_l0_scale": infinite}, "weight_hh_l0_scale has a number that is no scale"),
        ({"weight_ih_l0_scale": negative}, "weight_ih_l0_scale has a number that is no scale"),
        ({"weight_hh_l0": arrays["weight_hh_l0"].astype(F)}, "weight_hh_l0: not as int8 weights"),
        ({"weight_hh_l0_scale": np.ones(2, F)}, "weight_hh_l0_scale: not as int8 weights"),
        ({"more": np.ones(2, F)}, "more: not as int8 weights"),
    ):
        save_arrays(path, {**arrays, **change}, description)
        with pytest.raises(ValueError, match=words):
            fastrnn.load(path)
    long = {"weight_ih_l0": np.full((1, 2**17 + 1), 127, np.int8), "weight_ih_l0_scale": np.ones(1, F)}
    long |= {"weight_hh_l0": np.full((1, 1), 127, np.int8), "weight_hh_l0_scale": np.ones(1, F)}
    options = {"input_size": 2**17 + 1, "hidden_size": 1, "bias": False}
    save_arrays(path, long, {"kind": "RNN", "options": options, "weights": "int8"})
    with pytest.raises(ValueError, match="rows of weight_ih_l0 have 131,073 numbers, expected at most 131,072"):
        fastrnn.load(path)
    save_arrays(path, arrays, {**description, "weights": "int4"})
    with pytest.raises(ValueError, match="weights is 'int4'"):
        fastrnn.load(path)
    save_arrays(path, layer_of("gru").state_dict(), {**description, "weights": "bfloat16"})
    with pytest.raises(ValueError, match="weight_hh_l0, weight_ih_l0: not as bfloat16 weights"):
        fastrnn.load(path)


def test_other_ways_out_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    for weights in FORMATS:
        layer = layer_of("lstm").freeze(weights)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"weights is {weights}"):
            fastrnn.to_onnx(layer, tmp_path / "layer.onnx")


@each_format
def test_files_are_nets_of_which_info_tells(weights: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "net.safetensors")
    layer = layer_of("lstm", num_layers=2).freeze(weights)
    count = sum(p.size for p in layer_of("lstm", num_layers=2).params.values())
    assert repr(layer) == f"LSTM({I}, {H}, num_layers=2).freeze(weights={weights!r})  # {count:,} parameters"
    net = fastrnn.Sequential(layer, fastrnn.Linear(H, 2, seed=0))
    assert f"{count:,} parameters" in repr(net)
    assert f"{count:,}" in net.summary()
    net.save(path)
    assert main(["info", path]) == 0
    told = f"LSTM({I}, {H}, 2)  # {count:,} parameters, of {weights}, for inference alone"
    assert told in capsys.readouterr().out
    x = draw(T, B, I, dtype=F)
    found = fastrnn.from_torch(path, "0")
    assert found.weights == weights
    np.testing.assert_array_equal(found(x)[0], layer(x)[0])
    whole = fastrnn.find_nets(path)[0].layer(weights="float32")
    assert whole.weights == "float32"
    np.testing.assert_array_equal(whole.freeze(weights)(x)[0], layer(x)[0])
    for given, kept_as in (([], weights), (["--weights", weights], weights)):
        assert main(["convert", path, str(tmp_path / "out.safetensors"), *given]) == 0
        assert fastrnn.load(str(tmp_path / "out.safetensors")).weights == kept_as
    assert main(["convert", path, str(tmp_path / "out.safetensors"), "--weights", "float32"]) != 0
    assert "there is no way back" in capsys.readouterr().err


@each_format
def test_files_go_into_layers_of_their_own_format(weights: Any, tmp_path: Path) -> None:
    path, other = str(tmp_path / "frozen.safetensors"), str(tmp_path / "float32.safetensors")
    layer = layer_of("gru").freeze(weights)
    layer.save(path)
    with pytest.raises(ValueError, match=rf"kept as {weights} in the file, and as float32 here: freeze\(weights="):
        layer_of("gru", seed=1).load(path)
    layer_of("gru").save(other)
    with pytest.raises(ValueError, match=f"kept as float32 in the file, and as {weights} here: make it anew"):
        layer.load(other)
    x = draw(T, B, I, dtype=F)
    again = fastrnn.GRU(I, H, seed=1).freeze(weights)
    again.load(path)
    np.testing.assert_array_equal(again(x)[0], layer(x)[0])


class Own(fastrnn.Modules):
    """A class of the user's own, with a layer and something else."""

    def __init__(self, seed: int) -> None:
        super().__init__(rnn=fastrnn.GRU(I, H, seed=seed), head=fastrnn.Linear(H, 2, seed=seed))


@each_format
def test_files_of_classes_of_ones_own(weights: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "own.safetensors")
    first, second = Own(0), Own(1)
    first.rnn.freeze(weights)
    first.save(path)
    with pytest.raises(ValueError, match="make it, freeze its layers so, and call its load"):
        fastrnn.load(path)
    before = second.state_dict()
    with pytest.raises(ValueError, match=f"module rnn: weights are kept as {weights} in the file"):
        second.load(path)
    for name, p in second.state_dict().items():
        np.testing.assert_array_equal(p, before[name])
    second.rnn.freeze(weights)
    second.load(path)
    for name, p in second.state_dict().items():
        np.testing.assert_array_equal(p, first.params[name])


@each_format
def test_threads_that_call_one_layer(weights: Any) -> None:
    """What one thread packs another may find, at any moment; in a process of its own, for it crashed."""
    run_code(
        f"""
import sys, threading
import numpy as np
import fastrnn

sys.setswitchinterval(1e-6)
fastrnn.set_num_threads(1)
x, wrong = np.ones((10, 2, 8), np.float32), []
for _ in range(20):
    layer = fastrnn.GRU(8, 16, seed=0).freeze({weights!r})
    right = fastrnn.GRU(8, 16, seed=0).freeze({weights!r})(x)[0]

    def work():
        for _ in range(100):
            try:
                if not np.array_equal(layer(x)[0], right):
                    wrong.append("other numbers")
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert not wrong, wrong[:3]
"""
    )


def test_what_the_core_refuses() -> None:
    w, scales = np.ones((H, I), np.int8), np.ones(H, F)
    w_hh = np.ones((H, H), np.int8)
    good = ["rnn_relu", "int8", w, scales, w_hh, scales, None, None, None]
    long = np.ones((1, 2**17 + 1), np.int8)
    one = np.ones((1, 1), np.int8), np.ones(1, F)
    for place, value, error, words in (
        (1, "float32", ValueError, "is 'float32', expected one of fewer bits"),
        (2, w.astype(np.uint8), TypeError, "w_ih has dtype uint8, expected a NumPy array of int8"),
        (2, w[0], ValueError, r"w_ih has shape \(\d,\), expected"),
        (2, w[1:], ValueError, "w_ih has shape"),
        (3, None, TypeError, "ih_scales is None"),
        (3, scales[1:], ValueError, "ih_scales has shape"),
        (4, w_hh[1:], ValueError, "w_hh has shape"),
        (4, None, TypeError, "w_hh is None"),
        (5, scales.astype(np.float64), TypeError, "hh_scales has dtype float64"),
        (6, scales[1:], ValueError, "b_ih has shape"),
        (8, scales, (TypeError, ValueError), "vectors"),
    ):
        given = [*good[:place], value, *good[place + 1 :]]
        with pytest.raises(error, match=words):
            _core.FormatWeights(*given)
    with pytest.raises(ValueError, match=r"I is 131073 .*expected at most 131072 with weights of int8"):
        _core.FormatWeights("rnn_relu", "int8", long, one[1], *one, None, None, None)
    kept, x = _core.FormatWeights(*good), np.ones((T, B, I), F)
    shapes = np.ones((H, I), F), np.ones((H, H), F)
    none = (None,) * 7
    with pytest.raises(ValueError, match="are those of rnn_relu, expected rnn_tanh"):
        _core.forward("rnn_tanh", False, True, kept, None, x, *shapes, *none)
    with pytest.raises(ValueError, match="other shapes than the weights that are kept"):
        _core.forward("rnn_relu", False, True, kept, None, x[..., 1:], shapes[0][:, 1:], shapes[1], *none)
    double = [a.astype(np.float64) for a in (x, *shapes)]
    with pytest.raises(ValueError, match="for x of float32"):
        _core.forward("rnn_relu", False, True, kept, None, *double, *none)
    layers = [(*shapes, *(None,) * 5, kept), (shapes[1], shapes[1], *(None,) * 6)]
    with pytest.raises(ValueError, match="weights of several formats"):
        _core.Stream("rnn_relu", None, layers, 1, False, H)


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    layer = layer_of("gru")
    with pytest.raises(ImportError, match="ml_dtypes"):
        layer.freeze("bfloat16")
    assert layer.weights == "float32"
    layer.freeze("int8")
