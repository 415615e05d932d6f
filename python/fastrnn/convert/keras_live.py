"""Layers and models of Keras that are there, of any of its versions, none of which is imported."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .keras_config import PACKAGES, LayerError, is_of_keras
from .keras_files import widened
from .keras_model import UNKNOWN, Layer, layer_of
from .keras_weights import MISSING, Cell, Cells, Directions, Others, Weights


def version_of(layer: Any) -> str | None:
    """Return the version of the Keras that a layer is of, None if that cannot be told."""
    for kind in type(layer).__mro__:
        name = PACKAGES.get(kind.__module__.partition(".")[0])
        if name is not None:
            version = getattr(sys.modules.get(name), "__version__", None)
            return version if isinstance(version, str) else None
    return None


def of_live(layer: Any) -> Weights:
    """Return the weights of a layer or model."""
    return _OfLive(layer)


@dataclasses.dataclass(frozen=True)
class _OfLive:
    """The weights of a layer or model that is there."""

    layer: Any

    def of_each(self, layers: Sequence[Layer]) -> Sequence[Weights]:
        by_name = {each.name: each for each in self.layer.layers}
        return [_OfLive(by_name[each.name]) if each.name in by_name else MISSING for each in layers]

    def wrapped(self) -> Weights:
        return _OfLive(self.layer.layer)

    def cells(self, directions: Directions) -> Cells:
        sides = [self.layer] if len(directions) == 1 else [self.layer.forward_layer, self.layer.backward_layer]
        for each in (side for side in sides if hasattr(side, "cell")):
            _check_class("it", each)
            _check_class("its cell", each.cell)
        return [[_live(cell) for cell in _cells_of(side)] for side in sides]

    def others(self) -> Others:
        """Return layers of a model, or in a layer, of somebody's own class, which have their configurations."""
        if hasattr(self.layer, "cell"):
            return None
        inner = getattr(self.layer, "layers", None)
        if not isinstance(inner, list):
            flat = getattr(self.layer, "_flatten_layers", None)
            inner = [] if flat is None else list(flat(recursive=False, include_self=False))
        return [(live_layer(each), _OfLive(each)) for each in inner]


def live_layer(layer: Any) -> Layer:
    """Return what there is to know of a layer or model that is there."""
    own = type(layer)
    class_name = own.__name__ if is_of_keras(own.__module__) else f">{own.__name__}"
    try:
        config = layer.get_config()
    except NotImplementedError:  # as of models whose call is somebody's own
        config = {}
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        config = {UNKNOWN: " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    return layer_of(class_name, config, str(getattr(layer, "name", "")))


def _cells_of(layer: Any) -> list[Any]:
    cell = getattr(layer, "cell", layer)
    return list(getattr(cell, "cells", [cell]))


def _check_class(what: str, found: Any) -> None:
    if not is_of_keras(type(found).__module__):
        raise LayerError(f"{what} is of a class {type(found).__name__} that is not Keras'")


def _check_activation(found: Any) -> None:
    """Refuse a function of somebody's own, which its configuration names as one of Keras'."""
    inside = getattr(found, "activation", None)
    if inside is not None:  # of the layer Activation
        _check_activation(inside)
    name, module = getattr(found, "__name__", type(found).__name__), str(getattr(found, "__module__", ""))
    there = found if found is None else getattr(sys.modules.get(module), name, None)
    if found is not None and not (is_of_keras(module) and there in (found, type(found))):
        raise LayerError(f"its activation is {name} of {module or 'no module'}, which is not Keras'")


def _live(cell: Any) -> Cell:
    _check_class("its cell", cell)
    for name in ("activation", "recurrent_activation"):
        _check_activation(getattr(cell, name, None))
    arrays = [widened(np.asarray(w)) for w in cell.get_weights()[:3]]
    if len(arrays) < 2:
        raise LayerError("it has no weights yet: call it once, or build(...) it")
    return Cell(*arrays)
