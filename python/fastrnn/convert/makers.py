"""What made a file with a model, by its first bytes."""

from __future__ import annotations

import errno
import os

from fastrnn.files import beginning, names_in_zip

BEGIN = 64  # bytes that are looked at
HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
FOLDER = "it is a folder, such as TensorFlow's SavedModel, which is not read: save the model as .keras or .h5"
SAVED_MODEL = "is TensorFlow's SavedModel, which is not read: save the model as .keras or .h5"
OF_KERAS = ("metadata.json", "config.json", "model.weights.h5")


def maker_of_file(path: str) -> str | None:
    """Return what wrote a file, ``"torch"``, ``"keras"`` or ``"onnx"``, or None if that cannot be told.

    Raises OSError where it cannot be read, or is a folder, and ValueError where it is of a known kind that is not read,
    or a zip file that is damaged.
    """
    check_is_no_folder(path)
    begin = beginning(path, BEGIN)
    maker = maker_of(path, begin)
    if not begin.startswith(ZIP):
        return maker
    names = names_in_zip(path)
    if names is not None:
        return "keras" if "config.json" in names else "torch"  # which says what is wrong with it
    if os.fsdecode(path).endswith(".keras"):
        return "keras"
    if maker is None:
        raise ValueError(f"{path} is a zip file that is damaged")
    return maker


def maker_of(what: str, data: bytes) -> str | None:
    """Return what made the bytes of a file, or None if that cannot be told; ``what`` is what a message names.

    Raises ValueError where they are of a known kind that is not read.
    """
    if data.startswith(HDF5):
        return "keras"
    if data.startswith(ZIP):
        return _maker_by_entry(data)
    if data[:1] == b"\x80" or data[8:9] == b"{":  # a pickle, as PyTorch wrote them before 1.6; safetensors
        return "torch"
    if _is_saved_model(data):
        raise ValueError(f"{what} {SAVED_MODEL}")
    if data[:1] in (b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42"):  # a field of ONNX's ModelProto
        return "onnx"
    return None


def check_is_no_folder(path: str) -> None:
    """Raise OSError where a path is that of a folder."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, FOLDER, path)


def _maker_by_entry(data: bytes) -> str | None:
    """Return what made a zip file, by the name of the first file in it: PyTorch has all in a folder."""
    name = data[30 : 30 + int.from_bytes(data[26:28], "little")].decode("utf-8", "replace")
    return "keras" if name.startswith(OF_KERAS) else "torch" if "/" in name else None


def _is_saved_model(data: bytes) -> bool:
    """Whether it is a SavedModel: of version 1, its first graph, and in this what there is to say of it."""
    if not data.startswith(b"\x08\x01\x12"):
        return False
    length = next((k for k, byte in enumerate(data[3:13]) if byte < 0x80), 0)  # of the graph: seven bits in each byte
    return data[4 + length : 5 + length] == b"\x0a"
