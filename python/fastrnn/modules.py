"""What has parameters, and the modules that a small net needs beside its recurrent layers.

Every module is called with arrays, and then, in training mode, goes back with ``backward``: it takes the gradient by
what the call returned, fills ``grads``, and returns the gradient by what the call was given. Names, shapes and initial
values of parameters are those of PyTorch.

>>> import numpy as np
>>> from fastrnn import GRU, Linear, Modules, cross_entropy
>>> from fastrnn.optim import SGD
>>> rnn, decoder = GRU(8, 16, seed=0), Linear(16, 3, seed=0)
>>> net = Modules(rnn=rnn, decoder=decoder)
>>> list(net.params)[-2:]
['decoder.weight', 'decoder.bias']
>>> y, _ = rnn(np.ones((5, 4, 8), np.float32))
>>> loss, dlogits = cross_entropy(decoder(y[-1]), np.array([0, 2, 1, 1]))
>>> dy = np.zeros_like(y)
>>> dy[-1] = decoder.backward(dlogits)
>>> dx, _ = rnn.backward(dy)
>>> SGD(net.params, lr=0.1).step(net.grads)
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from .files import write_atomically

Array = npt.NDArray[Any]

# A Linear of so few rows takes less time than to enter NumPy's product; with a larger weight NumPy's threads count.
FEW_ROWS = 8
SMALL_WEIGHT = 2**18

__all__ = ["Dropout", "Embedding", "Linear", "Module", "Modules"]


class Module:
    """What all modules have in common.

    Attributes:
        training: whether calls prepare for ``backward``, and dropout is at work; see :meth:`train`.

    """

    training = True

    def __init__(self) -> None:
        self._params: dict[str, Array] = {}
        self._grads: dict[str, Array] = {}

    @property
    def params(self) -> dict[str, Array]:
        """The parameters by name, as in PyTorch. The arrays may be changed in place; a layer's also exchanged."""
        return self._params

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients by the parameters, by the same names, after ``backward``."""
        return self._grads

    @property
    def _name(self) -> str:
        return type(self).__name__

    def train(self, mode: bool = True) -> "Module":
        """Prepare for ``backward`` in the calls that follow, or not; return the module."""
        self.training = mode
        return self

    def eval(self) -> "Module":
        """Do as ``train(False)`` does."""
        return self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters by name."""
        return {name: p.copy() for name, p in self.params.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Write parameters of the same names and shapes into those of the module, converted to their dtype.

        Raises ValueError, and changes nothing, where names are missing or unexpected, a shape differs or a parameter
        cannot be written to.
        """
        params = self.params
        arrays = {name: np.asarray(value) for name, value in state_dict.items()}
        problems = [f"missing {name}" for name in params if name not in arrays]
        problems += [f"unexpected {name}" for name in arrays if name not in params]
        problems += [
            f"{name} has shape {a.shape}, expected {params[name].shape}"
            for name, a in arrays.items()
            if name in params and a.shape != params[name].shape
        ]
        problems += [
            f"{name} has dtype {a.dtype}, expected numbers"
            for name, a in arrays.items()
            if name in params and a.dtype.kind not in "fiu"
        ]
        problems += [f"{name} is frozen" for name, p in params.items() if not p.flags.writeable]
        if problems:
            raise ValueError(f"{self._name}.load_state_dict: {'; '.join(problems)}")
        for name, p in params.items():
            p[...] = arrays[name]

    def save(self, path: str) -> None:
        """Write all parameters to a safetensors file, all or nothing.

        Raises OSError, and leaves what was there, where that cannot be done.
        """
        contiguous = {name: np.ascontiguousarray(p) for name, p in self.params.items()}
        write_atomically(path, _safetensors().save(contiguous))

    def load(self, path: str) -> None:
        """Take over the parameters in a file that :meth:`save` wrote, or any other safetensors file that has them.

        Raises OSError where it cannot be read, and ValueError, without changing anything, where it is damaged or holds
        other parameters than the module's.
        """
        with open(path, "rb") as file:
            data = file.read()
        try:
            arrays = _safetensors().load(data)
        except Exception as error:
            if type(error).__name__ != "SafetensorError" and not isinstance(error, ValueError | KeyError | TypeError):
                raise
            raise ValueError(f"{self._name}.load: {path} is not a safetensors file, or damaged: {error}") from None
        self.load_state_dict(arrays)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("saving and loading need safetensors: pip install safetensors") from None
    return safetensors.numpy


class Modules(Module):
    """Several modules as one: their parameters together, each under the module's name and a dot.

    It holds them for optimisers, :meth:`save` and :meth:`train`; what is called in which order is up to you.
    """

    def __init__(self, **modules: Module) -> None:
        self._modules = modules

    @property
    def params(self) -> dict[str, Array]:
        """The parameters of all modules, as ``module.name``."""
        return {f"{prefix}.{name}": p for prefix, m in self._modules.items() for name, p in m.params.items()}

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients by all parameters, after ``backward`` of every module."""
        return {f"{prefix}.{name}": g for prefix, m in self._modules.items() for name, g in m.grads.items()}

    def train(self, mode: bool = True) -> "Modules":
        """Call ``train`` of every module; return this."""
        self.training = mode
        for module in self._modules.values():
            module.train(mode)
        return self


class Linear(Module):
    """``y = x W^T + b`` along the last axis.

    Args:
        in_features: size of x's last axis.
        out_features: size of y's.
        bias: whether there is a b.
        dtype: float32 or float64.
        seed: of the initial parameters, uniform between -1/sqrt(in_features) and 1/sqrt(in_features).

    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        bound = max(1, in_features) ** -0.5
        shapes = {"weight": (out_features, in_features)} | ({"bias": (out_features,)} if bias else {})
        for name, shape in shapes.items():
            self._params[name] = rng.uniform(-bound, bound, shape).astype(_float_dtype(self._name, dtype))
        self._x: Array | None = None

    def __call__(self, x: Array) -> Array:
        """Return y (..., out_features) of x (..., in_features), which has the dtype of the parameters."""
        weight = self._params["weight"]
        if not isinstance(x, np.ndarray) or x.dtype != weight.dtype:
            got = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise TypeError(f"Linear: x is {got}, expected an array of {weight.dtype}")
        if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
            raise ValueError(f"Linear: x has shape {x.shape}, expected (..., {weight.shape[1]})")
        self._x = x if self.training else None
        rows, bias = x if x.ndim == 2 else _rows(x), self._params.get("bias")
        if len(rows) <= FEW_ROWS and weight.size <= SMALL_WEIGHT:
            y: Array = _core.linear(rows, weight, bias)
        else:
            y = rows @ weight.T
            if bias is not None:
                y += bias
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight))

    def backward(self, dy: Array) -> Array:
        """Fill ``grads``; return dx. x must not have changed since the call."""
        x, weight = _left_by_call(self, self._x), self._params["weight"]
        if dy.shape != (*x.shape[:-1], len(weight)):
            raise ValueError(f"Linear.backward: dy has shape {dy.shape}, expected {(*x.shape[:-1], len(weight))}")
        flat = _rows(dy)
        self._grads["weight"] = flat.T @ _rows(x)
        if "bias" in self._params:
            self._grads["bias"] = flat.sum(axis=0)
        dx: Array = (flat @ weight).reshape(x.shape)
        return dx


class Embedding(Module):
    """A vector for each of ``num_embeddings`` tokens.

    Right before a recurrent layer it is rarely needed: layers take tokens themselves. Initial values are normal.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        weight = np.random.default_rng(seed).standard_normal((num_embeddings, embedding_dim))
        self._params["weight"] = weight.astype(_float_dtype(self._name, dtype))
        self._tokens: Array | None = None

    def __call__(self, tokens: Array) -> Array:
        """Return the vectors (..., embedding_dim) of tokens (...), integers from 0 to num_embeddings - 1."""
        weight = self._params["weight"]
        if not isinstance(tokens, np.ndarray) or tokens.dtype.kind not in "iu":
            got = tokens.dtype if isinstance(tokens, np.ndarray) else type(tokens).__name__
            raise TypeError(f"Embedding: tokens is {got}, expected an array of integers")
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < len(weight)):
            raise ValueError(f"Embedding: tokens has {tokens.min()} to {tokens.max()}, expected 0 to {len(weight) - 1}")
        self._tokens = tokens.copy() if self.training else None
        vectors: Array = weight[tokens]
        return vectors

    def backward(self, dy: Array) -> None:
        """Fill ``grads``; there is no gradient by tokens."""
        tokens, weight = _left_by_call(self, self._tokens), self._params["weight"]
        if dy.shape != (*tokens.shape, weight.shape[1]):
            raise ValueError(
                f"Embedding.backward: dy has shape {dy.shape}, expected {(*tokens.shape, weight.shape[1])}"
            )
        dweight = np.zeros_like(weight)
        if tokens.size:
            order = np.argsort(tokens, axis=None, kind="stable")
            distinct, first = np.unique(tokens.ravel()[order], return_index=True)
            dweight[distinct] = np.add.reduceat(_rows(dy)[order], first)
        self._grads["weight"] = dweight


class Dropout(Module):
    """In training mode zeroes a share ``p`` of what passes, at random, and scales up the rest by 1 / (1 - p).

    Attributes:
        rng: what the choice is drawn from.

    """

    def __init__(self, p: float, *, seed: int | None = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is {p}, expected at least 0 and below 1")
        self.p = p
        self.rng = np.random.default_rng(seed)
        self._mask: Array | None = None

    def __call__(self, x: Array) -> Array:
        """Return x, with some of it zeroed in training mode."""
        self._mask = dropout_mask(self.rng, self.p, x.shape, x.dtype) if self.training and self.p > 0 else None
        return x if self._mask is None else x * self._mask

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        return dy if self._mask is None else dy * self._mask


def dropout_mask(rng: "np.random.Generator", p: float, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return what dropout multiplies with: 0 with probability p, else 1 / (1 - p)."""
    mask: Array = (rng.random(shape, np.float32) >= p).astype(dtype)
    mask *= 1 / (1 - p)
    return mask


def _rows(a: Array) -> Array:
    """(..., n) as (rows, n)."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _float_dtype(name: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"{name}: dtype is {np.dtype(dtype)}, expected float32 or float64")
    return np.dtype(dtype)


def _left_by_call(module: Module, left: Array | None) -> Array:
    if left is None:
        raise RuntimeError(f"{module._name}.backward: there was no call in training mode before")
    return left
