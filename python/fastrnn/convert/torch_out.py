"""Layers and nets as PyTorch's modules."""

from __future__ import annotations

from typing import Any

__all__ = ["to_torch"]


def to_torch(layer_or_net: Any) -> Any:
    raise NotImplementedError
