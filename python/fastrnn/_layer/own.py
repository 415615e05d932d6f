"""What each unit has for itself: the parameters that the kernels get as rows of H numbers."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn._base.checks import Array


class Own(abc.ABC):
    """What the units of a layer have.

    Attributes:
        shapes: names, without their suffixes, and shapes of the parameters that it is made of.

    """

    shapes: dict[str, tuple[int, ...]]

    @abc.abstractmethod
    def vectors(self, params: Mapping[str, Array], suffix: str) -> Array:
        """Return all of it as the kernels know it: (V, H), the parameters first, in the order of ``shapes``."""


class Normalised(Own):
    """Layer normalisation of each gate's sum: a gain and, with ``bias``, a shift."""

    def __init__(self, hidden_size: int, bias: bool) -> None:
        shape = (4, hidden_size)
        self.shapes = {"weight_ln": shape, "bias_ln": shape} if bias else {"weight_ln": shape}

    def vectors(self, params: Mapping[str, Array], suffix: str) -> Array:
        gain = params["weight_ln" + suffix]
        return np.concatenate([gain, params.get("bias_ln" + suffix, np.zeros_like(gain))])


class Peepholes(Own):
    """The weights through which an LSTM's gates look at c; zeros, if they do not."""

    def __init__(self, hidden_size: int, dtype: np.dtype[Any], looking: bool) -> None:
        shape = (3, hidden_size)
        self.shapes = {"weight_ch": shape} if looking else {}
        self._none = np.zeros(shape, dtype)

    def vectors(self, params: Mapping[str, Array], suffix: str) -> Array:
        return params["weight_ch" + suffix] if self.shapes else self._none


class Independent(Own):
    """The weight of an IndRNN's unit for its own h'."""

    def __init__(self, hidden_size: int) -> None:
        self.shapes = {"weight_hh": (hidden_size,)}

    def vectors(self, params: Mapping[str, Array], suffix: str) -> Array:
        return params["weight_hh" + suffix][None]
