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
from isolated import run_code
from layer_problems import (
    FAMILIES,
    GATES,
    LAYERS,
    LENGTHS,
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
    for family in FAMILIES:
        layer = LAYERS[family](inputs, units, seed=0).freeze(weights)
        x = draw(20, rows, inputs, dtype=F)
        set_threads(1)
        expected, _ = layer(x)
        for threads in (2, 3, 4):
            set_threads(threads)
            for _ in range(5):
                np.testing.assert_array_equal(layer(x)[0], expected)
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


def test_one_weight_is_packed_anew_after_another_instruction_set() -> None:
    """What has been packed may be gone when a call begins, which knows by then what shapes the weights have."""
    x = draw(T, B, 1, dtype=F)
    before = fastrnn.isa()
    for weights in FORMATS:
        layer = fastrnn.RNN(1, 1, seed=0).freeze(weights)  # type: ignore[arg-type]
        right, _ = layer(x)
        known, kept = layer._weights.known("_l0"), layer._weights.kept["_l0"]
        for isa in fastrnn.available_isas():
            try:
                _core.set_isa(isa)
                y, *_ = _core.forward("rnn_tanh", False, True, kept, None, x, *known[:4], None, None, None, None, None)
            finally:
                _core.set_isa(before)
            np.testing.assert_allclose(y, right, rtol=0, atol=1e-6)


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
def test_weights_that_are_written_to_nonetheless(weights: Any) -> None:
    layer = layer_of("gru").freeze(weights)
    x = draw(T, B, I, dtype=F)
    before, _ = layer(x)
    w = layer.params["weight_hh_l0"]
    w.flags.writeable = True
    w[...] = w[::-1].copy()
    changed, _ = layer(x)
    assert not np.array_equal(changed, before)
    np.testing.assert_array_equal(copy.copy(layer)(x)[0], changed)


def test_another_instruction_set_packs_anew() -> None:
    before = fastrnn.isa()
    x = draw(T, B, I, dtype=F)
    for weights in FORMATS:
        layer = layer_of("lstm").freeze(weights)
        try:
            for isa in (*fastrnn.available_isas(), before):
                _core.set_isa(isa)
                np.testing.assert_array_equal(layer(x)[0], layer_of("lstm").freeze(weights)(x)[0])
        finally:
            _core.set_isa(before)


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
    with pytest.raises(ValueError, match="in evaluation mode: use the layer that they were made of; in module 0"):
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
    spoilt = arrays["weight_hh_l0"].copy()
    spoilt[2] = np.arange(H)
    for change, words in (
        ({"weight_hh_l0": spoilt}, "a row whose largest integer is not 127"),
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
    with pytest.raises(ValueError, match="numbers that bfloat16 has not"):
        fastrnn.load(path)


def test_other_ways_out_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    for weights in FORMATS:
        layer = layer_of("lstm").freeze(weights)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"weights is {weights}"):
            fastrnn.to_onnx(layer, tmp_path / "layer.onnx")
        layer.save(str(tmp_path / "layer.safetensors"))
        with pytest.raises(
            ValueError, match=f"its weights are of {weights}, for inference alone: fastrnn.load reads it"
        ):
            fastrnn.from_torch(tmp_path / "layer.safetensors")
    layer = layer_of("lstm").freeze("int8")
    layer.save(str(tmp_path / "layer.safetensors"))


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


def test_rows_whose_sums_would_not_fit() -> None:
    w = np.ones((1, 2**17 + 1), F)
    kept = _core.KeptWeights(True, "int8")
    none = (None,) * 7
    with pytest.raises(ValueError, match=r"I is 131073 .*expected at most 131072 with weights of int8"):
        _core.forward("rnn_relu", False, True, kept, None, np.ones((1, 1, 2**17 + 1), F), w, np.ones((1, 1), F), *none)


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    layer = layer_of("gru")
    with pytest.raises(ImportError, match="ml_dtypes"):
        layer.freeze("bfloat16")
    assert layer.weights == "float32"
    layer.freeze("int8")
