"""PyTorch's layers, from modules, state dicts and files."""

from __future__ import annotations

from typing import Any

from .net import Net

__all__ = ["from_torch"]


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a module, state dict or file."""
    raise NotImplementedError


def from_torch(source: Any, prefix: Any = None, *, batch_first: Any = None, dtype: Any = None) -> Any:
    raise NotImplementedError
