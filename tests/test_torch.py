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
