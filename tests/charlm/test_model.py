"""The whole model: its loss, its gradients, its single steps."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from fastrnn.charlm.model import CharModel, weight_shapes
from fastrnn.charlm.settings import CELLS, Settings
from fastrnn.layers import State

T, B, V, H = 4, 3, 7, 5
SETTINGS = [
    Settings(cell=cell, hidden=H, layers=layers, dropout=dropout, seed=2)
    for cell in CELLS
    for layers, dropout in ((1, 0.0), (2, 0.0), (3, 0.25))
]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.cell}-{s.layers}-{s.dropout}")


def problem(settings: Settings, dtype: Any = np.float64) -> tuple[CharModel, Any, Any, State]:
    rng = np.random.default_rng(3)
    model = CharModel(settings, V, dtype)
    tokens = rng.integers(0, V, (T + 1, B)).astype(np.uint8)
    state = tuple(rng.normal(size=(settings.layers, B, H)).astype(dtype) for _ in range(model.rnn._family.states))
    return model, tokens[:-1], tokens[1:], state if len(state) > 1 else state[0]


def fixed() -> np.random.Generator:
    """Dropout draws the same from it every time."""
    return np.random.default_rng(6)


@each_setting
def test_gradients_by_finite_differences(settings: Settings) -> None:
    model, tokens, targets, state = problem(settings)
    loss, _ = model.gradients(tokens, targets, state, fixed())
    grads = model.grads
    if not settings.dropout:
        assert loss == pytest.approx(model.loss(tokens, targets, state)[0], rel=1e-13)
    assert grads.keys() == model.params.keys()
    step = 1e-5
    rng = np.random.default_rng(1)
    for name, weight in model.params.items():
        assert grads[name].shape == weight.shape
        for flat in rng.choice(weight.size, min(weight.size, 20), replace=False):
            index = np.unravel_index(flat, weight.shape)
            before = weight[index]
            weight[index] = before + step
            above = model.gradients(tokens, targets, state, fixed())[0]
            weight[index] = before - step
            below = model.gradients(tokens, targets, state, fixed())[0]
            weight[index] = before
            # The error of a central difference is of order step**2, and rounding adds eps / step.
            assert grads[name][index] == pytest.approx((above - below) / (2 * step), abs=1e-9), (name, index)


@each_setting
def test_reading_on_agrees_with_the_sequence(settings: Settings) -> None:
    model, tokens, targets, _ = problem(settings)
    expected, _ = model.loss(tokens, targets)
    read = model.reader(B)
    total = 0.0
    for t in range(T):
        logits = read(tokens[t])
        shifted = logits - logits.max(axis=1, keepdims=True)
        total -= (shifted[np.arange(B), targets[t]] - np.log(np.exp(shifted).sum(axis=1))).sum()
    assert total / (T * B) == pytest.approx(expected, rel=1e-12)


def test_loss_in_blocks_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens, targets, state = problem(Settings(cell="gru", hidden=H))
    whole = model.loss(tokens, targets, state)[0]
    monkeypatch.setattr("fastrnn.charlm.model.EVALUATION_ROWS", 3 * B)
    assert model.loss(tokens, targets, state)[0] == pytest.approx(whole, rel=1e-13)


def test_huge_logits_do_not_overflow() -> None:
    model, tokens, targets, state = problem(Settings(cell="rnn", hidden=H), np.float32)
    model.params["decoder.bias"][:] = np.linspace(-3e4, 3e4, V)
    loss, _ = model.gradients(tokens, targets, state, fixed())
    assert np.isfinite(loss)
    assert all(np.isfinite(grad).all() for grad in model.grads.values())


@each_setting
def test_initial_weights(settings: Settings) -> None:
    weights = CharModel(settings, V).params
    assert {name: weight.shape for name, weight in weights.items()} == weight_shapes(settings, V)
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.float32)}
    again = CharModel(settings, V).params
    other = CharModel(dataclasses.replace(settings, seed=1), V).params
    for name, weight in weights.items():
        assert (weight == again[name]).all()
        assert (weight != other[name]).any()
    if settings.cell == "lstm":
        assert (weights["rnn.bias_ih_l0"].reshape(4, H).mean(axis=1) > 0.5).tolist() == [False, True, False, False]


@pytest.mark.parametrize("settings", [s for s in SETTINGS if not s.dropout], ids=lambda s: f"{s.cell}-{s.layers}")
def test_torch_takes_the_weights_and_agrees(settings: Settings) -> None:
    torch = pytest.importorskip("torch")
    model, tokens, targets, state = problem(settings)
    net = torch.nn.ModuleDict(
        {
            "rnn": getattr(torch.nn, settings.cell.upper())(V, H, settings.layers).double(),
            "decoder": torch.nn.Linear(H, V).double(),
        }
    )
    net.load_state_dict({name: torch.from_numpy(weight) for name, weight in model.params.items()})

    one_hot = torch.nn.functional.one_hot(torch.from_numpy(tokens).long(), V).double()
    given = tuple(map(torch.from_numpy, state)) if isinstance(state, tuple) else torch.from_numpy(state)
    y, _ = net["rnn"](one_hot, given)
    logits = net["decoder"](y)
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(targets).long().reshape(-1))
    loss.backward()

    ours, _ = model.gradients(tokens, targets, state, fixed())
    assert ours == pytest.approx(loss.item(), rel=1e-12)
    parameters = dict(net.named_parameters())
    for name, grad in model.grads.items():
        np.testing.assert_allclose(grad, parameters[name].grad.numpy(), rtol=1e-10, atol=1e-13)
