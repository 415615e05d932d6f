"""Initial states that are parameters, and layers that read from the end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.optim import SGD
from layer_problems import LAYERS, LENGTHS, B, H, I, T, draw, each_family, each_variant, parts, state_like
from problems import Array


def learning(family: str, options: dict[str, Any], layers: int = 2, **made: Any) -> fastrnn.Layer:
    """A layer whose initial states are not zeros any more."""
    layer = LAYERS[family](I, H, layers, learn_state=True, dtype=np.float64, seed=1, **made, **options)
    for n, (name, p) in enumerate(layer.params.items()):
        if name[1:].startswith("_0_"):
            p[...] = draw(*p.shape, seed=n)
    return layer


def given_states(layer: fastrnn.Layer, batch: int = B) -> Any:
    """The learned states as a caller would give them."""
    suffixes = [suffix for of_layer in layer._spec.suffixes for suffix in of_layer]
    states = tuple(
        np.stack([np.broadcast_to(layer.params[f"{s}_0{suffix}"], (batch, units)) for suffix in suffixes])
        for s, units in zip("hc", layer._spec.state_sizes, strict=False)
    )
    return states if len(states) == 2 else states[0]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["same", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True])
@each_variant
def test_learned_states(family: str, options: dict[str, Any], bidirectional: bool, lengths: Any) -> None:
    layer = learning(family, options, bidirectional=bidirectional)
    x, dstate = draw(T, B, I), state_like(layer, seed=5)
    call, other = layer.record(x, lengths=lengths), layer.record(x, given_states(layer), lengths=lengths)
    assert np.array_equal(call.y, other.y)
    dy = draw(*call.y.shape, seed=3)
    got, expected = call.backward(dy, dstate), other.backward(dy, dstate)
    for a, b in zip(parts(call.state) + parts(got.dstate), parts(other.state) + parts(expected.dstate), strict=True):
        assert np.array_equal(a, b)
    assert list(got.grads) == list(layer.params)
    suffixes = [suffix for of_layer in layer._spec.suffixes for suffix in of_layer]
    for s, d in zip("hc", parts(got.dstate), strict=False):
        for place, suffix in enumerate(suffixes):
            name = f"{s}_0{suffix}"
            np.testing.assert_allclose(got.grads[name], d[place].sum(axis=0), rtol=0, atol=1e-13)
            assert not expected.grads[name].any()  # an explicit state takes its place
    for name, g in expected.grads.items():
        if not name[1:].startswith("_0_"):
            assert np.array_equal(got.grads[name], g)


def test_one_of_two_states_given() -> None:
    layer = learning("lstm", {})
    x, (h, c) = draw(T, B, I), given_states(layer)
    call = layer.record(x, (2 * h, None))
    assert np.array_equal(call.y, layer.record(x, (2 * h, c)).y)
    grads = call.backward(call.y).grads
    assert not grads["h_0_l0"].any()
    assert grads["c_0_l0"].any()


@pytest.mark.parametrize("recompute", [False, True])
@each_family
def test_finite_differences_and_computing_again(family: str, recompute: bool) -> None:
    layer = learning(family, {})
    x = draw(300, B, I)
    call = layer.record(x, recompute=recompute)
    assert (len(call.parts) > 1) is recompute
    dy = np.zeros_like(call.y)
    dy[:3] = draw(3, B, H, seed=3)
    grads = call.backward(dy).grads
    for name in (name for name in layer.params if name[1:].startswith("_0_")):
        p, direction, eps = layer.params[name], draw(H, seed=8), 1e-6
        before = p.copy()
        totals = []
        for side in (1, -1):
            p[...] = before + side * eps * direction
            totals.append(float((layer.record(x).y * dy).sum()))
        p[...] = before
        assert float(grads[name] @ direction) == pytest.approx((totals[0] - totals[1]) / (2 * eps), rel=1e-6, abs=1e-9)


@each_variant
def test_streams_begin_with_them(family: str, options: dict[str, Any]) -> None:
    layer = learning(family, options).eval()
    x = draw(T, B, I)
    y, _ = layer(x)
    stream = layer.stream(B)
    for a, b in zip(parts(stream.state), parts(given_states(layer)), strict=True):
        assert np.array_equal(a, b)
    for t in range(T):
        assert np.array_equal(stream.step(x[t]), y[t])
    done = np.array([True, False, True, False, False])
    middle = stream.state
    other = stream.copy()
    other.reset(done)
    for a, now, begun in zip(parts(other.state), parts(middle), parts(given_states(layer)), strict=True):
        assert np.array_equal(a[:, done], begun[:, done])
        assert np.array_equal(a[:, ~done], now[:, ~done])
    other.reset()
    assert np.array_equal(other.step(x[0]), y[0])
    stream.state = None
    assert np.array_equal(stream.step(x[0]), y[0])
    if len(parts(middle)) == 2:
        stream.state = (None, parts(middle)[1])
        assert np.array_equal(parts(stream.state)[0], parts(given_states(layer))[0])
        assert np.array_equal(parts(stream.state)[1], parts(middle)[1])
    before = layer.stream(B)
    for name, p in layer.params.items():
        if name[1:].startswith("_0_"):
            p[...] = 0
    before.reset()  # a stream has what its layer had when it was made
    assert np.array_equal(before.step(x[0]), y[0])


def test_they_are_parameters(tmp_path: Path) -> None:
    layer = fastrnn.LSTM(I, H, 2, bidirectional=True, proj_size=5, learn_state=True, seed=0)
    shapes = {name: p.shape for name, p in layer.params.items() if name[1:].startswith("_0_")}
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert shapes == {f"{s}_0{suffix}": (n,) for suffix in suffixes for s, n in (("h", 5), ("c", H))}
    assert not any(layer.params[name].any() for name in shapes)
    plain = fastrnn.LSTM(I, H, 2, bidirectional=True, proj_size=5, seed=0)
    assert all(np.array_equal(layer.params[name], p) for name, p in plain.params.items())
    x = draw(T, B, I, dtype=np.float32)
    y, _ = layer(x)
    layer.backward(y)
    SGD(layer.params, lr=0.1).step(layer.grads)
    assert all(layer.params[name].any() for name in shapes)
    path = str(tmp_path / "layer.safetensors")
    layer.save(path)
    again = fastrnn.LSTM(I, H, 2, bidirectional=True, proj_size=5, learn_state=True)
    again.load(path)
    assert np.array_equal(again(x)[0], layer(x)[0])
    with pytest.raises(ValueError, match="unexpected h_0_l0"):
        plain.load(path)
    assert np.array_equal(copy.deepcopy(layer)(x)[0], layer(x)[0])
    frozen = copy.deepcopy(layer).freeze()
    assert np.array_equal(frozen(x)[0], layer(x)[0])
    assert repr(layer).startswith(f"LSTM({I}, {H}, num_layers=2, proj_size=5, bidirectional=True, learn_state=True)")
    with pytest.raises(TypeError, match="LSTM: learn_state is 1, expected a bool"):
        fastrnn.LSTM(2, 3, learn_state=1)  # type: ignore[arg-type]


# --- from the end


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("batch_first", [False, True])
@each_variant
def test_reverse_is_the_other_direction(family: str, options: dict[str, Any], batch_first: bool, tokens: bool) -> None:
    """The second half of a bidirectional layer, lengths included, bit for bit."""
    made = {"batch_first": batch_first, "dtype": np.float64, **options}
    layer = LAYERS[family](I, H, reverse=True, seed=1, **made)
    both = LAYERS[family](I, H, bidirectional=True, seed=2, **made)
    for name, p in layer.params.items():
        both.params[name + "_reverse"][...] = p
    x = np.random.default_rng(0).integers(0, I, (T, B)) if tokens else draw(T, B, I)
    P = layer._spec.state_sizes[0]
    dy = draw(T, B, 2 * P, seed=3)
    dy[..., :P] = 0

    def axes(a: Array) -> Array:
        return a.swapaxes(0, 1) if batch_first else a

    for lengths in (None, LENGTHS):
        call, of_both = (each.record(axes(x), lengths=lengths) for each in (layer, both))
        assert np.array_equal(call.y, of_both.y[..., P:])
        got, expected = call.backward(axes(dy[..., P:])), of_both.backward(axes(dy))
        for a, b in zip(
            parts(call.state) + parts(got.dstate), parts(of_both.state) + parts(expected.dstate), strict=True
        ):
            assert np.array_equal(a[0], b[1])
        if got.dx is not None:
            assert expected.dx is not None
            np.testing.assert_array_equal(got.dx, expected.dx)
        for name, g in got.grads.items():
            assert np.array_equal(g, expected.grads[name + "_reverse"])
        last, _ = layer(axes(x), lengths=lengths, return_sequence=False)
        assert np.array_equal(last, parts(call.state)[0][0])
        if lengths is None:
            assert np.array_equal(last, axes(call.y)[0])
    traced = layer.eval()(axes(x), lengths=LENGTHS, trace=True)[0]
    assert np.array_equal(layer.trace["h_l0"], traced)


@pytest.mark.parametrize("lengths", [None, LENGTHS * 30], ids=["same", "lengths"])
@each_family
def test_computing_again_from_the_end(family: str, lengths: Any) -> None:
    layer = LAYERS[family](I, H, 2, reverse=True, dtype=np.float64, seed=0)
    x, state = draw(T * 30, B, I), state_like(layer)
    dy = draw(T * 30, B, H, seed=3)
    one, several = (layer.record(x, state, lengths=lengths, recompute=r) for r in (False, True))
    assert len(several.parts) > 1
    assert np.array_equal(one.y, several.y)
    a, b = one.backward(dy, state), several.backward(dy, state)
    for left, right in zip(parts(one.state) + parts(a.dstate), parts(several.state) + parts(b.dstate), strict=True):
        np.testing.assert_allclose(right, left, rtol=0, atol=1e-13)
    for name, g in {**a.grads, "x": a.dx}.items():
        np.testing.assert_allclose({**b.grads, "x": b.dx}[name], g, rtol=0, atol=1e-11)


@pytest.mark.parametrize("noise", [{"dropout": 0.4}, {"zoneout": 0.3}, {"recurrent_dropout": 0.3}], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@each_family
def test_computing_again_draws_the_same(family: str, reverse: bool, noise: dict[str, float]) -> None:
    layer = LAYERS[family](I, H, 2, reverse=reverse, dtype=np.float64, seed=0, **noise)
    x = draw(T * 30, B, I)
    ys = []
    for recompute in (False, True):
        layer.rng = np.random.default_rng(3)
        call = layer.record(x, recompute=recompute)
        assert (len(call.parts) > 1) is recompute
        ys.append(call.y)
    assert np.array_equal(*ys)


def test_what_reverse_cannot() -> None:
    with pytest.raises(ValueError, match=r"LSTM\.stream: a layer with reverse=True needs the whole sequence"):
        fastrnn.LSTM(2, 3, reverse=True).stream()
    with pytest.raises(ValueError, match="GRU: reverse does not go together with bidirectional"):
        fastrnn.GRU(2, 3, reverse=True, bidirectional=True)
    with pytest.raises(TypeError, match="RNN: reverse is 1, expected a bool"):
        fastrnn.RNN(2, 3, reverse=1)  # type: ignore[arg-type]
