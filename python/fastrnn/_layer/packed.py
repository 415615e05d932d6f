"""The parameters of a layer in a format of fewer bits, of which there is nothing but what the kernels have packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._base.checks import Array

from .formats import SCALE, Format, bfloat16, is_matrix
from .spec import Spec
from .states import widened
from .weights import Known, OfSteps, initial_of

HIDDEN = ("weight_hh", "weight_hr")  # which the kernels get as one


class PackedParams(Mapping[str, Array]):
    """The parameters by name, new arrays for whoever asks, and what kernels know of them.

    Matrices are packed, once: what is read of them is unpacked. None of it ever changes but what is packed, for another
    instruction set.

    Attributes:
        kept: what is packed, by suffix.
        frozen: that the parameters stay as they are.

    """

    frozen = True

    def __init__(self, spec: Spec, weights: Format, arrays: Mapping[str, Array]) -> None:
        """Pack arrays as :func:`kept_as` or :func:`as_kept` give them, in their order."""
        self._spec, self._format = spec, weights
        self._names = dict.fromkeys(arrays)
        self._small = {name: np.array(a) for name, a in arrays.items() if not is_matrix(name, a.shape)}
        suffixes = [suffix for of_layer in spec.suffixes for suffix in of_layer]
        self.kept = {suffix: self._packed(suffix, arrays) for suffix in suffixes}
        self._known = {suffix: self._of_call(suffix) for suffix in suffixes}

    def _packed(self, suffix: str, arrays: Mapping[str, Array], width: int = 0) -> _core.FormatWeights:
        """Return these matrices packed, rows of W_ih with zeros up to a width."""
        spec = self._spec
        w_ih, ih_scales = _numbers("weight_ih" + suffix, arrays)
        assert w_ih is not None
        w_hh, hh_scales = _numbers("weight_hh" + suffix, arrays) if spec.recurrent else (None, None)
        if spec.proj_size:  # W_hr is a gate more: see csrc/cells/lstm.h
            both = [_numbers(name + suffix, arrays) for name in HIDDEN]
            w_hh = np.concatenate([np.ravel(numbers) for numbers, _ in both])
            scales = [of_rows for _, of_rows in both if of_rows is not None]
            hh_scales = np.concatenate(scales) if scales else None
        if width:
            w_ih = widened(w_ih, width)
        return _core.FormatWeights(spec.cell, self._format, w_ih, ih_scales, w_hh, hh_scales, *self._of_units(suffix))

    def _of_units(self, suffix: str) -> Known:
        """Return the biases, and the units' own."""
        small, own = self._small, self._spec.own
        vectors = None if own is None else own.vectors(small, suffix)
        return small.get("bias_ih" + suffix), small.get("bias_hh" + suffix), vectors

    def _of_call(self, suffix: str) -> Known:
        shapes, P = self._spec.shapes, self._spec.proj_size
        w_hh = None
        if self._spec.recurrent:
            rows, units = shapes["weight_hh" + suffix]
            w_hh = _shape_alone(rows * units + P * self._spec.hidden_size if P else rows, *(() if P else (units,)))
        return _shape_alone(*shapes["weight_ih" + suffix]), w_hh, *self._of_units(suffix)

    def known(self, suffix: str) -> Known:
        """Return what a call is given of the parameters of a layer and direction: of the matrices their shapes."""
        return self._known[suffix]

    def initial(self, suffix: str) -> tuple[Array, ...] | None:
        """Return the states that a layer and direction has learned to begin with, (units,) each, if it has."""
        return initial_of(self._spec, self._small, suffix)

    def of_steps(self) -> list[OfSteps]:
        """Return what single steps know of each layer, of one direction."""
        found: list[OfSteps] = []
        H = self._spec.hidden_size
        for k, (suffix,) in enumerate(self._spec.suffixes):
            w_ih, *others = self._known[suffix]
            kept = self.kept[suffix]
            assert w_ih is not None
            if k > 0 and w_ih.shape[1] < H:  # of what a step gives the next layer all units are read
                w_ih, kept = _shape_alone(w_ih.shape[0], H), self._packed(suffix, self, H)
            initial = self.initial(suffix)
            states = None if initial is None else tuple(widened(a, H) for a in initial)
            found.append(((w_ih, *others), states, kept))
        return found

    def look(self) -> None:
        """Do nothing: nobody has an array of it."""

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        a = self._small[name].copy() if name in self._small else self._unpacked(name)
        a.flags.writeable = False
        return a

    def _unpacked(self, name: str) -> Array:
        kind = next(kind for kind in ("weight_ih", *HIDDEN) if name.startswith(kind))
        suffix = name[len(kind) :]
        a: Any = self.kept[suffix].unpack(kind in HIDDEN)
        if kind in HIDDEN and self._spec.proj_size:
            end = np.prod(self._spec.shapes["weight_hh" + suffix])
            a = (a[:end] if kind == "weight_hh" else a[end:]).reshape(self._spec.shapes[name]).copy()
        found: Array = a.view(bfloat16(f"{self._spec.name}.params")) if self._format == "bfloat16" else a
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _numbers(name: str, arrays: Mapping[str, Array]) -> tuple[Array, Array | None]:
    """Return a matrix as the kernels get it, and the scales of its rows, if it has some."""
    a = arrays[name]
    return (a, arrays[name + SCALE]) if a.dtype == np.int8 else (a.view(np.uint16), None)


def _shape_alone(*shape: int) -> Array:
    """Return an array of a shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.float32), shape)
