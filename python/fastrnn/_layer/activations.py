"""Activations that are data: those that a user names, and how the kernels get them with the other options of a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._base import checks
from fastrnn._base.options import nearest

Full = tuple[str, float, float]  # its name, alpha and beta
PARAMETERS: Mapping[str, tuple[float, ...]] = _core.activations()  # the defaults of each, by name

# Of what cells of a family have by default, f, g and h in ONNX's order.
DEFAULTS = {"rnn": ("tanh",), "gru": ("sigmoid", "tanh"), "lstm": ("sigmoid", "tanh", "tanh")}
LETTERS = "fgh"
SYNONYMS = {"linear": "identity"}
CORNERED = ("leaky_relu", "elu", "thresholded_relu")


def plain(given: Any) -> Any:
    """Return what a user gave with tuples for lists and Python's numbers, as it may be shown, compared and saved."""
    if isinstance(given, tuple | list):
        return tuple(map(plain, given))
    return float(given) if isinstance(given, np.floating) else given


def full(owner: str, given: Any, family: str, directions: int, dtype: np.dtype[Any]) -> list[tuple[Full, ...]]:
    """Return the activations of each direction with all parameters.

    ``given`` is a tuple with one for each of the family's functions, or for two directions a tuple of two such tuples.
    """
    count = len(DEFAULTS[family])
    letters = ", ".join(LETTERS[:count]) + ("," if count == 1 else "")
    expected = f"({letters})" + (" or a tuple of two of these" if directions == 2 else "")
    if not isinstance(given, tuple):
        raise TypeError(f"{owner}: activations is {checks.shown(given)}, expected a tuple {expected}")
    of_each = [given] * directions
    if directions == 2 and len(given) == 2 and all(_are_some(each, count) for each in given):
        of_each = list(given)
    elif len(given) == 2 and all(_are_some(each, count) for each in given):
        raise ValueError(f"{owner}: activations is {checks.shown(given)}, two tuples, which are for bidirectional=True")
    elif len(given) != count or (directions == 2 and any(_are_some(each, count) for each in given)):
        raise ValueError(f"{owner}: activations is {checks.shown(given)}, expected a tuple {expected}")
    return [tuple(_full(owner, activation, dtype) for activation in each) for each in of_each]


def _are_some(given: Any, count: int) -> bool:
    """Whether these may be the activations of a direction, not one with its parameters."""
    return isinstance(given, tuple) and len(given) == count and all(isinstance(each, str | tuple) for each in given)


def _snake_case(name: str) -> str:
    """Return a name such as ONNX's HardSigmoid as it is here."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _full(owner: str, given: Any, dtype: np.dtype[Any]) -> Full:
    name, *parameters = given if isinstance(given, tuple) and given else (given,)
    if not isinstance(name, str):
        raise TypeError(
            f"{owner}: activations has {checks.shown(given)}, expected a name, or a tuple of a name and its parameters"
        )
    if name not in PARAMETERS:
        near = SYNONYMS.get(name) or next(iter(nearest(_snake_case(name), list(PARAMETERS))), None)
        hint = f": did you mean {near!r}?" if near else f"; there are {', '.join(PARAMETERS)}"
        raise ValueError(f"{owner}: there is no activation {name!r}{hint}")
    defaults = PARAMETERS[name]
    if len(parameters) > len(defaults):
        has = ["no parameters", "one parameter, alpha", "two parameters, alpha and beta"][len(defaults)]
        raise ValueError(f"{owner}: activations has {checks.shown(given)}, and {name} has {has}")
    most = float(np.finfo(dtype).max)
    for letter, p in zip(("alpha", "beta"), parameters, strict=False):
        checks.number(owner, f"{letter} of {name}", p, lambda x: abs(x) <= most, f"a finite number of {dtype}")
    alpha, beta = (*map(float, parameters), *defaults[len(parameters) :], *(0.0, 0.0))[:2]
    return name, alpha, beta


def without_gradient(activations: list[tuple[Full, ...]]) -> str | None:
    """Return the name of an activation whose derivative cannot be told from its value, if there is one.

    With a negative alpha these take values on both sides of their corner.
    """
    names = (name for each in activations for name, alpha, _ in each if name in CORNERED and alpha < 0)
    return next(names, None)


def options_of(
    cell: str,
    activations: tuple[Full, ...],
    gate_clip: float | None = None,
    cell_clip: float | None = None,
    coupled: bool = False,
    peepholes: bool = False,
) -> _core.CellOptions:
    """Return how the kernels get them."""
    return _core.CellOptions(cell, activations, gate_clip, cell_clip, coupled, peepholes)
