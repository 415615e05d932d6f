"""What each unit has for itself: the parameters and limits that the kernels get as rows of H numbers."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.parts import quiet


class Own(abc.ABC):
    """What the units of a layer have.

    Attributes:
        shapes: names, without their suffixes, and shapes of the parameters among it.

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


class Extended(Own):
    """Peepholes, coupled gates and clips of an LSTM."""

    def __init__(
        self,
        hidden_size: int,
        dtype: np.dtype[Any],
        peepholes: bool,
        coupled: bool,
        cell_clip: float | None,
        gate_clip: float | None,
    ) -> None:
        self.shapes = {"weight_ch": (3, hidden_size)} if peepholes else {}
        self._hidden_size, self._dtype = hidden_size, dtype
        self._coupled, self._clips = coupled, (cell_clip, gate_clip)

    def vectors(self, params: Mapping[str, Array], suffix: str) -> Array:
        vectors = np.zeros((6, self._hidden_size), self._dtype)
        if self.shapes:
            vectors[:3] = params["weight_ch" + suffix]
        vectors[3] = self._coupled
        with quiet():  # what is beyond float32 is no limit there
            for row, clip in zip((4, 5), self._clips, strict=True):
                vectors[row] = math.inf if clip is None else clip
        return vectors


class Independent(Own):
    """The weight of an IndRNN's unit for its own h', and which activation it has."""

    def __init__(self, hidden_size: int, is_tanh: bool) -> None:
        self.shapes = {"weight_hh": (hidden_size,)}
        self._is_tanh = is_tanh

    def vectors(self, params: Mapping[str, Array], suffix: str) -> Array:
        u = params["weight_hh" + suffix]
        return np.stack([u, np.full_like(u, self._is_tanh)])
