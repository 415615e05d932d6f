"""Weights of int8 that are rounded for a sample of what they will be multiplied with."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn._layer.calibration import rounded_in_turn
from fastrnn._layer.formats import LARGEST, quantised
from layer_problems import LAYERS, B, H, I, T, draw, each_variant, parts
from problems import Array

F = np.float32
SETTINGS: list[dict[str, Any]] = [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}]
SETTINGS += [{"reverse": True}, {"num_layers": 2, "learn_state": True}]


def alike(*shape: int, seed: int = 0) -> Array:
    """Rows of numbers of which many follow from few, as those of a trained net do."""
    few = draw(*shape[:-1], 2, seed=seed) @ draw(2, shape[-1], seed=seed)
    return (few + draw(*shape, seed=seed) / 20).astype(F)


def off(w: Array, q: Array, scale: Array, rows: Array) -> float:
    """The mean square of what is wrong with products of rows and a matrix."""
    return float((((q * scale[:, None].astype(np.float64) - w) @ rows.T) ** 2).mean())


# --- the rounding


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 2), (5, 17), (40, 64), (7, 65), (33, 200)])
def test_products_are_nearer(m: int, n: int) -> None:
    w, rows = draw(m, n, dtype=F), alike(500, n).astype(np.float64)
    q, scale = quantised(w)
    found = rounded_in_turn(w, q, scale, rows.T @ rows)
    assert (found.dtype, found.shape) == (np.int8, w.shape)
    np.testing.assert_array_equal(found[np.abs(q) == LARGEST], q[np.abs(q) == LARGEST])
    assert np.abs(found).max() == LARGEST
    assert off(w, found, scale, rows) <= off(w, q, scale, rows) * (0.3 if n > 10 else 1)


def test_the_second_of_two_columns_makes_up_for_the_first() -> None:
    """With inputs that are the same number twice only the sum of a row counts: what 0.4 loses 0.4 has to have more."""
    w = np.array([[127, 0.4, 0.4, 0.1], [127, 3.4, -2.6, 0.3]], F)
    q, scale = quantised(w)
    same = np.zeros((4, 4))
    same[1:3, 1:3] = 1
    found = rounded_in_turn(w, q, scale, same)
    np.testing.assert_array_equal(q, [[127, 0, 0, 0], [127, 3, -3, 0]])
    np.testing.assert_array_equal(found, [[127, 0, 1, 0], [127, 3, -2, 0]])


def test_the_largest_inputs_come_first() -> None:
    """What they lose small ones may make up for, in many small steps; not the other way round."""
    w = np.array([[127, 0.4, 0.3]], F)
    q, scale = quantised(w)
    squares = np.array([[0, 0, 0], [0, 1, 10], [0, 10, 100.0]])
    np.testing.assert_array_equal(rounded_in_turn(w, q, scale, squares), [[127, 3, 0]])
    order = [2, 0, 1]
    w = w[:, order]
    found = rounded_in_turn(w, *quantised(w), squares[np.ix_(order, order)])
    np.testing.assert_array_equal(found, [[0, 127, 3]])


def test_numbers_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest() -> None:
    w = draw(20, 30, dtype=F)
    q, scale = quantised(w)
    np.testing.assert_array_equal(rounded_in_turn(w, q, scale, np.diag(np.arange(30.0))), q)
    np.testing.assert_array_equal(rounded_in_turn(w, q, scale, np.zeros((30, 30))), q)
    np.testing.assert_array_equal(rounded_in_turn(w[:, :0], q[:, :0], scale, np.zeros((0, 0))), q[:, :0])


def test_rows_of_zeros_and_of_what_is_no_number_stay_so() -> None:
    w, rows = draw(6, 9, dtype=F), alike(100, 9).astype(np.float64)
    alone = rounded_in_turn(w, *quantised(w), rows.T @ rows)
    w[1], w[2, 3], w[4, 5], w[5] = 0, np.nan, np.inf, 1e-45
    q, scale = quantised(w)
    found = rounded_in_turn(w, q, scale, rows.T @ rows)
    np.testing.assert_array_equal(found[[1, 2, 4, 5]], q[[1, 2, 4, 5]])
    np.testing.assert_array_equal(found[[0, 3]], alone[[0, 3]])


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_how_large_inputs_are_does_not_matter(size: float) -> None:
    w, rows = draw(6, 40, dtype=F), alike(100, 40).astype(np.float64)
    q, scale = quantised(w)
    expected = rounded_in_turn(w, q, scale, rows.T @ rows)
    np.testing.assert_array_equal(rounded_in_turn(w, q, scale, (size * rows).T @ (size * rows)), expected)


# --- layers


def operands(layer: fastrnn.Layer, x: Array, options: dict[str, Any]) -> Iterator[tuple[str, slice, Array]]:
    """Each matrix, which of its rows, and what these are multiplied with, step by step."""
    layer(x, trace=True)
    axes = (1, 0, 2) if layer.batch_first else (0, 1, 2)
    trace = {name: a.transpose(axes) for name, a in layer.trace.items()}
    rows = x.transpose(axes) if x.dtype == F else None
    for k in range(layer.num_layers):
        for direction in ("", "_reverse")[: 1 + layer.bidirectional]:
            suffix = f"_l{k}{direction}"
            if rows is not None:
                yield "weight_ih" + suffix, slice(None), rows.reshape(-1, rows.shape[-1])
            if f"weight_hh{suffix}" not in layer.params or layer.params[f"weight_hh{suffix}"].ndim == 1:
                continue
            steps = range(T)[::-1] if direction or layer._spec.from_end[0] else range(T)
            h = [trace["h" + suffix][t] for t in steps[:-1]]
            if options.get("reset_after", True):
                yield "weight_hh" + suffix, slice(None), np.concatenate(h)
            else:
                reset = [trace["r" + suffix][t] * before for t, before in zip(steps[1:], h, strict=True)]
                yield "weight_hh" + suffix, slice(0, 2 * H), np.concatenate(h)
                yield "weight_hh" + suffix, slice(2 * H, 3 * H), np.concatenate(reset)
        directions = [trace[f"h_l{k}{d}"] for d in ("", "_reverse")[: 1 + layer.bidirectional]]
        rows = np.concatenate(directions, axis=2)


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@each_variant
def test_layers_of_every_kind(family: str, options: dict[str, Any], tokens: bool) -> None:
    for setting in SETTINGS:
        layer = LAYERS[family](I, H, seed=0, **options, **setting)
        shape = (B, T) if layer.batch_first else (T, B)
        x = np.random.default_rng(1).integers(0, I, shape) if tokens else alike(*shape, I)
        plain = copy.copy(layer).freeze("int8").params
        expected = {name: p.copy() for name, p in plain.items()}
        for name, rows, before in operands(copy.copy(layer).eval(), x, options):
            before = before.astype(np.float64)
            w, q, scale = layer.params[name][rows], plain[name][rows], plain[name + "_scale"][rows]
            expected[name][rows] = rounded_in_turn(w, q, scale, before.T @ before)
        assert layer.freeze("int8", calibrate=x) is layer
        assert (layer.weights, layer.training) == ("int8", False)
        assert list(layer.params) == list(plain)
        for name, p in layer.params.items():
            assert not p.flags.writeable
            if p.dtype == np.int8:  # the last bit of a sum may decide which of two is nearer
                assert (p != expected[name]).mean() < 0.02, name
            else:
                np.testing.assert_array_equal(p, plain[name], err_msg=name)
        changed = [name for name, p in layer.params.items() if not np.array_equal(p, plain[name])]
        recurrent = family not in ("indrnn", "mingru")
        assert bool(changed) == (recurrent or not tokens or layer.num_layers > 1)
        assert not any(name.startswith("weight_ih_l0") for name in changed) or not tokens


@pytest.mark.parametrize("family", ["rnn", "lstm", "gru"])
def test_outputs_are_nearer(family: str) -> None:
    layer = LAYERS[family](24, 48, 2, seed=0).eval()
    for name, p in layer.params.items():
        if name.startswith("weight"):
            p[...] += draw(len(p), 1, seed=len(name)) * draw(1, p.shape[1], seed=1) / 4
    x, other = alike(400, 4, 24), alike(400, 4, 24, seed=0)[::-1]
    right, _ = layer(other)
    errors = []
    for calibrate in (None, x):
        y, _ = copy.copy(layer).freeze("int8", calibrate=calibrate)(other)
        errors.append(np.abs(y - right).mean())
    assert errors[1] < 0.9 * errors[0]


def test_the_integers_are_those_that_are_multiplied(tmp_path: Path) -> None:
    """A layer of the numbers that they stand for has the same; files, copies and pickles too."""
    x = alike(T, B, I)
    for family in ("rnn", "lstm", "gru"):
        layer = LAYERS[family](I, H, seed=0).freeze("int8", calibrate=x)
        y, _ = layer(x)
        again = LAYERS[family](I, H, seed=1)
        for name, p in again.params.items():
            kept = layer.params[name]
            p[...] = kept * layer.params[name + "_scale"][:, None] if kept.dtype == np.int8 else kept
        again.freeze("int8")
        path = str(tmp_path / "layer.safetensors")
        layer.save(path)
        for other in (again, fastrnn.load(path), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
            for name, p in layer.params.items():
                np.testing.assert_allclose(other.params[name], p, rtol=1e-6)
            np.testing.assert_allclose(other(x)[0], y, rtol=0, atol=1e-6)


def test_layers_of_a_net() -> None:
    net = fastrnn.Sequential(fastrnn.Embedding(20, I, seed=0), fastrnn.GRU(I, H, seed=0), fastrnn.Linear(H, 3, seed=0))
    tokens = np.random.default_rng(0).integers(0, 20, (T, B))
    net[1].freeze("int8", calibrate=net[0](tokens))
    assert net.eval()(tokens).shape == (T, B, 3)


def test_samples_too_short_to_tell_anything() -> None:
    for shape in ((0, B, I), (T, 0, I), (0, I)):
        layer = fastrnn.LSTM(I, H, seed=0)
        with pytest.raises(ValueError, match="calibrate has no steps, expected some thousand"):
            layer.freeze("int8", calibrate=np.ones(shape, F))
        assert layer.weights == "float32"
    layer = fastrnn.LSTM(I, H, seed=0)
    plain = copy.copy(layer).freeze("int8")
    layer.freeze("int8", calibrate=alike(1, B, I))  # one step, before which h is zero
    np.testing.assert_array_equal(layer.params["weight_hh_l0"], plain.params["weight_hh_l0"])
    assert not np.array_equal(layer.params["weight_ih_l0"], plain.params["weight_ih_l0"])


def test_a_sequence_alone_and_in_a_batch() -> None:
    x = alike(T, I)
    one, batch = (fastrnn.GRU(I, H, batch_first=b, seed=0).freeze("int8", calibrate=x) for b in (False, True))
    rows = fastrnn.GRU(I, H, seed=0).freeze("int8", calibrate=x[:, None])
    for name, p in one.params.items():
        np.testing.assert_array_equal(batch.params[name], p)
        np.testing.assert_array_equal(rows.params[name], p)


def test_in_training_mode_with_all_that_is_random() -> None:
    options: dict[str, Any] = {"dropout": 0.5, "recurrent_dropout": 0.5, "zoneout": 0.2}
    x = alike(T, B, I)
    training, evaluation = (fastrnn.LSTM(I, H, 2, seed=0, **options) for _ in range(2))
    training.freeze("int8", calibrate=x)
    evaluation.eval().freeze("int8", calibrate=x)
    for name, p in training.params.items():
        np.testing.assert_array_equal(evaluation.params[name], p)


@pytest.mark.parametrize(
    ("calibrate", "kind", "words"),
    [
        (np.ones((T, B, I + 1), F), ValueError, "x has shape"),
        (np.ones(I, F), ValueError, "x has shape"),
        (np.ones((T, B, I)), TypeError, "float64"),
        ([[1.0]], TypeError, "list"),
        (np.full((T, B), I), ValueError, "token"),
        (np.full((T, B, I), np.nan, F), ValueError, "weight_ih_l0 multiplied with numbers that are not finite"),
        (np.full((T, B, I), np.inf, F), ValueError, "weight_ih_l0 multiplied with numbers that are not finite"),
    ],
)
def test_what_is_no_sample(calibrate: Any, kind: type[Exception], words: str) -> None:
    for family, training in itertools.product(("rnn", "lstm", "gru"), (True, False)):
        layer = LAYERS[family](I, H, seed=0)
        layer.train(training)
        before = layer.state_dict()
        with pytest.raises(kind, match=rf"^{layer._name}\.freeze: calibrate.*{words}") as caught:
            layer.freeze("int8", calibrate=calibrate)
        assert len(str(caught.value).splitlines()) == 1
        assert (layer.weights, layer.training) == ("float32", training)
        for name, p in layer.params.items():
            assert p.flags.writeable
            np.testing.assert_array_equal(p, before[name])


def test_states_that_grow_without_end() -> None:
    layer = fastrnn.RNN(I, H, nonlinearity="relu", seed=0)
    layer.params["weight_hh_l0"][...] = 1e30
    with pytest.raises(
        ValueError, match=r"RNN\.freeze: calibrate has weight_hh_l0 multiplied with numbers that are not"
    ):
        layer.freeze("int8", calibrate=np.ones((T, B, I), F))


def test_formats_that_have_nothing_to_calibrate() -> None:
    x = alike(T, B, I)
    for weights in ("float32", "bfloat16"):
        with pytest.raises(ValueError, match=rf"calibrate is for .* here they are float32, to be {weights}"):
            fastrnn.GRU(I, H).freeze(weights, calibrate=x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"calibrate is for .* here they are int8, to be int8"):
        fastrnn.GRU(I, H).freeze("int8").freeze("int8", calibrate=x)
    assert parts(fastrnn.GRU(I, H).freeze("int8").freeze("int8")(x)[1])[0].shape == (1, B, H)
