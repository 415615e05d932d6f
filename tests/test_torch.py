"""PyTorch, where it is installed, computes the same outputs and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from problems import CELLS, Array, Cell, Problem, make_smooth_problem, solve
from tolerances import assert_close

torch = pytest.importorskip("torch")

# PyTorch resets after the product.
TORCH_CELLS = [cell for cell in CELLS if cell.name != "gru_reset_before"]
MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def solve_with_torch(problem: Problem, dtype: Any) -> dict[str, Array]:
    """All outputs and all gradients by PyTorch's module and its autograd."""
    _, _, I, H = problem.sizes
    module = MODULES[problem.cell.family](
        I, H, dtype=dtype, **{k: v for k, v in problem.cell.options.items() if k == "nonlinearity"}
    )
    parameters = {
        "w_ih": module.weight_ih_l0,
        "w_hh": module.weight_hh_l0,
        "b_ih": module.bias_ih_l0,
        "b_hh": module.bias_hh_l0,
    }
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(problem[name]))
    inputs = {
        k: torch.from_numpy(problem[k]).to(dtype).requires_grad_()
        for k in ("x", *(f"{s}0" for s in problem.cell.state_names))
    }
    state_0 = tuple(inputs[f"{s}0"][None] for s in problem.cell.state_names)
    y, state_n = module(inputs["x"], state_0 if problem.cell.states == 2 else state_0[0])
    outputs = {"y": y}
    for s, state in zip(problem.cell.state_names, state_n if problem.cell.states == 2 else (state_n,), strict=True):
        outputs[f"{s}_n"] = state[0]
    torch.autograd.backward(list(outputs.values()), [torch.from_numpy(problem[f"d{k}"]).to(dtype) for k in outputs])
    results = {k: a.detach().numpy() for k, a in outputs.items()}
    return results | {f"d{k}": a.grad.numpy() for k, a in (inputs | parameters).items()}


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 7, 9), (5, 7, 16, 33), (40, 33, 64, 100)], ids=str)
@pytest.mark.parametrize("cell", TORCH_CELLS, ids=str)
def test_same_as_torch(cell: Cell, shape: tuple[int, int, int, int], isa: str) -> None:
    problem = make_smooth_problem(cell, *shape, dtype=np.float32)
    expected = solve_with_torch(problem, torch.float64)
    for dtype in (np.float32, np.float64):
        assert_close(solve(fastrnn, problem.astype(dtype)), expected, problem, dtype, f"{isa} beside torch")


# --- nets

T, B, I, H, O = 7, 4, 3, 5, 2
LENGTHS = np.array([4, 7, 2, 1])
AFTER = {
    fastrnn.Last: lambda h_n, y, counts: torch.cat(list(h_n[-2:]), -1),
    fastrnn.Mean: lambda h_n, y, counts: (y * counts).sum(1) / counts.sum(1),
    fastrnn.Max: lambda h_n, y, counts: torch.where(counts, y, -torch.inf).amax(1),
}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=str)
@pytest.mark.parametrize("kind", AFTER, ids=lambda kind: kind.__name__)
def test_nets_are_those_of_torch(kind: Any, lengths: Any) -> None:
    """Names, outputs and gradients: of nn.Sequential, but for what its layers hand on."""
    theirs = torch.nn.Sequential(
        torch.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True, dtype=torch.float64),
        torch.nn.Identity(),
        torch.nn.Linear(2 * H, O, dtype=torch.float64),
        torch.nn.Tanh(),
    )
    net = fastrnn.Sequential(
        fastrnn.LSTM(I, H, 2, batch_first=True, bidirectional=True, dtype=np.float64),
        kind(),
        fastrnn.Linear(2 * H, O, dtype=np.float64),
        fastrnn.Tanh(),
    )
    net.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((B, T, I)), rng.standard_normal((B, O))

    given = torch.tensor(x, requires_grad=True)
    whole = torch.full((B,), T) if lengths is None else torch.tensor(lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(given, whole, batch_first=True, enforce_sorted=False)
    y, (h_n, _) = theirs[0](packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=T)
    counts = (torch.arange(T) < whole[:, None])[..., None]
    right = theirs[3](theirs[2](AFTER[kind](h_n, y, counts)))
    right.backward(torch.tensor(dy))

    np.testing.assert_allclose(net(x, lengths), right.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(net.backward(dy), given.grad.numpy(), rtol=1e-8, atol=1e-12)
    parameters = dict(theirs.named_parameters())
    assert list(net.grads) == list(parameters)
    for name, g in net.grads.items():
        np.testing.assert_allclose(g, parameters[name].grad.numpy(), rtol=1e-8, atol=1e-12, err_msg=name)


def test_nets_without_layers_are_those_of_torch() -> None:
    theirs = torch.nn.Sequential(
        torch.nn.Linear(I, H), torch.nn.ReLU(), torch.nn.Sequential(torch.nn.Linear(H, O), torch.nn.Tanh())
    ).double()
    net = fastrnn.Sequential(
        fastrnn.Linear(I, H, dtype=np.float64),
        fastrnn.Relu(),
        fastrnn.Sequential(fastrnn.Linear(H, O, dtype=np.float64), fastrnn.Tanh()),
    )
    net.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((T, B, I))
    given = torch.tensor(x, requires_grad=True)
    right = theirs(given)
    right.sum().backward()
    np.testing.assert_allclose(net(x), right.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(net.backward(np.ones((T, B, O))), given.grad.numpy(), rtol=1e-10, atol=1e-14)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(net.grads[name], p.grad.numpy(), rtol=1e-10, atol=1e-14)
