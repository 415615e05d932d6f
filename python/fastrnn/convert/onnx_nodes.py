"""ONNX's recurrent operators for its reference evaluator."""

from __future__ import annotations

from typing import Any

__all__ = ["onnx_ops"]


def onnx_ops() -> Any:
    raise NotImplementedError
