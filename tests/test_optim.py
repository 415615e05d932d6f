"""Optimisers, against their equations and against PyTorch."""

import math

import numpy as np
import pytest

from fastrnn.optim import Adam, clip_global_norm


def test_first_step_of_adam_by_hand() -> None:
    p = np.array([1.0, -2.0, 3.0])
    Adam({"p": p}, lr=0.1).step({"p": np.array([0.5, -4.0, 0.0])})
    # m and v, corrected, are g and g**2: every parameter with a gradient moves by lr against its sign.
    np.testing.assert_allclose(p, [0.9, -1.9, 3.0], rtol=1e-7)


def test_adam_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=3)}
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    ours = Adam(params, lr=0.01, betas=(0.8, 0.95), eps=1e-3)
    reference = torch.optim.Adam(theirs.values(), lr=0.01, betas=(0.8, 0.95), eps=1e-3)
    for _ in range(20):
        grads = {name: rng.normal(size=p.shape) for name, p in params.items()}
        for name, grad in grads.items():
            theirs[name].grad = torch.tensor(grad)
        ours.step(grads)
        reference.step()
    for name, p in params.items():
        np.testing.assert_allclose(p, theirs[name].detach().numpy(), rtol=1e-12)


def test_clipping_by_global_norm() -> None:
    grads = [np.array([3.0, 0.0]), np.array([[4.0]])]
    assert clip_global_norm(grads, 10.0) == 5
    assert grads[0].tolist() == [3, 0]
    assert clip_global_norm(grads, 1.0) == 5
    np.testing.assert_allclose(grads[0], [0.6, 0])
    np.testing.assert_allclose(grads[1], [[0.8]])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_reports_what_is_not_finite(bad: float) -> None:
    grads = [np.array([bad, 1.0])]
    assert not math.isfinite(clip_global_norm(grads, 1.0))
    assert grads[0][1] == 1
