"""Which recurrent nets a model holds, wherever it was trained."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

from fastrnn._base import checks

from . import keras_in, onnx_in, torch_in
from .makers import maker_of_file
from .net import Net

__all__ = ["find_nets"]

EXPECTED = (
    "a PyTorch module, state dict or file, a Keras layer, model or file, or an ONNX model, file or its bytes: see "
    "from_torch, from_keras and from_onnx"
)


def find_nets(source: Any) -> list[Net]:
    """Return what recurrent nets there are in a model, of PyTorch, Keras or ONNX.

    Args:
        source: whatever :func:`fastrnn.from_torch`, :func:`fastrnn.from_keras` or :func:`fastrnn.from_onnx` takes; of a
            file what is in it tells which of them, not its name.

    Returns:
        A :class:`Net` for each, whose name chooses it, in the order of the model; also of those that cannot be
        imported, which say why.

    Raises:
        TypeError: it is nothing of that kind.
        ValueError: a file is damaged, or of another kind.
        OSError: it cannot be read.
        ImportError: what reads it is not installed.

    """
    owner = "find_nets"
    find = {"torch": torch_in.nets_in, "keras": keras_in.nets_in, "onnx": onnx_in.nets_in}[_maker(owner, source)]
    nets: list[Net] = find(owner, source)
    return nets


def _maker(owner: str, source: Any) -> str:
    """Return what made a model."""
    if isinstance(source, str | os.PathLike):
        try:
            maker = maker_of_file(os.fspath(source))
        except ValueError as error:
            raise ValueError(f"{owner}: {error}") from None
        if maker is None:
            raise ValueError(f"{owner}: {source} is a file of none of these kinds: {EXPECTED}")
        return maker
    if isinstance(source, bytes | bytearray | memoryview):
        return "onnx"
    if isinstance(source, Mapping):
        return "torch"
    for kind in type(source).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in ("torch", "onnx"):
            return package
        if package in ("keras", "tf_keras", "tensorflow"):
            return "keras"
    if isinstance(source, list | tuple | Iterator) and not isinstance(source, io.IOBase):  # such as named_parameters()
        return "torch"
    raise TypeError(f"{owner}: source is {checks.kind(source)}, expected {EXPECTED}")
