"""Layers and nets as ONNX models."""

from __future__ import annotations

from typing import Any

__all__ = ["to_onnx"]


def to_onnx(layer_or_net: Any, path: Any) -> None:
    raise NotImplementedError
