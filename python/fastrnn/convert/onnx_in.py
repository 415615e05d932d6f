"""Recurrent nodes of ONNX models, and what their attributes and inputs mean."""

from __future__ import annotations

from typing import Any

from .net import Net

__all__ = ["from_onnx"]


def nets_in(owner: str, source: Any) -> list[Net]:
    """Return the recurrent nets of a model."""
    raise NotImplementedError


def from_onnx(source: Any, node: Any = None, *, dtype: Any = None) -> Any:
    raise NotImplementedError
