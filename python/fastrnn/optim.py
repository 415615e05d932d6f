"""Optimisers over named NumPy arrays, which they change in place."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class SGD:
    """Stochastic gradient descent, with momentum, with the same arithmetic as ``torch.optim.SGD``.

    v = momentum * v + g                     p = p - lr * v

    ``params`` maps names to float arrays of any shape; :meth:`step` changes them in place. ``v`` is the whole state.
    """

    def __init__(self, params: Mapping[str, Array], lr: float, *, momentum: float = 0.0) -> None:
        self.params = dict(params)
        self.lr = lr
        self.momentum = momentum
        self.v = {name: np.zeros_like(p) for name, p in self.params.items()}

    def step(self, grads: Mapping[str, Array]) -> None:
        """Move every parameter by its gradient, which has the parameter's name and shape."""
        for name, p in self.params.items():
            v = self.v[name]
            v *= self.momentum
            v += grads[name]
            p -= self.lr * v


class Adam:
    """Adam (Kingma and Ba, 2015), with the same arithmetic as ``torch.optim.Adam``.

    m = b1 * m + (1 - b1) * g                v = b2 * v + (1 - b2) * g**2
    p = p - lr / (1 - b1**t) * m / (sqrt(v / (1 - b2**t)) + eps)

    With ``weight_decay``, it is AdamW (Loshchilov and Hutter, 2019): every step first takes lr * weight_decay * p from
    p, which the averages see nothing of.

    ``params`` maps names to float arrays of any shape; :meth:`step` changes them in place. ``m``, ``v`` and ``steps``
    are the whole state: copy them to save it, assign them to go on from there.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        self.params = dict(params)
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.steps = 0
        self.m = {name: np.zeros_like(p) for name, p in self.params.items()}
        self.v = {name: np.zeros_like(p) for name, p in self.params.items()}
        self._scratch = {name: np.empty_like(p) for name, p in self.params.items()}

    def step(self, grads: Mapping[str, Array]) -> None:
        """Move every parameter by its gradient, which has the parameter's name and shape."""
        self.steps += 1
        b1, b2 = self.betas
        # Both corrections as scalars, so that no pass over memory is spent on them.
        root = math.sqrt(1 - b2**self.steps)
        rate = self.lr * root / (1 - b1**self.steps)
        for name, p in self.params.items():
            g, m, v, scratch = grads[name], self.m[name], self.v[name], self._scratch[name]
            np.multiply(g, 1 - b1, out=scratch)
            m *= b1
            m += scratch
            np.multiply(g, g, out=scratch)
            scratch *= 1 - b2
            v *= b2
            v += scratch
            np.sqrt(v, out=scratch)
            scratch += self.eps * root
            np.divide(m, scratch, out=scratch)
            scratch *= rate
            if self.weight_decay:
                p *= 1 - self.lr * self.weight_decay
            p -= scratch


def clip_global_norm(grads: Iterable[Array], max_norm: float) -> float:
    """Scale all gradients in place so that their norm together is at most ``max_norm``; return the norm before.

    Gradients with a norm that is not finite are left as they are: the caller sees it from the result.
    """
    grads = list(grads)
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    if max_norm < norm < math.inf:
        for g in grads:
            g *= max_norm / norm
    return norm


def clip_value(grads: Iterable[Array], limit: float) -> None:
    """Bring every number in the gradients between ``-limit`` and ``limit``, in place."""
    for g in grads:
        np.clip(g, -limit, limit, out=g)
