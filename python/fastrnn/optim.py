"""Optimisers over named NumPy arrays, which they change in place.

Made with the ``params`` of a module they step the arrays that it uses at the time, also after ``freeze`` and
``unfreeze`` or where one was exchanged. One array under several names is one parameter: its gradients are added up, and
it takes one step. What cannot be right raises an error that names the parameter, before any of them has moved.
"""

from __future__ import annotations

import abc
import copy
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ._base import checks
from ._base.checks import Array
from ._base.memory import place, sharing
from ._base.options import Options, option
from ._base.parts import quiet
from ._base.uses import USES
from .modules import Grads, Module, Parameters, numbers_in

__all__ = ["SGD", "Adam", "Optimiser", "clip_global_norm", "clip_value"]


def _params(owner: Any, _: str, value: Any) -> Mapping[str, Array]:
    name = type(owner).__name__
    if not isinstance(value, Mapping):
        given = checks.kind(value) if isinstance(value, Module) else checks.shown(value)
        raise TypeError(f"{name}: params is {given}, expected arrays by name, as module.params")
    for key, p in value.items():
        if not isinstance(p, np.ndarray) or p.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name}: {key} is {checks.shown(p)}, expected an array of float32 or float64")
    return value


def _own(owner: Any, name: str, value: Any) -> dict[str, Array]:
    """Return arrays by name that are to be the optimiser's own: others go on to change theirs."""
    if not isinstance(value, Mapping) or not all(isinstance(a, np.ndarray) for a in value.values()):
        raise TypeError(f"{type(owner).__name__}: {name} is {checks.shown(value)}, expected arrays by name")
    return {key: a.copy() for key, a in value.items()}


class Optimiser(Options, abc.ABC):
    """What optimisers have in common: which array moves by which gradient, and what is checked before."""

    _changeable: ClassVar = {"params": _params, "v": _own}
    _state: ClassVar[tuple[str, ...]] = ("v",)  # of each parameter, an array of its shape
    params: Mapping[str, Array]
    v: dict[str, Array]

    def __init__(self, params: Mapping[str, Array]) -> None:
        self.params = params
        for name in self._state:
            self.__dict__[name] = {key: np.zeros_like(p) for key, p in params.items()}
        self._taken: dict[str, int] = {}  # of which backward the gradients of the last step were

    @property
    def _name(self) -> str:
        return type(self).__name__

    def step(self, grads: Mapping[str, Array]) -> None:
        """Move every parameter by its gradient, which has the parameter's name, shape and dtype."""
        with quiet():
            self._move(self._moves(grads))

    @abc.abstractmethod
    def _move(self, moves: list[tuple[str, Array, Array]]) -> None:
        """Move parameters, given as name, parameter and gradient."""

    def _moves(self, grads: Mapping[str, Array]) -> list[tuple[str, Array, Array]]:
        """Return name, parameter and gradient of every parameter.

        Raises an error where any of them cannot be moved as it should.
        """
        name = f"{self._name}.step"
        if not isinstance(grads, Mapping):
            raise TypeError(f"{name}: grads is {checks.shown(grads)}, expected gradients by name, as module.grads")
        moves: list[tuple[str, Array, Array]] = []
        params = self.params.copy() if isinstance(self.params, Parameters) else dict(self.params)
        if isinstance(grads, Grads):
            self._check_fresh(params, grads)
        places: dict[Any, int] = {}  # where a parameter stands in moves, by what tells it from others
        views = any(isinstance(p, np.ndarray) and p.base is not None for p in params.values())
        for key, p in params.items():
            self._check_param(name, key, p, of_module=isinstance(grads, Grads) and key in grads.of)
            g = grads.get(key)
            where = place(p) if views else id(p)
            before = places.get(where) if p.size else None
            if g is None and key in grads:
                raise TypeError(f"{name}: the gradient of {key} is None, expected an array of shape {p.shape}")
            if g is None:
                # In a dict of one's own, what an array has under another name may be all.
                if isinstance(grads, Grads) or not self._has_other_name(key, p, params, grads):
                    raise ValueError(f"{name}: there is no gradient of {key}: was there a backward() of its module?")
                continue
            if not isinstance(g, np.ndarray) or g.dtype != p.dtype:
                raise TypeError(f"{name}: the gradient of {key} is {checks.shown(g)}, expected an array of {p.dtype}")
            if g.shape != p.shape:
                raise ValueError(f"{name}: the gradient of {key} has shape {g.shape}, expected {p.shape}")
            if before is None:
                places[where] = len(moves)
                moves.append((key, p, g))
            else:
                first, p, sum_before = moves[before]
                moves[before] = first, p, sum_before + g
        self._check_apart(name, moves)
        if isinstance(grads, Grads):
            self._taken = {key: grads.of[key] for key in params if key in grads.of}
        return moves

    def _check_param(self, name: str, key: str, p: Any, *, of_module: bool) -> None:
        if not isinstance(p, np.ndarray):
            raise TypeError(f"{name}: {key} is {checks.shown(p)}, expected an array")
        for which in self._state:
            own = getattr(self, which).get(key)
            if own is None:
                raise ValueError(f"{name}: {key} was not there when the optimiser was made: make another")
            if not isinstance(own, np.ndarray) or not own.flags.writeable:
                raise TypeError(f"{name}: {which}[{key!r}] is {checks.shown(own)}, expected a writable array")
            if p.shape != own.shape or p.dtype != own.dtype:
                both = f"{p.dtype} of shape {p.shape}, and {which}[{key!r}] {own.dtype} of shape {own.shape}"
                raise ValueError(f"{name}: {key} is {both}: make another optimiser")
        if not p.flags.writeable:
            raise ValueError(
                f"{name}: {key} is frozen or read-only, and cannot be moved: unfreeze() its layer, or make the "
                "optimiser of the others only"
            )
        used = USES.has(p)
        if used is False:
            raise ValueError(
                f"{name}: {key} is an array that no module uses any more: make another optimiser with module.params"
            )
        if used is None and of_module and not USES.has_memory_of(p):
            raise ValueError(
                f"{name}: {key} is an array that no module uses, and its gradient is that of a module: make another "
                "optimiser with module.params, or, to step copies, pass dict(grads)"
            )

    def _check_fresh(self, params: Mapping[str, Array], grads: Grads) -> None:
        """Raise ValueError where some gradients are new and others were taken by the last step already."""
        old = [key for key, number in self._taken.items() if grads.of.get(key) == number and key in params]
        if old and len(old) < sum(key in grads.of for key in params):
            raise ValueError(
                f"{self._name}.step: the gradient of {old[0]} is that of the last step: there was no backward() since"
            )

    def _has_other_name(self, key: str, p: Array, params: Mapping[str, Array], grads: Mapping[str, Array]) -> bool:
        return any(p is q and other != key and grads.get(other) is not None for other, q in params.items())

    def _check_apart(self, name: str, moves: list[tuple[str, Array, Array]]) -> None:
        """Raise ValueError where a parameter shares memory with another, or with a gradient."""
        named = [(key, p) for key, p, _ in moves]
        for which in self._state:
            state = getattr(self, which)
            named += [(f"{which}[{key!r}]", state[key]) for key, _, _ in moves]
        writable = len(named)
        named += [(f"the gradient of {key}", g) for key, _, g in moves]  # which are only read, and may share theirs
        found = sharing([a for _, a in named], writable)
        if found is not None:
            first, second = (named[n][0] for n in sorted(found))
            raise ValueError(f"{name}: {first} shares memory with {second}, and is not the same array")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_taken": {}}  # numbers that mean something in this process

    def __copy__(self) -> Optimiser:
        """Return an optimiser of the same parameters, with a state of its own."""
        memo = {id(self.params): self.params} | {id(p): p for p in self.params.values()}
        return copy.deepcopy(self, memo)

    def __repr__(self) -> str:
        names = list(inspect.signature(type(self).__init__).parameters)[2:]  # after self and params
        options = "".join(f", {name}={getattr(self, name)!r}" for name in names if name in self.__dict__)
        return f"{self._name}(params{options})  # {numbers_in(self.params):,} parameters in {len(self.params)} arrays"


_FINITE = option(checks.not_negative)
_SHARE = option(checks.share)


class SGD(Optimiser):
    """Stochastic gradient descent, with momentum, with the same arithmetic as ``torch.optim.SGD``.

    v = momentum * v + g                     p = p - lr * v

    Args:
        params: float arrays of any shape by name, such as ``module.params``; :meth:`step` changes them in place.
        lr: the learning rate, which may be set later.
        momentum: how much of the last step goes into the next.

    Attributes:
        v: the whole state, by name.

    """

    _changeable: ClassVar = {**Optimiser._changeable, "lr": _FINITE, "momentum": _FINITE}

    def __init__(self, params: Mapping[str, Array], lr: float, *, momentum: float = 0.0) -> None:
        super().__init__(params)
        self.lr = lr
        self.momentum = momentum

    def _move(self, moves: list[tuple[str, Array, Array]]) -> None:
        for name, p, g in moves:
            v = self.v[name]
            v *= self.momentum
            v += g
            p -= self.lr * v


def _betas(owner: Any, name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{type(owner).__name__}: betas is {checks.shown(value)}, expected two numbers")
    first, second = (checks.share(type(owner).__name__, name, beta) for beta in value)
    return first, second


def _count(owner: Any, name: str, value: Any) -> int:
    return checks.integer(type(owner).__name__, name, value, 0, 2**63 - 1)


class Adam(Optimiser):
    """Adam (Kingma and Ba, 2015), with the same arithmetic as ``torch.optim.Adam``.

    m = b1 * m + (1 - b1) * g                v = b2 * v + (1 - b2) * g**2
    p = p - lr / (1 - b1**t) * m / (sqrt(v / (1 - b2**t)) + eps)

    With ``weight_decay``, it is AdamW (Loshchilov and Hutter, 2019): every step first takes lr * weight_decay * p from
    p, which the averages see nothing of.

    Args:
        params: float arrays of any shape by name, such as ``module.params``; :meth:`step` changes them in place.
        lr: the learning rate, which may be set later, as may the others.
        betas: b1 and b2.
        eps: above.
        weight_decay: above.

    Attributes:
        m, v, steps: the whole state, the first two by name: copy them to save it, assign them to go on from there.

    """

    _changeable: ClassVar = {
        **Optimiser._changeable,
        "lr": _FINITE,
        "betas": _betas,
        "eps": _FINITE,
        "weight_decay": _FINITE,
        "m": _own,
        "steps": _count,
    }
    _state = ("m", "v")
    m: dict[str, Array]

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params)
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.steps = 0
        self._scratch: dict[str, Array] = {}

    def _move(self, moves: list[tuple[str, Array, Array]]) -> None:
        for name, p, _ in moves:
            scratch = self._scratch.get(name)
            if scratch is None or scratch.shape != p.shape or scratch.dtype != p.dtype:
                self._scratch[name] = np.empty_like(p)
        self.steps += 1
        b1, b2 = self.betas
        # Both corrections as scalars, so that no pass over memory is spent on them.
        root = math.sqrt(1 - b2**self.steps)
        rate = self.lr * root / (1 - b1**self.steps)
        for name, p, g in moves:
            m, v, scratch = self.m[name], self.v[name], self._scratch[name]
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
    name = "clip_global_norm"
    max_norm = checks.number(name, "max_norm", max_norm, lambda n: n >= 0, "a number, 0 or above")
    arrays = list(_written(name, grads))
    norm = _norm(arrays)
    if max_norm < norm < math.inf:
        factor = max_norm / norm
        with quiet():
            for g in arrays:
                if factor < np.finfo(g.dtype).smallest_normal:  # in two steps: the factor itself would lose digits
                    np.multiply(g / np.float64(norm), max_norm, out=g, casting="same_kind")
                else:
                    np.multiply(g, factor, out=g, dtype=g.dtype, casting="same_kind")
    return norm


def clip_value(grads: Iterable[Array], limit: float) -> None:
    """Bring every number in the gradients between ``-limit`` and ``limit``, in place."""
    limit = checks.number("clip_value", "limit", limit, lambda n: n >= 0, "a number, 0 or above")
    with quiet():
        for g in list(_written("clip_value", grads)):
            np.clip(g, -limit, limit, out=g)


def _written(name: str, grads: Iterable[Array]) -> Iterator[Array]:
    """Yield arrays that are to be written to, each once."""
    if isinstance(grads, Mapping | np.ndarray | str) or not isinstance(grads, Iterable):
        raise TypeError(f"{name}: grads is {checks.shown(grads)}, expected arrays, as grads.values()")
    arrays = list({id(g): g for g in grads}.values())
    for g in arrays:
        if not isinstance(g, np.ndarray) or g.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name}: a gradient is {checks.shown(g)}, expected an array of float32 or float64")
        if not g.flags.writeable:
            raise ValueError(f"{name}: a gradient of shape {g.shape} is read-only")
    if sharing(arrays, len(arrays)) is not None:
        raise ValueError(f"{name}: two gradients share memory, and are not the same array")
    yield from arrays


def _norm(arrays: Iterable[Array]) -> float:
    """Return the root of the sum of all squares, right to the last digits wherever it can be held."""
    with quiet():
        return _root_of_squares(list(arrays))


def _root_of_squares(arrays: list[Array]) -> float:
    total = sum(_sum_of_squares(g, 1.0) for g in arrays)
    if not np.finfo(np.float64).smallest_normal < total < math.inf:
        # Squares of float64 numbers that are too large or too small: of all over the largest of them.
        largest = max((float(np.abs(g).max(initial=0)) for g in arrays), default=0.0)
        if 0 < largest < math.inf:
            return largest * math.sqrt(sum(_sum_of_squares(g, largest) for g in arrays))
    return math.sqrt(total)


def _sum_of_squares(a: Array, over: float) -> float:
    """Return the sum of ``(a / over)**2`` in float64."""
    at_once = 1 << 16  # a part stays in cache
    flat, total = a.reshape(-1), 0.0
    for begin in range(0, flat.size, at_once):
        part = flat[begin : begin + at_once].astype(np.float64)
        if over != 1.0:
            part /= over
        total += float(part @ part)
    return total
