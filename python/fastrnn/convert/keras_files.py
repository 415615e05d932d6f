"""Keras' files, zip archives and HDF5, of which nothing but the file itself is ever read, and no more than it holds."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import math
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn.files import beginning

from .makers import HDF5, ZIP, check_is_no_folder

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
# Keras writes archives and arrays that are not compressed. What claims to be this much larger than what is stored, and
# is not small, is made to fill the memory.
EXPANSION, SMALL = 100, 64 << 20
# That holds of each array. All that are read, some of which may be the same, are at most this much larger than the
# file.
EXPANSION_OF_ALL = 10
SMALL_TEXT = 4 << 20  # which takes many times that once it is read
MOST_TEXTS = 1 << 20  # in an attribute
OF_ZIP = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, KeyError)
OF_HDF5 = (AttributeError, OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError)


class FileError(ValueError):
    """What is wrong with a file."""


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """What a file has: how its model is made, unless it has weights alone, of which version, and the weights."""

    config: Any
    version: str | None
    weights: Folder
    by_layer: bool  # whether the weights are listed for each layer, as in .h5, or each object has its own, as in .keras


@contextlib.contextmanager
def opened(owner: str, path: str) -> Iterator[ModelFile]:
    """Open a file, whatever its name. Raises OSError where it cannot be read, and ValueError where it is no such."""
    h5py = needed(owner, "h5py")
    check_is_no_folder(path)
    begin = beginning(path, len(HDF5))
    try:
        if begin.startswith(HDF5):
            _check_texts_in(path)
            with _hdf5(h5py, path, os.path.getsize(path)) as root:
                yield _of_hdf5(root)
        elif begin.startswith(ZIP):
            config, version, weights = _of_archive(path)
            _check_texts(weights)
            with _hdf5(h5py, io.BytesIO(weights), len(weights)) as root:
                yield ModelFile(config, version, root, by_layer=False)
        else:
            raise FileError("is no file of Keras, which are HDF5 or a zip archive")
    except FileError as error:
        raise ValueError(f"{owner}: {path} {error}") from None


# --- archives


def _of_archive(path: str) -> tuple[Any, str | None, bytes]:
    try:
        archive = zipfile.ZipFile(path)
    except OF_ZIP as error:
        raise FileError(f"is damaged: {_line(error)}") from None
    with archive:
        names = archive.namelist()
        if WEIGHTS not in names or CONFIG not in names:
            raise FileError(f"is a zip archive without {CONFIG} and {WEIGHTS}, which Keras' have")
        config = _json(_member(archive, CONFIG, SMALL_TEXT), CONFIG)
        metadata = _json(_member(archive, METADATA, SMALL_TEXT), METADATA) if METADATA in names else None
        version = metadata.get("keras_version") if isinstance(metadata, dict) else None
        return config, version if isinstance(version, str) else None, _member(archive, WEIGHTS, SMALL)


def _member(archive: zipfile.ZipFile, name: str, small: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > max(small, (EXPANSION if small == SMALL else EXPANSION_OF_ALL) * info.compress_size):
        raise FileError(f"has {name} of {info.file_size:,} bytes, and holds {info.compress_size:,} for it")
    try:
        return archive.read(name)
    except OF_ZIP as error:
        raise FileError(f"has {name}, which is damaged: {_line(error)}") from None


def _json(text: bytes | str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"has {name}, which is damaged: {_line(error)}") from None


# --- HDF5

# Where HDF5 keeps texts of any length: these eight bytes, the size of the whole in eight, and the texts, each after
# its number in two bytes, six others, and its length in eight. Number 0 is the room that is left, with these 16 bytes.
HEAP, HEADER = b"GCOL\1\0\0\0", 16


def _check_texts_in(path: str) -> None:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _check_texts(data)


def _check_texts(data: bytes | mmap.mmap) -> None:
    """Refuse damaged heaps of texts, with which HDF5's library may go on for ever."""
    start = data.find(HEAP)
    while start >= 0:
        at, (size,) = start + HEADER, struct.unpack("<8xQ", data[start : start + HEADER].ljust(HEADER, b"\0"))
        end = start + size
        while at + HEADER <= end <= len(data):
            number, length = struct.unpack("<H6xQ", data[at : at + HEADER])
            step = HEADER + (length + 7) // 8 * 8 if number else length
            if step < HEADER:
                break
            at += step
        if not end - HEADER < at <= end <= len(data):
            raise FileError("is damaged: its texts have no end")
        start = data.find(HEAP, start + HEADER)


def _of_hdf5(root: Folder) -> ModelFile:
    text = root.text("model_config")
    config = None if text is None else _json(text, "model_config")
    whole = root.folder("model_weights")
    weights = whole or root
    version = root.text("keras_version") or weights.text("keras_version")
    by_layer = whole is not None or bool(root.texts("layer_names"))
    return ModelFile(config, version, weights, by_layer)


@contextlib.contextmanager
def _hdf5(h5py: Any, file: str | io.BytesIO, size: int) -> Iterator[Folder]:
    with _reading("it"):
        opened = h5py.File(file, "r")
    with opened:
        yield Folder(h5py, opened, "", Budget(size, max(SMALL, EXPANSION_OF_ALL * size)))


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Say of what HDF5's library cannot read that it is damaged."""
    try:
        yield
    except OF_HDF5 as error:
        raise FileError(f"is damaged: {what} cannot be read: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@dataclasses.dataclass
class Budget:
    """How many bytes may still be read of a file of this size."""

    size: int
    left: int

    def spend(self, count: int) -> None:
        """Take so many of them. Raises FileError where they are not left."""
        self.left -= count
        if self.left < 0:
            raise FileError(
                f"holds {self.size:,} bytes, and has arrays that are many times that, or the same ones again"
            )


class Folder:
    """A group of an HDF5 file, from which no link leads out of it."""

    def __init__(self, h5py: Any, group: Any, path: str, budget: Budget) -> None:
        self._h5py, self._group, self.path, self._budget = h5py, group, path, budget

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def place(self) -> Any:
        """Where in the file it is, which two that are the same share."""
        with _reading(self.path):
            return self._h5py.h5o.get_info(self._group.id).addr

    def names(self) -> list[str]:
        """Return what is in it."""
        with _reading(self.path or "its root"):
            found = list(self._group)
        if any(isinstance(name, bytes) for name in found):  # which h5py gives where it is not UTF-8
            raise FileError(f"is damaged: a name in {self.path or 'its root'} is no text")
        return found

    def folders(self) -> list[Folder]:
        """Return the groups in it."""
        found = map(self.folder, self.names())
        return [folder for folder in found if folder is not None]

    def folder(self, *names: str) -> Folder | None:
        """Return a group in this one, or in one of it and so on; None if there is none."""
        folder = self
        for name in names:
            item = folder._item(name)
            if not isinstance(item, self._h5py.Group):
                return None
            folder = Folder(self._h5py, item, f"{folder.path}/{name}".lstrip("/"), self._budget)
        return folder

    def array(self, name: str) -> Array | None:
        """Return an array in this group, in float32 at least; None if there is none."""
        item = self._item(name)
        if not isinstance(item, self._h5py.Dataset):
            return None
        what = f"{self.path}/{name}"
        with _reading(what):
            dtype, shape = item.dtype, item.shape
            leads_out = item.is_virtual or bool(item.external)
            stored = item.id.get_storage_size()
        if leads_out:
            raise FileError(f"has {what}, which is kept in another file: that is not read")
        if shape is None or dtype.kind not in "fV" or dtype.itemsize not in ((2,) if dtype.kind == "V" else (2, 4, 8)):
            raise FileError(f"has {what} of {dtype}, expected floating-point numbers")
        size = math.prod(shape) * dtype.itemsize
        if size > max(SMALL, EXPANSION * stored):
            raise FileError(f"has {what} of shape {shape}, {size:,} bytes, and holds {stored:,} for it")
        self._budget.spend(size)
        with _reading(what):
            return widened(item[()])

    def _item(self, name: str) -> Any:
        links = self._group.id.links
        with _reading(f"{self.path}/{name}"):
            key = name.encode()
            if not name or "\0" in name or not links.exists(key):
                return None
            is_hard = links.get_info(key).type == self._h5py.h5l.TYPE_HARD
        if not is_hard:
            raise FileError(f"has {self.path}/{name}, which is a link to somewhere else: that is not followed")
        with _reading(f"{self.path}/{name}"):
            return self._group[name]

    # --- attributes

    def text(self, name: str) -> str | None:
        """Return an attribute that is a text, or None if there is none."""
        found = self._attribute(name)
        if isinstance(found, np.ndarray) and found.ndim == 0:
            found = found.item()
        return _text(found) if isinstance(found, str | bytes) else None

    def texts(self, name: str) -> list[str]:
        """Return an attribute that is a list of texts, which a long one has in parts: name0, name1 and so on."""
        whole = self._attribute(name)
        parts = [whole] if whole is not None else []
        if whole is None:
            numbered = (self._attribute(f"{name}{k}") for k in itertools.count())
            parts = list(itertools.takewhile(lambda part: part is not None, numbered))
        found = [each for part in parts for each in np.ravel(part).tolist()]
        return [_text(each) for each in found if isinstance(each, str | bytes)]

    def _attribute(self, name: str) -> Any:
        with _reading(f"{name} of {self.path or 'the file'}"):
            attributes = self._group.attrs
            if name not in attributes:
                return None
            found = attributes.get_id(name)
            is_text = found.get_type().get_class() == self._h5py.h5t.STRING
            few = found.get_space().get_simple_extent_npoints() <= MOST_TEXTS
            # Damaged attributes of other types have made HDF5's library crash. Those without any text are floats.
            return attributes[name] if is_text and few else None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def widened(a: Array) -> Array:
    """Return numbers in float32 at least, and in this machine's order of bytes."""
    if a.dtype.kind == "V" and a.dtype.itemsize == 2 and a.dtype.name != "bfloat16":  # as HDF5 has bfloat16
        return (np.ascontiguousarray(a).view("<u2").astype(np.uint32) << 16).view(np.float32)
    return a.astype(np.float64 if a.dtype.itemsize == 8 else np.float32)
