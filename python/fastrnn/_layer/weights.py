"""The parameters of a layer as the kernels know them, and what the kernels keep of them from call to call."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np

from fastrnn import _core
from fastrnn._base.checks import Array
from fastrnn._base.memory import place
from fastrnn._base.uses import USES

from .spec import STATES, Spec
from .states import widened

Known = tuple[Array | None, ...]  # w_ih, w_hh, b_ih, b_hh and the units' own
# What single steps know of a layer: that, the initial states, and the packed weights, if there are none but these.
OfSteps = tuple[Known, tuple[Array, ...] | None, _core.FormatWeights | None]


class Weights:
    """The parameters of a layer, and what the kernels have packed of them, which they keep while they are the same.

    Attributes:
        kept: what is packed, by suffix.
        frozen: whether the parameters are promised to stay as they are, so that no call need look.

    """

    def __init__(self, spec: Spec, params: Mapping[str, Array]) -> None:
        self._spec = spec
        self._params = params
        self.frozen = False
        self.forget()

    def forget(self) -> None:
        """Start without packed weights."""
        suffixes = self._spec.suffixes
        self.kept = {suffix: _core.KeptWeights(self.frozen) for of_layer in suffixes for suffix in of_layer}

    def known(self, suffix: str) -> Known:
        """Return what the kernels know of the parameters of a layer and direction."""
        spec, params = self._spec, self._params
        w_hh = params["weight_hh" + suffix] if spec.recurrent else None
        if w_hh is not None and spec.proj_size:
            both = w_hh, params["weight_hr" + suffix]
            w_hh = np.concatenate([w.ravel() for w in both])  # W_hr is a gate more: see csrc/cells/lstm.h
        b_ih, b_hh = params.get("bias_ih" + suffix), params.get("bias_hh" + suffix)
        own = None if spec.own is None else spec.own.vectors(params, suffix)
        return params["weight_ih" + suffix], w_hh, b_ih, b_hh, own

    def initial(self, suffix: str) -> tuple[Array, ...] | None:
        """Return the states that a layer and direction has learned to begin with, (units,) each, if it has."""
        return initial_of(self._spec, self._params, suffix)

    def of_steps(self) -> list[OfSteps]:
        """Return what single steps know of each layer, of one direction."""
        found: list[OfSteps] = []
        H = self._spec.hidden_size
        for k, (suffix,) in enumerate(self._spec.suffixes):
            w_ih, *others = self.known(suffix)
            assert w_ih is not None
            initial = self.initial(suffix)
            states = None if initial is None else tuple(widened(a, H) for a in initial)
            found.append(((widened(w_ih, H) if k > 0 else w_ih, *others), states, None))
        return found

    def freeze(self, frozen: bool) -> None:
        """Have parameters frozen that nobody else has, or take that back."""
        lock(self._params, frozen)
        self.frozen = frozen
        self.forget()

    def thaw(self, but: str) -> None:
        """Do as if the parameters had never been frozen; ``but`` is the name of one that is as its owner wants it."""
        self.frozen = False
        for name in self._params.keys() - {but}:
            self._params[name].flags.writeable = True
        self.forget()

    def look(self) -> None:
        """Forget that the parameters are frozen, where that has not been kept to."""
        for p in self._params.values():
            if p.flags.writeable:
                self.frozen = False
                self.forget()
                break


def initial_of(spec: Spec, params: Mapping[str, Array], suffix: str) -> tuple[Array, ...] | None:
    """Return the states that a layer and direction has learned to begin with, (units,) each, if it has."""
    if not spec.learn_state:
        return None
    return tuple(params[name + suffix] for name, _ in zip(STATES, spec.state_sizes, strict=False))


def lock(params: Mapping[str, Array], frozen: bool = True) -> None:
    """Have parameters that cannot be written to, or that can."""
    for p in params.values():
        p.flags.writeable = not frozen


def copies(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies of arrays, the same for those that are the same."""
    of = {place(p): p.copy() for p in params.values()}
    return {name: of[place(p)] for name, p in params.items()}


def refuse_ties(owner: str, params: Mapping[str, Array]) -> None:
    """Raise ValueError where a parameter of a layer is that of another module, too."""
    own = collections.Counter(id(p) for p in params.values())
    for name, p in params.items():
        if USES.count(p) > own[id(p)] or USES.has_memory_of(p, params.values()):
            raise ValueError(
                f"{owner}: {name} is tied to a parameter of another module, and would be new in this one only: give "
                "it an array of its own before, and tie them after"
            )
