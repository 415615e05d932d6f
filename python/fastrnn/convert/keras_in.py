"""Layers of Keras' models, read from the files of all its versions by h5py alone."""

from __future__ import annotations

from typing import Any

from .net import Net

__all__ = ["from_keras"]


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a layer, model or file."""
    raise NotImplementedError


def from_keras(
    source: Any, name: Any = None, *, activations: Any = None, reset_after: Any = None, dtype: Any = None
) -> Any:
    raise NotImplementedError
