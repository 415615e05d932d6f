"""Modules, losses and optimisers: finite differences, PyTorch, files, and what they say of bad arguments."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Dropout, Embedding, Linear, Modules, _core, cross_entropy, mean_squared_error
from fastrnn.data import side_by_side, windows
from fastrnn.optim import SGD, Adam, clip_value
from problems import Array
from tolerances import output_tolerance


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def slope(f: Callable[[], float], at: Array, direction: Array, eps: float = 1e-6) -> float:
    """The derivative of f along a direction in which ``at``, an array that f uses, is moved."""
    before = at.copy()
    values = []
    for sign in (1, -1):
        at[...] = before + sign * eps * direction
        values.append(f())
    at[...] = before
    return (values[0] - values[1]) / (2 * eps)


# --- linear and embedding


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3), (0, 3), (2, 0, 3)])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    layer = Linear(3, 2, bias=bias, dtype=np.float64, seed=1)
    assert list(layer.params) == ["weight", "bias"][: 1 + bias]
    x = draw(*shape)
    y = layer(x)
    expected = np.einsum("...i,oi->...o", x, layer.params["weight"]) + layer.params.get("bias", 0)
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    dy = draw(*y.shape, seed=1)
    dx = layer.backward(dy)
    grads = dict(layer.grads)
    for at, got in [(x, dx), *((p, grads[name]) for name, p in layer.params.items())]:
        direction = draw(*at.shape, seed=2)
        expected_slope = slope(lambda: float((layer(x) * dy).sum()), at, direction)
        assert float((got * direction).sum()) == pytest.approx(expected_slope, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_of_few_rows(isa: str, bias: bool, dtype: type) -> None:
    for rows, inputs, outputs in itertools.product((0, 1, 2, 3, 4, 5, 8, 9), (0, 1, 7, 8, 9, 33), (0, 1, 7, 16, 17)):
        # Every second row and column, from the last on.
        x = draw(2 * rows, 2 * inputs).astype(dtype)[::-2, ::-2]
        weight = draw(2 * outputs, 2 * inputs, seed=1).astype(dtype)[::-2, ::-2]
        b = draw(2 * outputs, seed=2).astype(dtype)[::2] if bias else None
        y = _core.linear(x, weight, b)
        expected = x.astype(np.float64) @ weight.T + (0 if b is None else b)
        assert (y.shape, y.dtype) == ((rows, outputs), dtype)
        scale = output_tolerance(dtype, terms=inputs) * max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(y, expected, rtol=0, atol=scale)
        out = np.full_like(y, np.nan)
        assert _core.linear(x, weight, b, out) is out
        assert out.tobytes() == y.tobytes()
        if rows and inputs:
            x[0, 0] = np.nan  # stays in its row
            with_nan = _core.linear(x, weight, b)
            assert np.isnan(with_nan[0]).all()
            assert with_nan[1:].tobytes() == y[1:].tobytes()


def test_few_rows_are_as_good_as_many() -> None:
    layer = Linear(40, 30, seed=1)
    x = draw(20, 40).astype(np.float32)
    np.testing.assert_allclose(np.concatenate([layer(x[:3]), layer(x[3:])]), layer(x), rtol=0, atol=1e-5)


X, WEIGHT, BIAS = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.ones(4, np.float32)
SHARED = np.ones(8, np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, WEIGHT.tolist()), TypeError, "linear: weight is a list, expected a NumPy array of float32 or float64"),
        ((X.astype("d"), WEIGHT), TypeError, "linear: x has dtype float64, expected a NumPy array of float32"),
        ((None, WEIGHT), TypeError, "linear: x is None, expected"),
        ((X, WEIGHT, BIAS.astype("d")), TypeError, "linear: bias has dtype float64"),
        ((X[0], WEIGHT), ValueError, r"linear: x has shape \(3,\), expected \(B, I\)"),
        ((X[:, :2], WEIGHT), ValueError, r"linear: x has shape \(2, 2\), expected \(B, I\) = \(2, 3\)"),
        ((X, WEIGHT[0]), ValueError, r"linear: weight has shape \(3,\), expected \(O, I\)"),
        ((X, WEIGHT, BIAS[:3]), ValueError, r"linear: bias has shape \(3,\), expected \(O,\) = \(4,\)"),
        ((X, WEIGHT, BIAS, X), ValueError, r"linear: out has shape \(2, 3\), expected \(B, O\) = \(2, 4\)"),
        ((X, WEIGHT, BIAS, np.ones((4, 2), np.float32).T), ValueError, "linear: out is read-only or has gaps"),
        ((SHARED[:6].reshape(2, 3), WEIGHT, None, SHARED.reshape(2, 4)), ValueError, "out shares memory with an input"),
        ((X, WEIGHT, SHARED[::-2], SHARED.reshape(2, 4)), ValueError, "out shares memory with an input"),
    ],
)
def test_bad_arguments_of_linear(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.linear(*arguments)


def test_embedding() -> None:
    layer = Embedding(6, 4, dtype=np.float64, seed=1)
    tokens = np.array([[0, 5, 2], [2, 2, 0]], np.uint8)
    y = layer(tokens)
    assert np.array_equal(y, layer.params["weight"][tokens])
    dy = draw(2, 3, 4)
    layer.backward(dy)
    expected = np.zeros((6, 4))
    np.add.at(expected, tokens, dy)
    np.testing.assert_allclose(layer.grads["weight"], expected, rtol=1e-13)
    assert layer(np.zeros((3, 0), int)).shape == (3, 0, 4)
    layer.backward(np.zeros((3, 0, 4)))
    assert not layer.grads["weight"].any()


def test_dropout() -> None:
    layer = Dropout(0.25, seed=0)
    x = np.ones((100, 100), np.float32)
    y = layer(x)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y > 0).mean() - 0.75) < 0.02
    assert np.array_equal(layer.backward(x), y)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x


# --- losses


@pytest.mark.parametrize("masked", [False, True])
def test_losses_against_torch(masked: bool) -> None:
    torch = pytest.importorskip("torch")
    logits, targets, mask = draw(4, 3, 7), np.arange(12).reshape(4, 3) % 7, np.arange(12).reshape(4, 3) % 5 > 0
    rows = mask if masked else np.ones_like(mask)
    given = {"mask": mask} if masked else {}
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs[torch.tensor(rows)], torch.tensor(targets[rows]))
    loss.backward()
    ours, dlogits = cross_entropy(logits, targets, **given)
    assert ours == pytest.approx(loss.item(), rel=1e-13)
    np.testing.assert_allclose(dlogits, theirs.grad.numpy(), rtol=1e-12, atol=1e-16)

    target = draw(4, 3, 7, seed=1)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.mse_loss(theirs[torch.tensor(rows)], torch.tensor(target[rows]))
    loss.backward()
    ours, dy = mean_squared_error(logits, target, **given)
    assert ours == pytest.approx(loss.item(), rel=1e-13)
    np.testing.assert_allclose(dy, theirs.grad.numpy(), rtol=1e-12, atol=1e-16)


def test_cross_entropy_by_hand_and_at_the_edges() -> None:
    loss, dlogits = cross_entropy(np.log(np.array([[0.25, 0.75]], np.float32)), np.array([1]))
    assert loss == pytest.approx(-np.log(0.75), rel=1e-6)
    np.testing.assert_allclose(dlogits, [[0.25, -0.25]], rtol=1e-6)
    assert dlogits.dtype == np.float32
    loss, dlogits = cross_entropy(np.array([[1e30, -1e30]]), np.array([0]))
    assert loss == 0
    assert not dlogits.any()
    loss, dlogits = cross_entropy(np.zeros((0, 3)), np.zeros(0, int))
    assert loss == 0
    assert dlogits.shape == (0, 3)


@pytest.mark.parametrize("loss", [cross_entropy, mean_squared_error])
def test_what_is_masked_counts_nothing(loss: Any) -> None:
    y, mask = draw(3, 4, 5), np.ones((3, 4), bool)
    target = np.zeros((3, 4), int) if loss is cross_entropy else draw(3, 4, 5)
    mask[1, 2] = False
    y[1, 2] = np.nan
    value, dy = loss(y, target, mask=mask)
    assert np.isfinite(value)
    assert np.isfinite(dy).all()
    assert not dy[1, 2].any()


# --- optimisers


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_torch(momentum: float) -> None:
    torch = pytest.importorskip("torch")
    compare_optimisers(
        lambda params: SGD(params, 0.1, momentum=momentum),
        lambda params: torch.optim.SGD(params, 0.1, momentum=momentum),
    )


def test_adamw_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    compare_optimisers(
        lambda params: Adam(params, 0.01, weight_decay=0.1),
        lambda params: torch.optim.AdamW(params, 0.01, weight_decay=0.1),
    )


def compare_optimisers(make: Callable[[Any], Any], make_theirs: Callable[[Any], Any]) -> None:
    torch = pytest.importorskip("torch")
    params = {"w": draw(3, 4), "b": draw(3)}
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    optimiser, reference = make(params), make_theirs(theirs.values())
    for k in range(20):
        grads = {name: draw(*p.shape, seed=k) for name, p in params.items()}
        for name, grad in grads.items():
            theirs[name].grad = torch.tensor(grad)
        optimiser.step(grads)
        reference.step()
    for name, p in params.items():
        np.testing.assert_allclose(p, theirs[name].detach().numpy(), rtol=1e-12)


def test_clipping_by_value() -> None:
    grads = [np.array([3.0, -0.5]), np.array([[-4.0]])]
    clip_value(grads, 1.0)
    assert grads[0].tolist() == [1, -0.5]
    assert grads[1].tolist() == [[-1]]


# --- groups and files


def net(seed: int) -> Modules:
    rnn = fastrnn.LSTM(3, 4, 2, seed=seed)
    return Modules(rnn=rnn, decoder=Linear(4, 2, seed=seed))


def test_a_group_learns() -> None:
    """Whether a sequence has more ones than zeros: a loss that falls to nothing says that gradients fit together."""
    rnn, decoder = fastrnn.GRU(2, 16, seed=0), Linear(16, 2, seed=0)
    together = Modules(rnn=rnn, decoder=decoder)
    adam = Adam(together.params, 0.02)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(150):
        x = rng.integers(0, 2, (9, 32))
        y, _ = rnn(x)
        loss, dlogits = cross_entropy(decoder(y[-1]), (x.sum(axis=0) > 4).astype(int))
        dy = np.zeros_like(y)
        dy[-1] = decoder.backward(dlogits)
        rnn.backward(dy)
        adam.step(together.grads)
        losses.append(loss)
    assert np.mean(losses[-10:]) < 0.1 < 0.5 < losses[0]


def test_modes_reach_every_module() -> None:
    together = net(0)
    together.eval()
    assert not any(m.training for m in (together, *together._modules.values()))
    together.train()
    assert all(m.training for m in (together, *together._modules.values()))


def test_saved_and_loaded(tmp_path: Path) -> None:
    one, other = net(0), net(1)
    path = str(tmp_path / "net.safetensors")
    one.save(path)
    arrays = other.params
    other.load(path)
    assert list(one.params) == list(other.params)
    for name, p in one.params.items():
        assert np.array_equal(p, other.params[name])
        assert other.params[name] is arrays[name]  # an optimiser still has hold of them
    assert os.listdir(tmp_path) == ["net.safetensors"]
    with pytest.raises(ValueError, match=r"GRU\.load_state_dict: missing weight_ih_l0.* unexpected rnn"):
        fastrnn.GRU(3, 4).load(path)


def test_bad_files(tmp_path: Path) -> None:
    path = str(tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError):
        net(0).load(path)
    net(0).save(path)
    content = Path(path).read_bytes()
    for damaged in (b"", b"text", content[:-1], content[:20]):
        Path(path).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Modules\.load: .* is not a safetensors file, or damaged"):
            net(0).load(path)
    with pytest.raises(OSError, match="No such file"):
        net(0).save(str(tmp_path / "nowhere" / "net"))


# --- data


def test_streams_read_the_whole_sequence_in_order() -> None:
    sequence = np.arange(2 * 103).reshape(103, 2)
    streams = side_by_side(sequence, 4)
    assert streams.shape == (25, 4, 2)
    assert np.array_equal(streams.swapaxes(0, 1).reshape(100, 2), sequence[:100])
    seen = list(windows(streams, 7))
    assert [len(x) for x, _ in seen] == [7, 7, 7]
    for k, (x, following) in enumerate(seen):
        assert np.array_equal(x, streams[7 * k : 7 * k + 7])
        assert np.array_equal(following, x + 2)


# --- bad arguments


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Linear(3, 2, dtype=int), TypeError, "Linear: dtype is int64"),
        (lambda: Linear(3, 2)(draw(4, 3)), TypeError, "Linear: x is float64, the module is float32"),
        (lambda: Linear(3, 2)([1.0]), TypeError, "Linear: x is a list, expected a NumPy array"),
        (lambda: Linear(3, 2, dtype="d")(draw(4, 2)), ValueError, r"x has shape \(4, 2\), expected \(\.\.\., 3\)"),
        (lambda: Linear(3, 2).backward(draw(1, 2)), RuntimeError, r"Linear\.backward: there was no call"),
        (lambda: Embedding(3, 2)(draw(4)), TypeError, "Embedding: tokens is float64"),
        (lambda: Embedding(3, 2)(np.array([0, 3])), ValueError, "tokens has 0 to 3, expected 0 to 2"),
        (lambda: Embedding(3, 2)(np.array([-1])), ValueError, "tokens has -1 to -1"),
        (lambda: Dropout(1.5), ValueError, r"Dropout: p is 1\.5"),
        (lambda: cross_entropy(draw(2, 3), np.array([0])), ValueError, r"targets has shape \(1,\), expected \(2,\)"),
        (lambda: cross_entropy(draw(2, 3), draw(2)), TypeError, "targets is float64, expected integers"),
        (lambda: cross_entropy(draw(2, 3), np.array([0, 3])), ValueError, "targets has 0 to 3, expected 0 to 2"),
        (
            lambda: cross_entropy(draw(2, 3), np.array([0, 1]), mask=np.ones(2)),
            TypeError,
            "mask is float64, expected bool",
        ),
        (lambda: side_by_side(np.arange(3), 0), ValueError, "side_by_side: batch is 0"),
        (lambda: next(windows(np.arange(3), 0)), ValueError, "windows: steps is 0"),
        (lambda: mean_squared_error(draw(2, 3), draw(2)), ValueError, "target has shape"),
    ],
)
def test_bad_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
