"""The whole model: its loss, its gradients, its single steps."""

from typing import Any

import numpy as np
import pytest

from fastrnn.charlm.model import CharModel, State, weight_shapes
from fastrnn.charlm.settings import CELLS

T, B, V, H = 4, 3, 7, 5


def problem(cell: str, dtype: Any = np.float64) -> tuple[CharModel, Any, Any, State]:
    rng = np.random.default_rng(3)
    model = CharModel.initial(cell, V, H, seed=2, dtype=dtype)
    tokens = rng.integers(0, V, (T + 1, B)).astype(np.uint8)
    state = tuple(rng.normal(size=(B, H)).astype(dtype) for _ in model.zero_state(B))
    return model, tokens[:-1], tokens[1:], state


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_by_finite_differences(cell: str) -> None:
    model, tokens, targets, state = problem(cell)
    loss, grads, _ = model.gradients(tokens, targets, state)
    assert loss == pytest.approx(model.loss(tokens, targets, state)[0], rel=1e-13)
    assert grads.keys() == model.weights.keys()
    step = 1e-5
    for name, weight in model.weights.items():
        assert grads[name].shape == weight.shape
        for index in np.ndindex(weight.shape):
            before = weight[index]
            weight[index] = before + step
            above = model.loss(tokens, targets, state)[0]
            weight[index] = before - step
            below = model.loss(tokens, targets, state)[0]
            weight[index] = before
            # The error of a central difference is of order step**2, and rounding adds eps / step.
            assert grads[name][index] == pytest.approx((above - below) / (2 * step), abs=1e-9), (name, index)


@pytest.mark.parametrize("cell", CELLS)
def test_steps_agree_with_the_sequence(cell: str) -> None:
    model, tokens, targets, state = problem(cell)
    expected, final = model.loss(tokens, targets, state)
    total = 0.0
    for t in range(T):
        logits, state = model.step(tokens[t], state)
        shifted = logits - logits.max(axis=1, keepdims=True)
        total -= (shifted[np.arange(B), targets[t]] - np.log(np.exp(shifted).sum(axis=1))).sum()
    assert total / (T * B) == pytest.approx(expected, rel=1e-12)
    for one, other in zip(state, final, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_loss_in_blocks_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens, targets, state = problem("gru")
    whole = model.loss(tokens, targets, state)[0]
    monkeypatch.setattr("fastrnn.charlm.model.EVALUATION_ROWS", 3 * B)
    assert model.loss(tokens, targets, state)[0] == pytest.approx(whole, rel=1e-13)


def test_huge_logits_do_not_overflow() -> None:
    model, tokens, targets, state = problem("rnn", np.float32)
    model.weights["decoder.bias"][:] = np.linspace(-3e4, 3e4, V)
    loss, grads, _ = model.gradients(tokens, targets, state)
    assert np.isfinite(loss)
    assert all(np.isfinite(grad).all() for grad in grads.values())


@pytest.mark.parametrize("cell", CELLS)
def test_initial_weights(cell: str) -> None:
    weights = CharModel.initial(cell, V, H, seed=1).weights
    assert {name: weight.shape for name, weight in weights.items()} == weight_shapes(cell, V, H)
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.float32)}
    again = CharModel.initial(cell, V, H, seed=1).weights
    other = CharModel.initial(cell, V, H, seed=2).weights
    for name, weight in weights.items():
        assert (weight == again[name]).all()
        assert (weight != other[name]).any()


@pytest.mark.parametrize("cell", CELLS)
def test_torch_takes_the_weights_and_agrees(cell: str) -> None:
    torch = pytest.importorskip("torch")
    model, tokens, targets, state = problem(cell)
    net = getattr(torch.nn, cell.upper())(V, H).double()
    decoder = torch.nn.Linear(H, V).double()
    weights = {name: torch.from_numpy(weight) for name, weight in model.weights.items()}
    net.load_state_dict({name: weights[name] for name in net.state_dict()})
    decoder.load_state_dict({name: weights[f"decoder.{name}"] for name in decoder.state_dict()})

    one_hot = torch.nn.functional.one_hot(torch.from_numpy(tokens).long(), V).double()
    first = tuple(torch.from_numpy(s)[None] for s in state)
    y, _ = net(one_hot, first if cell == "lstm" else first[0])
    logits = decoder(y)
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(targets).long().reshape(-1))
    loss.backward()

    ours, grads, _ = model.gradients(tokens, targets, state)
    assert ours == pytest.approx(loss.item(), rel=1e-12)
    parameters = dict(net.named_parameters()) | {f"decoder.{name}": p for name, p in decoder.named_parameters()}
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, parameters[name].grad.numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(model.step(tokens[0], state)[0], logits[0].detach().numpy(), rtol=1e-12)
